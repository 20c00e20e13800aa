"""`python -m experiments.methods`: every method beside training from scratch, on glyphs and on CIFAR-10 (JPEG q75).

A cell is one network: pretrained by a method (or not), fine-tuned and probed on a few labels, with one seed. Each runs
in a process of its own on one thread, so that its memory is its own, and leaves a folder; finished ones are not run
again.
"""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.data.splits import labelled_subset, parse_budget
from whymask.encoders import EncoderSettings, build_encoder, load_encoder, resolve
from whymask.methods import SETTINGS, MethodSettings, resolve_method
from whymask.methods.settings import MAESettings, TwoLayerSettings
from whymask.runs import RunFolder, provenance, write_json
from whymask.stages.augment import augment_of, resolve_augment
from whymask.stages.classify import classification_task, train_classifier
from whymask.stages.pretrain import Pretraining, Recipe, pretrain_encoder, pretraining_task
from whymask.stages.probe import probe_encoder
from whymask.stages.recipes import Finetuning
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

SCRATCH = "scratch"
NEIGHBOURS = 20
VIT = EncoderSettings("vit", width=96, depth=4, heads=3, patch=8)
ENCODER_SETTINGS = {"cnn": EncoderSettings("cnn"), "vit": VIT, "two-layer": EncoderSettings("two-layer")}
VARIANTS: dict[str, tuple[str, MethodSettings]] = {name: (name, asked()) for name, asked in SETTINGS.items()} | {
    "mae-cross": ("mae", MAESettings(decoder="cross", decode_share=0.5)),
    "two-layer-pixels": ("two-layer", TwoLayerSettings(objective="pixels")),
}
"""What is compared: each method at its defaults, and two forms of methods that differ much."""


@dataclass(frozen=True)
class Images:
    """A data set, how many labels are given, and how long is pretrained."""

    source: str
    labels_per_class: int
    seeds: int
    metric: str
    """Of the difference to scratch."""
    pairs: tuple[tuple[str, str], ...]
    """(variant, encoder)."""
    epochs: Callable[[float, str, str], int]
    """(operations a pretraining pass over all images, variant, encoder) -> epochs."""


GLYPH_EPOCHS = {
    "cnn": {"mae": 20, "data2vec": 15, "simmim": 18, "maskfeat": 16, "spark": 6},
    "vit": {"mae": 14, "mae-cross": 14, "data2vec": 9, "data2vec2": 9, "simmim": 11, "maskfeat": 11, "ijepa": 7},
    "two-layer": {"two-layer": 40, "two-layer-pixels": 40},
}
"""About a minute each on one core of the machine that docs/results names."""

CIFAR_OPERATIONS = 8e12
"""Of a pretraining on CIFAR-10, counted as PyTorch counts them, to the nearest epoch: 2 to 5 minutes on one core."""

IMAGES: dict[str, Images] = {
    "glyphs": Images(
        "glyphs",
        10,
        5,
        "accuracy/single_view",
        tuple((variant, encoder) for encoder, variants in GLYPH_EPOCHS.items() for variant in variants),
        lambda operations, variant, encoder: GLYPH_EPOCHS[encoder][variant],
    ),
    "cifar10-jpeg": Images(
        "../shared/data/cifar10-jpeg",
        50,
        3,
        "accuracy",
        (
            *((variant, "vit") for variant in ("mae", "data2vec", "data2vec2", "simmim")),
            ("spark", "cnn"),
            ("two-layer", "two-layer"),
        ),
        lambda operations, variant, encoder: max(1, round(CIFAR_OPERATIONS / operations)),
    ),
}

SHARES = {"data2vec": (0.25, 0.5), "data2vec2": (0.125, 0.25, 0.5)}
"""Shorter runs on glyphs with the ViT: how soon does data2vec2 reach what data2vec reaches?"""
LENGTH_SEEDS = 3


@dataclass(frozen=True)
class Cell:
    """One network. `share` is of the full length of pretraining."""

    data: str
    encoder: str
    variant: str
    seed: int
    share: float = 1.0

    @property
    def name(self) -> str:
        short = "" if self.share == 1 else f"-{self.share:g}"
        return f"{self.data}/{self.encoder}/{self.variant}{short}/{self.seed}"

    @classmethod
    def of(cls, name: str) -> "Cell":
        return next(cell for cell in all_cells() if cell.name == name)


def all_cells() -> Iterator[Cell]:
    """Every cell, whole seeds one after the other."""
    for data, images in IMAGES.items():
        for seed in range(images.seeds):
            for encoder in dict.fromkeys(encoder for _, encoder in images.pairs):
                yield Cell(data, encoder, SCRATCH, seed)
            for variant, encoder in images.pairs:
                yield Cell(data, encoder, variant, seed)
    for seed in range(LENGTH_SEEDS):
        for variant, shares in SHARES.items():
            for share in shares:
                yield Cell("glyphs", "vit", variant, seed, share)


def run_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """Pretrain (or not), fine-tune, probe; what was measured."""
    images, folder = IMAGES[cell.data], out / cell.name
    fabric = make_fabric(RuntimeSettings(device="cpu", threads=1))
    data = prepare(images.source, DataSettings(), multiple_of=8)
    prep = data.images.preprocessing
    encoder = resolve(ENCODER_SETTINGS[cell.encoder], prep.size, prep.channels)
    augment = augment_of(resolve_augment("auto", data.name))
    measured: dict[str, Any] = {"cell": cell.name}
    if cell.variant == SCRATCH:
        network = build_encoder(encoder, prep.size, prep.channels, cell.seed)
    else:
        method, asked = VARIANTS[cell.variant]
        config = resolve_method(method, asked, encoder, prep.size)
        recipe = Recipe(encoder, method, config, Pretraining(epochs=1), augment)
        operations = pretraining_task(fabric, data, recipe, 0).operations_per_image() * len(data.pool)
        epochs = max(1, round(cell.share * images.epochs(operations, cell.variant, cell.encoder)))
        recipe = replace(recipe, training=Pretraining(epochs=epochs))
        result = pretrain_encoder(fabric, data, recipe, seed=cell.seed, run=open_run(folder / "pretrain"))
        network = load_encoder(folder / "pretrain")
        measured |= {f"pretraining_{key}": result[key] for key in ("loss", "seconds", "operations", "images_seen")}
        measured |= {"epochs": epochs, "warning": result.get("warning")}
        measured["images_per_second"] = result["images_seen"] / result["seconds"]
        measured["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    budget = parse_budget(str(images.labels_per_class))
    rows = labelled_subset(data.images.labels, data.train, budget, cell.seed, data.classes)
    probed = probe_encoder(network, data, rows, NEIGHBOURS, cell.seed)
    measured |= {name: probed[name] for name in ("linear", "knn")}
    finetuning = Finetuning(layer_decay=0.75 if cell.encoder == "vit" and cell.variant != SCRATCH else 1.0)
    task = classification_task(fabric, data, rows, network.train(), finetuning, augment, cell.seed)
    run = open_run(folder / "finetune")
    tuned = run.result or train_classifier(
        fabric, data, task, data.test, finetuning, seed=cell.seed, run=run, label=cell.name
    )
    return measured | {"finetuned": tuned["metrics"]}


def open_run(folder: Path) -> RunFolder:
    return RunFolder.open(folder, {}, provenance("cpu", "32-true"))


def main(
    out: Path = Path("runs/methods"),
    results: Path = Path("docs/results/methods"),
    jobs: int = 2,
    data: Literal["all", "glyphs", "cifar10-jpeg"] = "all",
    cell: str | None = None,
) -> None:
    """Run what is not finished, and write table.json and the page.

    Args:
        out: where the runs are kept; the same command continues.
        results: where the table and the page are written.
        jobs: cells at a time, one thread each.
        data: only these images.
        cell: run this one alone, in this process, and write no table.
    """
    if cell is not None:
        write_json(out / cell / "measured.json", run_cell(Cell.of(cell), out))
        return
    waiting = [c for c in all_cells() if data in ("all", c.data) and not (out / c.name / "measured.json").exists()]
    with ThreadPoolExecutor(jobs) as pool:
        for done, (c, code) in enumerate(pool.map(lambda c: (c, run_alone(c, out)), waiting), start=1):
            print(
                f"[{done}/{len(waiting)}] {c.name}{'' if code == 0 else f' failed, see {out / c.name}/log'}", flush=True
            )
    from experiments.methods_table import write_results

    write_results(out, results)


def run_alone(cell: Cell, out: Path) -> int:
    """The cell in a process of its own; its exit code. What it says is kept in its folder's log."""
    if (out / cell.name / "measured.json").exists():  # by another process in the meantime
        return 0
    (out / cell.name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "experiments.methods", "--out", str(out), "--cell", cell.name]
    with (out / cell.name / "log").open("w") as log:
        return subprocess.run(command, stdout=log, stderr=log, check=False).returncode


if __name__ == "__main__":
    tyro.cli(main)
