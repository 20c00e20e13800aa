"""Chosen labels of a study: which images they are, and what choosing them is worth.

A choice is made once for each seed and rule, by features of the seed's own pretraining, which saw no label, among the
images that may be trained on; scratch and the pretrained network learn from the same ones. It is kept in the study's
folder, so that a cell that goes on, or another process, takes the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whymask.choosing.distances import unit
from whymask.choosing.rules import RULES, Images
from whymask.choosing.settings import BLIND
from whymask.disk import read_arrays, write_arrays
from whymask.encoders import Encoder
from whymask.locks import holding
from whymask.report.text import plural
from whymask.stages.context import Context
from whymask.stages.probe import features_of
from whymask.studies.settings import SCRATCH
from whymask.studies.statistics import paired_difference
from whymask.studies.verdict import state_of
from whymask.studies.worth import label_worth
from whymask.tasks import Classification, Task

if TYPE_CHECKING:
    from whymask.studies.cells import Cell
    from whymask.studies.table import Group

FOLDER = "chosen"
Row = dict[str, Any]
Groups = Mapping[tuple[str, float], "Group"]
Bootstrap = Callable[[Mapping[int, np.ndarray], Mapping[int, np.ndarray]], dict[str, tuple[float, float]]]


def file_of(out: Path, cell: "Cell") -> Path:
    """Where the rows that the cell's rule chooses are kept: one file for scratch and pretrained."""
    return out / FOLDER / f"{cell.choose}-{cell.labels.name.replace('%', 'percent')}-{cell.seed}.npz"


def chosen_rows(context: Context, out: Path, cell: "Cell", count: int, encoder: Callable[[], Encoder]) -> np.ndarray:
    """The `count` labelled images, rows ascending, that the cell's rule chooses by features of the `encoder`; those
    that are kept where it has chosen before."""
    path = file_of(out, cell)
    if not context.by_first(path.exists):
        seer = None if cell.choose == BLIND else encoder()
        context.by_first(lambda: _keep(path, context, cell, count, seer))
    return context.by_first(lambda: read_arrays(path)["rows"])


def _keep(path: Path, context: Context, cell: "Cell", count: int, encoder: Encoder | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with holding(path.parent, wait=True):
        if path.exists():
            return
        rows = np.sort(context.prepared.train)
        features = np.zeros((len(rows), 1), np.float32)  # of who looks at no image
        if encoder is not None:
            features = unit(features_of(encoder.to(context.fabric.device), context.prepared, rows))
        known, classes = np.zeros(len(rows), bool), len(context.prepared.classes) or None
        chosen = RULES[cell.choose](Images(features, known, ~known, classes), count, cell.seed)
        write_arrays(path, {"rows": np.sort(rows[[choice.row for choice in chosen]])})


def worth_of_choosing(
    out: Path, cells: Iterable["Cell"], groups: Groups, task: Task, metric: str, labels: np.ndarray, draw: Bootstrap
) -> list[Row]:
    """study.json's "choosing": of each rule and start, chosen labels against as many drawn evenly and, where there
    are, at random whatever their class.

    A row: {"rule", "arm", "baseline", "labels_per_class", "metric", "mean", "baseline_mean", "classes": of chosen
    labels, the mean over seeds, None where images have not one each, "difference", "low", "high", "low_images",
    "high_images", "seeds", "state", "worth"}. `worth`, only beside drawn labels, is a `LabelWorth` of them: at how many
    the same start reaches as much. `labels` are those of all images, `draw` the bootstrap over test images.
    """
    rows: list[Row] = []
    chosen: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.choose:
            chosen.setdefault((cell.arm, cell.choose), []).append(cell)
    for (start, rule), own in chosen.items():
        arm = next((group for (name, _), group in groups.items() if name == own[0].shown), None)
        if arm is None:
            continue
        about = {"rule": rule, "arm": arm.arm, "classes": _classes(out, own, task, labels)}
        for name in (start, *([f"{start}+{BLIND}"] if rule != BLIND else [])):
            baseline = groups.get((name, arm.labels_per_class))
            row = None if baseline is None else _compared(arm, baseline, task, metric, draw)
            if row is not None:
                rows.append(
                    about | row | {"worth": _worth(groups, arm, start, task, metric) if name == start else None}
                )
    return rows


def _compared(arm: "Group", baseline: "Group", task: Task, metric: str, draw: Bootstrap) -> Row | None:
    """Chosen labels against others, as a pair of study.json, with both means and what it says."""
    ours, theirs = arm.values(metric), baseline.values(metric)
    pair = paired_difference(ours, theirs)
    if pair is None:
        return None
    low, high = draw(arm.predictions, baseline.predictions).get(metric, (None, None))
    row: Row = {"baseline": baseline.arm, "labels_per_class": arm.labels_per_class, "metric": metric}
    row |= {"mean": float(np.mean([*ours.values()])), "baseline_mean": float(np.mean([*theirs.values()]))}
    row |= {"difference": pair.difference, "low": pair.low, "high": pair.high, "seeds": pair.seeds}
    row |= {"low_images": low, "high_images": high}
    return row | {"state": state_of(row, task.describe(metric))}


def _classes(out: Path, cells: Sequence["Cell"], task: Task, labels: np.ndarray) -> float | None:
    """How many classes the chosen labels are of, the mean over seeds."""
    files = [file_of(out, cell) for cell in cells]
    if task.name != Classification.name or not all(file.exists() for file in files):
        return None
    return float(np.mean([len(np.unique(labels[read_arrays(file)["rows"]])) for file in files]))


def _worth(groups: Groups, arm: "Group", start: str, task: Task, metric: str) -> Row | None:
    """At how many drawn labels the same start reaches what it does with chosen ones."""
    curves: dict[int, dict[float, float]] = {}
    for (name, budget), group in groups.items():
        if name == start:
            for seed, value in group.values(metric).items():
                curves.setdefault(seed, {})[budget] = value
    better = task.describe(metric).higher_is_better
    found = label_worth(arm.arm, arm.labels_per_class, arm.values(metric), curves, higher_is_better=better)
    return None if found is None else dict(found)


def choosing_texts(rows: Sequence[Row], task: Task) -> list[str]:
    """What choosing was worth, a sentence for each rule and start."""
    texts = []
    for row in rows:
        if row["baseline"].endswith(f"+{BLIND}") or row["rule"] == BLIND:
            continue
        labels, about = row["labels_per_class"], task.describe(row["metric"])
        at_random = next((r for r in rows if r["arm"] == row["arm"] and r["baseline"].endswith(f"+{BLIND}")), None)
        beside = "drawn evenly from each class" if at_random else "drawn"
        text = (
            f"At {labels:g} {task.bought(labels)} chosen by {row['rule']}, {_start_of(row)} reaches {row['mean']:.3g} "
            f"{about.title}; with as many {beside} {_against(row)}"
        )
        if at_random is not None:
            text += f"; with as many at random whatever their class {_against(at_random)}"
        texts.append(f"{text}.")
    return texts


def _start_of(row: Row) -> str:
    return "scratch" if row["arm"].startswith(f"{SCRATCH}+") else row["arm"].partition("+")[0]


def _against(row: Row) -> str:
    interval = "" if row["low"] is None else f", 95 % interval {row['low']:+.3f} to {row['high']:+.3f}"
    said = {"better": "better", "worse": "worse", "few": "too few seeds to tell"}.get(row["state"], "may be chance")
    return (
        f"{row['baseline_mean']:.3g} ({row['difference']:+.3f}{interval} over {plural(row['seeds'], 'seed')}: {said})"
    )
