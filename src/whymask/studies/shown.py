"""What a study's page needs beside its numbers: how each arm is trained, and images, kept in the study's folder."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whymask.data.batches import in_order
from whymask.data.near import SHOWN
from whymask.data.prepare import Prepared
from whymask.disk import write_arrays
from whymask.encoders import build_encoder
from whymask.later import recorded
from whymask.report.marks import counted, objects
from whymask.report.pictures import as_bytes
from whymask.runs import command
from whymask.stages.network import load_network
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
    scratch = {cell.labels.name: cell for cell in classified if cell.shown == SCRATCH}
    recipes = {
        name: resolve_finetuning(config.finetune, len(runner.rows_of(cell)), prepared, config.encoder).text()
        for name, cell in scratch.items()
    }
    smallest = smallest_difference(prepared, config.metric)
    return {
        **config.to_dict(),
        **({} if config.leading == config.method else {"leading": config.leading}),
        **({"method_epochs": config.method_epochs} if len(config.own) > 1 else {}),
        "command": command(),
        "seeds": config.seed_list,
        **({} if smallest is None else {"smallest_difference": smallest}),
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
    start = runner.config.start_of(arm)
    if start is not None and (seen := start.test_images_seen(runner.context.prepared)):
        shown["test_images_seen"] = seen
    return {key: value for key, value in shown.items() if value is not None}


def _network(runner: Runner, arm: str) -> dict[str, Any]:
    """Which network the arm has, and where its weights come from."""
    start, prep, seed = runner.config.start_of(arm), runner.context.preprocessing, runner.config.first_seed
    new = partial(build_encoder, runner.config.encoder, prep.size, prep.channels, seed)
    encoder = new() if start is None else start.build(prep, seed)
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    return {"network": encoder.timm_name, "parameters": weights, "weights": encoder.origin}


def save_samples(out: Path, prepared: Prepared) -> None:
    """samples.npz: some labelled training images as they are stored, uint8 (n, H, W, C), and their labels and, of a
    dense task, the `marks` of these."""
    rows = prepared.train[np.linspace(0, len(prepared.train) - 1, min(SAMPLES, len(prepared.train))).astype(int)]
    kept = {"images": _pixels(prepared, rows), "labels": prepared.images.labels[rows]}
    if prepared.task.is_dense:
        kept["marks"] = _marks(prepared, rows)
    write_arrays(out / "samples.npz", kept)


def save_near_copies(out: Path, prepared: Prepared) -> None:
    """near.npz, where there are near copies of test images: those that study.json's pairs show, uint8 (n, H, W, C)."""
    near = prepared.near
    if len(near):
        pairs = {"image": near.rows[:SHOWN], "test": near.of[:SHOWN]}
        write_arrays(out / "near.npz", {name: _pixels(prepared, rows) for name, rows in pairs.items()})


def save_outcomes(runner: Runner, first: Cell, found: dict[str, Any] | None) -> None:
    """outcomes.npz: of each kind the test images that study.json's outcomes show, uint8 (n, H, W, C), in its order; of
    a dense task also their label maps (n, H, W) or objects (n, M, 5), as `report.marks.marked` takes them: KIND/true,
    and KIND/baseline and KIND/arm of the networks at the budget of the cell `first`, of the first seed that both
    have."""
    prepared, kept = runner.context.prepared, dict[str, np.ndarray]()
    first_seed = 0 if found is None else found["first_seed"]
    for kind, shown in ({} if found is None else found["shown"]).items():
        rows = prepared.test[np.array([row["image"] for row in shown], int)]
        kept[kind] = _pixels(prepared, rows)
        if prepared.task.is_dense and len(rows):
            kept[kind] = _seen(prepared, kept[kind])
            true = _marks(prepared, rows)
            kept[f"{kind}/true"] = _seen(prepared, true[..., None])[..., 0] if true.dtype == np.uint8 else true
            for side, arm in (("baseline", SCRATCH), ("arm", runner.config.leading)):
                kept[f"{kind}/{side}"] = _marks_by(runner, replace(first, arm=arm, seed=first_seed), rows)
    write_arrays(runner.out / "outcomes.npz", kept)


def _marks(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """The label maps of images, or their objects, as they are stored."""
    images = prepared.images
    return images.maps_of(rows) if images.maps is not None else counted(images.objects_of(rows))


def _marks_by(runner: Runner, cell: Cell, rows: np.ndarray) -> np.ndarray:
    """What a finished cell's network says of places in images: label maps uint8 (n, H, W), or objects (n, M, 5)."""
    context = runner.context_of(cell.arm)
    model, device = load_network(runner.folder(cell))[0], context.fabric.device
    model.to(device)
    with torch.inference_mode():
        (batch,) = in_order(context.prepared.images, rows, len(rows), device)
        outputs = model(batch.images)
    if context.prepared.task.targets == "boxes":
        return objects(outputs.cpu().numpy())
    return outputs.argmax(dim=1).cpu().numpy().astype(np.uint8)


def _seen(prepared: Prepared, stored: np.ndarray) -> np.ndarray:
    """What a network sees of arrays (n, H, W, C)."""
    crop = prepared.images.preprocessing.centre_crop(torch.from_numpy(stored).movedim(-1, 1))
    return crop.movedim(1, -1).numpy()


def _pixels(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """The images as they are stored, uint8."""
    pixels = prepared.images.images[rows]
    return as_bytes(pixels)
