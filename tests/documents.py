"""The documents in the order in which they are read: README.md, then the pages of the site."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


class Block(NamedTuple):
    """A block of code as it stands in a document."""

    document: str
    line: int
    language: str
    text: str


def documents() -> list[str]:
    """Markdown by its path from the root: README.md, pages as mkdocs.yml names them, then those that it does not."""
    nav = [f"docs/{page}" for page in leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])]
    there = [path.relative_to(ROOT).as_posix() for path in sorted(DOCS.rglob("*.md"))]
    return ["README.md", *[page for page in nav if page in there], *[page for page in there if page not in nav]]


def leaves(nav: Any) -> Iterator[str]:
    """The pages of a `nav`, which may be divided into sections."""
    if isinstance(nav, str):
        yield nav
        return
    for part in nav.values() if isinstance(nav, dict) else nav:
        yield from leaves(part)


def blocks(document: str) -> Iterator[Block]:
    """The fenced blocks of a document that name a language."""
    text = (ROOT / document).read_text()
    for found in re.finditer(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        yield Block(document, text.count("\n", 0, found.start(3)), found[2], textwrap.dedent(found[3]))


def typed(block: Block) -> str:
    """Without prompts."""
    return re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE)


def written(document: str, about: str) -> str:
    """The block of a document in which `about` stands, as it is typed."""
    return typed(next(block for block in blocks(document) if about in block.text))


def commands_in(text: str) -> list[list[str]]:
    """The words of each command for a shell, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
