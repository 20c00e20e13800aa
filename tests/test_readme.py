"""What README says at first sight is true: its picture, its numbers, the verdict that it quotes; and CITATION.cff."""

import re
import tomllib

import pytest
import yaml
from PIL import Image

from documents import DOCS, ROOT, blocks, commands_in, documents, typed
from whymask.disk import read_json
from whymask.version import __version__

README = (ROOT / "README.md").read_text()
ROWS = re.findall(r"^\| \[[^]]+\]\((docs/results/[\w-]+)/report\.html\) \|(.+)\|$", README, re.MULTILINE)
LARGEST = 60_000
"""Bytes of a picture."""


def test_readme_quotes_the_verdict_of_the_demo() -> None:
    quoted = " ".join(line[2:] for line in README.splitlines() if line.startswith("> "))
    assert quoted == read_json(DOCS / "results" / "glyphs" / "study.json")["verdict"]["text"]


@pytest.mark.parametrize(("folder", "cells"), ROWS, ids=[cells.split("|")[1].strip() for _, cells in ROWS])
def test_numbers_are_those_of_the_studies(folder: str, cells: str) -> None:
    _, labels, scratch, longer, mae, difference, verdict = (cell.strip() for cell in cells.split("|"))
    study = read_json(ROOT / folder / "study.json")
    metric = study["verdict"]["metric"]

    def is_asked(row: dict[str, object]) -> bool:
        return row["metric"] == metric and row["labels_per_class"] == int(labels)

    means = {level["arm"]: f"{level['mean']:.3f}" for level in study["levels"] if is_asked(level)}
    (pair,) = [pair for pair in study["pairs"] if is_asked(pair) and pair["baseline"] == "scratch"]
    assert means == {arm: told for arm, told in (("scratch", scratch), ("scratch-long", longer), ("mae", mae)) if told}
    told = f"{pair['difference']:+.3f} ({pair['low']:.3f} to {pair['high']:.3f}), {pair['seeds']} seeds"
    is_of_verdict = int(labels) == study["verdict"]["labels_per_class"]
    assert (difference, verdict) == (told, study["verdict"]["kind"] if is_of_verdict else "")


def test_readme_has_a_row_where_pretraining_does_not_help() -> None:
    assert {"helps", "not worth its compute"} <= {cells.split("|")[-1].strip() for _, cells in ROWS}


def test_pictures_are_small_are_there_and_say_what_they_show() -> None:
    shown = set()
    for document in documents():
        path = ROOT / document
        for source in re.findall(r'<(?:img|source) [^>]*src(?:set)?="([^"]+)"', path.read_text()):
            shown.add((path.parent / source).resolve())
        for picture in re.findall(r"<img [^>]*>", path.read_text()):
            assert len(re.findall(r'alt="([^"]{20,})"', picture)) == 1, f"{document}: {picture}"
    assert shown == set((DOCS / "images").iterdir())
    for picture in shown:
        assert picture.stat().st_size < LARGEST
        Image.open(picture).verify()


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["type"], cited["license"]) == ("software", "Apache-2.0")
    assert f"version = {{{cited['version']}}}" in (DOCS / "cite.md").read_text()
    assert __version__.startswith(cited["version"])


def test_extras_are_those_that_can_be_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = README.split("| extra | for |")[1].split("\n\n")[0]
    first_cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`([\w-]+)`", " ".join(first_cells))) == sorted(extras)


def test_commands_are_those_that_the_pages_run() -> None:
    asked = [words for block in blocks("README.md") for words in commands_in(typed(block)) if words[0] == "whymask"]
    run = [block for page in documents() for block in blocks(page) if block.language == "bash"]
    ran = [words for block in run for words in commands_in(block.text)]
    assert asked and [words for words in asked if words not in ran] == []
