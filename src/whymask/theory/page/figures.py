"""Kinds of picture that several claims draw, as SVG: functions of plain numbers."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from whymask.report.figures import arm_styles, draw, legend_above
from whymask.report.text import count, known

Row = dict[str, Any]
BLUE, ORANGE, GREEN = "#1f83c4", "#d55e00", "#009e73"


def lines(name: str, series: dict[str, list[Row]], x: str, xlabel: str, ylabel: str, log: str = "") -> str | None:
    """Measured values and intervals against the rows' key `x`, a line a series; None without a point.

    `log` names the axes on a log scale ("", "x", "xy").
    """
    found = {label: _points(rows, x, log) for label, rows in series.items()}
    shown = {label: points for label, points in found.items() if points}
    if not shown:
        return None
    styles = arm_styles(list(shown))

    def paint(axes: Axes) -> None:
        for label, points in shown.items():
            colour, marker = styles[label].colour, styles[label].marker
            places, values = [row[x] for row in points], [row["measured"] for row in points]
            axes.plot(places, values, color=colour, marker=marker, markersize=6, label=label)
            for row in points:
                if known(row.get("low")) and known(row.get("high")):
                    axes.plot([row[x]] * 2, [row["low"], row["high"]], color=colour, linewidth=1.4, alpha=0.85)
        if "y" in log:
            log_scale(axes)
        if "x" in log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(sorted({row[x] for points in shown.values() for row in points})))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend_above(axes)

    return draw(name, 3.5, paint)


def _points(rows: list[Row], x: str, log: str) -> list[Row]:
    """The rows that can be drawn, in the order of `x`."""
    points = [row for row in rows if known(row.get(x)) and known(row.get("measured"))]
    if "x" in log:
        points = [row for row in points if row[x] > 0]
    if "y" in log:
        points = [row for row in points if row["measured"] > 0]
    return sorted(points, key=lambda row: row[x])


def distinct(rows: list[Row], key: str) -> list[str]:
    """What the rows have under `key`, each once."""
    return list(dict.fromkeys(str(row.get(key)) for row in rows))


def log_scale(axes: Axes) -> None:
    """A log scale up, labelled without powers: mathematics is not typeset here."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.yaxis.set_minor_locator(NullLocator())
