"""Figures in a page: the same drawing in fewer bytes, and text that stays text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from whymask.report.figures import inline, make, to_svg
from whymask.report.page import terse
from whymask.report.svg import shorter

EVIL = """ x="1.23456" style="}body{display:none"><g> <b>"""


def paint(axes: Axes) -> None:
    random = np.random.default_rng(0)
    axes.plot(np.arange(60), random.normal(size=60), label=EVIL)
    axes.pcolormesh(random.uniform(size=(12, 12)), edgecolors="white")
    axes.set_ylabel("rotated")
    axes.legend()


@pytest.fixture(scope="module")
def document() -> str:
    """As an element: without the lines that stand before it."""
    svg = to_svg("figure", make("figure", 4, lambda figure: paint(figure.subplots()), width=5))
    return svg[svg.index("<svg") :]


def test_a_figure_takes_less_than_half_of_its_bytes(document: str) -> None:
    assert len(inline(document, "label")) < 0.5 * len(document)


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith(tag)]


@pytest.mark.parametrize("tag", ["path", "use", "text", "clipPath"])
def test_every_element_is_still_there(document: str, tag: str) -> None:
    assert len(elements(shorter(document), tag)) == len(elements(document, tag)) > 0


def test_every_element_keeps_its_style(document: str) -> None:
    """Directly, or by the name of one that is shared."""
    short = shorter(document)
    rules = dict(re.findall(r"\.(s[0-9a-f]+)\{([^}]*)\}", elements(short, "style")[0].text or ""))

    def style(element: ElementTree.Element) -> dict[str, str]:
        text = element.get("style") or rules.get(element.get("class", ""), "")
        pairs = dict(part.strip().split(": ", 1) for part in text.split(";") if part.strip())
        clip = {"clip-path": element.attrib["clip-path"]} if "clip-path" in element.attrib else {}
        return {name: value for name, value in (pairs | clip).items() if not name.startswith("font")}

    for tag in ("path", "use", "text"):
        for before, after in zip(elements(document, tag), elements(short, tag), strict=True):
            assert style(after) == style(before)
    assert len(rules) > 5


def points(path: str) -> np.ndarray:
    """The points (n, 2) that a path of lines visits."""
    visited, x, y = [], 0.0, 0.0
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        values = [float(number) for number in numbers.split()]
        if command in "ML":
            x, y = values
        elif command == "H":
            (x,) = values
        elif command == "V":
            (y,) = values
        else:
            assert command == "z"
        visited.append((x, y))
    return np.array(visited)


def test_no_point_moves_by_more_than_a_hundredth(document: str) -> None:
    before, after = elements(document, "path"), elements(shorter(document), "path")
    straight = [(a.attrib["d"], b.attrib["d"]) for a, b in zip(before, after, strict=True) if "C" not in a.attrib["d"]]
    assert len(straight) > 150
    for old, new in straight:
        np.testing.assert_allclose(points(new), points(old), atol=0.00501)


def test_text_is_not_touched_whatever_it_says(document: str) -> None:
    words = [element.text for element in elements(shorter(document), "text")]
    assert EVIL in words and words == [element.text for element in elements(document, "text")]
    assert "display:none" not in (elements(shorter(document), "style")[0].text or "")


def test_a_page_loses_its_indentation_and_keys_that_cells_show() -> None:
    page = '<table>\n  <tr><td data-sort="20" >20</td><td data-sort="0.951"><b>0.95</b></td></tr>\n  </table>'
    assert terse(page) == '<table>\n<tr><td>20</td><td data-sort="0.951"><b>0.95</b></td></tr>\n</table>'
