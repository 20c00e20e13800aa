"""What a network's numbers on its test images are worth: with intervals, what they rest on, and chance.

The interval covers what other test images would have given for this network, not what another training would have.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from whymask.intervals import wilson
from whymask.report.text import plural
from whymask.tasks.base import Task
from whymask.tasks.bootstrap import bootstrap_images
from whymask.tasks.metric import Metric

WIDE = 0.1
"""An interval at least so wide has no use for a third decimal."""


@dataclass(frozen=True)
class Score:
    """One metric of one network, tested once.

    Attributes:
        metric, about, value: its name, what it says, and the number.
        images: test images that it rests on; groups: in how many groups they lie, None where each stands alone.
        low, high: 95 % interval over test images; None where there is none.
        chance: the same metric of who looks at no image; None where that is not known.
    """

    metric: str
    about: Metric
    value: float
    images: int
    groups: int | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None

    def text(self) -> str:
        """ "accuracy 0.267 (8 of 30 test images; 95 % 0.14 to 0.44; chance 0.10)"."""
        rests_on = plural(self.images, "test image")
        if self.about.counted:
            rests_on = f"{round(self.value * self.images):,} of {rests_on}"
        if self.groups is not None:
            rests_on += f" in {self.groups:,} groups"
        chance = [] if self.chance is None else [f"chance {self.about.shown(self.chance, self._decimals)}"]
        return (
            f"{self.about.title} {self.about.shown(self.value, 3)} ({'; '.join([rests_on, self._interval(), *chance])})"
        )

    def _interval(self) -> str:
        if self.low is None or self.high is None:
            return "no interval"
        low, high = (self.about.shown(bound, self._decimals) for bound in (self.low, self.high))
        return f"95 % {low} to {high}"

    @property
    def _decimals(self) -> int:
        is_narrow = self.low is not None and self.high is not None and self.high - self.low < WIDE
        return 3 if is_narrow else 2


def scores_of(
    task: Task,
    predictions: np.ndarray,
    labels: np.ndarray,
    *,
    tags: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    chance: Mapping[str, float] | None = None,
) -> list[Score]:
    """Every metric that the test images define, of predictions (N, k), as `Task.metrics` has them.

    What is counted has Wilson's interval; what is not, and everything where `groups` (N,), such as patients, make
    images depend on each other, a bootstrap's. A metric that the task does not resample has none, nor has one that is
    the same in every resample: that all of a few images are right does not show that another would be.
    """
    units = None if groups is None else len(np.unique(groups))
    # Who knows the labels scores the same in every resample, so that what varies is the network's metric alone.
    best = {0: task.perfect(labels)}
    behind = bootstrap_images(task, {0: predictions}, best, labels, tags=tags, groups=groups)
    scores = []
    for metric, value in task.metrics(predictions, labels, tags).items():
        about, tag = task.describe(metric), metric.partition("/")[2]
        images = int((tags == tag).sum()) if about.counted and tag and tags is not None else len(labels)
        low, high = _bounds(about, behind.get(metric))
        if about.counted and groups is None:
            low, high = wilson(round(value * images), images)
        known = None if chance is None else chance.get(metric)
        scores.append(Score(metric, about, value, images, units, low, high, known))
    return scores


def _bounds(about: Metric, behind: tuple[float, float] | None) -> tuple[float, float] | tuple[None, None]:
    """The interval of a metric whose distance from its best value, which no resample changes, lies within `behind`."""
    if behind is None or about.best is None or behind[0] == behind[1]:
        return None, None
    return about.best + behind[0], about.best + behind[1]
