"""The page of what is seen in a folder, whole and the part that changes."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from whymask.progress import time_left
from whymask.report.figures import arm_styles, inline
from whymask.report.page import render, render_part
from whymask.report.pictures import arrays_of, data_uri
from whymask.report.text import clean, count, duration, number
from whymask.studies.page import figures
from whymask.watch.seen import Line, Seen, StudySeen, seen_at, time_of

REPORT = "report.html"
_TEMPLATES = Path(__file__).with_name("templates")
_SIDE, _SHOWN = 112, 8
GALLERY = ("original", "masked", "reconstructed")
_WATCHED = {
    "knn": "nearest neighbours",
    "linear": "linear model",
    "effective_rank": "effective rank",
    "spread": "spread",
    "uniformity": "uniformity",
}
"""What a pretraining's features are watched by (`stages.watching`)."""
_NOTES = {
    "waiting": "Nothing of a run is in this folder yet. The page fills as soon as one begins.",
    "begun": "It has begun; the first line of metrics comes after a two hundredth of its steps.",
    "stopped": "No process writes here at this moment. Where it was stopped, the same command continues it.",
}

Curve = tuple[str, tuple[tuple[float, float], ...]]
"""An arm, and the steps and values of one of its runs."""


def whole_page(folder: Path) -> bytes:
    return render(
        "watch.html.j2",
        _TEMPLATES,
        further=_TEMPLATES / "watch.js",
        name=clean(folder.name),
        place=clean(str(folder)),
        seen=Markup(part_now(folder)),
    )


def part_now(folder: Path) -> str:
    """What changes, as HTML."""
    seen = seen_at(folder)
    told = _of_study(seen) if isinstance(seen, StudySeen) else _of_run(seen)
    note, has_report = told.pop("note", "") or _NOTES.get(seen.state, ""), (folder / REPORT).exists()
    return render_part("now.html.j2", _TEMPLATES, seen=seen, note=note, has_report=has_report, **told)


def _of_run(run: Seen) -> Line:
    last, steps = run.last, run.steps
    facts = [
        ("steps", f"{count(steps[0])} of {count(steps[1])}" if steps else ""),
        ("time left", _left(run.seconds_left)),
        ("time so far", duration(run.seconds) if run.seconds else ""),
        ("loss", number(last["loss"]) if "loss" in last else ""),
        ("images a second", count(round(last["images_per_second"])) if "images_per_second" in last else ""),
        ("written by", run.writer),
        ("last written", run.written),
    ]
    return {
        "heading": run.title,
        "note": run.error,
        "share": run.share if run.steps else None,
        "facts": [(name, clean(value)) for name, value in facts if value],
        "figures": [*_curves_of(run)],
        **_gallery([run]),
    }


def _of_study(study: StudySeen) -> Line:
    done, failed = study.count("finished"), study.count("failed")
    facts = [
        ("cells done", f"{done} of {study.expected}" if study.cells else ""),
        ("cells failed", str(failed) if failed else ""),
        ("time left", _left(study.seconds_left)),
        ("written by", study.writer),
        ("last written", max((cell.written for cell in study.cells), default="")),
    ]
    pretrainings = [cell for cell in study.cells if cell.stage == "pretrain"]
    classifiers = [cell for cell in study.cells if cell.state == "running" and cell not in pretrainings]
    drawn = [*_together("loss of pretraining", pretrainings, "loss")]
    for key, title in list(_WATCHED.items())[:3]:
        drawn += _together(title, pretrainings, key, validated=True)
    drawn += _together("training loss of what runs now", classifiers, "loss")
    ended = done + failed + sum(cell.share for cell in study.cells if cell.state == "running")
    return {
        "heading": f"{done + failed} of {study.expected} cells" if study.cells else "A study",
        "share": ended / study.expected if study.cells else None,
        "facts": [(name, clean(value)) for name, value in facts if value],
        "cells": clean_cells(study.cells),
        "figures": drawn,
        **_gallery(pretrainings),
    }


def clean_cells(cells: Iterable[Seen]) -> list[Line]:
    """What the table shows of each cell, printable."""
    names = ("title", "state", "steps", "error", "last", "seconds")
    return [clean({name: getattr(cell, name) for name in names}) for cell in cells]


def _left(seconds: float | None) -> str:
    return "" if seconds is None else time_left(seconds).removesuffix(" left")


def _gallery(runs: list[Seen]) -> dict[str, Any]:
    """The reconstructions of the last of the runs that has some."""
    for run in reversed(runs):
        if (changed := time_of(path := run.folder / "gallery.npz")) and (triples := _triples(path, changed)):
            return {"gallery_of": clean(run.title), "triples": triples}
    return {"gallery_of": "", "triples": []}


@lru_cache(maxsize=4)
def _triples(path: Path, changed: float) -> list[tuple[str, ...]]:
    """Data URIs of each image, what the network saw of it, and its reconstruction; none where the file is damaged."""
    arrays = arrays_of(path)
    columns = [[data_uri(image, _SIDE) for image in arrays.get(name, [])[:_SHOWN]] for name in GALLERY]
    return list(zip(*columns, strict=False))


def _curves_of(run: Seen) -> Iterable[tuple[str, Markup]]:
    """Loss and gradient, and what is validated: of a pretraining what it is watched by, else the first two metrics."""
    yield from _together("loss", [run], "loss")
    told = [name for line in run.lines for name in line.get("validation") or {}]
    names = [name for name in _WATCHED if f"first_{name}" in told] or list(dict.fromkeys(told))[:2]
    for name in names:
        yield from _together(_WATCHED.get(name, name), [run], name, validated=True)
    yield from _together("norm of the gradient", [run], "gradient_norm")


def _together(title: str, runs: list[Seen], key: str, validated: bool = False) -> Iterable[tuple[str, Markup]]:
    """The runs' curves of one number in a figure, where there are some; of a validation with what the first weights
    had as a level line."""

    def of(line: Line, name: str = key) -> Any:
        return (line.get("validation") or {}).get(name) if validated else line.get(name)

    curves = tuple(
        (clean(run.arm), tuple(map(tuple, points.tolist()))) for run in runs if len(points := run.curve(of)) >= 2
    )
    firsts = [points[:, 1] for run in runs if len(points := run.curve(lambda line: of(line, f"first_{key}")))]
    if curves:
        caption = f"{title} of some images' features" if key in _WATCHED else title
        yield caption, _drawn(title, curves, float(np.concatenate(firsts).mean()) if firsts else None)


@lru_cache(maxsize=64)
def _drawn(title: str, curves: tuple[Curve, ...], first: float | None) -> Markup:
    """Drawn anew only where a line was added: who is watched has the processor."""
    arms = list(dict.fromkeys(arm for arm, _ in curves))
    points = [(arm, np.array(steps)) for arm, steps in curves]
    return inline(figures.over_steps(f"watch-{title}", title, points, arm_styles(arms), first), title)
