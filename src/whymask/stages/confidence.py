"""What a classifier's confidence is worth: calibrated, and from where on it was right as often as was asked.

Both are measured on the network's own test images, which no training saw. One temperature divides the logits (Guo et
al., arXiv 1706.04599), which moves no image to another class; accuracy stays what it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from whymask.disk import read_arrays
from whymask.intervals import wilson
from whymask.randomness import numpy_generator
from whymask.stages.settings import check_confidence
from whymask.tasks import Classification, Task

ENOUGH, FOLDS = 50, 5
"""Test images below which nothing is calibrated: then one image more or less moves a share by more than 0.02."""
PRIOR = 1.0
"""Standard deviation of the temperature's logarithm that is expected; without it, a test without errors gives 0."""


@dataclass(frozen=True)
class Confidence:
    """Attributes:
    images: of the test, on which it rests.
    temperature: which the logits are divided by.
    asked: share of images that should be right.
    threshold: the lowest confidence from which on it was; None where it was from none on.
    above, right: test images from there on, and how many of them were right.
    """

    images: int
    temperature: float
    asked: float
    threshold: float | None
    above: int
    right: int

    def is_unsure(self, confidence: float) -> bool:
        return self.threshold is None or confidence < self.threshold

    def text(self, grouped: bool = False) -> str:
        """ "confidence is calibrated on the 210 test images ...; below 0.71 images are marked unsure: ..."; without
        the interval where images come in groups."""
        text = f"confidence is calibrated on the {self.images:,} test images (temperature {self.temperature:.2f})"
        if self.threshold is None:
            return (
                f"{text}; there is no confidence above which {self.asked:g} of them were right, so every image is "
                "marked unsure"
            )
        low, high = wilson(self.right, self.above)
        interval = "no interval" if grouped else f"95 % {low:.2f} to {high:.2f}"
        return (
            f"{text}; below {self.threshold:.2f} images are marked unsure: of those from there on "
            f"{self.right:,} of {self.above:,} were right ({interval}; {self.asked:g} was asked)"
        )


def confidence_of(folder: Path, task: Task, asked: float, of_parts: bool = False) -> Confidence | str | None:
    """Of the classifier in `folder`, by its test images; why it is not known, as `of_parts`, which answers for whole
    files where each test image was a part of one; None for a task without confidences.

    Raises WhymaskError where `asked` is no share.
    """
    check_confidence(asked)
    if not isinstance(task, Classification):
        return None
    if of_parts:
        return (
            "a file's confidence is the mean of its parts' and not calibrated, and no file is marked unsure: the test "
            "images, by which that is measured, are single parts"
        )
    path = folder / "predictions.npz"
    kept: Mapping[str, np.ndarray] = read_arrays(path) if path.exists() else {"labels": np.empty(0, np.int64)}
    labels = kept["labels"]
    if len(labels) < ENOUGH:
        return (
            f"confidence is the network's own and not calibrated, and no image is marked unsure: that needs {ENOUGH} "
            f"test images, and it has {len(labels)}"
        )
    return measured(kept[task.kept_as], labels, asked)


def measured(log_probabilities: np.ndarray, labels: np.ndarray, asked: float) -> Confidence:
    """The temperature of all test images (n, k). The threshold is by cross-fitting: what an image's confidence is, a
    temperature of the other folds says.

    It is the lowest from which on at most 1 - `asked` were wrong, one error more being counted than there were: where a
    threshold is the best of many, the share that it shows is too good.
    """
    logits = log_probabilities.astype(np.float64)
    right = logits.argmax(axis=1) == labels
    folds = numpy_generator(0, "calibration").permutation(len(labels)) % FOLDS
    confidence = np.empty(len(labels))
    for fold in range(FOLDS):
        rest, own = folds != fold, folds == fold
        confidence[own] = softmax(logits[own] / temperature_of(logits[rest], labels[rest]), axis=1).max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(labels) + 1)
    wrong = np.cumsum(~right[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # of those of one confidence
    fit = np.flatnonzero(last & (wrong + 1 <= (1 - asked) * (counts + 1)))
    temperature = temperature_of(logits, labels)
    if not len(fit):
        return Confidence(len(labels), temperature, asked, None, 0, 0)
    at = fit[-1]
    return Confidence(
        len(labels), temperature, asked, float(confidence[order][at]), int(counts[at]), int(counts[at] - wrong[at])
    )


def temperature_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """By which logits (n, k) are divided so that their log loss is the least."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        lost = logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]
        return float(lost.sum() + (log_temperature / PRIOR) ** 2 / 2)

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
