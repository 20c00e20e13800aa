"""All pages: a share has one form on them."""

from pathlib import Path

import pytest

from pages import shares_in_percent
from whymask import Explanation
from whymask.report.page import render_part
from whymask.report.text import DASH, number, proportion


def test_a_share_is_written_as_metrics_are() -> None:
    assert proportion(0.9812) == number(0.9812) == "0.981"
    assert proportion(1.0) == "1.000" and proportion(None) == DASH


def test_the_page_of_a_study_has_no_share_in_percent(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "Confusion" in page and "recognise" in page
    assert shares_in_percent(page) == []


def test_the_page_of_an_explanation_has_no_share_in_percent(explained: Explanation) -> None:
    page = (explained.folder / "report.html").read_text()
    assert "recognise" in page and shares_in_percent(page) == []


@pytest.mark.parametrize("shown", ["recognise 98 % of", "<td>0.93</td><td>98%</td>", "numbers percent of the class"])
def test_a_share_in_percent_would_be_seen(shown: str) -> None:
    assert shares_in_percent(f"<p>measured, 95 % interval; {shown} all</p>")


def test_templates_know_the_form(tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_text("{{ 0.5|proportion }}")
    assert render_part("part.j2", tmp_path) == "0.500"
