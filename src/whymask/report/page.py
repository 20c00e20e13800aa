"""Renders a template into one self-contained page: no request leaves it, and no script but ours runs in it."""

import base64
import csv
import gzip
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader
from markupsafe import Markup

from whymask.disk import printable
from whymask.report import text as texts
from whymask.report.tables import in_cards


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("whymask.report"), FileSystemLoader(folder)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        texts.number,
        texts.proportion,
        texts.signed,
        texts.key,
        texts.count,
        texts.plural,
        texts.words,
        texts.duration,
        texts.energy,
        texts.size,
    )
    environment.filters |= {function.__name__: function for function in filters}
    environment.tests["known"] = texts.known
    return environment


@cache
def _script(further: Path | None = None) -> tuple[Markup, str]:
    """The page's script, and the hash by which the content security policy admits it and nothing else."""
    source = files("whymask.report").joinpath("templates/page.js").read_text(encoding="utf-8")
    source += "" if further is None else further.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return Markup(source), f"sha256-{digest}"


def render_part(template: str, folder: Path, **context: Any) -> str:
    """A part of a page, or of a notebook, as HTML: as `render`, of a template that stands alone."""
    return _environment(folder).get_template(template).render(**context)


def render(template: str, folder: Path, *, further: Path | None = None, **context: Any) -> bytes:
    """The page as UTF-8 bytes. Every string in `context` is escaped, unless it is a `Markup`.

    The template, in `folder`, extends ``base.html.j2`` (blocks ``title``, ``style``, ``content``); the filters are the
    functions of `whymask.report.text`. `further` is a script of its own, behind that of all pages.
    """
    script, script_hash = _script(further)
    page = _environment(folder).get_template(template).render(script=script, script_hash=script_hash, **context)
    return in_cards(terse(page)).encode("utf-8", "replace")


def terse(page: str) -> str:
    """The same page without indentation, and without keys to sort by that the cell shows anyhow."""
    page = re.sub(r"\n\s+(?=<)", "\n", page)
    return re.sub(r' data-sort="([^"]+)" ?(?=>(?:<b>)?\1</)', "", page)


def packed(file: str) -> str:
    """A text file as the `data-gzip` of an <a hidden download>, which the page's script makes a link to the file."""
    return packed_bytes(file.encode("utf-8", "replace"))


def packed_bytes(data: bytes) -> str:
    """The bytes, compressed, as text."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def packed_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV file, as `packed`: numbers are exact; None, and what a row has not, is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return packed(text.getvalue())


def _cell(value: Any) -> Any:
    return "" if value is None else printable(value) if isinstance(value, str) else value
