"""Figures of an explanation, from the content of explain.json and the arrays of pictures.npz."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from whymask.report.figures import NEUTRAL, ArmStyle, arm_styles, make

Row = dict[str, Any]
Told = dict[str, Any]
Arrays = dict[str, np.ndarray]

FILLINGS = {"mean": "filled with the mean", "patches": "filled with patches of other images"}
FEWEST = 10
"""Images that a share may rest on without saying so."""
PARTS = {"preserved": "#1f83c4", "discarded": "#9a9a9a", "new": "#009e73"}
CONTROLS = {"readout": "#7d6bd1", "erased": "#c2609a", "random": "#8a8a8a", "shuffled": "#5a5a5a"}
CONTROL_MARKERS = {"readout": "P", "erased": "s", "random": "X", "shuffled": "v"}
HEAT = np.array([232, 76, 20])
FOUND = LinearSegmentedColormap.from_list("found", ["#c8501a", "#e9c9b4", "#9cc7e6", "#1668b0"])


def styles_of(told: Told) -> dict[str, ArmStyle]:
    """One style an arm: the two that are compared as on a study's page, the controls their own."""
    main = [arm["name"] for arm in told["arms"] if arm["role"] in ("pretrained", "baseline")]
    styles = arm_styles(main)
    return {
        arm["name"]: styles.get(arm["name"]) or ArmStyle(CONTROLS[arm["role"]], CONTROL_MARKERS[arm["role"]])
        for arm in told["arms"]
    }


def figures_of(told: Told, arrays: Arrays) -> dict[str, tuple[Figure, str]]:
    """Every figure that there are numbers for: name -> (figure, what it shows)."""
    makers: dict[str, tuple[Callable[..., Figure | None], str]] = {
        "evidence": (evidence, "Evidence for the image's class; recognised whole → with the strongest quarter hidden"),
        "features": (features, "Share of images recognised by each feature alone"),
        "hidden": (hidden, "Still recognised, by share of the image hidden, strongest evidence first"),
        "views": (views, "Separate parts of an image that suffice to recognise it"),
        "lottery": (lottery, "Networks of different seeds: how alike they are"),
        "interactions": (interactions, "Interactions kept, lost and gained in fine-tuning, by regions in each"),
        "found": (found, "Share of the pretrained encoder's interactions that each network also has"),
        "retention": (retention, "Similarity of each layer before and after fine-tuning (unbiased linear CKA)"),
        "robustness": (robustness, "Accuracy under noise and with parts hidden"),
    }
    drawn = {name: (make_it(told, arrays), label) for name, (make_it, label) in makers.items()}
    return {f"why-{name}": (figure, label) for name, (figure, label) in drawn.items() if figure is not None}


# what is drawn from numbers --------------------------------------------------------------------------------------


def hidden(told: Told, arrays: Arrays) -> Figure | None:
    """Share still recognised against the share hidden, a panel a filling; dotted: random cells."""
    return _curves(told, "why-hidden", "views", ("hidden", "hidden at random"), "share of the image hidden", 1.0)


def robustness(told: Told, arrays: Arrays) -> Figure | None:
    """Accuracy against noise, and against the share hidden at random places, with both fillings."""
    noise = _select(told, "robustness", "noise")
    if not noise:
        return None
    start = {row["arm"]: row for row in _select(told, "robustness", "accuracy")}

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 3, sharey=True)
        _lines(panels[0], told, noise, start)
        panels[0].set_xlabel("noise, in standard deviations of the data")
        panels[0].set_ylabel("accuracy")
        for axes, filling in zip(panels[1:], FILLINGS, strict=True):
            _lines(axes, told, [r for r in _select(told, "robustness", "occlusion") if r["filling"] == filling], start)
            axes.set_xlabel(f"share hidden,\n{FILLINGS[filling]}")
        legend_of(figure)

    return make("why-robustness", 9.6, 3.8, paint)


def views(told: Told, arrays: Arrays) -> Figure | None:
    """Mean number of views of each arm, and how many images have 1, 2, ... of them."""
    rows = _select(told, "views", "views")
    counts = _select(told, "views", "views of N")
    if not rows:
        return None
    arms = [arm for arm in _arms(told) if any(row["arm"] == arm for row in rows)]
    names = _named(told, rows)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        shades = LinearSegmentedColormap.from_list("views", ["#d6dde4", "#1668b0"])
        for axes, filling in zip(panels, FILLINGS, strict=True):
            for place, arm in enumerate(arms):
                left = 0.0
                for number in range(1, 6):
                    share = next((r["value"] for r in counts if _is(r, arm, filling, number)), 0.0)
                    axes.barh(place, share, left=left, color=shades((number - 1) / 4), height=0.7)
                    left += share
                mean = next((r for r in rows if _is(r, arm, filling)), None)
                if mean:
                    text = f"{mean['value']:.2f}"
                    axes.annotate(text, (1, place), (4, 0), textcoords="offset points", va="center", color=NEUTRAL)
            axes.set_xlabel(f"share of images,\n{FILLINGS[filling]}")
            axes.set_xlim(0, 1)
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(arms)), [names[arm] for arm in arms])
        panels[0].invert_yaxis()
        numbers = [Patch(color=shades((n - 1) / 4), label=f"{n}{'+' if n == 5 else ''}") for n in range(1, 6)]
        figure.legend(
            handles=numbers, loc="outside upper left", ncols=5, title="views (right: their mean)", title_fontsize=11
        )

    return make("why-views", 8.6, 1.5 + 0.36 * len(arms), paint)


def found(told: Told, arrays: Arrays) -> Figure | None:
    """Share of the pretrained encoder's interactions that each arm's networks have too."""
    rows = _select(told, "interactions", "found by")
    if not rows:
        return None
    panels = [(FILLINGS[filling], [row for row in rows if row["filling"] == filling]) for filling in FILLINGS]
    return _dots(told, "why-found", panels, 8.6)


def lottery(told: Told, arrays: Arrays) -> Figure | None:
    """Agreement, error consistency, evidence overlap and ensemble gain of each arm."""
    quantities = ("agreement", "error consistency", "evidence overlap", "ensemble gain")
    panels = [(name, _select(told, "lottery", name)) for name in quantities]
    if not panels[0][1]:
        return None
    chance = _select(told, "lottery", "evidence overlap by chance", "images")
    marks = {"evidence overlap": (chance[0]["value"], "by chance")} if chance else {}
    return _dots(told, "why-lottery", panels, 11.0, marks)


def interactions(told: Told, arrays: Arrays) -> Figure | None:
    """Strength preserved, discarded and new at each order, a panel a filling."""
    rows = {part: _select(told, "interactions", f"{part} at") for part in PARTS}
    if not rows["preserved"]:
        return None

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, filling in zip(panels, FILLINGS, strict=True):
            for place, part in enumerate(PARTS):
                own = sorted((r for r in rows[part] if r["filling"] == filling), key=lambda r: r["at"])
                x = [row["at"] + (place - 1) * 0.27 for row in own]
                axes.bar(x, [row["value"] for row in own], 0.25, color=PARTS[part], label=part)
                for at, row in zip(x, own, strict=True):
                    if row["low"] is not None:
                        axes.plot([at, at], [row["low"], row["high"]], color=NEUTRAL, linewidth=1)
            axes.set_xlabel(f"regions in an interaction,\n{FILLINGS[filling]}")
            axes.set_xticks(sorted({row["at"] for row in rows["preserved"]}))
            axes.grid(axis="x", visible=False)
        panels[0].set_ylabel("strength (log-odds)")
        legend_of(figure)

    return make("why-interactions", 8.6, 3.8, paint)


def retention(told: Told, arrays: Arrays) -> Figure | None:
    """CKA before and after, by layer."""
    rows = [row | {"at": float(row["item"])} for row in _select(told, "retention", "cka")]
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _lines(axes, told, rows, {})
        axes.set_xticks(sorted({row["at"] for row in rows}))
        axes.set_xlabel("layer")
        axes.set_ylabel("similarity (CKA)")
        axes.set_ylim(top=1.02)
        legend_of(figure)

    return make("why-retention", 5.6, 3.6, paint)


def features(told: Told, arrays: Arrays) -> Figure | None:
    """Features x networks: share of images recognised by the feature alone."""
    rows = [
        row
        for row in told["numbers"]
        if row["measure"] == "features" and row["quantity"] == "recognised" and row["seed"] is not None
    ]
    if not rows:
        return None
    items = list(dict.fromkeys(row["item"] for row in rows))
    columns = [(arm, seed) for arm in _arms(told) for seed in sorted({r["seed"] for r in rows if r["arm"] == arm})]
    grid = np.full((len(items), len(columns)), np.nan)
    for row in rows:
        grid[items.index(row["item"]), columns.index((row["arm"], row["seed"]))] = row["value"]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        picture = axes.pcolormesh(grid, cmap=FOUND, vmin=0, vmax=1, edgecolors="white", linewidth=0.4)
        for y, x in zip(*np.nonzero(grid <= 0.5), strict=True):
            axes.plot(x + 0.5, y + 0.5, "x", color="black", markersize=5, markeredgewidth=1.2)
        axes.set_yticks(np.arange(len(items)) + 0.5, [_short(item, 34) for item in items], fontsize=9)
        axes.set_xticks(np.arange(len(columns)) + 0.5, [str(seed) for _, seed in columns], fontsize=9)
        axes.set_xlabel("seed; a cross: not captured")
        axes.grid(visible=False)
        axes.invert_yaxis()
        start = 0
        for arm in dict.fromkeys(arm for arm, _ in columns):
            width = sum(name == arm for name, _ in columns)
            turn = {"rotation": 35, "ha": "left"} if width < 4 else {"ha": "center"}
            middle = start + width / 2
            axes.annotate(arm, (middle, -0.1), (0, 3), textcoords="offset points", annotation_clip=False, **turn)
            if start:
                axes.axvline(start, color="white", linewidth=3)
            start += width
        figure.colorbar(picture, ax=axes, label="recognised", pad=0.02)

    return make("why-features", 2.6 + 0.34 * len(columns), 1.5 + 0.24 * len(items), paint)


# what is drawn from pictures -------------------------------------------------------------------------------------


def overlay(image: np.ndarray, evidence: np.ndarray, side: int = 96) -> np.ndarray:
    """An image uint8 (h, w, C) under its evidence (gh, gw) in 0..1, in red: uint8 (H, W, 3), about `side` pixels."""
    times = max(1, round(side / max(image.shape[:2])))
    colour = rgb(image).repeat(times, axis=0).repeat(times, axis=1).astype(np.float64)
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(colour.shape[:2], evidence.shape, strict=True))
    weight = 0.75 * evidence[rows][:, columns][..., None]
    grey = colour.mean(axis=2, keepdims=True)
    return np.rint(grey * (1 - weight) + HEAT * weight).astype(np.uint8)


def rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, C) as (h, w, 3): grey repeated; of many channels, the first three."""
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)


def shown_arms(told: Told, arrays: Arrays) -> list[str]:
    """The arms that there are pictures of."""
    return [arm for arm in _arms(told) if f"evidence/{arm}" in arrays]


def evidence(told: Told, arrays: Arrays) -> Figure | None:
    """Images x arms: evidence of each arm's first network, and whether it says the class, whole and without it."""
    arms = shown_arms(told, arrays)
    if not arms:
        return None
    images, labels = arrays["images"], arrays["labels"]

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(images), len(arms) + 1, squeeze=False)
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            grid[row, 0].imshow(rgb(image))
            for column, arm in enumerate(arms, start=1):
                axes = grid[row, column]
                axes.imshow(overlay(image, arrays[f"evidence/{arm}"][row]))
                said, left = (arrays[f"{what}/{arm}"][row] == label for what in ("whole", "left"))
                axes.set_xlabel(f"{'✓' if said else '✗'} → {'✓' if left else '✗'}", fontsize=9)
        for axes, name in zip(grid[0], ["image", *arms], strict=True):
            axes.set_title(_short(name, 16), fontsize=9, color=NEUTRAL)
        for axes in grid.flat:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)

    return make("why-evidence", 1.15 * (len(arms) + 1), 1.35 * len(images) + 0.3, paint)


# parts -----------------------------------------------------------------------------------------------------------


def _curves(told: Told, name: str, measure: str, quantities: Sequence[str], label: str, start: float) -> Figure | None:
    rows, random = (_select(told, measure, quantity) for quantity in quantities)
    if not rows:
        return None
    first = {arm: {"at": 0.0, "value": start, "low": start, "high": start} for arm in _arms(told)}

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, filling in zip(panels, FILLINGS, strict=True):
            _lines(axes, told, [row for row in rows if row["filling"] == filling], first)
            main = {arm["name"] for arm in told["arms"] if arm["role"] in ("pretrained", "baseline")}
            chance = [row for row in random if row["filling"] == filling and row["arm"] in main]
            _lines(axes, told, chance, first, dotted=True)
            axes.set_xlabel(f"{label},\n{FILLINGS[filling]}")
            axes.set_ylim(-0.02, 1.02)
        panels[0].set_ylabel("still recognised (dotted: random cells)")
        legend_of(figure)

    return make(name, 8.6, 4.2, paint)


def _lines(axes: Axes, told: Told, rows: list[Row], start: dict[str, Row], dotted: bool = False) -> None:
    """A line an arm, with a band for its interval; controls are thin and have no band."""
    styles, names = styles_of(told), _named(told, rows) if rows else {}
    for arm in told["arms"]:
        name, main = arm["name"], arm["role"] in ("pretrained", "baseline")
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


def _dots(
    told: Told,
    name: str,
    panels: list[tuple[str, list[Row]]],
    width: float,
    marks: dict[str, tuple[float, str]] | None = None,
) -> Figure:
    """A panel each: one dot an arm with its interval; `marks` are dotted lines."""
    styles = styles_of(told)
    arms = [arm for arm in _arms(told) if any(row["arm"] == arm for _, rows in panels for row in rows)]

    def paint(figure: Figure) -> None:
        for axes, (title, rows) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
            for place, arm in enumerate(arms):
                for row in rows:
                    if row["arm"] == arm:
                        axes.plot(row["value"], place, styles[arm].marker, color=styles[arm].colour, markersize=7)
                        if row["low"] is not None:
                            ends = [row["low"], row["high"]]
                            axes.plot(ends, [place] * 2, color=styles[arm].colour, linewidth=1.6)
            if marks and title in marks:
                value, text = marks[title]
                axes.axvline(value, color=NEUTRAL, linestyle=(0, (1, 2)), linewidth=1.3)
                axes.annotate(text, (value, 1), (3, -3), textcoords="offset points", va="top",
                              xycoords=("data", "axes fraction"), fontsize=9)  # fmt: skip
            axes.set_xlabel(title)
            axes.set_yticks(range(len(arms)), arms)
            axes.set_ylim(len(arms) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)

    return make(name, width, 1.2 + 0.36 * len(arms), paint)


def legend_of(figure: Figure) -> None:
    """The names above all panels, each once."""
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    labels = list(dict.fromkeys(label for _, label in pairs))
    if labels:
        options: dict[str, Any] = {"handlelength": 1.4, "columnspacing": 1.4, "handletextpad": 0.5}
        columns = 6 if len(labels) < 4 else 3
        figure.legend([handles[n] for n in labels], labels, loc="outside upper left", ncols=columns, **options)


def _arms(told: Told) -> list[str]:
    return [arm["name"] for arm in told["arms"]]


def _is(row: Row, arm: str, filling: str, at: float | None = None) -> bool:
    return row["arm"] == arm and row["filling"] == filling and row["at"] == at


def _select(told: Told, measure: str, quantity: str, over: str = "seeds") -> list[Row]:
    """Means over seeds of each arm, with the interval over seeds where there is one, else over images."""
    arms = set(_arms(told))
    rows = [
        row
        for row in told["numbers"]
        if row["measure"] == measure and row["quantity"] == quantity and row["seed"] is None and row["arm"] in arms
    ]
    return list(_preferred(rows, over))


def _named(told: Told, rows: list[Row]) -> dict[str, str]:
    """What the arms of `rows` are called: with the number of images that they rest on, where these are few."""
    arms, quantities = {row["arm"] for row in rows}, {row["quantity"] for row in rows}
    names = {arm: arm for arm in arms}
    for row in told["numbers"]:
        own = row["seed"] is None and row["over"] == "images" and row["arm"] in arms
        if own and row["measure"] == rows[0]["measure"] and row["quantity"] in quantities and row["count"] < FEWEST:
            names[row["arm"]] = f"{row['arm']} ({row['count']} image{'s' * (row['count'] > 1)})"
    return names


def _preferred(rows: list[Row], over: str) -> Iterator[Row]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["filling"], row["at"], row["item"]), []).append(row)
    for group in groups.values():
        yield min(group, key=lambda row: (row["low"] is None, row["over"] != over))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
