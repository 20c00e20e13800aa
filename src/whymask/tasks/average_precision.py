"""Average precision and recall of detections as COCO has them, as functions of how often each test image is drawn (see
`resampling`).

Precision at a recall is the highest at that recall or a higher one, so of detections that find objects one after the
other, with none that is wrong between them, only the last counts: they are one row, with what is wrong before them, and
a resample costs sums over as many rows. Copies of an image that is drawn several times are ranked detection by
detection: those of one stand together.
"""

from itertools import pairwise

import numpy as np

from whymask.tasks.coco_matches import AREAS, THRESHOLDS, Matches, taken_apart
from whymask.tasks.resampling import Units, mean_known

RECALLS = np.linspace(0.0, 1.0, 101)
"""At which the precision is read."""
AT_ONCE = 2**14
"""Rows of one curve, of all resamples, that are summed together: more do not stay in a processor's cache."""
AVERAGED = {
    "ap": ("all", slice(None)),
    "ap50": ("all", slice(0, 1)),
    "ap75": ("all", slice(5, 6)),
    **{f"ap_{area}": (area, slice(None)) for area in AREAS[1:]},
}
"""Of each average precision, the objects that count, and the IoU thresholds over which it is a mean."""


class DetectionScores:
    """All metrics of one network's predictions (N, 4 k + 10 D), as functions of weights (units, r)."""

    def __init__(self, predictions: np.ndarray, classes: int, units: Units):
        self.curves = _Curves(taken_apart(predictions, classes), len(AREAS), THRESHOLDS, units)

    def of(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric, (r,): means over the classes of which a resample shows objects."""
        precision, recall = self.curves.of(weights)
        found = {
            name: mean_known(list(precision[:, AREAS.index(area), thresholds].mean(axis=1)))
            for name, (area, thresholds) in AVERAGED.items()
        }
        return found | {"ar": mean_known(list(recall[:, 0].mean(axis=1)))}

    def of_classes(self, weights: np.ndarray) -> np.ndarray:
        """AP, (k, r), NaN of a class that a resample does not show."""
        return self.curves.of(weights)[0, :, 0].mean(axis=1)


def alone(predictions: np.ndarray, classes: int) -> np.ndarray:
    """AP at an IoU of 0.5 of each image by itself, (N,): the mean over the classes that it shows; NaN where it shows
    none."""
    found = [np.zeros(0)]
    for start in range(0, len(predictions), 64):
        part = predictions[start : start + 64]
        images = _Curves(taken_apart(part, classes), 1, 1, Units.of(len(part)))
        found.append(mean_known(list(images.of(np.eye(len(part)))[0, :, 0, 0])))
    return np.concatenate(found)


class _Curves:
    """Precision over recall of each class, of the objects of the first of AREAS, at the first IoU thresholds."""

    def __init__(self, matches: Matches, areas: int, thresholds: int, units: Units):
        self.shape = (areas, thresholds)
        self.objects = np.stack([units.sums(*of_area.T) for of_area in matches.objects[:areas]], axis=1)
        right, wrong = (
            each[:areas, :thresholds].reshape(areas * thresholds, -1) for each in (matches.right, matches.wrong)
        )
        members = (np.flatnonzero(matches.classes == c) for c in range(len(self.objects)))
        self.classes = [_Class(right[:, rows], wrong[:, rows], units.taken(matches.images[rows])) for rows in members]

    def of(self, weights: np.ndarray) -> np.ndarray:
        """AP and recall, (2, k, areas, thresholds, r), NaN of a class without objects."""
        objects = np.repeat(self.objects @ weights, self.shape[1], axis=1)  # (k, curves, r)
        each = [curves.of(weights, np.maximum(n, 1)) for curves, n in zip(self.classes, objects, strict=True)]
        found = np.where(objects > 0, np.stack(each, axis=1), np.nan)
        return found.reshape(2, len(objects), *self.shape, -1)


class _Class:
    """Curves of one class: from which detections are right and wrong, bool (curves, n), the best first."""

    def __init__(self, right: np.ndarray, wrong: np.ndarray, units: Units):
        curves, count = right.shape
        before = wrong.cumsum(axis=1) + np.arange(curves)[:, None] * (count + 1)  # of no two curves the same
        rows, of_right = np.unique(before[right], return_inverse=True)
        curve = rows // (count + 1)
        self.starts = np.searchsorted(curve, np.arange(curves + 1)).tolist()
        of_wrong = np.searchsorted(rows, before[wrong])
        # What is wrong after the last that is right does not count.
        counted = np.append(curve, -1)[of_wrong] == before[wrong] // (count + 1)
        hits, misses = np.nonzero(right)[1], np.nonzero(wrong)[1][counted]
        self.hits = units.taken(hits).sums_by(of_right, np.ones(len(hits)), len(rows))
        self.misses = units.taken(misses).sums_by(of_wrong[counted], np.ones(len(misses)), len(rows))

    def of(self, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """AP and recall (2, curves, r) for weights (units, r), among so many objects (curves, r)."""
        step = max(1, AT_ONCE // max(1, *np.diff(self.starts).tolist()))
        parts = [slice(start, start + step) for start in range(0, weights.shape[1], step)]
        return np.concatenate([self._of(weights[:, part], objects[:, part]) for part in parts], axis=2)

    def _of(self, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
        found = np.zeros((2, *objects.shape))
        hits, misses = self.hits @ weights, self.misses @ weights
        for curve, (start, end) in enumerate(pairwise(self.starts)):
            if start < end:
                right, wrong = (side[start:end].cumsum(axis=0) for side in (hits, misses))
                found[:, curve] = _precision_and_recall(right, wrong, objects[curve])
        return found


def _precision_and_recall(right: np.ndarray, wrong: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AP and the last recall, (r,) each, of what is right and wrong up to each row (rows, r)."""
    precision = right / (wrong + right + np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = right / objects
    nearest = (recall * (len(RECALLS) - 1) + 0.5).astype(np.int64)
    reached = nearest + (RECALLS[nearest] <= recall)  # how many of RECALLS are no higher
    return (highest * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(RECALLS), recall[-1]
