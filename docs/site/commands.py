"""What the page of commands shows of each command: what its own `--help` and `--help-all` tell."""

import contextlib
import html
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from whymask import cli
from whymask.flags import flags_of
from whymask.usage import ALL, HELP, show_help

PAGE = "reference/commands.md"


class Panel(NamedTuple):
    """A box of a help: what is said above its options, and what is said of each."""

    title: str
    about: str
    options: list[tuple[str, str]]


class Help(NamedTuple):
    usage: str
    about: str
    panels: list[Panel]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.src_uri != PAGE:
        return markdown
    return "\n\n".join([markdown, *(part for name in cli.COMMANDS for part in section(name))])


def section(name: str) -> Iterator[str]:
    """Of a command, as Markdown."""
    common, every = help_of(name, HELP[1]), help_of(name, ALL)
    yield f"## {name}"
    yield f"```text\n{common.usage}\n```"
    yield html.escape(common.about.partition("\n\n")[0], quote=False)
    yield listed(common.panels)
    if every.panels != common.panels:
        yield folded(f"All options of {name}", every.panels)
    methods = next((flag.words for flag in flags_of(cli.COMMANDS[name]) if flag.name == "--method"), ())
    if name != "pretrain" and methods:
        yield "Those of other methods than mae: [pretrain](#pretrain)."
        return
    for method in methods[1:]:
        panels = help_of(name, ALL, method).panels
        yield folded(f"Options of --method {method}", [panel for panel in panels if panel.title == f"{method} options"])


def help_of(name: str, which: str, method: str | None = None) -> Help:
    """What a command prints, taken apart."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    wide = mock.patch.dict(os.environ, COLUMNS="100")
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        show_help(name, cli.COMMANDS[name], [which], method or "mae")
    printed.seek(0)
    head, *boxes = re.split(r"^╭─ ", printed.read(), flags=re.MULTILINE)
    usage, _, about = head.strip().partition("\n\n")
    return Help(usage.removeprefix("usage: "), about, [panel(box) for box in boxes])


def panel(box: str) -> Panel:
    """Of the lines of a box. An option begins at its left edge; where its name and kind are long, they go on there."""
    title, *lines = [line.strip("│╮\n").rstrip() for line in box.splitlines() if not line.startswith("╰")]
    lines = [line.removeprefix(" ") for line in lines]
    rule = next((i for i, line in enumerate(lines) if set(line) == {"─"}), -1)
    options: list[list[str]] = []
    for line in lines[rule + 1 :]:
        if line.startswith(" "):
            options[-1][1] += " " + line.strip()
        elif options and not options[-1][1] and not line.startswith("-"):
            options[-1][0] += " " + line
        else:
            options.append([*re.split(r" {2,}", line, maxsplit=1), ""][:2])
    shown = [(name, about.strip()) for name, about in options if not name.startswith("-h,")]
    return Panel(title.rstrip(" ─"), " ".join(lines[: max(rule, 0)]), shown)


def listed(panels: Sequence[Panel]) -> str:
    """Options as a list of definitions."""
    parts = []
    for title, about, options in panels:
        if options and (about or title not in ("options", "positional arguments")):
            parts.append(f"<p><strong>{html.escape(title.capitalize())}</strong> {worded(about)}</p>")
        terms = [f"<dt><code>{html.escape(name)}</code></dt><dd>{worded(about)}</dd>" for name, about in options]
        parts += ["<dl>", *terms, "</dl>"] if terms else []
    return "\n".join(parts)


def worded(about: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(about))


def folded(title: str, panels: Sequence[Panel]) -> str:
    return f"<details><summary>{html.escape(title)}</summary>\n{listed(panels)}\n</details>"
