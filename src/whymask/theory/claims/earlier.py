"""claims.json of schema 1, which said whether a claim holds, and no where nothing could be said."""

from collections.abc import Sequence
from typing import Any

from whymask.report.text import known
from whymask.theory.claims.record import Row, State, worst


def with_states(claim: Row, control: bool = False) -> Row:
    """A claim, or a negative control, with the states that its recorded numbers have; as it is from schema 2 on."""
    if "state" in claim:
        return claim
    rows = [
        row if "state" in row or not isinstance(row, dict) else row | {"state": _state(row, control)}
        for row in claim.get("rows") or []
    ]
    return claim | {"state": _state(claim, control, rows[1:]), "rows": rows}


def _state(row: Row, control: bool, others: Sequence[Row] = ()) -> State | None:
    """`others`: the further rows of a claim, of which one may be why it does not hold."""
    holds, measured = row.get("holds"), row.get("measured")
    low, high, threshold = (_number(row.get(key)) for key in ("low", "high", "threshold"))
    if holds is None:
        return None
    if control or threshold is None:  # judged by the number
        return "holds" if holds else "fails"
    if not known(measured):
        return "not measured"
    if low is None or high is None or low < threshold < high:
        return "undecided"
    if not holds and (low > 0 if threshold == 0 else low >= threshold):
        return worst([row["state"] for row in others if row.get("state") not in (None, "holds")] or ["fails"])
    return "holds" if holds else "fails"


def _number(value: Any) -> float | None:
    return float(value) if known(value) else None
