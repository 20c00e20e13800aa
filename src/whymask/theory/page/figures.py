"""The kinds of picture on the page of a theory run, as SVG: functions of plain numbers.

S seeds, K kernels, n = k·L features (feature j belongs to class j // L).
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from whymask.report.figures import NEUTRAL, arm_styles, draw, legend_above
from whymask.report.text import count, known, number

Row = dict[str, Any]
RECORD = 4
"""Steps between two records of Lambda."""
LINES, POINTS = 40, 150
"""Most thin lines of a picture, and most points of a line."""
LABELLED = 12
"""Most classes that are named on an axis."""
BLUE, ORANGE, GREEN = "#1f83c4", "#d55e00", "#009e73"
INK: Any = [(*to_rgb(BLUE), share) for share in np.linspace(0, 1, 101)]
"""From nothing to blue: empty is the page's own colour, light or dark."""


def growth(name: str, growth: np.ndarray, captured: np.ndarray, horizon: Any) -> str:
    """growth (S, T, n), captured (S, n) bool."""
    chosen = np.unique(np.linspace(0, growth.shape[1] - 1, min(growth.shape[1], POINTS)).round().astype(int))
    steps, features = RECORD * chosen, growth[:, chosen].transpose(0, 2, 1)  # (S, n, POINTS)
    top = np.nanmax(features)

    def paint(axes: Axes) -> None:
        for label, which, colour in (("captured", captured, BLUE), ("not captured", ~captured, ORANGE)):
            for curve in features[0][which[0]][:LINES]:
                axes.plot(steps, curve, color=colour, linewidth=0.7, alpha=0.5)
            if which.any():
                axes.plot(steps, _median(features[which]), color=colour, linewidth=2.6, label=label)
        if known(horizon):
            for height, dashes in ((horizon, (0, (5, 3))), (horizon / 2, (0, (1, 2)))):
                axes.axhline(height, color=NEUTRAL, linewidth=1.2, linestyle=dashes, zorder=1)
            if top > 4 * horizon:
                axes.set_ylim(horizon / 100, 1.2 * top)
                _log(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_xlabel("steps")
        axes.set_ylabel("Λ")
        legend_above(axes)

    return draw(name, 5.6, 3.4, paint)


def _log(axes: Axes) -> None:
    """A log scale up, labelled without powers: mathematics is not typeset here."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _median(curves: np.ndarray) -> np.ndarray:
    """Median of (N, POINTS) over N; NaN where nothing is finite."""
    ordered = np.sort(curves, axis=0)  # NaN come last
    counts = np.isfinite(curves).sum(0)
    low, high = (
        ordered[np.maximum(place, 0), np.arange(curves.shape[1])] for place in ((counts - 1) // 2, counts // 2)
    )
    return np.where(counts % 2, low, (low + high) / 2)


def heat_map(name: str, shares: np.ndarray, per_class: int) -> str:
    """`shares` (K, n) in [0, 1]."""
    classes = shares.shape[1] // per_class

    def paint(axes: Axes) -> None:
        image = np.empty((*shares.shape, 4))
        image[..., :3], image[..., 3] = to_rgb(BLUE), shares
        axes.imshow(image, aspect="auto", interpolation="none")
        centres = per_class * np.arange(classes) + (per_class - 1) / 2
        shown = slice(None, None, 1 + (classes - 1) // LABELLED)
        axes.set_xticks(centres[shown], [str(c) for c in range(classes)[shown]])
        axes.tick_params(length=0)
        axes.set_yticks([])
        axes.grid(False)
        if classes <= 2 * LABELLED:
            for boundary in range(1, classes):
                axes.axvline(boundary * per_class - 0.5, color=NEUTRAL, alpha=0.3, linewidth=0.8)
        axes.set_xlabel("features, by class" if per_class > 1 else "features")
        axes.set_ylabel(f"{len(shares)} kernels")

    return draw(name, 3.1, 4.2, paint)


def scatter(name: str, major: np.ndarray, minor: np.ndarray, slope: float) -> str:
    """Second best against best, (N,) each, with the diagonal and a dotted line of `slope`."""
    end = 1.05 * max(float(major.max()), 1e-12)

    def paint(axes: Axes) -> None:
        axes.plot([0, end], [0, end], color=NEUTRAL, linewidth=1, alpha=0.6)
        axes.plot([0, end], [0, slope * end], color=NEUTRAL, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.plot(major, minor, "o", color=ORANGE, alpha=0.55, markersize=5, markeredgewidth=0)
        axes.set_xlim(0, end)
        axes.set_ylim(-0.03 * end, end)
        axes.set_xlabel("Λ of the class's best feature")
        axes.set_ylabel("Λ of its second best")

    return draw(name, 5.6, 4.2, paint)


_STARTS = {
    "random": ("from scratch", ORANGE),
    "own": ("pretrained, own clock", BLUE),
    "common": ("pretrained, common clock", GREEN),
}
_HEADS = {"fixed": "fixed head", "learned": "learned head", "frozen": "random kernels frozen"}


def bars(name: str, rows: dict[tuple[str, str], Row]) -> str:
    """Accuracy with its interval; `rows` by (head, start)."""
    orders = list(_HEADS), list(_STARTS)

    def place(key: tuple[str, str]) -> list[int]:
        return [order.index(part) if part in order else len(order) for part, order in zip(key, orders, strict=True)]

    keys = sorted(rows, key=place)

    def paint(axes: Axes) -> None:
        for y, (head, start) in enumerate(keys):
            row, colour = rows[head, start], NEUTRAL if head == "frozen" else _STARTS.get(start, ("", NEUTRAL))[1]
            axes.barh(y, row["measured"], color=colour, height=0.62, alpha=0.5)
            if known(row.get("low")) and known(row.get("high")):
                axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.2)
            axes.plot(row["measured"], y, "o", color=colour, markersize=5)
            axes.text(1.03, y, number(row["measured"]), va="center", transform=axes.get_yaxis_transform())
        axes.set_yticks(range(len(keys)), [_name(*key) for key in keys])
        axes.set_ylim(len(keys) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel("accuracy")
        axes.grid(axis="y", visible=False)

    return draw(name, 5.6, 0.8 + 0.36 * len(keys), paint)


def _name(head: str, start: str) -> str:
    if head == "frozen":
        return "learned head, random kernels frozen"
    return f"{_HEADS.get(head, head)}, {_STARTS.get(start, (start,))[0]}"


def phase(name: str, C_p: float, cells: list[Row], crossings: list[Row]) -> str:
    thetas = sorted({row["theta"] for row in cells})
    gap = min(np.diff(thetas), default=0.2)
    wing = 0.3 * gap * np.array([-1, 1])

    def paint(axes: Axes) -> None:
        colours: Any = ListedColormap(INK)
        for theta in thetas:
            column = {row["excess"]: row["grown"] for row in cells if row["theta"] == theta and row["excess"] > 0}
            levels = sorted(column)
            edges = _edges(np.array(levels))
            for level, low, high in zip(levels, edges[:-1], edges[1:], strict=True):
                face = colours(min(1.0, max(0.0, float(column[level]))))
                axes.fill_between(theta + wing, low, high, facecolor=face, edgecolor=NEUTRAL, linewidth=0.5)
        across = np.linspace(max(0.01, thetas[0] - gap / 2), min(0.99, thetas[-1] + gap / 2), 60)
        axes.plot(across, (1 / across - 1) / C_p, color=ORANGE, label="predicted boundary")
        half = [(row["theta"], row["crossing"] * (1 / row["theta"] - 1) / C_p) for row in crossings]
        if half:
            axes.plot(*zip(*half, strict=True), "D", color=GREEN, markersize=5, label="half of the kernels grow")
        _log(axes)
        axes.margins(y=0.05)
        axes.set_xlabel("θ, share of patches kept")
        axes.set_ylabel("τ^q − 1 (log scale)")
        axes.grid(False)
        figure: Any = axes.figure
        bar = figure.colorbar(ScalarMappable(cmap=colours), ax=axes, label="share of kernels that grew", pad=0.02)
        bar.solids.remove()  # as SVG it would lose its transparency
        ends, image = (*bar.ax.get_xlim(), *bar.ax.get_ylim()), np.array(INK)[:, None]
        bar.ax.imshow(image, extent=ends, origin="lower", aspect="auto", interpolation="none")
        legend_above(axes, 2)

    return draw(name, 5.6, 4.0, paint)


def _edges(levels: np.ndarray) -> np.ndarray:
    """The bounds of cells around `levels` (n,) on a log scale: (n + 1,)."""
    if len(levels) < 2:
        return np.concatenate([levels / 1.1, levels * 1.1])
    middles = np.sqrt(levels[:-1] * levels[1:])
    ends = levels[0] ** 2 / middles[0], levels[-1] ** 2 / middles[-1]
    return np.concatenate([ends[:1], middles, ends[1:]])


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
            _log(axes)
        if "x" in log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(sorted({row[x] for points in shown.values() for row in points})))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend_above(axes, 2)

    return draw(name, 5.6, 3.6, paint)


def _points(rows: list[Row], x: str, log: str) -> list[Row]:
    """The rows that can be drawn, in the order of `x`."""
    points = [row for row in rows if known(row.get(x)) and known(row.get("measured"))]
    if "x" in log:
        points = [row for row in points if row[x] > 0]
    if "y" in log:
        points = [row for row in points if row["measured"] > 0]
    return sorted(points, key=lambda row: row[x])
