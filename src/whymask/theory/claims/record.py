"""What came of a claim: what was predicted, what was measured with its 95 % interval, and whether it holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whymask.intervals import clopper_pearson, mean_interval
from whymask.theory.lab import Clock

Row = dict[str, Any]
"""{"what", "measured", "low", "high"}, and what else belongs to it."""


@dataclass(frozen=True)
class Finding:
    """One entry of claims.json: what came of a claim.

    `threshold` is what the lower bound is held against, None where nothing is claimed.
    """

    id: str
    clock: Clock | None
    source: str
    predicted: str
    measured: float | None
    low: float | None
    high: float | None
    threshold: float | None
    seeds: int
    holds: bool | None
    rows: list[Row] = field(default_factory=list)


def finding(
    id: str, source: str, predicted: str, main: Row, rows: Sequence[Row], clock: Clock | None = None
) -> Finding:
    """A claim as tested, which stands or falls with its `main` row; `rows` are what else was seen."""
    judged = {key: main[key] for key in ("measured", "low", "high", "threshold", "seeds", "holds")}
    return Finding(id, clock, source, predicted, rows=[main, *rows], **judged)


def pooled(
    what: str, hits: np.ndarray, counts: np.ndarray | int, seeds: Sequence[int], threshold: float | None = None
) -> Row:
    """A share of items pooled over seeds with its Clopper-Pearson interval; the worst seed is named.

    `hits` and `counts` are (S,). With a threshold, it holds when the lower bound reaches it. Items of one seed share
    images and may depend on one another, which the interval does not know.
    """
    hits, counts = np.asarray(hits), np.broadcast_to(counts, np.shape(hits))
    total = int(counts.sum())
    if not total:
        return _row(what, None, None, None, len(seeds), threshold) | {"count": 0}
    shares = np.where(counts > 0, hits / np.maximum(counts, 1), np.inf)
    row = _row(what, hits.sum() / total, *clopper_pearson(int(hits.sum()), total), len(seeds), threshold)
    return row | {"count": total, "worst_seed": int(seeds[int(shares.argmin())]), "worst": float(shares.min())}


def averaged(what: str, values: np.ndarray, threshold: float | None = None) -> Row:
    """A mean over seeds with its t interval; with a threshold, it holds when the lower bound reaches it (is above it,
    where the threshold is 0)."""
    interval = mean_interval(values)
    return _row(what, interval.mean, interval.low, interval.high, interval.seeds, threshold)


def within(what: str, differences: np.ndarray, tolerance: float) -> Row:
    """A mean difference between prediction and measurement; it holds when it is at most `tolerance` either way."""
    row = averaged(what, differences)
    return row | {"threshold": tolerance, "holds": abs(row["measured"]) <= tolerance}


def _row(
    what: str, measured: float | None, low: float | None, high: float | None, seeds: int, threshold: float | None
) -> Row:
    holds = None
    if threshold is not None:
        holds = low is not None and (low > 0 if threshold == 0 else low >= threshold)
    return {
        "what": what,
        "measured": None if measured is None else float(measured),
        "low": low,
        "high": high,
        "seeds": seeds,
        "threshold": threshold,
        "holds": holds,
    }
