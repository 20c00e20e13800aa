"""What a study's page needs beside its numbers: how each arm is trained, and images, kept in the study's folder."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.near import SHOWN
from whymask.data.prepare import Prepared
from whymask.disk import write_arrays
from whymask.encoders import build_encoder
from whymask.later import recorded
from whymask.runs import command
from whymask.stages.recipes import resolve_finetuning
from whymask.studies.cells import Cell, Runner
from whymask.studies.pace import lags
from whymask.studies.resolution import smallest_difference
from whymask.studies.settings import SCRATCH
from whymask.studies.table import labels_per_class

SAMPLES = 40


def describe(runner: Runner, cells: list[Cell]) -> dict[str, Any]:
    """The resolved setting as the page shows it, and study.json holds it."""
    config, prepared = runner.config, runner.context.prepared
    classified = [cell for cell in cells if cell.budget is not None]
    arms = sorted({cell.arm for cell in classified}, key=lambda arm: (arm != SCRATCH, arm))
    scratch = {cell.labels.name: cell for cell in classified if cell.arm == SCRATCH}
    recipes = {
        name: resolve_finetuning(config.finetune, len(runner.rows_of(cell)), prepared, config.encoder).text()
        for name, cell in scratch.items()
    }
    return {
        **config.to_dict(),
        **({} if config.leading == config.method else {"leading": config.leading}),
        **({"method_epochs": config.method_epochs} if len(config.own) > 1 else {}),
        "command": command(),
        "seeds": config.seed_list,
        "smallest_difference": smallest_difference(prepared, config.metric),
        "verdict_labels_per_class": labels_per_class(classified[0], prepared),
        "recipes": recipes,
        **({"lags": found} if (found := lags(runner)) else {}),
        "normalise_targets": getattr(config.method_config, "normalise_targets", None),
        "arms": {arm: _shown(runner, arm, classified[0]) | {"augment": config.augment} for arm in arms},
    }


def _shown(runner: Runner, arm: str, smallest: Cell) -> dict[str, Any]:
    """How the arm is trained at the smallest budget; the epochs are others at another one, unless they were given."""
    training = recorded(runner.training_of(arm, len(runner.rows_of(smallest))))
    shown = training | {"epochs": runner.finetuning_of(arm).epochs}
    if runner.config.starts is not None:
        shown |= _network(runner, arm)
    return {key: value for key, value in shown.items() if value is not None}


def _network(runner: Runner, arm: str) -> dict[str, Any]:
    """Which network the arm has, and where its weights come from."""
    start, prep, seed = runner.config.start_of(arm), runner.context.preprocessing, runner.config.first_seed
    new = partial(build_encoder, runner.config.encoder, prep.size, prep.channels, seed)
    encoder = new() if start is None else start.build(prep, seed)
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    seen = 0 if start is None else start.test_images_seen(runner.context.prepared)
    shown = {"network": encoder.timm_name, "parameters": weights, "weights": encoder.origin}
    return shown | ({"test_images_seen": seen} if seen else {})


def save_samples(out: Path, prepared: Prepared) -> None:
    """samples.npz: some labelled training images as they are stored, uint8 (n, H, W, C), and their labels."""
    rows = prepared.train[np.linspace(0, len(prepared.train) - 1, min(SAMPLES, len(prepared.train))).astype(int)]
    write_arrays(out / "samples.npz", {"images": _pixels(prepared, rows), "labels": prepared.images.labels[rows]})


def save_near_copies(out: Path, prepared: Prepared) -> None:
    """near.npz, where there are near copies of test images: those that study.json's pairs show, uint8 (n, H, W, C)."""
    near = prepared.near
    if len(near):
        pairs = {"image": near.rows[:SHOWN], "test": near.of[:SHOWN]}
        write_arrays(out / "near.npz", {name: _pixels(prepared, rows) for name, rows in pairs.items()})


def save_outcomes(out: Path, prepared: Prepared, found: dict[str, Any] | None) -> None:
    """outcomes.npz: of each kind the test images that study.json's outcomes show, uint8 (n, H, W, C), in its order."""
    kinds = {} if found is None else {kind: [row["image"] for row in rows] for kind, rows in found["shown"].items()}
    write_arrays(
        out / "outcomes.npz",
        {kind: _pixels(prepared, prepared.test[np.array(images, int)]) for kind, images in kinds.items()},
    )


def _pixels(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """The images as they are stored, uint8."""
    pixels = prepared.images.images[rows]
    return pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
