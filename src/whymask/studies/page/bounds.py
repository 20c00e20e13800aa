"""Intervals of studies of earlier versions, which could end where no share can be, such as at 1.03."""

from typing import Any

from whymask.errors import WhymaskError
from whymask.intervals import Range, kept_within
from whymask.report.text import known
from whymask.stages.taken import task_of
from whymask.studies.table import row_key
from whymask.tasks import Task

Row = dict[str, Any]


def within_bounds(study: Row) -> Row:
    """The study, whose levels and numbers by class have intervals within what they can be.

    Those that do not are t intervals, even about the mean, from which `kept_within` makes what is written today.
    """
    task = task_of(study)
    rows = (task.row_metric.low, task.row_metric.high)
    return study | {
        "levels": [_kept(row, "mean", _range(task, row["metric"])) for row in study["levels"]],
        "per_class": [_kept(row, row_key(task), rows) for row in study["per_class"]],
    }


def _range(task: Task, metric: str) -> Range:
    try:
        about = task.describe(metric)
    except WhymaskError:  # of another version
        return None, None
    return about.low, about.high


def _kept(row: Row, value: str, within: Range) -> Row:
    mean: Any = row.get(value)
    low: Any = row.get("low")
    high: Any = row.get("high")
    if not (known(mean) and known(low) and known(high)):
        return row
    beyond = (within[0] is not None and low < within[0]) or (within[1] is not None and high > within[1])
    return row | dict(zip(("low", "high"), kept_within(mean, (high - low) / 2, within), strict=True)) if beyond else row
