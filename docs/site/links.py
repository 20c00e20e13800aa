"""Documents of the root as pages, and links as a forge takes them: anchors by its rule, and what leads out of docs/,
which a site has not, as the path that is named."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OF_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Documents of the root, and the pages that they become."""
HOME = {"README.md": "index.md"}
"""What stands in its place."""


def on_config(config: MkDocsConfig) -> None:
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor


def anchor(heading: str, separator: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_files(files: Files, config: MkDocsConfig) -> None:
    for name, page in OF_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Code blocks stay as they are."""
    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if i % 2 else linked(part, page.file.src_uri) for i, part in enumerate(parts))


def linked(text: str, page: str) -> str:
    """The Markdown of a page with links that lead somewhere."""
    source = next((name for name, own in OF_ROOT.items() if own == page), f"docs/{page}")

    def change(found: re.Match[str]) -> str:
        words, link, place = found.groups("")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        inside = (OF_ROOT | HOME).get(path) or path.removeprefix("docs/")
        if inside != path:
            return f"[{words}]({posixpath.relpath(inside, posixpath.dirname(page) or '.')}{place})"
        return f"`{path}`" if words.strip("`") in (path, link) else f"{words} (`{path}`)"

    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", change, text)
