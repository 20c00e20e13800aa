"""What labels are: one file a task."""

from typing import TYPE_CHECKING

from whymask.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "base": ["LossConfig", "Objective", "RawLabels", "Task"],
        "classification": ["Classification"],
        "detection": ["Detection"],
        "metric": ["Metric"],
        "multilabel": ["Multilabel"],
        "names": ["TASKS", "task_from"],
        "regression": ["Regression"],
        "segmentation": ["Segmentation"],
    },
)

if TYPE_CHECKING:
    from whymask.tasks.base import LossConfig as LossConfig
    from whymask.tasks.base import Objective as Objective
    from whymask.tasks.base import RawLabels as RawLabels
    from whymask.tasks.base import Task as Task
    from whymask.tasks.classification import Classification as Classification
    from whymask.tasks.detection import Detection as Detection
    from whymask.tasks.metric import Metric as Metric
    from whymask.tasks.multilabel import Multilabel as Multilabel
    from whymask.tasks.names import TASKS as TASKS
    from whymask.tasks.names import task_from as task_from
    from whymask.tasks.regression import Regression as Regression
    from whymask.tasks.segmentation import Segmentation as Segmentation
