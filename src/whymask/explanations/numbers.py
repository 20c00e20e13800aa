"""Numbers with intervals: the one currency of every measure.

A measure gives each image of each network a value, or NaN where it says nothing. From these come the mean, and two
intervals that answer different questions: over images, what other images would have given these networks (bootstrap);
over seeds, what other trainings would have given on these images (Student's t; Wilson's form of it where a quantity
has two ends, so that bounds of a share are shares). Where there is no spread at all there are no bounds: a few equal
values do not show that another would be equal too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtrit

from whymask.intervals import (
    ANYTHING,
    SAME,
    SHARE,
    Range,
    clopper_pearson,
    kept_within,
    level_interval,
    resampled_weights,
    units_of,
)
from whymask.report.text import proportion

SEEDS = 3
"""Networks an arm from which on something is concluded of other trainings."""
HEADLINE = 30
"""Images below which a mean over them is no headline."""
RESAMPLES = 1000
TAIL = 0.025
Bounds = tuple[float, float] | tuple[None, None]


Over = Literal["images", "seeds", "classes", "features", "networks"]


class Key(NamedTuple):
    """What a value is of: a quantity, and under which filling, at which strength, of which class, feature or layer."""

    quantity: str
    filling: str | None = None
    at: float | None = None
    item: str | None = None


Scores = dict[Key, np.ndarray]
"""One network's values, float (n,) an entry: one an image, NaN where the image does not count."""


@dataclass(frozen=True)
class Number:
    """A row of explain.json: `value` with its 95 % interval, and the `count` of what the interval is `over`.

    Attributes:
        arm: the networks; "a - b" for a difference paired by seed and image.
        seed: of a single network; None for the mean over seeds.
    """

    measure: str
    quantity: str
    arm: str
    value: float
    low: float | None
    high: float | None
    count: int
    over: Over
    seed: int | None = None
    filling: str | None = None
    at: float | None = None
    item: str | None = None


def summarise(
    measure: str,
    arm: str,
    networks: Mapping[int, Scores],
    groups: np.ndarray | None = None,
    *,
    difference: bool = False,
    ranges: Mapping[str, Range] | None = None,
) -> list[Number]:
    """Rows of every key: of each seed's network over images, and of their mean over images and over seeds.

    Shares of images that do not belong to groups have the exact interval (Clopper and Pearson), all else a bootstrap.

    Args:
        networks: seed -> scores, of the same images and keys.
        groups: (n,), images of one group (a patient) are resampled together.
        difference: the values are differences, so that 0 and 1 are no yes and no.
        ranges: of the quantities that are no shares, what their values lie between.
    """
    seeds = sorted(networks)
    rows: list[Number] = []
    for key in networks[seeds[0]]:
        values = np.stack([np.asarray(networks[seed][key], np.float64) for seed in seeds])
        within = ANYTHING if difference else (ranges or {}).get(key.quantity, SHARE)
        exact = groups is None and within == SHARE
        rows += _of_key(measure, arm, key, seeds, values, groups, exact=exact, within=within)
    return rows


def differences(arm: Mapping[int, Scores], baseline: Mapping[int, Scores]) -> dict[int, dict[Key, np.ndarray]]:
    """arm - baseline on the same images, by seed and key where both have them; NaN unless both count the image."""
    return {
        seed: {key: arm[seed][key] - baseline[seed][key] for key in arm[seed] if key in baseline[seed]}
        for seed in sorted(arm.keys() & baseline.keys())
    }


def mean_of(
    numbers: Sequence[Number],
    measure: str,
    quantity: str,
    arm: str,
    filling: str | None = None,
    at: float | None = None,
) -> float | None:
    """The mean over an arm's networks; None where it was not measured."""
    rows = _means(numbers, measure, quantity, arm, filling, at)
    return rows[0].value if rows else None


def stated(
    numbers: Sequence[Number],
    measure: str,
    quantity: str,
    arm: str,
    filling: str | None = None,
    at: float | None = None,
    shown: Callable[[float], str] = proportion,
) -> str | None:
    """The mean over an arm's networks with its interval and what it rests on: "0.98 (0.97 to 0.99 over 5 seeds; 2,000
    images)". None where it was not measured, or rests on so few images that it is no headline."""
    rows = {row.over: row for row in _means(numbers, measure, quantity, arm, filling, at)}
    images = rows["images"].count if "images" in rows else None
    if not rows or (images is not None and images < HEADLINE):
        return None
    over_seeds = rows.get("seeds")
    is_enough = over_seeds is not None and over_seeds.count >= SEEDS and over_seeds.low is not None
    row = over_seeds if over_seeds is not None and is_enough else rows.get("images") or next(iter(rows.values()))
    counted = f"{row.count:,} {row.over}"
    bounds = row.low is not None and row.high is not None
    rests_on = f"{shown(row.low)} to {shown(row.high)} over {counted}" if bounds else counted  # type: ignore[arg-type]
    if images is not None and row.over != "images":
        rests_on += f"; {images:,} images"
    return f"{shown(row.value)} ({rests_on})"


def _means(
    numbers: Sequence[Number], measure: str, quantity: str, arm: str, filling: str | None, at: float | None
) -> list[Number]:
    """The rows of the mean over an arm's networks, each with another interval."""
    wanted = (measure, quantity, arm, filling, at, None, None)
    return [
        row
        for row in numbers
        if (row.measure, row.quantity, row.arm, row.filling, row.at, row.seed, row.item) == wanted
    ]


def _of_key(
    measure: str,
    arm: str,
    key: Key,
    seeds: list[int],
    values: np.ndarray,
    groups: np.ndarray | None,
    *,
    exact: bool,
    within: Range,
) -> list[Number]:
    present = ~np.isnan(values)
    if not present.any():
        return []
    _check_range(measure, key.quantity, values[present], within)
    kept = [place for place in range(len(seeds)) if present[place].any()]
    values = values[kept]
    means = [float(np.nanmean(row)) for row in values]
    resampled = _resampled(values, groups)

    def number(mean: float, low: float | None, high: float | None, count: int, over: Over, seed: int | None) -> Number:
        return Number(measure, key.quantity, arm, mean, low, high, count, over, seed, key.filling, key.at, key.item)

    rows = []
    for seed, mean, row, drawn in zip(np.take(seeds, kept), means, values, resampled, strict=True):
        low, high = (exact and _share_interval(row[~np.isnan(row)])) or bounds_of(drawn)
        rows.append(number(mean, low, high, int((~np.isnan(row)).sum()), "images", int(seed)))
    mean = float(np.mean(means))
    alike = exact and all(np.array_equal(row, values[0], equal_nan=True) for row in values)
    low, high = (alike and _share_interval(values[0][~np.isnan(values[0])])) or bounds_of(resampled.mean(axis=0))
    rows.append(number(mean, low, high, int(present.any(axis=0).sum()), "images", None))
    over = level_interval(means, within)
    rows.append(number(mean, over.low, over.high, over.seeds, "seeds", None))
    return rows


def _check_range(measure: str, quantity: str, values: np.ndarray, within: Range) -> None:
    """ValueError where a quantity that is taken for a share is none."""
    low, high = within
    if (low is not None and values.min() < low - 1e-9) or (high is not None and values.max() > high + 1e-9):
        raise ValueError(
            f"{quantity} of {measure} goes from {values.min():g} to {values.max():g}, not within {within}; "
            "give its range to summarise"
        )


def _resampled(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """(networks, resamples): each network's mean over resampled images; NaN where none of those counts."""
    units, unit = units_of(values.shape[1], groups)
    counted = ~np.isnan(values)
    sums = np.zeros((2, len(values), units))
    for network, (row, counts) in enumerate(zip(values, counted, strict=True)):
        sums[0, network] = np.bincount(unit, np.where(counts, row, 0), units)
        sums[1, network] = np.bincount(unit, counts, units)
    with np.errstate(invalid="ignore"):
        return np.hstack([(sums[0] @ w) / (sums[1] @ w) for w in resampled_weights(units, RESAMPLES)])


def bounds_of(drawn: np.ndarray) -> Bounds:
    """The middle 95 % of resampled means; none where they are all the same."""
    low, high = np.nanquantile(drawn, [TAIL, 1 - TAIL])
    if high - low < SAME:
        return None, None
    return round(float(low), 12), round(float(high), 12)  # the last bits of a sum must not move a bound of 0 off 0


def _share_interval(values: np.ndarray) -> tuple[float, float] | None:
    """The exact interval where values are yes and no: a bootstrap of nothing but yes has no width."""
    if not np.isin(values, (0.0, 1.0)).all():
        return None
    return clopper_pearson(int(values.sum()), len(values))


def bootstrap_bounds(values: np.ndarray, groups: np.ndarray | None = None) -> Bounds:
    """The interval over images of the mean of `values` (n,); NaN does not count."""
    return bounds_of(_resampled(np.asarray(values, np.float64)[None], groups)[0])


def jackknife(value: float, without: Sequence[float], within: Range = ANYTHING) -> Bounds:
    """The interval of a statistic from what it is without each of its units (seeds, blocks of images) in turn.

    Standard error sqrt((m - 1) / m sum (without - their mean)^2) (Tukey, 1958), Student's t with m - 1 degrees of
    freedom, kept `within` what the statistic lies between. (None, None) with fewer than three units, or where all are
    alike or one is NaN.
    """
    left = np.asarray(without, np.float64)
    m = len(left)
    if m < 3 or not np.isfinite(left).all() or np.ptp(left) < SAME:
        return None, None
    error = np.sqrt((m - 1) / m * np.square(left - left.mean()).sum())
    half = float(stdtrit(m - 1, 1 - TAIL) * error)
    return kept_within(value, half, within)
