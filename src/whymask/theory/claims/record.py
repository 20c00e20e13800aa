"""What came of a claim: what was predicted, what was measured with its 95 % interval, and what follows from that."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from whymask.intervals import clopper_pearson, level_interval, mean_interval
from whymask.theory.lab import Clock

Row = dict[str, Any]
"""{"what", "measured", "low", "high"}, and what else belongs to it."""
SCHEMA = 2
"""Of claims.json; 1 said "holds", true or false, where 2 says "state". See `earlier`."""
State = Literal["holds", "fails", "undecided", "not measured"]
"""The whole interval lies where the claim says, or the whole lies elsewhere, or neither; or there is no number."""
STATES: tuple[State, ...] = ("holds", "fails", "undecided", "not measured")


@dataclass(frozen=True)
class Finding:
    """One entry of claims.json: what came of a claim.

    `threshold` is what the interval is held against, None where nothing is claimed; `state` is None then too.
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
    state: State | None
    rows: list[Row] = field(default_factory=list)


def finding(
    id: str, source: str, predicted: str, main: Row, rows: Sequence[Row], clock: Clock | None = None
) -> Finding:
    """A claim as tested, which stands or falls with its `main` row; `rows` are what else was seen."""
    judged = {key: main[key] for key in ("measured", "low", "high", "threshold", "seeds", "state")}
    return Finding(id, clock, source, predicted, rows=[main, *rows], **judged)


def pooled(
    what: str, hits: np.ndarray, counts: np.ndarray | int, seeds: Sequence[int], threshold: float | None = None
) -> Row:
    """A share of items pooled over seeds with its Clopper-Pearson interval; the worst seed is named.

    `hits` and `counts` are (S,). A threshold is judged by `at_least`. Items of one seed share images and may depend on
    one another, which the interval does not know.
    """
    hits, counts = np.asarray(hits), np.broadcast_to(counts, np.shape(hits))
    total = int(counts.sum())
    if not total:
        return _row(what, None, None, None, len(seeds), threshold) | {"count": 0}
    shares = np.where(counts > 0, hits / np.maximum(counts, 1), np.inf)
    row = _row(what, hits.sum() / total, *clopper_pearson(int(hits.sum()), total), len(seeds), threshold)
    return row | {"count": total, "worst_seed": int(seeds[int(shares.argmin())]), "worst": float(shares.min())}


def named(name: str, row: Row) -> Row:
    """The row, of which `name` says what it is of."""
    return row | {"what": f"{name}: {row['what']}"}


def averaged(what: str, values: np.ndarray, threshold: float | None = None) -> Row:
    """A mean over seeds with its t interval; a threshold is judged by `at_least`."""
    interval = mean_interval(values)
    return _row(what, interval.mean, interval.low, interval.high, interval.seeds, threshold)


def mean_share(what: str, values: np.ndarray) -> Row:
    """A mean over seeds of numbers from 0 to 1, whose interval lies there too."""
    interval = level_interval(values)
    return _row(what, interval.mean, interval.low, interval.high, interval.seeds, None)


def within(what: str, differences: np.ndarray, tolerance: float) -> Row:
    """A mean difference between prediction and measurement, which is claimed to be at most `tolerance` either way."""
    row = averaged(what, differences)
    above, below = at_most(row, tolerance), at_least(row, -tolerance)
    return above | {"state": worst([above["state"], below["state"]])}


def at_least(row: Row, threshold: float) -> Row:
    """The row with what follows from its interval for the claim that it is `threshold` or more; if that is 0, more."""
    low, high = row["low"], row["high"]
    if low is None or high is None:
        return row | {"threshold": threshold, "state": _without_interval(row)}
    holds, fails = (low > 0, high <= 0) if threshold == 0 else (low >= threshold, high < threshold)
    return row | {"threshold": threshold, "state": _state(holds, fails)}


def at_most(row: Row, threshold: float) -> Row:
    """The same for the claim that it is `threshold` or less."""
    low, high = row["low"], row["high"]
    if low is None or high is None:
        return row | {"threshold": threshold, "state": _without_interval(row)}
    return row | {"threshold": threshold, "state": _state(high <= threshold, low > threshold)}


def by_number(row: Row, threshold: float, holds: bool) -> Row:
    """The row of what is judged without its interval: it holds or it fails."""
    return row | {"threshold": threshold, "state": _state(holds, not holds)}


def worst(states: Sequence[State]) -> State:
    """The state of a claim that is several at once: it fails if one of them does, and holds if all do."""
    return max(states, key=("holds", "not measured", "undecided", "fails").index)


def tally(states: Sequence[State | None]) -> str:
    """ "7 hold, 5 fail, 1 undecided, 1 not measured": those that there are."""
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail")}
    counts = {state: sum(one == state for one in states) for state in STATES}
    parts = [f"{n} {words.get(state, (state, state))[n != 1]}" for state, n in counts.items() if n]
    return ", ".join(parts) or "no claim has a threshold"


def _state(holds: bool, fails: bool) -> State:
    return "holds" if holds else "fails" if fails else "undecided"


def _without_interval(row: Row) -> State:
    return "not measured" if row["measured"] is None else "undecided"


def _row(
    what: str, measured: float | None, low: float | None, high: float | None, seeds: int, threshold: float | None
) -> Row:
    row = {
        "what": what,
        "measured": None if measured is None else float(measured),
        "low": low,
        "high": high,
        "seeds": seeds,
        "threshold": None,
        "state": None,
    }
    return row if threshold is None else at_least(row, threshold)
