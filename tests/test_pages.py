"""Pages that list what there is list all of it: methods, measures, claims, tasks."""

import re

from documents import DOCS
from whymask.explanations.measures import MEASURES
from whymask.methods import METHODS
from whymask.tasks import TASKS
from whymask.theory.settings import NAMES

KINDS = ("cnn", "vit", "swin", "two-layer")


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


def section(text: str, heading: str) -> str:
    """From a heading to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    return re.split(rf"^#{{1,{level}}} ", text.split(f"\n{heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_methods_are_listed_with_what_they_fit() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", section(text_of("networks/methods.md"), "## Methods"), re.MULTILINE)
    listed = {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
    assert {name: cells[2:6] for name, cells in listed.items()} == {
        name: ["x" if kind in method.encoders else "" for kind in KINDS] for name, method in METHODS.items()
    }
    for name, method in METHODS.items():
        assert f"arxiv.org/abs/{method.source}" in listed[name][6] and f"abs/{method.source}" in text_of("cite.md")


def test_each_measure_has_a_section_that_says_what_it_cannot_tell() -> None:
    text = text_of("why/explain.md")
    for name in MEASURES:
        own = section(text, f"### {name}")
        assert "*Asked*" in own and "*It cannot tell*" in own, name


def test_each_claim_is_told() -> None:
    text = text_of("why/theory.md")
    assert [name for name in NAMES if f"`{name}`" not in text] == []


def test_tasks_are_listed() -> None:
    listed = section(text_of("data/images.md"), "## What labels are")
    assert re.findall(r"^\| \[?`(\w+)`", listed, re.MULTILINE) == list(TASKS)
