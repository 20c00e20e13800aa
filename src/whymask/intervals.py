"""Intervals: for means and shares over seeds, for counts, and the resamples of images on which a bootstrap rests."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from whymask.randomness import numpy_generator

CHUNK_BYTES = 32 * 2**20  # of resampled weights held at once; the peak is about four times this


Range = tuple[float | None, float | None]
"""What a quantity lies between; None where there is no bound."""
SHARE: Range = (0.0, 1.0)
ANYTHING: Range = (None, None)
SAME = 1e-12
"""Spread that is rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its interval; the bounds are None when nothing can be said of others, as of one seed."""

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


def level_interval(values: Sequence[float] | np.ndarray, within: Range = SHARE, confidence: float = 0.95) -> Interval:
    """The interval for the mean of independent `values` that lie `within` a range, such as shares; it lies there too.

    See `kept_within`: Student's t, and Wilson's form where the range has two ends. No bounds where the values are all
    the same: a few equal values do not show that another would be equal too. ValueError when there are no values.
    """
    over = mean_interval(values, confidence)
    if over.low is None or over.high is None or np.ptp(np.asarray(values, dtype=np.float64)) < SAME:
        return Interval(over.mean, None, None, over.seeds)
    low, high = kept_within(over.mean, (over.high - over.low) / 2, within)
    return Interval(over.mean, low, high, over.seeds)


def kept_within(mean: float, half: float, within: Range = SHARE) -> tuple[float, float]:
    """The interval `mean` +- `half`, made to lie `within` a range.

    With two ends it is the score interval of Wilson (1927): the standard error is not taken at the mean but at each
    bound, in proportion to sqrt(p (1 - p)) of a share p. Far from the ends that is mean +- half; near them it is drawn
    away from the nearer one, and covers what it promises where the t interval is too short (few seeds, shares near 1).
    With one end it is cut there, which loses nothing: the truth lies within.
    """
    low, high = (-math.inf if within[0] is None else within[0]), (math.inf if within[1] is None else within[1])
    width = high - low
    share = (float(mean) - low) / width  # 0 or NaN where an end is missing
    spread = share * (1 - share)
    if not spread > SAME:
        return max(mean - half, low), min(mean + half, high)
    error = half / width
    # z^2 / n of the n yes-or-no trials that would have this standard error
    bottom, top = _score_interval(share, error**2 / spread, error**2)
    return max(low, low + width * bottom), min(high, low + width * top)


def _score_interval(share: float, ratio: float, square: float) -> tuple[float, float]:
    """Wilson's, of a share: `ratio` is z^2 / n, `square` z^2 share (1 - share) / n."""
    centre, reach = (share + ratio / 2) / (1 + ratio), math.sqrt(square + ratio**2 / 4) / (1 + ratio)
    return centre - reach, centre + reach


def clopper_pearson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval for a share of which `hits` in `count` were seen (Clopper and Pearson, 1934)."""
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"clopper_pearson needs 0 <= hits <= count and count >= 1, not {hits} of {count}")
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, tail))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1 - tail))
    return low, high


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval for a share of which `hits` in `count` were seen (Wilson, 1927)."""
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"wilson needs 0 <= hits <= count and count >= 1, not {hits} of {count}")
    share, ratio = hits / count, float(ndtri((1 + confidence) / 2)) ** 2 / count
    low, high = _score_interval(share, ratio, ratio * share * (1 - share))
    return max(0.0, low), min(1.0, high)


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
