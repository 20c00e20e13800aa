"""What labels are: one file a task."""

from collections.abc import Mapping
from typing import Any

from whymask.tasks.base import LossConfig, Objective, RawLabels, Task
from whymask.tasks.classification import Classification
from whymask.tasks.metric import Metric
from whymask.tasks.multilabel import Multilabel
from whymask.tasks.regression import Regression

__all__ = [
    "TASKS",
    "Classification",
    "LossConfig",
    "Metric",
    "Multilabel",
    "Objective",
    "RawLabels",
    "Regression",
    "Task",
    "task_from",
]

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Multilabel, Regression)}


def task_from(kept: Mapping[str, Any]) -> Task:
    """The task that `Task.to_dict` wrote. What was written before there were several is a classification."""
    task = TASKS[kept.get("task", Classification.name)]
    return task(tuple(kept[task.names_are]))
