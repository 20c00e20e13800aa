"""What a task is: everything that depends on what labels are.

Data ask it how their labels are encoded and divided, training what to learn from them, a study how good predictions
are. A task is one file, read from top to bottom, beside what those of places share (`dense`); only `data.labels`, which
derives one, tells them apart elsewhere.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from whymask.errors import WhymaskError
from whymask.randomness import numpy_generator
from whymask.tasks.budgets import Budget
from whymask.tasks.metric import Metric
from whymask.tasks.outputs import Outputs
from whymask.tasks.question import Question
from whymask.tasks.resampling import Units, Weighted

Targets = Literal["labels", "maps", "boxes"]
"""What a network learns an image by: labels of the whole image, its label map, or the boxes of its objects."""


@dataclass(frozen=True)
class RawLabels:
    """The labels of N images as a source holds them, before a task makes numbers of them.

    Attributes:
        values: a name, a number, None (unlabelled) or a list of them for each image; or numbers (N, L), NaN where
            there is none.
        names: of the columns of (N, L), or of the class numbers 0, 1, ...; () where numbers are all there is.
        column: where they were found, "label" or "target" where the source does not say.
        separator: what stands between the classes of one image in a text.
        nothing: class numbers that say that an image has no label, such as -1.
    """

    values: Sequence[Any] | np.ndarray
    names: tuple[str, ...] = ()
    column: str = "label"
    separator: str = "|"
    nothing: tuple[int, ...] = ()


@dataclass(frozen=True)
class LossConfig:
    """What a task may be told about its loss. Each takes its own (`Task.takes`) and refuses the others.

    Attributes:
        label_smoothing: share of a label that is spread over all classes (arXiv 1512.00567).
        class_weights: "balanced" weighs each class by n / (k * its images), of the images that are trained on.
        bins: of each target's range, over which a cross-entropy stands beside the squared error; 0 for none.
        dice: share of a pixels' cross-entropy that soft Dice replaces (arXiv 1606.04797).
    """

    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    bins: int = 0
    dice: float = 0.0


class Objective(nn.Module, ABC):
    """What a head learns from labels, and what its outputs mean: `objective(outputs, targets)` is the loss.

    It is made for the images of one run. `width`: outputs of the head while it is trained.
    """

    width: int

    @abstractmethod
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of outputs (B, width) and the batch's labels (B, ...), which augmentation may have mixed."""

    def read(self, outputs: Tensor) -> Tensor:
        """Outputs in training (B, width) -> those of the head that is kept (B, k), one for each of the task's names."""
        return outputs

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The linear head that is kept (k, D), (k,): its outputs are what `read` makes of those of the trained one."""
        return weight, bias

    def about(self) -> dict[str, Any]:
        """What was taken from the training images, for head.json."""
        return {}


@dataclass(frozen=True)
class Task(ABC):
    """What labels are. `names`: of the classes or targets, one for each output of a head.

    Labels of N images are one array, whose shape is the task's; which rows are unlabelled, it says. Predictions are
    what is kept of a network on the test images, float (N, k).
    """

    names: tuple[str, ...] = ()

    name: ClassVar[str]
    targets: ClassVar[Targets] = "labels"
    is_dense: ClassVar[bool] = False  # whether labels lie in places of an image: see `dense`
    no_probe: ClassVar[str] = ""  # why `nearest` and `linear` cannot tell it from features, where they cannot
    marks: ClassVar[str] = ""  # what of a dense task is drawn on an image
    heads: ClassVar[tuple[str, ...]] = ()  # what may be put on an encoder beside a linear layer
    names_are: ClassVar[str] = "classes"
    name_is: ClassVar[str] = "class"
    budget_counts: ClassVar[str]  # what a budget is a number of: "labels a class"
    budget_of_one: ClassVar[str]  # "label a class"
    every_metric: ClassVar[tuple[str, ...]]  # in the order in which people read them
    metric_parts: ClassVar[str] = "tag"  # what stands behind the / of a metric
    default_metric: ClassVar[str]
    kept_as: ClassVar[str]  # name of the predictions in predictions.npz
    outputs: ClassVar[Outputs]  # of the head that is kept
    row_metric: ClassVar[Metric]  # of `per_name`
    image_metric: ClassVar[Metric | None] = None  # of `of_images`; None of a task of whole images
    takes: ClassVar[frozenset[str]]  # fields of LossConfig, and sampler, mixup and cutmix, that it knows
    least: ClassVar[str]  # how many labelled images it takes to keep some for testing

    # labels

    @classmethod
    @abstractmethod
    def encode(cls, raw: RawLabels, source: str) -> "tuple[Task, np.ndarray]":
        """The task with its names, and the labels. WhymaskError, which names `source`, where `raw` holds others."""

    @abstractmethod
    def unlabelled(self, count: int) -> np.ndarray:
        """The labels of `count` images without any."""

    @abstractmethod
    def labelled(self, labels: np.ndarray) -> np.ndarray:
        """Which images have labels, bool (N,)."""

    @abstractmethod
    def check(self, labels: np.ndarray, source: str) -> None:
        """WhymaskError unless there is something to learn from these training labels, all of them known."""

    @abstractmethod
    def counts(self, labels: np.ndarray) -> list[int]:
        """Images of each name among known labels."""

    def summary(self, labels: np.ndarray) -> dict[str, Any]:
        """What the page says about known labels besides their counts."""
        return {}

    @abstractmethod
    def text(self) -> str:
        """ "classification of 3 classes"."""

    # who gets which labels

    @classmethod
    def bought(cls, labels: float) -> str:
        """What a budget of so many labels buys: "labels a class", "label a class"."""
        return cls.budget_of_one if labels == 1 else cls.budget_counts

    @abstractmethod
    def strata(self, labels: np.ndarray, units: int) -> list[np.ndarray]:
        """Sets of rows of known labels (n,), which may overlap, each to be divided in the same proportion.

        `units`: how many images, or groups of images that stay together, there are to divide.
        """

    @abstractmethod
    def stock(self, labels: np.ndarray) -> list[int]:
        """The numbers of images that a budget counts in, among known labels: of each class, or of all."""

    @abstractmethod
    def draw(self, labels: np.ndarray, rows: np.ndarray, budget: Budget, seed: int) -> np.ndarray:
        """The rows whose labels `budget` buys, ascending, out of `rows`; unlabelled ones are never taken.

        For one seed nested over all budgets. WhymaskError, with the counts, where there are not that many.
        """

    # training

    def objective(self, labels: np.ndarray, config: LossConfig) -> Objective:
        """What a head learns from training images with these labels."""
        for field in fields(config):
            value = getattr(config, field.name)
            if value != field.default and field.name not in self.takes:
                raise WhymaskError(
                    f"{field.name} {value} was given; {self.name} has no such setting; leave it out, or give --task"
                )
        return self._objective(labels, config)

    @abstractmethod
    def _objective(self, labels: np.ndarray, config: LossConfig) -> Objective:
        """`objective`, of settings that the task takes."""

    # predictions

    @abstractmethod
    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Predictions (B, k), as they are kept, of a head's outputs (B, k); of a dense task, what its targets, label
        maps or boxes, make of them."""

    @abstractmethod
    def shown(self, outputs: Tensor) -> Tensor:
        """The same as people read them: probabilities, or values."""

    @property
    @abstractmethod
    def header(self) -> list[str]:
        """The columns that `predict` writes after the path."""

    @abstractmethod
    def row(self, shown: np.ndarray) -> list[str]:
        """What stands in them for one image, of its (k,) of `shown`."""

    def decided(self, shown: np.ndarray) -> np.ndarray | None:
        """The labels that images with these (N, k) of `shown` get, for `counts`; None where images are not sorted."""
        return None

    @abstractmethod
    def question(self, labels: np.ndarray, test: np.ndarray, label: str | None) -> Question:
        """What an explanation asks about images with these labels, of which the rows `test` are shown to networks.

        `label`: of several classes an image, the one to ask about. WhymaskError where there is no such question.
        """

    def to_dict(self) -> dict[str, Any]:
        """For head.json; `whymask.tasks.task_from` reads it back."""
        return {"task": self.name, self.names_are: list(self.names)}

    # how good they are

    @abstractmethod
    def describe(self, metric: str) -> Metric:
        """What the metric of that name says; WhymaskError, which names them, where there is none."""

    @abstractmethod
    def metrics(self, predictions: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Every metric that the data define; what they do not, is left out. `tags` (N,) name subsets reported apart.

        WhymaskError when there are no images, shapes disagree, or predictions are NaN.
        """

    @abstractmethod
    def differences(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None = None,
    ) -> Weighted:
        """Arm minus baseline, each a mean over networks of predictions (N, k), of metrics on resampled test images.

        Metrics without an interval are not among them.
        """

    def of_images(self, predictions: np.ndarray) -> np.ndarray | None:
        """`image_metric` of each image's predictions alone, (N,); None where what is said of an image is a label."""
        return None

    @abstractmethod
    def per_name(self, predictions: np.ndarray, labels: np.ndarray) -> list[float | None]:
        """`row_metric` for each name; None where the test images do not define it."""

    def confusion(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Counts (k, k) int64: row = true class, column = predicted class. None where an image has not one of each."""
        return None

    @abstractmethod
    def nearest(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
        """Predictions (m, k), as they are kept, for features (m, D): by the nearest of those (n, D) with known labels.

        The distance is the cosine's, a neighbour's weight 1 / distance.
        """

    @abstractmethod
    def linear(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The same by a linear model of standardised features, with an L2 penalty of 1, to convergence."""

    @abstractmethod
    def guess(self, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The predictions (m, k), of m test images with the labels `test`, that one would make from training labels
        without looking at an image."""

    @abstractmethod
    def perfect(self, labels: np.ndarray) -> np.ndarray:
        """The predictions (N, k) of who knows the labels: every metric that they define is its `Metric.best`."""

    def chance(self, train: np.ndarray, test: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Metrics on test labels of `guess`, which any network should beat."""
        return self.metrics(self.guess(train, test), test, tags)


def ordered(values: Iterable[Any]) -> list[Any]:
    """Class names or numbers in the order in which they are numbered: by number where all are numbers, else by
    alphabet."""
    distinct = set(values)
    are_numbers = all(re.fullmatch(r"-?\d+", str(value)) for value in distinct)
    return sorted(distinct, key=int if are_numbers else str)


def permuted(rows: np.ndarray, budget: Budget, seed: int) -> tuple[np.ndarray, int]:
    """Labelled rows in an order that depends on the seed and not on theirs, and how many of them a budget buys."""
    count = budget.count(len(rows))
    if count > len(rows):
        raise WhymaskError(
            f"budget {budget.name} is larger than the {len(rows)} labelled images, less the test images. "
            "Choose a smaller budget."
        )
    return numpy_generator(seed, "labels").permutation(np.sort(rows)), count
