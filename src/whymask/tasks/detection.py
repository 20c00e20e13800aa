"""Detection: where the objects of an image are, of each a box and a class.

The labels of an image are how many objects of each class that count it shows, int64 (N, k), a row of -1 = unlabelled;
the boxes themselves lie beside the images. What is kept of a network is its detections, and which objects they are the
matches of (`coco_matches.matches_of`), float32 (N, 4 k + 1000): every metric, and every resample of it, is made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.tasks.average_precision import DetectionScores, alone
from whymask.tasks.base import LossConfig, Objective
from whymask.tasks.coco_matches import known_matches, matches_of, taken_apart
from whymask.tasks.dense import Dense
from whymask.tasks.metric import Metric, checked, described, known
from whymask.tasks.outputs import Outputs
from whymask.tasks.resampling import Units, Weighted, difference, mean_of

NO_PROBE = (
    "nearest neighbours and linear models of features say of which class something is, and not where its box is; for "
    "detection train a head, with whymask finetune or whymask study, or probe a task of whole images"
)
OVER_CLASSES = "of each class over all test images, then over the classes that they show"
TITLES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP of small objects",
    "ap_medium": "AP of medium objects",
    "ap_large": "AP of large objects",
    "ar": "AR",
}
METRICS = {name: Metric(title, average=OVER_CLASSES, by_name=True) for name, title in TITLES.items()}
"""COCO's: AP is the mean over the IoU thresholds .5, .55 to .95, and small are objects below 32 x 32 pixels, large ones
above 96 x 96; AR is the recall of 100 detections an image, the mean over the same thresholds."""


@dataclass(frozen=True)
class Detection(Dense):
    """Boxes of objects. What is learnt is the network's own sum of losses."""

    name = "detection"
    targets = "boxes"
    expected = "the boxes of each image's objects were expected, such as a COCO JSON or Pascal VOC's Annotations"
    no_probe = NO_PROBE
    marks = "boxes"
    heads = ("fcos", "faster-rcnn")
    every_metric = tuple(METRICS)
    default_metric = "ap"
    kept_as = "detections"
    outputs = Outputs(
        "detection network",
        "detections",
        "Detections are (images, 100, 6): left, top, right and bottom in pixels that the network sees, a score and a "
        "class, numbered from 0 in this order, the best scores first; rows of class -1 hold none.",
        "object-detection",
    )
    row_metric = Metric("AP")
    image_metric = Metric("AP50", average="of an image alone, the mean over the classes that it shows")
    takes = frozenset({"head", "score_threshold", "nms"})
    least = "at least two with boxes are needed"

    # labels

    def check(self, labels: np.ndarray, source: str) -> None:
        if not labels.sum():
            raise WhymaskError(
                f"{source}: none of the {len(labels):,} images to train on shows an object of "
                f"{', '.join(self.names) or '(no class)'} that counts; give boxes of objects that are neither crowds "
                "nor difficult"
            )

    def summary(self, labels: np.ndarray) -> dict[str, Any]:
        return {"objects": labels.sum(axis=0).tolist()}

    # training

    def _objective(self, labels: np.ndarray, config: LossConfig) -> "SumOfLosses":
        return SumOfLosses(len(self.names))

    # predictions

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`matches_of` detections (B, D, 6) beside objects (B, M, 8): float32 (B, 4 k + 1000), NaN where outputs are
        none."""
        are_numbers = outputs.isfinite().flatten(1).all(dim=1)
        kept = matches_of(outputs.where(are_numbers[:, None, None], 0), targets, len(self.names))
        return kept.where(are_numbers[:, None], torch.nan)

    def shown(self, outputs: Tensor) -> Tensor:
        return outputs

    @property
    def header(self) -> list[str]:
        return [f"objects of {name}" for name in self.names]

    def row(self, shown: np.ndarray) -> list[str]:
        """How many of each class are found, of an image's detections (D, 6)."""
        classes = shown[:, 5].astype(np.int64)
        return [str(count) for count in np.bincount(classes[classes >= 0], minlength=len(self.names))]

    # how good they are

    def describe(self, metric: str) -> Metric:
        return described(metric, METRICS)

    def metrics(self, predictions: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Every metric of METRICS that the data define."""
        return known(self._scores(predictions, labels).of(np.ones((len(labels), 1))))

    def differences(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None = None,
    ) -> Weighted:
        """Of all metrics; a class that a resample does not show takes no part in its means."""
        classes = len(self.names)
        sides = ([DetectionScores(network, classes, units).of for network in side] for side in (arm, baseline))
        return difference(*map(mean_of, sides))

    def of_images(self, predictions: np.ndarray) -> np.ndarray:
        """AP50 of each image alone, (N,): the mean over the classes that it shows. Of an image that shows none, what
        the best score of its detections lacks to 1."""
        found = taken_apart(predictions, len(self.names))
        best = np.zeros(len(predictions))
        np.maximum.at(best, found.images, found.scores)
        ap50 = alone(predictions, len(self.names))
        return np.where(np.isnan(ap50), 1 - best, ap50)

    def per_name(self, predictions: np.ndarray, labels: np.ndarray) -> list[float | None]:
        """AP."""
        found = self._scores(predictions, labels).of_classes(np.ones((len(labels), 1)))[:, 0]
        return [None if np.isnan(ap) else float(ap) for ap in found]

    def _scores(self, predictions: np.ndarray, labels: np.ndarray) -> DetectionScores:
        checked(predictions, labels, (len(predictions), len(self.names)))
        return DetectionScores(predictions, len(self.names), Units.of(len(labels)))

    def nearest(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
        raise WhymaskError(NO_PROBE)

    def linear(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        raise WhymaskError(NO_PROBE)

    def guess(self, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Nothing is found."""
        return known_matches(test, are_found=False)

    def perfect(self, labels: np.ndarray) -> np.ndarray:
        return known_matches(labels, are_found=True)


class SumOfLosses(Objective):
    """What a detection network says itself in training: the sum of its losses, a dict of scalars."""

    def __init__(self, classes: int):
        super().__init__()
        self.width = classes

    def forward(self, outputs: Any, targets: Tensor) -> Tensor:
        return torch.stack(list(outputs.values())).sum()
