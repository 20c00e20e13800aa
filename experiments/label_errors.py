"""`python -m experiments.label_errors`: how many labels that were changed on purpose are found, and by which rule.

A twentieth of the labels of 980 photos of clothes, at 32 pixels, and of 4,000 images of CIFAR-10 (JPEG q75) becomes
another class at random. whymask's CNN is pretrained on these images by mae, for 20,000 image passes, and then fine-
tuned on the changed labels, for as many; the rules are asked with the features of both. A cell is one set of images
with one seed, in a process of its own; finished ones are not run again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.methods import MEASURED, run_waiting
from whymask.atlas.label_errors import ASKED, changed_labels, doubts_of, linear_shares, neighbour_shares, planted
from whymask.atlas.neighbours import neighbours_of
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_json
from whymask.encoders import EncoderSettings, load_encoder, resolve
from whymask.intervals import mean_interval
from whymask.methods import resolve_method
from whymask.methods.settings import MAESettings
from whymask.stages.augment import resolve_augment
from whymask.stages.classify import ClassifierJob, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder
from whymask.stages.probe import features_of
from whymask.stages.recipes import resolve_finetuning, resolve_pretraining
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.tasks.budgets import parse_budget
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

SOURCES = {"clothing-small": "../shared/data/clothing-small", "cifar10-jpeg": "../shared/data/cifar10-jpeg"}
SIZE, MOST, PASSES, SEEDS = 32, 4_000, 20_000, 3
FEATURES = ("pretrained", "fine-tuned")
CONFIDENCE = "confidence"
RULES = {
    CONFIDENCE: "confidence of logistic regression: `whymask map`",
    "neighbours": f"{ASKED} neighbours",
    "both": "both",
    "cleanlab": "cleanlab",
}
"""Each ranks labels by the probability that the labels of others give them, both by the product of the two, cleanlab by
its normalised margin of the first."""


@dataclass(frozen=True)
class Cell:
    """One set of images, whose labels are changed by one seed."""

    data: str
    seed: int
    variant: str = "mae"

    @property
    def name(self) -> str:
        return f"{self.data}/{self.seed}"


def all_cells() -> Iterator[Cell]:
    """Every cell, whole seeds one after the other."""
    for seed, data in product(range(SEEDS), SOURCES):
        yield Cell(data, seed)


def run_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """Change labels, train, and look for them by each rule; what was measured."""
    whole = prepare(SOURCES[cell.data], DataSettings(size=SIZE), say=print)
    rows = whole.train[:MOST]
    true = whole.images.labels[rows]
    labels, wrong = changed_labels(true, cell.seed)
    given = whole.images.labels.copy()
    given[rows] = labels
    prepared = replace(whole, images=replace(whole.images, labels=given), pool=rows, train=rows)
    measured: dict[str, Any] = {"images": len(rows), "changed": int(wrong.sum())}
    for name, features in features_by(prepared, rows, cell.seed, out / cell.name).items():
        measured[name] = found_by_rules(features, labels, wrong)
        measured[name]["told"] = planted(features, labels).found_share
    return measured


def features_by(prepared: Prepared, rows: np.ndarray, seed: int, folder: Path) -> dict[str, np.ndarray]:
    """Features of the images by the pretrained encoder, and by that which was fine-tuned on the labels they have."""
    context = Context(make_fabric(RuntimeSettings(device="cpu", threads=1)), prepared)
    prep = context.preprocessing
    encoder = resolve(EncoderSettings(), prep.size, prep.channels)
    augment = resolve_augment("auto", prepared.name)
    epochs = round(PASSES / len(rows))
    pretraining = PretrainJob(
        config=encoder,
        method="mae",
        method_config=resolve_method("mae", MAESettings(), encoder, prep.size),
        training=resolve_pretraining(PretrainTrainingSettings(epochs=epochs), len(rows)),
        augment=augment,
        seed=seed,
    )
    pretrain_encoder(context, pretraining, folder / "pretrain", folder.name)
    tuning = ClassifierJob(
        arm="mae",
        seed=seed,
        budget=parse_budget("all").name,
        rows=rows,
        test=prepared.test,
        config=encoder,
        build=lambda: load_encoder(folder / "pretrain").train(),
        training=resolve_finetuning(FinetuneTrainingSettings(epochs=epochs), len(rows), prepared, encoder),
        augment=augment,
    )
    train_classifier(context, tuning, folder / "finetune", folder.name)
    folders = (folder / "pretrain", folder / "finetune")
    return {name: features_of(load_encoder(path), prepared, rows) for name, path in zip(FEATURES, folders, strict=True)}


def found_by_rules(features: np.ndarray, labels: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """Of each rule what its list finds: {"precision": of a list as long as there are wrong labels, which is its recall
    too, "first": precision of a quarter of that, "average": average precision}; rules that are not installed are left
    out. Also "accuracy", of the linear model, in the labels as they are."""
    own = np.arange(len(labels)), labels
    linear, near = linear_shares(features, labels), neighbour_shares(labels, neighbours_of(features, ASKED))
    doubts = {
        CONFIDENCE: doubts_of(features, labels),
        "neighbours": -near[own],
        "both": -linear[own] * near[own],
        **by_cleanlab(labels, linear),
    }
    found: dict[str, Any] = {rule: scores_of(doubt, wrong) for rule, doubt in doubts.items()}
    return found | {"accuracy": float((linear.argmax(axis=1) == labels).mean())}


def scores_of(doubt: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score

    order, count = np.argsort(-doubt, kind="stable"), int(wrong.sum())
    return {
        "precision": float(wrong[order[:count]].mean()),
        "first": float(wrong[order[: max(1, count // 4)]].mean()),
        "average": float(average_precision_score(wrong, doubt)),
    }


def by_cleanlab(labels: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    """cleanlab's order (pip install cleanlab); nothing where it is not installed."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    return {"cleanlab": -get_label_quality_scores(labels, shares, method="normalized_margin")}


def main(
    out: Path = Path("runs/label-errors"),
    results: Path = Path("docs/results/label-errors"),
    jobs: int = 1,
    cell: str | None = None,
) -> None:
    """Run what is not finished, and write table.json; prints it as markdown.

    Args:
        out: where the runs are kept; the same command continues.
        results: where the table is written.
        jobs: cells at a time, one thread each.
        cell: run this one alone, in this process, and write no table.
    """
    if cell is not None:
        write_json(out / cell / MEASURED, run_cell(next(c for c in all_cells() if c.name == cell), out))
        return
    run_waiting(list(all_cells()), out, jobs, "experiments.label_errors")
    files = {c: out / c.name / MEASURED for c in all_cells()}
    table = table_of({c: read_json(file) for c, file in files.items() if file.exists()})
    write_json(results / "table.json", table)
    print(markdown(table))


def table_of(measured: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    """Of each set of images, features and rule the means over seeds, and by how much confidence exceeds it, by seed."""
    rows = [
        row for data, name, rule in product(SOURCES, FEATURES, RULES) if (row := row_of(measured, data, name, rule))
    ]
    return {"schema": 1, "rows": rows}


def row_of(measured: dict[Cell, dict[str, Any]], data: str, name: str, rule: str) -> dict[str, Any]:
    found = [each for cell, each in measured.items() if cell.data == data and rule in each[name]]
    if not found:
        return {}
    row: dict[str, Any] = {"data": data, "features": name, "rule": rule, "seeds": len(found)}
    row |= {key: found[0][key] for key in ("images", "changed")}
    row |= {key: float(np.mean([each[name][rule][key] for each in found])) for key in ("precision", "first", "average")}
    row["told"] = float(np.mean([each[name]["told"] for each in found])) if rule == CONFIDENCE else None
    if rule != CONFIDENCE:
        gain = mean_interval([each[name][CONFIDENCE]["average"] - each[name][rule]["average"] for each in found])
        row["confidence_minus"] = {"difference": gain.mean, "low": gain.low, "high": gain.high}
    return row


def markdown(table: dict[str, Any]) -> str:
    lines = [
        "| images | features | rule | precision and recall | of the first quarter | average precision | "
        "confidence minus this (95 % over seeds) |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for row in table["rows"]:
        levels = " | ".join(f"{row[key]:.3f}" for key in ("precision", "first", "average"))
        gain = row.get("confidence_minus")
        told = "" if gain is None else f"{gain['difference']:+.3f}"
        told += "" if gain is None or gain["low"] is None else f" ({gain['low']:.3f} to {gain['high']:.3f})"
        lines.append(f"| {row['data']} | {row['features']} | {RULES[row['rule']]} | {levels} | {told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(main)
