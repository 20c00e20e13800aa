"""Notebooks as pages, with the outputs that they were kept with: nothing is executed."""

import posixpath
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter


class Notebook(File):
    def is_documentation_page(self) -> bool:
        return True


def on_files(files: Files, config: MkDocsConfig) -> None:
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        notebook = Notebook(file.src_uri, file.src_dir, config.site_dir, config.use_directory_urls)
        files.append(notebook)
        for name, content in as_markdown(notebook)[1].items():
            place = posixpath.join(posixpath.dirname(file.src_uri), name)
            files.append(File.generated(config, place, content=content))


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    return as_markdown(page.file)[0] if isinstance(page.file, Notebook) else None


@cache
def as_markdown(notebook: Notebook) -> tuple[str, dict[str, Any]]:
    """Its text, and by their names the pictures beside it."""
    assert notebook.abs_src_path is not None
    folder = f"{Path(notebook.src_uri).stem}_files"
    text, found = MarkdownExporter().from_filename(notebook.abs_src_path, {"output_files_dir": folder})
    return text, found["outputs"]
