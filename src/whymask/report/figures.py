"""Figures as SVG text: deterministic, transparent, and with greys that read on a light and on a dark page."""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whymask.disk import write_bytes
from whymask.report.svg import shorter

NEUTRAL = "#767676"
WIDTH = 340 / 72
"""Inches, of 72 CSS pixels each: as wide as a card is on a phone, where no figure is scaled down then."""
SIZE = 12
"""Of all text, in the same units."""
_STYLE: Any = {  # Any, for the stubs of matplotlib spell out every key
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": SIZE,
    "text.color": NEUTRAL,
    "axes.edgecolor": NEUTRAL,
    "axes.labelcolor": NEUTRAL,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "grid.color": NEUTRAL,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}


@dataclass(frozen=True)
class ArmStyle:
    """How an arm looks everywhere. Colours after Okabe and Ito, of a lightness that reads on light and dark pages."""

    colour: str
    marker: str


_BASELINES = {"scratch": ArmStyle("#d55e00", "o"), "scratch-long": ArmStyle("#b8860b", "s")}
_OTHERS = (
    ArmStyle("#1f83c4", "D"),
    ArmStyle("#009e73", "^"),
    ArmStyle("#c2609a", "v"),
    ArmStyle("#7d6bd1", "P"),
    ArmStyle("#8a8a8a", "X"),
)


def arm_styles(arms: list[str]) -> dict[str, ArmStyle]:
    """One style an arm: fixed for the baselines, the others in order."""
    others = [arm for arm in arms if arm not in _BASELINES]
    return {arm: _BASELINES.get(arm) or _OTHERS[others.index(arm) % len(_OTHERS)] for arm in arms}


def draw(name: str, height: float, paint: Callable[[Axes], None]) -> str:
    """The SVG document that `paint` makes on one pair of axes, `height` inches high."""
    return to_svg(name, make(name, height, lambda figure: paint(figure.subplots())))


def make(name: str, height: float, paint: Callable[[Figure], None], width: float = WIDTH) -> Figure:
    """What `paint` makes of an empty figure of `width` x `height` inches, in the style of all pages.

    Several panels are several figures, which a page sets side by side where it has room.
    """
    with _styled(name):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
    return figure


def to_svg(name: str, figure: Figure) -> str:
    """The figure as an SVG document, transparent. It is laid out by it, for whatever is made of it next."""
    buffer = io.BytesIO()
    with _styled(name):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    figure.set_layout_engine("none")  # places of axes and texts stay: to find them takes as long as to draw
    return buffer.getvalue().decode()


def to_png(name: str, figure: Figure) -> bytes:
    """The figure as a PNG file, on white, at 160 pixels an inch."""
    buffer = io.BytesIO()
    with _styled(name):
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _styled(name: str) -> Iterator[None]:
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        yield


def inline(svg: str, label: str) -> Markup:
    """The document as an element of a page: its greys follow the page's text, its font is the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # matplotlib numbers its groups anew in each figure
    svg = re.sub(r'font: ([\d.]+px) [^;"]*', r"font-size: \1", svg)
    svg = re.sub(r' width="[\d.]+pt"', "", re.sub(r' height="[\d.]+pt"', "", svg, count=1), count=1)
    svg = svg.replace(NEUTRAL, "currentColor")
    return Markup(shorter(svg).replace("<svg", Markup('<svg role="img" aria-label="{}"').format(label), 1))


def legend_above(axes: Axes) -> None:
    """The names above the axes, as many side by side as there is room for; the figure grows by further rows."""
    options: dict[str, Any] = {"handlelength": 1.4, "columnspacing": 1.4, "handletextpad": 0.5}
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    widths = [SIZE * (3.3 + 0.6 * len(label)) for label in labels]
    columns = len(widths) if sum(widths) <= 72 * WIDTH else int(72 * WIDTH / max(widths))
    columns = max(1, columns)
    figure: Any = axes.get_figure(root=True)
    figure.legend(loc="outside upper left", ncols=columns, **options)
    figure.set_figheight(figure.get_figheight() + 1.4 * SIZE / 72 * max(0, math.ceil(len(labels) / columns) - 1))


def label_below(figure: Figure, text: str) -> None:
    """What the axis across shows, in the middle of the figure, where a line is longer than the axis."""
    figure.supxlabel(text, fontsize=SIZE)


def write_figures(folder: Path, files: Mapping[str, bytes], *ours: str) -> None:
    """Write the files by name; others that match a pattern of `ours`, of an earlier page, go: they may show what
    this page hides."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [path for pattern in ours for path in folder.glob(pattern) if path.name not in files]:
        path.unlink()
    for name, content in files.items():
        write_bytes(folder / name, content)
