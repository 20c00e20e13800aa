"""Segmentation: of each pixel one class, learnt from label maps.

The labels of an image are how many pixels of its label map are of each class, int64 (N, k), a row of -1 = unlabelled;
the maps themselves lie beside the images (`data.label_maps`). What is kept of a network is counted, too, for each class
of each image (`COUNTED`), float32 (N, 7 k): every metric, and every resample of it, is made of these counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.errors import WhymaskError
from whymask.tasks.base import LossConfig, Objective
from whymask.tasks.classification import Classification
from whymask.tasks.dense import Dense
from whymask.tasks.label_map_counts import COUNTED, IGNORED, counts_of
from whymask.tasks.metric import Metric, checked, described, known
from whymask.tasks.outputs import Outputs
from whymask.tasks.resampling import Units, Weighted, difference, mean_of, mean_ratio

OVER_CLASSES = "of each class over all test images, then over the classes that they show"
METRICS = {
    "mean_iou": Metric("mean IoU", average=OVER_CLASSES, by_name=True),
    "mean_dice": Metric("mean Dice", average=OVER_CLASSES, by_name=True),
    "pixel_accuracy": Metric("pixel accuracy", average="over all pixels of the test images alike"),
    "boundary_f": Metric(
        "boundary F", average="of each class over the test images with an edge of it, then over classes", by_name=True
    ),
}


@dataclass(frozen=True)
class Segmentation(Dense):
    """One class a pixel. The loss is cross-entropy."""

    name = "segmentation"
    targets = "maps"
    expected = "a label map of each image was expected, such as masks/NAME.png beside images/NAME.jpg"
    marks = "label map"
    heads = ("linear", "fpn")
    every_metric = tuple(METRICS)
    default_metric = "mean_iou"
    kept_as = "counts"
    outputs = Outputs(
        "segmentation network",
        "logits",
        "Logits are (images, classes, height, width). The class of a pixel is that of the largest, numbered from 0 in "
        "this order, and the softmax over classes gives their probabilities.",
        "semantic_segmentation",
    )
    row_metric = Metric("IoU")
    image_metric = Metric("IoU", average="of an image alone, the mean over the classes that it shows")
    takes = frozenset({"label_smoothing", "class_weights", "dice", "head"})
    least = "at least two with label maps are needed"

    # labels

    def check(self, labels: np.ndarray, source: str) -> None:
        if (labels.sum(axis=0) > 0).sum() < 2:
            raise WhymaskError(
                f"{source}: the label maps to train on show fewer than two of the classes "
                f"{', '.join(self.names) or '(none)'}; give maps of two classes at least, and --ignored the value of "
                "pixels that are of none"
            )

    def summary(self, labels: np.ndarray) -> dict[str, Any]:
        total = max(1, labels.sum())
        return {"pixel_shares": [round(float(count / total), 6) for count in labels.sum(axis=0)]}

    # training

    def _objective(self, labels: np.ndarray, config: LossConfig) -> "PixelCrossEntropy":
        weight = None
        if config.class_weights == "balanced":
            pixels = labels.sum(axis=0)
            there = np.maximum(pixels, 1)
            weight = np.where(pixels > 0, pixels.sum() / ((pixels > 0).sum() * there), 0.0)
        return PixelCrossEntropy(len(self.names), config.label_smoothing, weight, config.dice)

    # predictions

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`COUNTED` of logits (B, k, h, w) beside label maps (B, h, w): float32 (B, 7 k), NaN where logits are none."""
        counted = counts_of(outputs.argmax(dim=1), targets, len(self.names))
        return counted.where(outputs.isfinite().flatten(1).all(dim=1, keepdim=True), torch.nan)

    def shown(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)

    @property
    def header(self) -> list[str]:
        return [f"share of {name}" for name in self.names]

    def row(self, shown: np.ndarray) -> list[str]:
        """The share of each class in the pixels of an image."""
        return [f"{share:.6f}" for share in shown]

    # how good they are

    def describe(self, metric: str) -> Metric:
        return described(metric, METRICS)

    def metrics(self, predictions: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Every metric of METRICS that the data define."""
        checked(predictions, labels, (len(predictions), len(self.names)))
        return known(_Scores(predictions, Units.of(len(labels))).of(np.ones((len(labels), 1))))

    def differences(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None = None,
    ) -> Weighted:
        """Of all metrics; a class that a resample does not show takes no part in its means."""
        sides = ([_Scores(network, units).of for network in side] for side in (arm, baseline))
        return difference(*map(mean_of, sides))

    def of_images(self, predictions: np.ndarray) -> np.ndarray:
        """IoU of each image alone, (N,): the mean over the classes that it shows; 0 where nothing in it counts."""
        right, predicted, true = _by_class(predictions)[:3]
        shown = true > 0
        return (_ratio(right, predicted + true - right) * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)

    def per_name(self, predictions: np.ndarray, labels: np.ndarray) -> list[float | None]:
        """IoU."""
        checked(predictions, labels, (len(predictions), len(self.names)))
        right, predicted, true = _by_class(predictions)[:3].sum(axis=1)
        return [
            float(hits / (size + there - hits)) if there else None
            for hits, size, there in zip(right, predicted, true, strict=True)
        ]

    def nearest(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
        """Log probabilities (m, k) of positions, whose features these are, as those with known classes (n,)."""
        return Classification(self.names).nearest(train, labels, test, neighbours)

    def linear(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        return Classification(self.names).linear(train, labels, test)

    def guess(self, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The class with the most pixels, everywhere: it has no edges."""
        counted = _none(test)
        commonest = int(labels.sum(axis=0).argmax())
        counted[0, :, commonest] = test[:, commonest]
        counted[1, :, commonest] = test.sum(axis=1)
        counted[2] = test
        counted[5] = (test > 0) & (test < test.sum(axis=1, keepdims=True))
        return _flat(counted)

    def perfect(self, labels: np.ndarray) -> np.ndarray:
        counted = _none(labels)
        counted[:3] = labels
        counted[3:] = (labels > 0) & (labels < labels.sum(axis=1, keepdims=True))
        return _flat(counted)


class PixelCrossEntropy(Objective):
    """Cross-entropy of logits (B, k, h, w) and label maps int64 (B, h, w), the mean over all pixels, of which those
    that are IGNORED have a loss of 0: each that counts has the same say, in whatever parts and by however many
    processes a batch is seen. Of that the share `dice` is replaced by one minus the soft Dice of the images seen
    together, the mean over classes that they show (arXiv 1606.04797)."""

    def __init__(self, classes: int, smoothing: float, weight: np.ndarray | None, dice: float):
        super().__init__()
        self.width, self.dice = classes, dice
        given = None if weight is None else torch.from_numpy(weight).float()
        self.loss = nn.CrossEntropyLoss(given, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.float()
        loss = self.loss(outputs, targets) / targets.numel()
        if not self.dice:
            return loss
        return (1 - self.dice) * loss + self.dice * _dice_loss(outputs.softmax(dim=1), targets)


def _dice_loss(shares: Tensor, targets: Tensor) -> Tensor:
    counted = targets != IGNORED
    truth = F.one_hot(targets.where(counted, 0), shares.shape[1]).movedim(-1, 1) * counted[:, None]
    shares = shares * counted[:, None]
    both, sizes = (x.sum(dim=(0, 2, 3)) for x in (shares * truth, shares + truth))
    shown = truth.sum(dim=(0, 2, 3)) > 0
    return ((1 - 2 * both / sizes.clamp(min=1e-6)) * shown).sum() / shown.sum().clamp(min=1)


class _Scores:
    """All metrics of one network's counts, as functions of weights (units, r)."""

    def __init__(self, predictions: np.ndarray, units: Units):
        counted = _by_class(predictions)
        self.right, self.predicted, self.true = (_in_units(values, units) for values in counted[:3])
        edges, near, true_edges, true_near = counted[3:]
        has_edge = edges + true_edges > 0
        precision, recall = _ratio(near, edges), _ratio(true_near, true_edges)
        self.boundary = _in_units(_ratio(2 * precision * recall, precision + recall), units)
        self.with_edge = _in_units(has_edge.astype(np.float64), units)
        self.shows_edge = _in_units((true_edges > 0).astype(np.float64), units)

    def of(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric, (r,)."""
        right, predicted, true = (values @ weights for values in (self.right, self.predicted, self.true))
        shown, total = true > 0, true.sum(axis=0)
        return {
            "mean_iou": mean_ratio(right, predicted + true - right, shown),
            "mean_dice": mean_ratio(2 * right, predicted + true, shown),
            "pixel_accuracy": np.divide(right.sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0),
            "boundary_f": mean_ratio(self.boundary @ weights, self.with_edge @ weights, self.shows_edge @ weights > 0),
        }


def _by_class(predictions: np.ndarray) -> np.ndarray:
    """(N, 7 k) -> float64 (7, N, k)."""
    return predictions.reshape(len(predictions), len(COUNTED), -1).swapaxes(0, 1).astype(np.float64)


def _none(labels: np.ndarray) -> np.ndarray:
    return np.zeros((len(COUNTED), *labels.shape), np.float32)


def _flat(counted: np.ndarray) -> np.ndarray:
    return counted.swapaxes(0, 1).reshape(counted.shape[1], -1)


def _in_units(values: np.ndarray, units: Units) -> np.ndarray:
    """Numbers (N, k) summed within units, (k, units)."""
    return units.sums(*values.T)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
