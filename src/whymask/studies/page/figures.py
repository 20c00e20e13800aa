"""Figures of a study: metrics against labels, how good each class is, what training went through."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from whymask.report.figures import NEUTRAL, ArmStyle, draw, legend_above
from whymask.report.text import count, known
from whymask.studies.page.results import metric_name
from whymask.tasks import Task


def curve(
    name: str,
    levels: list[dict[str, Any]],
    styles: dict[str, ArmStyle],
    task: Task,
    metric: str,
    worth: list[dict[str, Any]],
    chance: float | None = None,
) -> str:
    """`metric` against numbers of labels: each arm's mean and interval over seeds; `worth` is a dotted line, and
    `chance`, what one scores who looks at no image, a level one."""
    rows = [row for row in levels if row["metric"] == metric and known(row["mean"]) and known(row["labels_per_class"])]
    others = {row["labels_per_class"] for row in rows if row["arm"] != "scratch"}

    def paint(axes: Axes) -> None:
        arms = [arm for arm in styles if any(row["arm"] == arm for row in rows)]
        for place, arm in enumerate(arms):
            own = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["labels_per_class"])
            _curve_of_arm(axes, arm, own, styles[arm], 1.025 ** (place - (len(arms) - 1) / 2), others)
        for row in worth:
            start = (row["arm"], row["labels_per_class"])
            level = next((r["mean"] for r in rows if (r["arm"], r["labels_per_class"]) == start), None)
            if level is not None and known(row.get("worth")) and row.get("kind") == "exact":
                x, y = [start[1], row["worth"], row["worth"]], [level, level, axes.get_ylim()[0]]
                axes.plot(x, y, color=styles[start[0]].colour, linewidth=1.3, linestyle=(0, (1, 2)), zorder=1)
        if chance is not None:
            axes.axhline(chance, color=NEUTRAL, linewidth=1.2, linestyle=(0, (5, 3)), label="no image looked at")
        axes.set_xscale("log")
        ticks = sorted({row["labels_per_class"] for row in rows})
        axes.xaxis.set_major_locator(FixedLocator(_spaced(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_xlabel(f"{task.budget_counts} (log scale)")
        axes.set_ylabel(metric_name(metric, task))
        axes.grid(axis="x", visible=False)
        legend_above(axes)

    return draw(name, 3.4, paint)


def _curve_of_arm(
    axes: Axes, arm: str, own: list[dict[str, Any]], style: ArmStyle, shift: float, others: set[Any]
) -> None:
    """One arm's line and intervals; budgets that only `scratch` ran are hollow points of its line."""
    x, y = [row["labels_per_class"] * shift for row in own], [row["mean"] for row in own]
    axes.plot(x, y, color=style.colour, label=arm, marker=style.marker, markersize=6, markevery=[0])
    for row, place in zip(own, x, strict=True):
        further = bool(others) and row["labels_per_class"] not in others
        face = "none" if further else style.colour
        axes.plot(place, row["mean"], style.marker, color=style.colour, markersize=6, markerfacecolor=face)
        if known(row.get("low")) and known(row.get("high")):
            axes.plot([place] * 2, [row["low"], row["high"]], color=style.colour, linewidth=1.4, alpha=0.85)


def _spaced(ticks: list[float]) -> list[float]:
    """The ticks that do not print over one another on a log axis of a figure's width."""
    share = 0.035 * max((len(count(tick)) for tick in ticks), default=0) + 0.03
    ratio, kept = (ticks[-1] / ticks[0]) ** share if ticks else 1.0, list[float]()
    for tick in ticks:
        if not kept or tick >= ratio * kept[-1]:
            kept.append(tick)
    return kept


def by_class(name: str, rows: list[dict[str, Any]], classes: list[str], title: str, styles: dict[str, ArmStyle]) -> str:
    """A number of each class or target, called `title`, one point an arm.

    `rows`: {"arm", "class" (its index), "value", "low", "high"}.
    """
    order = sorted({row["class"] for row in rows})
    arms = [arm for arm in styles if any(row["arm"] == arm for row in rows)]

    def paint(axes: Axes) -> None:
        for place, arm in enumerate(arms):
            style = styles[arm]
            own = [row for row in rows if row["arm"] == arm and known(row["value"])]
            y = [order.index(row["class"]) + (place - (len(arms) - 1) / 2) * 0.6 / len(arms) for row in own]
            axes.plot([row["value"] for row in own], y, style.marker, color=style.colour, markersize=5, label=arm)
            for row, at in zip(own, y, strict=True):
                if known(row.get("low")) and known(row.get("high")):
                    axes.plot([row["low"], row["high"]], [at] * 2, color=style.colour, linewidth=1.4)
        names = [classes[index] if len(classes[index]) <= 20 else classes[index][:19] + "…" for index in order]
        axes.set_yticks(range(len(order)), names)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlabel(title)
        axes.grid(axis="y", visible=False)
        for boundary in range(1, len(order)):
            axes.axhline(boundary - 0.5, color=NEUTRAL, alpha=0.22, linewidth=0.8)
        legend_above(axes)

    return draw(name, 1.3 + (0.09 * len(arms) + 0.14) * len(order), paint)


def reliability(name: str, rows: list[dict[str, Any]], styles: dict[str, ArmStyle]) -> str:
    """Accuracy against confidence, one line an arm; who is as often right as sure lies on the diagonal.

    `rows`: study.json's calibration. A point's area is the share of the arm's answers in it.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=1.2, linestyle=(0, (5, 3)), label="as right as sure")
        for row in rows:
            style, bins = styles[row["arm"]], row["bins"]
            x, y = [part["confidence"] for part in bins], [part["accuracy"] for part in bins]
            total = sum(part["count"] for part in bins)
            areas = [8 + 120 * part["count"] / total for part in bins]
            axes.plot(x, y, color=style.colour, linewidth=1.2)
            axes.scatter(x, y, s=areas, color=style.colour, marker=style.marker, label=row["arm"], zorder=3)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("mean confidence")
        axes.set_ylabel("accuracy")
        legend_above(axes)

    return draw(name, 3.4, paint)


def over_steps(
    name: str,
    title: str,
    curves: list[tuple[str, np.ndarray]],
    styles: dict[str, ArmStyle],
    first: float | None = None,
) -> str:
    """What is called `title`, such as a loss, against optimiser steps. `curves`: (arm, array (n, 2) of step and value),
    one line a seed; `first`, what the weights before the first step have, is a level one."""

    def paint(axes: Axes) -> None:
        named: set[str] = set()
        for arm, points in curves:
            label = arm if arm not in named else None
            axes.plot(points[:, 0], points[:, 1], color=styles[arm].colour, linewidth=1.2, alpha=0.8, label=label)
            named.add(arm)
        if first is not None:
            axes.axhline(first, color=NEUTRAL, linewidth=1.2, linestyle=(0, (5, 3)), label="before the first step")
        lengths = [points[-1, 0] for _, points in curves]
        if max(lengths) > 4 * max(1.0, min(lengths)):
            axes.set_xscale("symlog", linthresh=max(1.0, min(lengths) / 10))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel(title)
        legend_above(axes)

    return draw(name, 3.2, paint)
