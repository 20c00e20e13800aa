"""Metrics of many resamples of the test images at once.

A resample is a column of weights: how often each unit (an image, or a group that stays together) was drawn. A metric
is a function of weights; the metric itself is that of weights 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from whymask.intervals import units_of

Weighted = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights (units, r) -> each metric of r resamples, (r,); NaN where a resample does not define it."""


@dataclass(frozen=True)
class Units:
    """What is drawn together: the unit of each image (N,), out of `count`."""

    of_image: np.ndarray
    count: int

    @classmethod
    def of(cls, images: int, groups: np.ndarray | None = None) -> "Units":
        """Each image alone, or those of one group (N,) together."""
        count, of_image = units_of(images, groups)
        return cls(of_image, count)

    def taken(self, rows: np.ndarray) -> "Units":
        """Of these images alone."""
        return Units(self.of_image[rows], self.count)

    def sums(self, *values: np.ndarray) -> np.ndarray:
        """Numbers of images (N,) summed within units, (len(values), count)."""
        return np.stack([np.bincount(self.of_image, row, self.count) for row in values])

    def sums_by(self, rows: np.ndarray, values: np.ndarray, count: int) -> sparse.csr_matrix:
        """Numbers of images (N,) summed within `rows` (N,), out of `count`, and units: (count, units).

        Its product with weights (units, r) holds the sums of r resamples, at a cost that does not grow with the rows.
        """
        return sparse.csr_matrix((values, (rows, self.of_image)), shape=(count, self.count))


def mean_ratio(numerator: np.ndarray, denominator: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean over the `counted` rows of numerator / denominator, (rows, r) -> (r,); NaN where no row counts."""
    ratios = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=counted)
    rows = counted.sum(axis=0)
    return np.divide(ratios.sum(axis=0), rows, out=np.full(len(rows), np.nan), where=rows > 0)


def mean_known(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of (r,) arrays, resample by resample, over those that are defined; NaN where none is."""
    stacked = np.stack(values)
    is_known = ~np.isnan(stacked)
    return mean_ratio(np.where(is_known, stacked, 0.0), np.ones_like(stacked), is_known)


def mean_of(networks: Sequence[Weighted]) -> Weighted:
    """Each metric's mean over networks; undefined where it is for one of them."""

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        values = [network(weights) for network in networks]
        return {metric: np.mean([value[metric] for value in values], axis=0) for metric in values[0]}

    return of


def difference(arm: Weighted, baseline: Weighted) -> Weighted:
    """The arm minus the baseline."""

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        ours, theirs = arm(weights), baseline(weights)
        return {metric: ours[metric] - theirs[metric] for metric in ours}

    return of
