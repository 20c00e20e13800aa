"""`python -m experiments.recipes`: what the fine-tuning recipes do, from scratch and after mae, on CIFAR-10 (JPEG q75).

500 labels a class, a small ViT pretrained for 8 epochs, fine-tuned for the default 8 epochs and for 40. A cell is one
network with one seed, in a process of its own on one thread; it leaves a folder, and finished ones are not run again.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_json
from whymask.encoders import EncoderSettings, build_encoder, load_encoder, resolve
from whymask.intervals import mean_interval
from whymask.methods import resolve_method
from whymask.methods.settings import MAESettings
from whymask.stages.classify import ClassifierJob, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder
from whymask.stages.recipes import resolve_finetuning, resolve_pretraining
from whymask.stages.settings import SCRATCH, AugmentName, FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.tasks.budgets import parse_budget
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

SOURCE = "../shared/data/cifar10-jpeg"
ENCODER = EncoderSettings("vit", width=96, depth=4, heads=3, patch=8)
PRETRAINING_EPOCHS = 8
LABELS = 500
SEEDS = 3
EPOCHS = (8, 40)
RECIPES: tuple[Literal["few"], Literal["many"]] = ("few", "many")
AUGMENT: AugmentName = "crop-flip"


@dataclass(frozen=True)
class Cell:
    """One network."""

    arm: str
    recipe: Literal["few", "many"]
    epochs: int
    seed: int
    labels: int = LABELS

    @property
    def name(self) -> str:
        other = "" if self.labels == LABELS else f"-labels{self.labels}"
        return f"{self.arm}-{self.recipe}-{self.epochs}-{self.seed}{other}"


def all_cells(labels: int = LABELS) -> Iterator[Cell]:
    """Every cell at `labels` labels a class, whole seeds one after the other."""
    for seed in range(SEEDS):
        for arm in (SCRATCH, "mae"):
            for epochs in EPOCHS:
                yield from (Cell(arm, recipe, epochs, seed, labels) for recipe in RECIPES)


def run_cell(cell: Cell, out: Path, source: str = SOURCE) -> dict[str, Any]:
    data = prepare(source, DataSettings(), multiple_of=8)
    context = Context(make_fabric(RuntimeSettings(device="cpu", threads=1)), data)
    prep = context.preprocessing
    encoder = resolve(ENCODER, prep.size, prep.channels)
    if cell.arm == SCRATCH:
        network = build_encoder(encoder, prep.size, prep.channels, cell.seed)
    else:
        pretrained = PretrainJob(
            config=encoder,
            method="mae",
            method_config=resolve_method("mae", MAESettings(), encoder, prep.size),
            training=resolve_pretraining(PretrainTrainingSettings(epochs=PRETRAINING_EPOCHS), len(data.pool)),
            augment=AUGMENT,
            seed=cell.seed,
        )
        pretrain_encoder(context, pretrained, out / f"pretrain-{cell.seed}", cell.name)
        network = load_encoder(out / f"pretrain-{cell.seed}")
    budget = parse_budget(str(cell.labels))
    rows = context.labelled_rows(budget, cell.seed)
    asked = FinetuneTrainingSettings(
        epochs=cell.epochs, recipe=cell.recipe, layer_decay=1.0 if cell.arm == SCRATCH else 0.75
    )
    job = ClassifierJob(
        arm=cell.arm,
        seed=cell.seed,
        budget=budget.name,
        rows=rows,
        test=data.test,
        config=encoder,
        build=network.train,
        training=resolve_finetuning(asked, len(rows), data, encoder),
        augment=AUGMENT,
    )
    return train_classifier(context, job, out / cell.name, cell.name)


def main(
    out: Path = Path("runs/recipes"),
    results: Path = Path("docs/results/recipes"),
    data: str = SOURCE,
    labels: int = LABELS,
    jobs: int = 2,
    cell: str | None = None,
) -> None:
    """Run what is not finished, and write table.json; prints it as markdown.

    Args:
        out: where the runs are kept; the same command continues.
        results: where the tables are written.
        data: the images; CIFAR-10 (JPEG) wherever it lies.
        labels: labels a class, such as 50; the pretrainings in `out` are shared.
        jobs: seeds at a time, one thread each.
        cell: run this one alone, in this process, and write no table.
    """
    if cell is not None:
        run_cell(next(c for c in all_cells(labels) if c.name == cell), out, data)
        return
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda seed: run_seed(seed, out, data, labels), range(SEEDS)))
    found = {cell: read_json(out / cell.name / "result.json") for cell in all_cells(labels) if finished(cell, out)}
    rows = table_of({cell: result["metrics"]["accuracy"] for cell, result in found.items()}, labels)
    write_json(results / "table.json", {"schema": 1, "labels_per_class": labels, "rows": rows})
    print(markdown(rows))


def finished(cell: Cell, out: Path) -> bool:
    return (out / cell.name / "result.json").exists()


def run_seed(seed: int, out: Path, data: str, labels: int) -> None:
    """The cells of a seed one after the other, each in a process of its own; what they say is kept in logs."""
    for cell in all_cells(labels):
        if cell.seed != seed or finished(cell, out):
            continue
        command = [sys.executable, "-m", "experiments.recipes", "--out", str(out), "--cell", cell.name]
        command += ["--data", data, "--labels", str(labels)]
        (out / "logs").mkdir(parents=True, exist_ok=True)
        with (out / "logs" / f"{cell.name}.log").open("w") as log:
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
        print(f"{cell.name}{'' if code == 0 else f' failed, see {log.name}'}", flush=True)


def table_of(accuracy: dict[Cell, float], labels: int = LABELS) -> list[dict[str, Any]]:
    """For each arm and length: mean accuracy of both recipes and the paired difference, with 95 % over seeds."""
    rows = []
    for arm in (SCRATCH, "mae"):
        for epochs in EPOCHS:
            cells = [[Cell(arm, recipe, epochs, seed, labels) for recipe in RECIPES] for seed in range(SEEDS)]
            pairs = [(accuracy[few], accuracy[many]) for few, many in cells if few in accuracy and many in accuracy]
            if pairs:
                gain = mean_interval([many - few for few, many in pairs])
                few, many = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
                row = {"arm": arm, "epochs": epochs, "seeds": len(pairs), "few": few, "many": many}
                rows.append(row | {"difference": gain.mean, "low": gain.low, "high": gain.high})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| arm | epochs | few | many | many - few (95 % over seeds) |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
        lines.append(
            f"| {row['arm']} | {row['epochs']} | {row['few']:.3f} | {row['many']:.3f} | "
            f"{row['difference']:+.3f}{interval}, {row['seeds']} seeds |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(main)
