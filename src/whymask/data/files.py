"""Sources with one file an image: folders, and CSV files of path and label."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whymask.data.labels import find_labels, read_labels
from whymask.data.settings import LabelSettings
from whymask.data.source import SPLITS, RawImage, Reader, Source, split_column, stamp_files
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels

PATH_COLUMNS = ("path", "image", "file", "filename")
NOT_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF")  # Pillow knows the names, not the pixels


def from_folder(name: str, root: Path, files: list[str], reader: Reader | None, asked: LabelSettings | None) -> Source:
    """The image files of a folder: perhaps split folders, then perhaps class folders, then any depth."""
    if asked is not None and asked.task == "auto":
        asked = replace(asked, task="classification")  # a subfolder is a class, whatever its name
    parts = [Path(file).parts for file in files]
    has_splits = all(len(part) > 1 and part[0].lower() in SPLITS for part in parts)
    bases = [part[0].lower() if has_splits else "" for part in parts]
    inner = [part[1:] if has_splits else part for part in parts]
    unsorted = {base for base, part in zip(bases, inner, strict=True) if len(part) == 1}
    names = ["" if base in unsorted else part[0] for base, part in zip(bases, inner, strict=True)]
    task, labels = read_labels(RawLabels(names) if any(names) else None, len(names), asked, name)
    paths = [root / file for file in files]
    return Source(
        name=name,
        keys=[str(path) for path in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, files, reader),
        labels=labels,
        task=task,
        splits=split_column(bases, task.labelled(labels)) if has_splits else None,
    )


def from_csv(name: str, path: Path, reader: Reader | None, asked: LabelSettings | None) -> Source:
    """The files that a CSV names, relative to its folder."""
    header, rows = _read_csv(name, path)
    bad = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if bad is not None:
        raise WhymaskError(
            f"{name}: row {bad} has not the {len(header)} fields of the header; quote values with commas"
        )
    return from_table(name, header, rows, path.parent, reader, asked)


def from_table(
    name: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    folder: Path,
    reader: Reader | None,
    asked: LabelSettings | None,
) -> Source:
    """The files of a table with a row an image, its paths relative to `folder`; None and "" are empty cells."""
    lower = [title.lower() for title in header]
    at = next((lower.index(title) for title in PATH_COLUMNS if title in lower), None)
    if at is None or not rows:
        raise WhymaskError(
            f"{name}: a table with the columns {', '.join(header) or '(empty)'} and {len(rows)} rows; a column path "
            f"(or {', '.join(PATH_COLUMNS[1:])}), perhaps label and split, and one row an image were expected; add them"
        )
    titles = [low if low == "split" else title for low, title in zip(lower, header, strict=True)]
    columns = {title: [row[i] for row in rows] for i, title in enumerate(titles) if i != at}
    parents: dict[str, str] = {}
    paths = [_resolved(os.path.join(folder, row[at]), parents) for row in rows]  # noqa: PTH118
    twice = [str(file) for file, count in Counter(paths).items() if count > 1]
    if twice:
        raise WhymaskError(
            f"{name}: {len(twice)} paths stand in several rows, {twice[0]} for one; one row an image was expected; "
            "delete the others, or write several classes into one row, such as cat|dog"
        )
    splits = [_text(value).lower() for value in columns.pop("split", [])]
    if unknown := {*splits} - {*SPLITS, ""}:
        raise WhymaskError(f"{name}: the splits {sorted(unknown)}; {', '.join(SPLITS)} were expected; rename them")
    used, raw = find_labels(name, columns, lambda column: columns[column], asked)
    task, labels = read_labels(raw, len(rows), asked, name)
    return Source(
        name=name,
        keys=[str(file) for file in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, [os.fspath(row[at]) for row in rows], reader),
        labels=labels,
        task=task,
        splits=split_column(splits, task.labelled(labels)) if splits else None,
        columns={
            title: np.array([_text(value) for value in values])
            for title, values in columns.items()
            if title not in used
        },
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _read_csv(name: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows that are not empty, without space around values."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[value.strip() for value in row] for row in csv.reader(file) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WhymaskError(f"{name}: no CSV in UTF-8 ({error}); save it as one, with commas") from error
    return (rows[0], rows[1:]) if rows else ([], [])


def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with the dot, of the files that Pillow decodes here."""
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN and kind not in NOT_PICTURES)


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
        return lambda index: reader(paths[index])
    return lambda index: Image.open(io.BytesIO(paths[index].read_bytes()))
