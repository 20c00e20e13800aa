"""The metrics of each task as functions of how often each test image is drawn (see `resampling`): what does not depend
on that is arranged once, so that a few products give thousands of resamples."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from whymask.tasks.resampling import Units, mean_ratio

ALL_VIEWS, WORST = "both", "accuracy/worst_view"
"""The tag of images that show all views of their class, and the accuracy on the view that is recognised least."""


def views_of(tags: Iterable[str]) -> list[str]:
    """The tags of images that show one view alone, where there are also some that show all; else none."""
    named = sorted({str(tag) for tag in tags if tag})
    return [tag for tag in named if tag != ALL_VIEWS] if ALL_VIEWS in named and len(named) > 2 else []


class ClassTotals:
    """Per-image numbers summed within each unit; every metric of a resample is made of their weighted sums."""

    def __init__(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None,
    ) -> None:
        self.units, self.classes = units, arm[0].shape[1]
        one = np.ones(len(labels))
        gain = _mean_right(arm, labels) - _mean_right(baseline, labels)
        loss = _mean_loss(arm, labels) - _mean_loss(baseline, labels)
        self.support = self._per_class(labels, one)
        self.ratios = {
            "accuracy": (self._sum(gain), self._sum(one)),
            "balanced_accuracy": (self._per_class(labels, gain), self.support),
        }
        if np.isfinite(loss).all():
            self.ratios["log_loss"] = (self._sum(loss), self._sum(one))
        for tag in np.unique(tags) if tags is not None else ():
            if tag:
                self.ratios[f"accuracy/{tag}"] = (self._sum(gain * (tags == tag)), self._sum(one * (tags == tag)))
        self.views = [(tags == tag) * 1.0 for tag in views_of(np.unique(tags))] if tags is not None else []
        self.arm_views, self.baseline_views = (
            [[self._sum((network.argmax(axis=1) == labels) * view) for view in self.views] for network in networks]
            for networks in (arm, baseline)
        )
        self.sizes = [self._sum(view) for view in self.views]
        self.arm_f1 = [self._f1_parts(network, labels) for network in arm]
        self.baseline_f1 = [self._f1_parts(network, labels) for network in baseline]

    def differences(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Arm minus baseline, (r,) a metric, for `weights` (units, r); NaN where a resample has no image of a tag."""
        result = {}
        for metric, (numerator, denominator) in self.ratios.items():
            total = denominator @ weights
            result[metric] = mean_ratio(numerator @ weights, total, total > 0)
        present = self.support @ weights > 0
        arm, baseline = (
            np.stack([mean_ratio(hits @ weights, size @ weights, present) for hits, size in networks]).mean(axis=0)
            for networks in (self.arm_f1, self.baseline_f1)
        )
        result["macro_f1"] = arm - baseline
        if self.views:
            result[WORST] = self._worst(self.arm_views, weights) - self._worst(self.baseline_views, weights)
        return result

    def _worst(self, networks: Sequence[Sequence[Any]], weights: np.ndarray) -> np.ndarray:
        """The accuracy on the view that is recognised least, (r,), a mean over networks."""
        totals = [size @ weights for size in self.sizes]
        return np.stack(
            [
                np.min([mean_ratio(hits @ weights, n, n > 0) for hits, n in zip(views, totals, strict=True)], axis=0)
                for views in networks
            ]
        ).mean(axis=0)

    def _sum(self, values: np.ndarray) -> Any:
        return self.units.sums_by(np.zeros(len(values), np.int64), values, 1)

    def _per_class(self, classes: np.ndarray, values: np.ndarray) -> Any:
        return self.units.sums_by(classes, values, self.classes)

    def _f1_parts(self, network: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        """Numerator and denominator of F1 = 2 hits / (images of the class + predictions of the class)."""
        predicted = network.argmax(axis=1)
        hits = self._per_class(labels, 2.0 * (predicted == labels))
        return hits, self.support + self._per_class(predicted, np.ones(len(labels)))


def _mean_right(networks: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.stack([network.argmax(axis=1) == labels for network in networks]).mean(axis=0)


def _mean_loss(networks: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    return -np.stack([network[rows, labels] for network in networks]).mean(axis=0, dtype=np.float64)


class Ranking:
    """How one class's scores (N,) rank its positive images, as a function of weights.

    Precision changes the sum of average precision only at the scores of positive images, and AUROC counts the negative
    ones above each of them. So the images are cut at those scores once, and a resample costs two sparse products over
    all images and sums over as many rows as there are positive ones.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray, units: Units):
        is_positive = positive == 1
        cuts = np.unique(scores[is_positive])  # ascending; equal scores are one cut
        # The cut that an image lies at or above, counted from the highest; those below all cuts come last.
        at = len(cuts) - np.searchsorted(cuts, scores, side="right")
        tied = ~is_positive & np.isin(scores, cuts)
        self.positive, self.negative, self.tied = (
            units.taken(chosen).sums_by(at[chosen], np.ones(chosen.sum()), len(cuts) + 1)
            for chosen in (is_positive, ~is_positive, tied)
        )

    def of(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and AUROC, (r,) each; NaN in resamples without positive (or negative) images."""
        positive, negative = self.positive @ weights, np.cumsum(self.negative @ weights, axis=0)
        found = np.cumsum(positive, axis=0)
        positives, negatives = found[-1], negative[-1]
        precision = np.divide(found, found + negative, out=np.zeros_like(found), where=found > 0)
        above = negative - (self.tied @ weights) / 2  # of equal scores, half count as above
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                (positive * precision).sum(axis=0) / positives,
                1 - (positive * above).sum(axis=0) / (positives * negatives),
            )


class Fit:
    """All metrics of one target, means over networks, as functions of weights."""

    def __init__(self, networks: Sequence[np.ndarray], target: np.ndarray, units: Units):
        self.unit = units.of_image
        centred = target - target.mean()  # so that the variance is no small difference of large numbers
        self.target = units.sums(np.ones(len(target)), centred, centred**2)
        self.errors = [units.sums(np.abs(network - target), (network - target) ** 2) for network in networks]
        self.target_order, *self.orders = (np.unique(v, return_inverse=True)[1] for v in (target, *networks))

    def of(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric, (r,), for weights (units, r)."""
        count, total, square = self.target @ weights
        variance = square - total**2 / count
        absolute, squared = np.stack([errors @ weights for errors in self.errors], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "mean_absolute_error": (absolute / count).mean(axis=0),
                "rmse": np.sqrt(squared / count).mean(axis=0),
                "r2": np.where(variance > 1e-12 * square, 1 - (squared / variance).mean(axis=0), np.nan),
                "spearman": self._spearman(weights[self.unit]).mean(axis=0),
            }

    def _spearman(self, weights: np.ndarray) -> np.ndarray:
        """Pearson's correlation of ranks, (networks, r), for weights of images (N, r); NaN where a side is constant."""
        target = _centred_ranks(self.target_order, weights)
        weighted = weights * target
        variance = np.einsum("nr,nr->r", weighted, target)
        correlations = []
        for order in self.orders:
            ranks = _centred_ranks(order, weights)
            both = np.sqrt(variance * np.einsum("nr,nr,nr->r", weights, ranks, ranks))
            covariance = np.einsum("nr,nr->r", weighted, ranks)
            correlations.append(np.divide(covariance, both, out=np.full(len(both), np.nan), where=both > 0))
        return np.stack(correlations)


def _centred_ranks(order: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ranks (N, r), less their mean, of images drawn as often as `weights` (N, r) say; equal ones share their ranks.

    `order` (N,): the place of each image's value among the distinct values.
    """
    by_place = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.diff(order[by_place], prepend=-1))
    drawn = np.add.reduceat(weights[by_place], starts, axis=0)
    last = np.cumsum(drawn, axis=0)
    return (last - drawn / 2 - last[-1] / 2)[order]
