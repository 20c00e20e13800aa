"""Average precision and recall of detections as COCO has them, as functions of how often each test image is drawn (see
`resampling`).

Precision at a recall is the highest at that recall or a higher one, so it changes only where an object is found. The
detections are therefore cut at those that find one, once; a resample costs sums over as many rows as objects are found.
Copies of an image that a resample draws several times are ranked detection by detection: those of one stand together.
"""

from collections.abc import Sequence

import numpy as np

from whymask.tasks.coco_matches import AREAS, Matches, taken_apart
from whymask.tasks.resampling import Units, mean_known

RECALLS = np.linspace(0.0, 1.0, 101)
"""At which the precision is read."""
AT_ONCE = 2**16
"""Rows of detections, of all resamples, that are summed together: more do not stay in a processor's cache."""
EVERY = slice(None)
AVERAGED = {
    "ap": ("all", EVERY),
    "ap50": ("all", slice(0, 1)),
    "ap75": ("all", slice(5, 6)),
    **{f"ap_{area}": (area, EVERY) for area in AREAS[1:]},
}
"""Of each average precision, the objects that count, and the IoU thresholds over which it is a mean."""


class DetectionScores:
    """All metrics of one network's predictions (N, 4 k + 10 D), as functions of weights (units, r)."""

    def __init__(self, predictions: np.ndarray, classes: int, units: Units):
        matches = taken_apart(predictions, classes)
        self.areas = {name: _Area(matches, area, EVERY, units) for area, name in enumerate(AREAS)}

    def of(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric, (r,): means over the classes of which a resample shows objects."""
        found = {name: area.of(weights) for name, area in self.areas.items()}
        precisions = {
            name: mean_known(list(found[area][0][:, thresholds].mean(axis=1)))
            for name, (area, thresholds) in AVERAGED.items()
        }
        return precisions | {"ar": mean_known(list(found["all"][1].mean(axis=1)))}

    def of_classes(self, weights: np.ndarray) -> np.ndarray:
        """AP, (k, r), NaN of a class that a resample does not show."""
        return self.areas["all"].of(weights)[0].mean(axis=1)


def alone(predictions: np.ndarray, classes: int) -> np.ndarray:
    """AP at an IoU of 0.5 of each image by itself, (N,): the mean over the classes that it shows; NaN where it shows
    none."""
    found = []
    for start in range(0, len(predictions), 64):
        part = predictions[start : start + 64]
        images = _Area(taken_apart(part, classes), 0, slice(0, 1), Units.of(len(part)))
        found.append(mean_known(list(images.of(np.eye(len(part)))[0][:, 0])))
    return np.concatenate(found)


class _Area:
    """Every class, of the objects of one of AREAS."""

    def __init__(self, matches: Matches, area: int, thresholds: slice, units: Units):
        self.objects = units.sums(*matches.objects[area].T)
        right, wrong = matches.right[area, thresholds], matches.wrong[area, thresholds]
        members = (np.flatnonzero(matches.classes == c) for c in range(len(self.objects)))
        self.curves = [_Curve(right[:, rows], wrong[:, rows], units.taken(matches.images[rows])) for rows in members]

    def of(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """AP and recall, (k, thresholds, r) each, NaN of a class without objects."""
        objects = self.objects @ weights
        each = [curve.of(weights, np.maximum(count, 1)) for curve, count in zip(self.curves, objects, strict=True)]
        precision, recall = np.where(objects[:, None] > 0, np.stack(each, axis=1), np.nan)
        return precision, recall


class _Curve:
    """Precision over recall at each IoU threshold, of one class: from which detections are right and wrong, bool
    (thresholds, n), the best first."""

    def __init__(self, right: np.ndarray, wrong: np.ndarray, units: Units):
        cuts = np.flatnonzero(right.any(axis=0))
        self.unit = units.of_image[cuts]
        self.right = [np.flatnonzero(row) for row in right[:, cuts]]
        at = np.searchsorted(cuts, np.arange(right.shape[1]))
        # Most of what is wrong at one threshold is so at the next: only what changes is kept.
        changes = np.diff(wrong.astype(np.int8) * (at < len(cuts)), axis=0, prepend=0)
        rows = [np.flatnonzero(change) for change in changes]
        self.changes = [
            units.taken(chosen).sums_by(at[chosen], change[chosen].astype(np.float64), len(cuts))
            for chosen, change in zip(rows, changes, strict=True)
        ]

    def of(self, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """AP and recall (2, thresholds, r) for weights (units, r), among so many objects (r,)."""
        step = max(1, AT_ONCE // max(1, len(self.unit)))
        starts = range(0, weights.shape[1], step)
        parts = [self._of(weights[:, start : start + step], objects[start : start + step]) for start in starts]
        return np.concatenate(parts, axis=2)

    def _of(self, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
        found = np.zeros((2, len(self.right), len(objects)))
        drawn, wrong = weights[self.unit], np.zeros((len(self.unit), len(objects)))
        for threshold, (right, change) in enumerate(zip(self.right, self.changes, strict=True)):
            wrong += change @ weights
            if len(right):
                hits = drawn[right].cumsum(axis=0)
                found[:, threshold] = _precision_and_recall(hits, wrong.cumsum(axis=0)[right], objects)
        return found


def _precision_and_recall(hits: np.ndarray, misses: np.ndarray, objects: np.ndarray) -> Sequence[np.ndarray]:
    """AP and the last recall, (r,) each, of what is right and wrong up to each row (rows, r)."""
    precision = hits / (misses + hits + np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = hits / objects
    nearest = (recall * (len(RECALLS) - 1) + 0.5).astype(np.int64)
    reached = nearest + (RECALLS[nearest] <= recall)  # how many of RECALLS are no higher
    return (highest * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(RECALLS), recall[-1]
