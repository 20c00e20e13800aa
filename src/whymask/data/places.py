"""Where files are: all below a folder, and those that a table's paths stand for."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whymask.data.opening import image_suffixes
from whymask.disk import as_named

SYSTEMS = (".DS_Store", "._", "__MACOSX", ".git", ".ipynb_checkpoints", ".directory")
"""How hidden names begin that hold nobody's pictures."""


def files_under(root: Path, hidden: list[str] | None = None) -> list[str]:
    """Relative paths of all files that are not hidden, sorted; links are followed, but never in a circle. `hidden` gets
    the names of those that are, and of the folders."""
    found, seen = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        if hidden is not None:
            hidden += [name for name in (*subfolders, *files) if _is_hidden(name) and not name.startswith(SYSTEMS)]
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        inner = os.path.relpath(folder, root)
        found += [os.path.normpath(os.path.join(inner, name)) for name in files if not _is_hidden(name)]  # noqa: PTH118
    return sorted(found)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


@dataclass(frozen=True)
class Located:
    """Files that a table names: their paths as this system has them, relative to a folder, which of them are there, and
    what is to be said of that."""

    files: list[str]
    folder: Path
    there: list[bool]
    notes: list[str]

    @classmethod
    def of(cls, written: list[str], found: Sequence[str | None], folder: Path, notes: list[str]) -> "Located":
        files = [form or path for path, form in zip(written, found, strict=True)]
        return cls(files, folder, [form is not None for form in found], notes)


def located(written: list[str], folders: Sequence[Path]) -> Located:
    """The files that are called so in the first of the folders that has one of them; where none has, that is said, with
    what was tried."""
    listings = _Listings()
    for folder in folders:
        there = [_there(folder, path, listings) for path in written]
        if any(there):
            how = [] if folder == folders[0] else [f"paths are read relative to {folder.resolve()}"]
            if turned := sum(_has_turned(path, form) for path, form in zip(written, there, strict=True) if form):
                how.append(f"backslashes in {turned} paths are read as slashes")
            return Located.of(written, there, folder, how)
    by_name = [_by_name(folder, written) for folder in folders if folder != Path()]
    for folder, alone in zip(folders, by_name, strict=False):
        if any(alone):
            here = f"paths are read as names of files anywhere in {folder.resolve()}"
            return Located.of(written, alone, folder, [here])
    tried = dict.fromkeys(str((folder / form).absolute()) for folder in folders for form in _spellings(written[0]))
    nowhere = f"none of its {len(written)} files is there: tried {', '.join(tried)} and the like"
    return Located.of(written, [None] * len(written), folders[0], [nowhere])


def _spellings(path: str) -> tuple[str, ...]:
    """What a written path may stand for: itself, with escapes undone, or with slashes."""
    return path, as_named(path), path.replace("\\", "/")


def _has_turned(path: str, form: str) -> bool:
    return "\\" in path and not form.startswith((path, as_named(path)))


def _there(folder: Path, path: str, listings: "_Listings") -> str | None:
    """The file that a path stands for, which may leave out the suffix; None where it is not there."""
    for form in _spellings(path):
        if os.path.isfile(os.path.join(folder, form)):  # noqa: PTH113, PTH118  Path.is_file raises for long names
            return form
    parent, stem = os.path.split(path.replace("\\", "/"))
    name = listings(os.path.join(folder, parent)).get(stem)  # noqa: PTH118
    return None if name is None else os.path.join(parent, name)  # noqa: PTH118


def _by_name(folder: Path, written: list[str]) -> list[str | None]:
    """The picture below `folder` of each name, with or without its suffix; None where there is none, or several."""
    if any(os.path.dirname(path) for path in written):  # noqa: PTH120
        return [None] * len(written)
    pictures = image_suffixes()
    found = [file for file in files_under(folder) if Path(file).suffix.lower() in pictures]
    names = Counter(name for file in found for name in {Path(file).name, Path(file).stem})
    places = {name: file for file in found for name in (Path(file).name, Path(file).stem)}
    return [places[name] if names[name] == 1 else None for name in written]


class _Listings(dict[str, dict[str, str]]):
    """Of a folder, by their names without the suffix, its pictures: the first by name, of several."""

    def __call__(self, folder: str) -> dict[str, str]:
        if folder not in self:
            names = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
            pictures = image_suffixes()
            split = (os.path.splitext(name) for name in names)  # noqa: PTH122
            self[folder] = {stem: stem + suffix for stem, suffix in split if suffix.lower() in pictures}
        return self[folder]
