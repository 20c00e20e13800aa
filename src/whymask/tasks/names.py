"""The tasks by name."""

from collections.abc import Mapping
from typing import Any

from whymask.tasks.base import Task
from whymask.tasks.classification import Classification
from whymask.tasks.detection import Detection
from whymask.tasks.multilabel import Multilabel
from whymask.tasks.regression import Regression
from whymask.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Classification, Multilabel, Regression, Segmentation, Detection)
}


def task_from(kept: Mapping[str, Any]) -> Task:
    """The task that `Task.to_dict` wrote. What was written before there were several is a classification."""
    task = TASKS[kept.get("task", Classification.name)]
    return task(tuple(kept[task.names_are]))
