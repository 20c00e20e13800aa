"""How figures of an explanation are drawn from the content of explain.json: a colour an arm, lines, dots, legends."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whymask.report.figures import NEUTRAL, ArmStyle, arm_styles, label_below, make

Row = dict[str, Any]
Told = dict[str, Any]
"""The content of explain.json."""
FEWEST = 10
"""Images that a share may rest on without saying so."""
CONTROLS = {
    "readout": ArmStyle("#7d6bd1", "P"),
    "erased": ArmStyle("#c2609a", "s"),
    "random": ArmStyle("#8a8a8a", "X"),
    "shuffled": ArmStyle("#5a5a5a", "v"),
}
MAIN = ("pretrained", "baseline")
"""The roles of those that are compared."""


def styles_of(told: Told) -> dict[str, ArmStyle]:
    """One style an arm: the two that are compared as on a study's page, the controls their own."""
    styles = arm_styles([arm["name"] for arm in told["arms"] if arm["role"] in MAIN])
    return {arm["name"]: styles.get(arm["name"]) or CONTROLS[arm["role"]] for arm in told["arms"]}


def arm_names(told: Told) -> list[str]:
    return [arm["name"] for arm in told["arms"]]


def select(told: Told, measure: str, quantity: str, over: str = "seeds") -> list[Row]:
    """Means over seeds of each arm, with the interval over seeds where there is one, else over images."""
    arms = set(arm_names(told))
    rows = [
        row
        for row in told["numbers"]
        if row["measure"] == measure and row["quantity"] == quantity and row["seed"] is None and row["arm"] in arms
    ]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["filling"], row["at"], row["item"]), []).append(row)
    return [min(group, key=lambda row: (row["low"] is None, row["over"] != over)) for group in groups.values()]


def named(told: Told, rows: list[Row]) -> dict[str, str]:
    """What the arms of `rows` are called: with the number of images that they rest on, where these are few."""
    arms, quantities = {row["arm"] for row in rows}, {row["quantity"] for row in rows}
    names = {arm: arm for arm in arms}
    for row in told["numbers"]:
        own = row["seed"] is None and row["over"] == "images" and row["arm"] in arms
        if own and row["measure"] == rows[0]["measure"] and row["quantity"] in quantities and row["count"] < FEWEST:
            names[row["arm"]] = f"{row['arm']} ({row['count']} image{'s' * (row['count'] > 1)})"
    return names


def lines(axes: Axes, told: Told, rows: list[Row], start: dict[str, Row], dotted: bool = False) -> None:
    """A line an arm, with a band for its interval; controls are thin and have no band."""
    styles, names = styles_of(told), named(told, rows) if rows else {}
    for arm in told["arms"]:
        name, main = arm["name"], arm["role"] in MAIN
        own = sorted((row for row in rows if row["arm"] == name), key=lambda row: row["at"])
        if not own:
            continue
        if name in start:
            own = [start[name] | {"at": 0.0}, *own]
        x, y = [row["at"] for row in own], [row["value"] for row in own]
        line: dict[str, Any] = {"color": styles[name].colour, "linewidth": 2.2 if main else 1.1}
        if dotted:
            axes.plot(x, y, linestyle=(0, (1, 2)), **line | {"linewidth": 1.3})
            continue
        axes.plot(x, y, marker=styles[name].marker, markersize=4.5 if main else 3, label=names[name], **line)
        bounds = [(row["low"], row["high"]) for row in own]
        if main and all(low is not None for low, _ in bounds):
            low, high = zip(*bounds, strict=True)
            axes.fill_between(x, low, high, color=line["color"], alpha=0.18, linewidth=0)


def dots(told: Told, name: str, rows: list[Row], xlabel: str, mark: tuple[float, str] | None = None) -> Figure:
    """One dot an arm with its interval; `mark` is a dotted line and what it says."""
    styles = styles_of(told)
    arms = [arm for arm in arm_names(told) if any(row["arm"] == arm for row in rows)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row in rows:
            place, style = arms.index(row["arm"]), styles[row["arm"]]
            axes.plot(row["value"], place, style.marker, color=style.colour, markersize=7)
            if row["low"] is not None:
                axes.plot([row["low"], row["high"]], [place] * 2, color=style.colour, linewidth=1.6)
        if mark:
            axes.axvline(mark[0], color=NEUTRAL, linestyle=(0, (1, 2)), linewidth=1.3)
            over: dict[str, Any] = {"textcoords": "offset points", "xycoords": ("data", "axes fraction")}
            axes.annotate(mark[1], (mark[0], 1), (0, 2), ha="center", va="bottom", **over)
        label_below(figure, xlabel)
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)

    return make(name, 1.0 + 0.34 * len(arms), paint)


def levelled(panels: dict[str, Figure]) -> dict[str, Figure]:
    """The panels, with the same axis up."""
    axes = [figure.axes[0] for figure in panels.values()]
    ends = [end for one in axes for end in one.get_ylim()]
    for one in axes:
        one.set_ylim(min(ends), max(ends))
    return panels


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
