"""Figures fit a phone: as wide as a card there, their text large enough, their names in as many rows as they need."""

import re

import pytest
from matplotlib.axes import Axes

from whymask.report.figures import draw, legend_above


def drawn(*names: str) -> str:
    def paint(axes: Axes) -> None:
        for place, name in enumerate(names):
            axes.plot([0, 1], [0, place], label=name)
        legend_above(axes)

    return draw("figure", 3.0, paint)


def size_of(svg: str) -> tuple[float, float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    return float(found[1]), float(found[2])


def rows_of(svg: str, names: tuple[str, ...]) -> int:
    """In how many rows the names stand."""
    heights = [re.search(rf'y="([-\d.]+)"[^>]*>{re.escape(name)}<', svg) for name in names]
    return len({round(float(found[1])) for found in heights if found})


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("mae",), 1),
        (("scratch", "scratch-long", "mae"), 1),
        (("scratch", "scratch-long", "mae", "no image looked at"), 2),
        (("random weights (3 images)", "shuffled labels (4 images)", "mae (2 images)"), 3),
    ],
)
def test_names_stand_in_as_many_rows_as_they_need_and_the_figure_grows(names: tuple[str, ...], rows: int) -> None:
    svg = drawn(*names)
    width, height = size_of(svg)
    assert width == pytest.approx(340, abs=0.01) and rows_of(svg, names) == rows
    assert height == pytest.approx(3 * 72 + (rows - 1) * 16.8, abs=0.01)
    assert {float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)} == {12.0}
