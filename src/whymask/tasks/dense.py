"""What tasks have in common whose labels lie in places of an image: pixels, or boxes of objects.

As an array labels are how much of each class an image shows, int64 (N, k), a row of -1 = unlabelled; what lies where is
beside the images.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from whymask.errors import WhymaskError
from whymask.tasks.base import RawLabels, Task
from whymask.tasks.budgets import Budget
from whymask.tasks.multilabel import Multilabel
from whymask.tasks.question import Question


@dataclass(frozen=True)
class Dense(Task):
    """A task of places. `expected` says what labels it would have taken."""

    is_dense = True
    budget_counts = "labelled images"
    budget_of_one = "labelled image"
    expected: ClassVar[str]

    @classmethod
    def encode(cls, raw: RawLabels, source: str) -> tuple[Task, np.ndarray]:
        raise WhymaskError(f"{source}: its labels are of whole images; for --task {cls.name} {cls.expected}")

    def unlabelled(self, count: int) -> np.ndarray:
        return np.full((count, max(1, len(self.names))), -1, np.int64)

    def labelled(self, labels: np.ndarray) -> np.ndarray:
        return labels[:, 0] >= 0

    def counts(self, labels: np.ndarray) -> list[int]:
        return (labels > 0).sum(axis=0).tolist()

    def text(self) -> str:
        return f"{self.name} of {len(self.names)} {self.name_is if len(self.names) == 1 else self.names_are}"

    def strata(self, labels: np.ndarray, units: int) -> list[np.ndarray]:
        """The images that show each class, and those that show none."""
        return self._shown.strata((labels > 0).astype(np.int64), units)

    def stock(self, labels: np.ndarray) -> list[int]:
        return [len(labels)]

    def draw(self, labels: np.ndarray, rows: np.ndarray, budget: Budget, seed: int) -> np.ndarray:
        """Prefixes of one order for each seed, in which each class has an image early, as `Multilabel.draw` has it."""
        shown = np.where(self.labelled(labels)[:, None], labels > 0, -1)
        return self._shown.draw(shown, rows, budget, seed)

    @property
    def _shown(self) -> Multilabel:
        """Which classes an image shows, as a task."""
        return Multilabel(self.names)

    def question(self, labels: np.ndarray, test: np.ndarray, label: str | None) -> Question:
        raise WhymaskError(
            f"the measures of an explanation ask of which class a whole image is; of {self.name} they tell nothing; "
            "explain a run or a study of classification"
        )
