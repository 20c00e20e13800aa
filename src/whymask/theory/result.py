"""What `theory` returns: claims.json's content, and in a notebook the claims and controls as tables."""

from typing import Any

from whymask.report.notebook import interval, table_html
from whymask.report.text import DASH, number
from whymask.theory.claims.claim import CLOCK_NAMES
from whymask.theory.claims.record import tally


class TheoryResult(dict[str, Any]):
    """claims.json's content by key."""

    def __repr__(self) -> str:
        told = tally([claim["state"] for claim in self["claims"]])
        return f"<theory: {told}. Its content by key: {', '.join(self)}>"

    def _repr_html_(self) -> str:
        return table_html(map(_row, self["claims"])) + table_html(map(_row, self["controls"]))


def _row(claim: dict[str, Any]) -> dict[str, Any]:
    return {
        "predicted": claim["predicted"],
        "clock": CLOCK_NAMES.get(claim["clock"], DASH),
        "measured": number(claim["measured"]),
        "95 %": interval(claim),
        "threshold": number(claim["threshold"]),
        "state": claim["state"] or DASH,
    }
