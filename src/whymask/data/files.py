"""Sources with one file an image: folders, and CSV files of path and label."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.labels import find_labels, label_notes, read_labels
from whymask.data.layout import layout_of
from whymask.data.opening import image_suffixes, open_file, regular
from whymask.data.settings import LabelSettings
from whymask.data.source import SPLIT_OF, RawImage, Reader, Source, split_column
from whymask.data.stamps import stamp_files
from whymask.disk import as_named
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels

PATH_COLUMNS = (
    *("path", "image", "file", "filename", "file_name", "filepath", "image_path", "img", "img_path"),
    *("image_id", "id"),  # where nothing is called so
)


def from_folder(
    name: str,
    root: Path,
    files: list[str],
    reader: Reader | None,
    asked: LabelSettings | None,
    labelled_by: Source | None = None,
) -> Source:
    """The image files of a folder: perhaps split folders, then perhaps class folders, then any depth. `labelled_by` is
    a table that gives their labels and columns, and the splits where the folder names none."""
    if asked is not None and asked.task == "auto":
        asked = replace(asked, task="classification")  # a subfolder is a class, whatever its name
    layout = layout_of(files)
    task, labels = read_labels(RawLabels(layout.classes) if any(layout.classes) else None, len(files), asked, name)
    parents: dict[str, str] = {}
    paths = [_resolved(os.path.join(root, file), parents) for file in files]  # noqa: PTH118
    source = Source(
        name=name,
        keys=[str(path) for path in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, files, reader),
        labels=labels,
        task=task,
        notes=layout.notes,
    )
    if labelled_by is not None:
        source = _labelled_by(source, labelled_by)
    if layout.splits is None:
        return source
    splits, of_splits = split_column(layout.splits, source.labelled)
    return replace(source, splits=splits, notes=(*source.notes, *of_splits))


def _labelled_by(source: Source, table: Source) -> Source:
    """`source` with what a table says of its images, found by their keys."""
    place = {key: row for row, key in enumerate(table.keys)}
    at = np.array([place.get(key, -1) for key in source.keys])
    known = at >= 0

    def of_table(values: np.ndarray, otherwise: str) -> np.ndarray:
        return np.where(known, values[at], otherwise)

    labels = table.task.unlabelled(len(source))
    labels[known] = table.labels[at[known]]
    return replace(
        source,
        labels=labels,
        task=table.task,
        splits=None if table.splits is None else of_table(table.splits, "train"),
        columns={name: of_table(values, "") for name, values in table.columns.items()},
    )


def from_csv(
    name: str, path: Path, reader: Reader | None, asked: LabelSettings | None, beside: Path | None = None
) -> Source:
    """The files that a CSV names, relative to its folder, to that of the images beside it, or to the working one."""
    header, rows = read_csv(name, path)
    bad = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if bad is not None:
        raise WhymaskError(
            f"{name}: row {bad} has not the {len(header)} fields of the header; quote values with commas"
        )
    return from_table(name, header, rows, [path.parent, *([beside] if beside else []), Path()], reader, asked)


def from_table(
    name: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    folders: Sequence[Path],
    reader: Reader | None,
    asked: LabelSettings | None,
) -> Source:
    """The files of a table with a row an image, its paths relative to the first of `folders` that has one of them; None
    and "" are empty cells."""
    lower = [title.lower() for title in header]
    at = path_column(header)
    if at is None or not rows:
        raise WhymaskError(
            f"{name}: a table with the columns {', '.join(header) or '(empty)'} and {len(rows)} rows; a column path "
            f"(or {', '.join(PATH_COLUMNS[1:])}), perhaps label and split, and one row an image were expected; add them"
        )
    titles = [low if low == "split" else title for low, title in zip(lower, header, strict=True)]
    columns = {title: [row[i] for row in rows] for i, title in enumerate(titles) if i != at}
    parents: dict[str, str] = {}
    written, folder, notes = _located([os.fspath(row[at]) for row in rows], folders)
    paths = [_resolved(os.path.join(folder, file), parents) for file in written]  # noqa: PTH118
    twice = [str(file) for file, count in Counter(paths).items() if count > 1]
    if twice:
        raise WhymaskError(
            f"{name}: {len(twice)} paths stand in several rows, {twice[0]} for one; one row an image was expected; "
            "delete the others, or write several classes into one row, such as cat|dog"
        )
    words = [_text(value).lower() for value in columns.pop("split", [""] * len(rows))]
    if unknown := {*words} - {*SPLIT_OF, ""}:
        raise WhymaskError(f"{name}: the splits {sorted(unknown)}; {', '.join(SPLIT_OF)} were expected; rename them")
    used, raw = find_labels(name, columns, lambda column: columns[column], asked)
    notes = [*notes, *label_notes(columns, used, raw)] if asked is not None else notes
    task, labels = read_labels(raw, len(rows), asked, name)
    splits, of_splits = split_column(words, task.labelled(labels))
    return Source(
        name=name,
        keys=[str(file) for file in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, written, reader),
        labels=labels,
        task=task,
        splits=splits,
        columns={
            title: np.array([_text(value) for value in values])
            for title, values in columns.items()
            if title not in used
        },
        notes=(*notes, *of_splits),
    )


def path_column(header: Sequence[str]) -> int | None:
    """The place of a table's column of paths, by the order of PATH_COLUMNS; None where there is none."""
    lower = [title.lower() for title in header]
    return next((lower.index(title) for title in PATH_COLUMNS if title in lower), None)


def _located(written: list[str], folders: Sequence[Path]) -> tuple[list[str], Path, list[str]]:
    """The paths as this system has them, the folder that they are relative to, and what is to be said of that."""
    listings = _Listings()
    for folder in folders:
        there = [_there(folder, path, listings) for path in written]
        if any(there):
            how = [] if folder == folders[0] else [f"paths are read relative to {folder.resolve()}"]
            found = [form or path for path, form in zip(written, there, strict=True)]
            if turned := sum(map(_has_turned, written, found)):
                how.append(f"backslashes in {turned} paths are read as slashes")
            return found, folder, how
    tried = dict.fromkeys(str((folder / form).absolute()) for folder in folders for form in _spellings(written[0]))
    nowhere = f"none of its {len(written)} files is there: tried {', '.join(tried)} and the like"
    return written, folders[0], [nowhere]


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


class _Listings(dict[str, dict[str, str]]):
    """Of a folder, by their names without the suffix, its pictures: the first by name, of several."""

    def __call__(self, folder: str) -> dict[str, str]:
        if folder not in self:
            names = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
            pictures = image_suffixes()
            split = (os.path.splitext(name) for name in names)  # noqa: PTH122
            self[folder] = {stem: stem + suffix for stem, suffix in split if suffix.lower() in pictures}
        return self[folder]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def read_csv(name: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows that are not empty, without space around values; what stands between them, a comma, a
    semicolon or a tab, is that of the header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            between = next((mark for mark in (",", ";", "\t") if mark in first), ",")
            rows = [[value.strip() for value in row] for row in csv.reader(file, delimiter=between) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WhymaskError(f"{name}: no CSV in UTF-8 ({error}); save it as one, with commas") from error
    return (rows[0], rows[1:]) if rows else ([], [])


def files_under(root: Path) -> list[str]:
    """Relative paths of all files that are not hidden, sorted; links are followed, but never in a circle."""
    found, seen = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        inner = os.path.relpath(folder, root)
        found += [os.path.normpath(os.path.join(inner, name)) for name in files if not name.startswith(".")]  # noqa: PTH118
    return sorted(found)


def _resolved(file: str, parents: dict[str, str]) -> Path:
    """The absolute path under the real parent folder, so that a CSV and a folder name one file alike."""
    parent, name = os.path.split(file)
    if parent not in parents:
        parents[parent] = os.path.realpath(parent)
    return Path(parents[parent], name)


def file_reader(paths: Sequence[Path], reader: Reader | None) -> Callable[[int], RawImage]:
    """`Source.read` of a file an image."""
    if reader is not None:
        return lambda index: reader(regular(paths[index]))
    return lambda index: open_file(paths[index])
