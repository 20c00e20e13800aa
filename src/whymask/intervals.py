"""Intervals: over seeds for means, for counts, and the resamples of images on which a bootstrap rests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

from whymask.randomness import numpy_generator

CHUNK_BYTES = 32 * 2**20  # of resampled weights held at once; the peak is about four times this


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its t interval; the bounds are None when there is a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval for the mean of independent, roughly normal `values`; ValueError when there are none."""
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        raise ValueError("mean_interval needs at least one value")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, None, None, 1)
    standard_error = sample.std(ddof=1) / np.sqrt(sample.size)
    half = float(stdtrit(sample.size - 1, (1 + confidence) / 2) * standard_error)  # Student's t quantile
    return Interval(mean, mean - half, mean + half, sample.size)


def clopper_pearson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval for a share of which `hits` in `count` were seen (Clopper and Pearson, 1934)."""
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"clopper_pearson needs 0 <= hits <= count and count >= 1, not {hits} of {count}")
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, tail))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1 - tail))
    return low, high


def units_of(images: int, groups: np.ndarray | None) -> tuple[int, np.ndarray]:
    """How many units are resampled, and the unit of each image (N,)."""
    if groups is None:
        return images, np.arange(images)
    names, unit = np.unique(groups, return_inverse=True)
    return len(names), unit


def resampled_weights(units: int, resamples: int) -> Iterator[np.ndarray]:
    """Yields (units, r) float64, r resamples at a time: how often each draws each unit (multinomial, equal chances)."""
    generator = numpy_generator("bootstrap", units)
    step = max(1, CHUNK_BYTES // (8 * units))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(units, size=(count, units)) * count + np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=units * count).reshape(units, count).astype(np.float64)
