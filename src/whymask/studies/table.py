"""From finished cells to study.json: levels, pairs, per-class numbers, label worth, verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.prepare import Prepared
from whymask.disk import read_arrays, read_json
from whymask.intervals import level_interval
from whymask.studies.calibration import calibration
from whymask.studies.cells import Cell
from whymask.studies.chosen import choosing_texts, worth_of_choosing
from whymask.studies.config import StudyConfig
from whymask.studies.outcomes import outcomes
from whymask.studies.roads import road_text, roads
from whymask.studies.settings import SCRATCH, SCRATCH_LONG
from whymask.studies.statistics import PairedDifference, bootstrap_images, paired_difference
from whymask.studies.verdict import CHANCE, margin_of, verdict
from whymask.studies.worth import label_worth, may_be_said
from whymask.tasks import Classification, Task
from whymask.tasks.bootstrap import resampled_differences

CLASSES = Classification.name
Row = dict[str, Any]
Predictions = Mapping[int, np.ndarray]
"""Seed -> the task's predictions (n_test, k)."""

SCHEMA = 2
"""Of study.json; `whymask.studies.earlier` reads 1."""


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
        paths = {seed: row["path"] / "predictions.npz" for seed, row in self.cells.items()}
        return {seed: read_arrays(path)[self.task.kept_as] for seed, path in paths.items()}

    @property
    def metrics(self) -> list[str]:
        """The metrics that every cell has."""
        rows = list(self.cells.values())
        return [name for name in rows[0]["metrics"] if all(name in row["metrics"] for row in rows)] if rows else []

    def neighbours(self, metric: str) -> float | None:
        """The mean of what the nearest neighbours in its features reach; None where they were not asked."""
        values = [row["knn"][metric] for row in self.cells.values() if metric in row.get("knn", {})]
        return float(np.mean(values)) if values else None

    def values(self, metric: str) -> dict[int, float]:
        return {seed: row["metrics"][metric] for seed, row in self.cells.items() if metric in row["metrics"]}


def assemble(out: Path, prepared: Prepared, config: StudyConfig, cells: list[Cell], setting: Row) -> Row:
    """study.json's content (`SCHEMA`) from whatever cells are finished under `out`.

    `setting` is the resolved setting as the page shows it; it holds the verdict's metric and budgets.
    """
    pretraining = [_pretraining_row(out, cell) for cell in cells if cell.budget is None]
    rows = [_cell_row(out, cell, prepared) for cell in cells if cell.budget is not None]
    task, every = prepared.task, _groups(prepared.task, rows)
    chosen = {cell.shown for cell in cells if cell.choose}
    groups = {key: group for key, group in every.items() if group.arm not in chosen}
    labels = prepared.images.labels[prepared.test]
    tags, test_groups = prepared.test_tags, None if prepared.groups is None else prepared.groups[prepared.test]
    levels = [row for group in every.values() for row in _levels(group)]

    def bootstrap(arm: Predictions, baseline: Predictions) -> dict[str, tuple[float, float]]:
        return bootstrap_images(task, arm, baseline, labels, tags=tags, groups=test_groups)

    pairs = _pairs(groups, config, rows, bootstrap)
    metric, first, chance = setting["metric"], setting["verdict_labels_per_class"], prepared.chance
    here = [arm for (_, budget), arm in groups.items() if budget == first and metric in arm.metrics]
    against_chance = [row for arm in here for row in _against_chance(arm, metric, prepared, bootstrap)]
    given = verdict(
        [*pairs, *against_chance],
        metric,
        first,
        task=task,
        arm=config.leading,
        levels=levels,
        margin=margin_of(task.describe(metric), config.margin, chance.get(metric)),
        test_images=len(labels) if test_groups is None else len(np.unique(test_groups)),
        equal_compute=config.scratch_long != "none",
    )
    arm, baseline = (groups.get((name, first)) for name in (config.leading, SCRATCH))
    keys = [prepared.images.keys[row] for row in prepared.test]

    def resampled(one: Group, other: Group) -> np.ndarray | None:
        drawn = resampled_differences(task, one.predictions, other.predictions, labels, tags=tags, groups=test_groups)
        return drawn.get(metric)

    worths = _worths(groups, config.pretrained_arms, task, metric)
    choosing = worth_of_choosing(out, cells, every, task, metric, prepared.images.labels, bootstrap)
    return {
        "schema": SCHEMA,
        **({"choosing": {"rows": choosing, "texts": choosing_texts(choosing, task)}} if config.choose else {}),
        **({"roads": _roads(groups, config, task, metric, resampled)} if config.starts is not None else {}),
        "setting": setting,
        "data": prepared.describe(),
        "pretraining": [row for row in pretraining if row is not None],
        "cells": [{k: v for k, v in row.items() if k not in ("path", "done")} for row in rows if row["done"]],
        "levels": levels,
        "pairs": pairs,
        "per_class": [row for group in groups.values() for row in _per_class(group, labels)],
        "confusion": [row for group in groups.values() for row in _confusion(group, labels)],
        "calibration": _calibrations(groups, first, labels),
        "chance": chance,
        "against_chance": against_chance,
        "label_worth": [row | {"said": may_be_said(row, levels, pairs, given, config.leading, task)} for row in worths],
        "verdict": given,
        "outcomes": arm and baseline and outcomes(task, arm.predictions, baseline.predictions, labels, keys),
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
    names = ("operations", "images_seen", "seconds", "joules", "loss", "data_wait", "warning", "error")
    return {"method": cell.arm, "seed": cell.seed, "folder": f"cells/{cell.name}"} | {
        name: result.get(name) for name in names
    }


def _cell_row(out: Path, cell: Cell, prepared: Prepared) -> Row:
    folder = out / "cells" / cell.name
    result = _outcome(folder)
    names = ("operations", "images_seen", "steps", "seconds", "joules", "error")
    neighbours = {"knn": result["knn"]} if result and "knn" in result else {}
    return (
        {
            "arm": cell.shown,
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
        | neighbours
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
    bootstrap: Callable[[Predictions, Predictions], dict[str, tuple[float, float]]],
) -> list[Row]:
    """Every pretrained arm against every scratch arm, budget by budget, metric by metric."""
    failed = {(row["arm"], row["labels_per_class"], row["seed"]) for row in rows if row["error"]}
    pairs = []
    for (name, budget), arm in groups.items():
        for baseline in (groups.get((other, budget)) for other in (SCRATCH, SCRATCH_LONG)):
            if name not in config.pretrained_arms or baseline is None:
                continue
            images = bootstrap(arm.predictions, baseline.predictions)
            dropped = {seed for other in (arm, baseline) for a, b, seed in failed if (a, b) == (other.arm, budget)}
            for metric in arm.metrics:
                pair = paired_difference(arm.values(metric), baseline.values(metric))
                if pair is not None:
                    pairs.append(_pair_row(arm, baseline.arm, metric, pair, images) | {"dropped": len(dropped)})
    return pairs


def _against_chance(
    arm: Group,
    metric: str,
    prepared: Prepared,
    bootstrap: Callable[[Predictions, Predictions], dict[str, tuple[float, float]]],
) -> list[Row]:
    """The arm against who looks at no image, as a pair, which is none without a finished cell."""
    labels = prepared.images.labels
    guess = arm.task.guess(labels[prepared.train], labels[prepared.test])
    images = bootstrap(arm.predictions, dict.fromkeys(arm.cells, guess))
    pair = paired_difference(arm.values(metric), dict.fromkeys(arm.cells, prepared.chance[metric]))
    return [] if pair is None else [_pair_row(arm, CHANCE, metric, pair, images) | {"dropped": 0}]


def _roads(
    groups: Mapping[tuple[str, float], Group],
    config: StudyConfig,
    task: Task,
    metric: str,
    resampled: Callable[[Group, Group], np.ndarray | None],
) -> list[Row]:
    """The starts beside each other at each budget at which they were compared; scratch-long is none."""
    about, rows = task.describe(metric), []
    for labels in sorted({labels for arm, labels in groups if arm in config.pretrained_arms}):
        here = {arm: groups[arm, labels] for arm in (SCRATCH, *config.pretrained_arms) if (arm, labels) in groups}
        values = {arm: group.values(metric) for arm, group in here.items()}
        pairs = {(one, other): resampled(here[one], here[other]) for one, other in combinations(here, 2)}
        road = roads(values, about, pairs) | {"labels_per_class": labels}
        neighbours = {arm: group.neighbours(metric) for arm, group in here.items() if group.neighbours(metric)}
        rows.append(road | {"neighbours": neighbours, "text": road_text(road, about, task)})
    return rows


def _pair_row(
    arm: Group, baseline: str, metric: str, pair: PairedDifference, images: Mapping[str, tuple[float, float]]
) -> Row:
    low_images, high_images = images.get(metric, (None, None))
    return {
        "arm": arm.arm,
        "baseline": baseline,
        "labels_per_class": arm.labels_per_class,
        "metric": metric,
        "difference": pair.difference,
        "low": pair.low,
        "high": pair.high,
        "low_images": low_images,
        "high_images": high_images,
        "seeds": pair.seeds,
    }


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


def _calibrations(groups: Mapping[tuple[str, float], Group], labels_per_class: float, labels: np.ndarray) -> list[Row]:
    """One row an arm, at one number of labels, of a classification."""
    here = [group for (_, budget), group in groups.items() if budget == labels_per_class]
    rows = {group.arm: calibration(group.predictions, labels) for group in here if group.task.name == CLASSES}
    return [{"arm": arm, "labels_per_class": labels_per_class} | row for arm, row in rows.items() if row is not None]


def _worths(groups: Mapping[tuple[str, float], Group], arms: list[str], task: Task, metric: str) -> list[Row]:
    curves: dict[int, dict[float, float]] = {}
    for (arm, budget), group in groups.items():
        if arm == SCRATCH:
            for seed, value in group.values(metric).items():
                curves.setdefault(seed, {})[budget] = value
    better = task.describe(metric).higher_is_better
    worths = [
        label_worth(arm, budget, group.values(metric), curves, higher_is_better=better)
        for (arm, budget), group in groups.items()
        if arm in arms
    ]
    return [dict(worth) for worth in worths if worth is not None]
