"""From finished cells to study.json: levels, pairs, per-class numbers, label worth, verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.prepare import Prepared
from whymask.intervals import level_interval
from whymask.runs import SCHEMA, read_json
from whymask.studies.cells import Cell
from whymask.studies.config import StudyConfig
from whymask.studies.settings import SCRATCH, SCRATCH_LONG
from whymask.studies.statistics import bootstrap_images, paired_difference
from whymask.studies.verdict import verdict
from whymask.studies.worth import label_worth
from whymask.tasks import Task

Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """The finished cells of one arm at one budget, by seed."""

    task: Task
    arm: str
    labels_per_class: float
    cells: Mapping[int, Row]

    @cached_property
    def predictions(self) -> dict[int, np.ndarray]:
        """The task's predictions (n_test, k) by seed."""
        return {seed: np.load(row["path"] / "predictions.npz")[self.task.kept_as] for seed, row in self.cells.items()}

    @property
    def metrics(self) -> list[str]:
        """The metrics that every cell has."""
        rows = list(self.cells.values())
        return [name for name in rows[0]["metrics"] if all(name in row["metrics"] for row in rows)] if rows else []

    def values(self, metric: str) -> dict[int, float]:
        return {seed: row["metrics"][metric] for seed, row in self.cells.items() if metric in row["metrics"]}


def assemble(out: Path, prepared: Prepared, config: StudyConfig, cells: list[Cell], setting: Row) -> Row:
    """study.json's content (schema 1) from whatever cells are finished under `out`.

    `setting` is the resolved setting as the page shows it; it holds the verdict's metric and budgets.
    """
    pretraining = [_pretraining_row(out, cell) for cell in cells if cell.budget is None]
    rows = [_cell_row(out, cell, prepared) for cell in cells if cell.budget is not None]
    task, groups = prepared.task, _groups(prepared.task, rows)
    labels = prepared.images.labels[prepared.test]
    tags, test_groups = prepared.test_tags, None if prepared.groups is None else prepared.groups[prepared.test]
    levels = [row for group in groups.values() for row in _levels(group)]

    def bootstrap(arm: Group, baseline: Group) -> dict[str, tuple[float, float]]:
        return bootstrap_images(task, arm.predictions, baseline.predictions, labels, tags=tags, groups=test_groups)

    pairs = _pairs(groups, config, rows, bootstrap)
    first = setting["verdict_labels_per_class"]
    return {
        "schema": SCHEMA,
        "setting": setting,
        "data": prepared.describe(),
        "pretraining": [row for row in pretraining if row is not None],
        "cells": [{k: v for k, v in row.items() if k not in ("path", "done")} for row in rows if row["done"]],
        "levels": levels,
        "pairs": pairs,
        "per_class": [row for group in groups.values() for row in _per_class(group, labels)],
        "confusion": [row for group in groups.values() for row in _confusion(group, labels)],
        "chance": prepared.chance,
        "label_worth": _worths(groups, config, task, setting["metric"]),
        "verdict": verdict(
            pairs,
            setting["metric"],
            first,
            task=task,
            arm=config.method,
            levels=levels,
            equal_compute=config.scratch_long != "none",
        ),
    }


def row_key(task: Task) -> str:
    """Under what a row of per_class holds its number: "recall"."""
    return task.row_metric.title.replace(" ", "_")


def labels_per_class(cell: Cell, prepared: Prepared) -> float:
    """Labels that the cell's budget buys, of each class or of all: the number itself, or the mean over classes."""
    if cell.labels.kind == "count":
        return int(cell.labels.value)
    return round(float(np.mean([cell.labels.count(n) for n in prepared.stock if n])), 2)


def _pretraining_row(out: Path, cell: Cell) -> Row | None:
    folder = out / "cells" / cell.name
    result = _outcome(folder)
    if result is None:
        return None
    names = ("operations", "images_seen", "seconds", "loss", "data_wait", "warning", "error")
    return {"method": cell.arm, "seed": cell.seed, "folder": f"cells/{cell.name}"} | {
        name: result.get(name) for name in names
    }


def _cell_row(out: Path, cell: Cell, prepared: Prepared) -> Row:
    folder = out / "cells" / cell.name
    result = _outcome(folder)
    names = ("operations", "images_seen", "steps", "seconds", "error")
    return (
        {
            "arm": cell.arm,
            "labels_per_class": labels_per_class(cell, prepared),
            "budget": cell.labels.name,
            "seed": cell.seed,
            "metrics": {},
            "folder": f"cells/{cell.name}",
            "path": folder,
            "done": result is not None,
        }
        | {name: (result or {}).get(name) for name in names}
        | ({"metrics": result.get("metrics", {})} if result else {})
    )


def _outcome(folder: Path) -> Row | None:
    """The result of a finished cell, {"error": ...} of a failed one, None of one that is still to be run."""
    for name in ("result.json", "error.json"):
        if (folder / name).exists():
            return read_json(folder / name)
    return None


def _groups(task: Task, rows: list[Row]) -> dict[tuple[str, float], Group]:
    groups: dict[tuple[str, float], dict[int, Row]] = {}
    for row in rows:
        cells = groups.setdefault((row["arm"], row["labels_per_class"]), {})
        if row["metrics"]:
            cells[row["seed"]] = row
    return {key: Group(task, *key, cells) for key, cells in groups.items()}


def _levels(group: Group) -> list[Row]:
    rows = []
    for metric in group.metrics:
        about = group.task.describe(metric)
        interval = level_interval(list(group.values(metric).values()), (about.low, about.high))
        rows.append(
            {
                "arm": group.arm,
                "labels_per_class": group.labels_per_class,
                "metric": metric,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "seeds": len(group.cells),
            }
        )
    return rows


def _pairs(
    groups: Mapping[tuple[str, float], Group],
    config: StudyConfig,
    rows: list[Row],
    bootstrap: Callable[[Group, Group], dict[str, tuple[float, float]]],
) -> list[Row]:
    """Every pretrained arm against every scratch arm, budget by budget, metric by metric."""
    failed = {(row["arm"], row["labels_per_class"], row["seed"]) for row in rows if row["error"]}
    pairs = []
    for (name, budget), arm in groups.items():
        for baseline in (groups.get((other, budget)) for other in (SCRATCH, SCRATCH_LONG)):
            if name not in config.pretrained_arms or baseline is None:
                continue
            images = bootstrap(arm, baseline)
            dropped = {seed for other in (arm, baseline) for a, b, seed in failed if (a, b) == (other.arm, budget)}
            for metric in arm.metrics:
                pair = paired_difference(arm.values(metric), baseline.values(metric))
                if pair is None:
                    continue
                low_images, high_images = images.get(metric, (None, None))
                pairs.append(
                    {
                        "arm": name,
                        "baseline": baseline.arm,
                        "labels_per_class": budget,
                        "metric": metric,
                        "difference": pair.difference,
                        "low": pair.low,
                        "high": pair.high,
                        "low_images": low_images,
                        "high_images": high_images,
                        "seeds": pair.seeds,
                        "dropped": len(dropped),
                    }
                )
    return pairs


def _per_class(group: Group, labels: np.ndarray) -> list[Row]:
    """The task's row metric, such as "recall", of each of its names."""
    task, key = group.task, row_key(group.task)
    by_seed = [task.per_name(prediction, labels) for prediction in group.predictions.values()]
    rows = []
    for name, values in zip(task.names, zip(*by_seed, strict=True), strict=False):
        if None in values:
            continue
        interval = level_interval(values, (task.row_metric.low, task.row_metric.high))
        place = {"arm": group.arm, "labels_per_class": group.labels_per_class, "class": name}
        rows.append(place | {key: interval.mean, "low": interval.low, "high": interval.high})
    return rows


def _confusion(group: Group, labels: np.ndarray) -> list[Row]:
    """One row, of means over seeds, where the task has confusions and there are finished cells."""
    by_seed = [group.task.confusion(prediction, labels) for prediction in group.predictions.values()]
    known = [counts for counts in by_seed if counts is not None]
    if not known:
        return []
    counts = np.mean(known, axis=0).round(2).tolist()
    return [{"arm": group.arm, "labels_per_class": group.labels_per_class, "counts": counts}]


def _worths(groups: Mapping[tuple[str, float], Group], config: StudyConfig, task: Task, metric: str) -> list[Row]:
    curves: dict[int, dict[float, float]] = {}
    for (arm, budget), group in groups.items():
        if arm == SCRATCH:
            for seed, value in group.values(metric).items():
                curves.setdefault(seed, {})[budget] = value
    better = task.describe(metric).higher_is_better
    worths = [
        label_worth(arm, budget, group.values(metric), curves, higher_is_better=better)
        for (arm, budget), group in groups.items()
        if arm in config.pretrained_arms
    ]
    return [dict(worth) for worth in worths if worth is not None]
