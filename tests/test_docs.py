"""What the documents say of files is true: links lead somewhere, and results stay small enough to be cloned."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/results/README.md")
RESULTS = ROOT / "docs" / "results"


def anchors(document: Path) -> set[str]:
    """What GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text())
    for path, anchor in links:
        target = document.parent / path if path else document
        assert target.exists(), f"{name} links {path}"
        assert not anchor or anchor in anchors(target), f"{name} links the heading {anchor} of {path or name}"


def test_pages_of_results_link_only_files_that_exist() -> None:
    for page in RESULTS.rglob("*.html"):
        for link in re.findall(r'href="(?!https?:|#|data:)([^"#]+)', page.read_text()):
            assert (page.parent / link).exists(), f"{page} links {link}"


def test_results_are_small() -> None:
    sizes = {path: path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 1e6 and sum(sizes.values()) < 3e6
