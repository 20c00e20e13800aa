"""The documentation as a site: it is whole, its links lead somewhere, and it needs nothing from elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import whymask
from browsing import DESK, PHONE, Visit, small_texts, violations_of
from documents import ROOT
from whymask import cli, theory
from whymask.flags import flags_of
from whymask.methods.settings import SETTINGS


class Read(HTMLParser):
    """A page: its links, what it loads, its anchors, and the text of its paragraphs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.paragraphs: list[str] = []
        self._within = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given:
            (self.links if tag == "a" else self.loaded).add(given["href"])
        if "src" in given:
            self.loaded.add(given["src"])
        if tag == "p":
            self.paragraphs.append("")
        self._within = tag == "p" or (self._within and tag in ("code", "a", "strong", "em"))

    def handle_endtag(self, tag: str) -> None:
        self._within = self._within and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._within:
            self.paragraphs[-1] += data


read = cache(Read)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does; in mkdocs.yml a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def pages(site: Path) -> Iterator[Path]:
    """Those that are made here: results are there as they came out, and the page of what is missing is for servers."""
    own = [path for path in sorted(site.rglob("*.html")) if "md-main" in path.read_text()]
    return (path for path in own if path.name != "404.html")


def test_every_link_leads_to_a_page_and_a_place_that_exist(site: Path) -> None:
    for page in pages(site):
        for link in read(page).links | read(page).loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file() and target.is_relative_to(site), f"{page.relative_to(site)} links {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in read(target).anchors, f"{page.relative_to(site)} links {link}"


def test_what_is_written_as_a_list_or_a_table_is_shown_as_one(site: Path) -> None:
    for page in pages(site):
        for text in read(page).paragraphs:
            assert not re.search(r"^(- |\d\. |\||```)", text, re.MULTILINE), f"{page.relative_to(site)}: {text}"


def test_the_reference_has_every_public_name_and_every_setting(site: Path) -> None:
    anchors = read(site / "reference" / "api.html").anchors
    for package in (whymask, theory):
        for name in package.__all__:
            public = getattr(package, name)
            full = f"whymask.{name}" if name in whymask.__all__ else f"whymask.theory.{name}"
            named = {field.name for field in fields(public)} if is_dataclass(public) else set()
            settings = named - {method.replace("-", "_") for method in SETTINGS}  # their own classes are listed
            assert {full, *(f"{full}.{field}" for field in settings)} <= anchors


def test_the_page_of_commands_has_every_option(site: Path) -> None:
    sections = re.split(r"<h2 id=\"", (site / "reference" / "commands.html").read_text())
    told = {section.partition('"')[0]: set(re.findall(r"<dt><code>(--[\w.-]+)", section)) for section in sections}
    for name, command in cli.COMMANDS.items():
        shown = told[name] | (told["pretrain"] if name == "study" else set())
        assert [flag.name for flag in flags_of(command) if not shown & set(flag.spellings)] == []


def test_the_site_is_read_from_disk_and_asks_for_nothing_elsewhere(site: Path, browser: Any) -> None:
    with Visit(browser, site / "index.html") as visit:
        visit.page.get_by_placeholder("Search").fill("linear probe")
        visit.page.locator(".md-search-result__item a").first.wait_for()
    assert not visit.said
    assert all(url.startswith((site.as_uri(), "data:")) for url in visit.requests)


def test_the_site_is_accessible_on_a_phone_and_on_a_desk(site: Path, browser: Any) -> None:
    for scheme, width in (("light", PHONE), ("dark", DESK)):
        with Visit(
            browser, site / "index.html", color_scheme=scheme, viewport={"width": width, "height": 844}
        ) as visit:
            assert small_texts(visit.page) + violations_of(visit.page) == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
