"""In what runs that are compared differ besides what pretrained them: said before an explanation spends time."""

from collections.abc import Iterator, Sequence
from typing import Any

from whymask.data.inherited import CUT, USUAL
from whymask.encoders.files import read_description
from whymask.explanations.networks import Run

NOT_COMPARED = ("layer_decay", "checkpoint_every")
"""Of training: what is meant to differ between arms, or changes nothing."""


def unlike(runs: Sequence[Run]) -> list[str]:
    """A line for each setting that is not the same in all runs, with the flag: size, frames and tiles, encoder, images
    and labels, budget, augmentation, training. What an early version did not record is not compared."""
    told = [dict(_settings(run)) for run in runs]
    lines = []
    for name in dict.fromkeys(name for values in told for name in values):
        known = [(run, *values[name]) for run, values in zip(runs, told, strict=True) if name in values]
        different = list({str(value): (run, value) for run, value, _ in reversed(known)}.values())[::-1]
        if len(different) > 1:
            there = ", ".join(f"{_shown(value)} in {run.folder}" for run, value in different)
            lines.append(f"{name}: {there} ({known[0][2]})")
    return lines


def _settings(run: Run) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Name -> (value, flag)."""
    about, record = read_description(run.folder), run.record
    yield "size", (tuple(about["size"]), "--size")
    yield "channels", (about["channels"], "--channels")
    for name in CUT:
        yield name, (about["preprocessing"].get(name, getattr(USUAL, name)), f"--{name}")
    yield "images, labels or split", (record.data, "DATA, --labels, --group-by, --test-share")
    yield "labels to train on", (record.budget, "--budget")
    for name, value in (record.encoder or {}).items():
        flag = "encoder" if name == "name" else name
        yield f"encoder {name.replace('_', ' ')}", (value, _flag(flag))
    if record.augment is not None:
        yield "augmentation", (record.augment, "--augment")
    for name, value in run.training.items():
        if name not in NOT_COMPARED:
            yield name.replace("_", " "), (value, _flag(name))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value}"[:40]
