"""Tables as a notebook shows them: numbers of three decimals, an interval as one cell."""

from collections.abc import Iterable, Mapping
from typing import Any

from whymask.report.text import DASH, known, number

Row = Mapping[str, Any]


def table_html(rows: Iterable[Row]) -> str:
    """A row each, a column a key; all text is escaped."""
    import pandas  # half a second, which the command line need not pay

    return str(pandas.DataFrame(list(rows)).to_html(index=False, border=0, na_rep=DASH))


def interval(row: Row) -> str:
    """ "0.580 to 0.702" of a row's low and high; a dash where it has none."""
    low, high = row.get("low"), row.get("high")
    return f"{number(low)} to {number(high)}" if known(low) and known(high) else DASH
