"""Sources with one file an image: folders, and CSV files of path and label."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.labels import find_labels, label_notes, read_labels
from whymask.data.opening import open_file, regular
from whymask.data.settings import LabelSettings
from whymask.data.source import SPLIT_OF, RawImage, Reader, Source, split_column, split_named
from whymask.data.stamps import stamp_files
from whymask.disk import as_named
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels

PATH_COLUMNS = (
    *("path", "image", "file", "filename", "file_name", "filepath", "image_path", "img", "img_path"),
    *("image_id", "id"),  # where nothing is called so
)
SUFFIXES = (".jpg", ".png", ".jpeg")
"""That a table's paths may leave out."""


def from_folder(name: str, root: Path, files: list[str], reader: Reader | None, asked: LabelSettings | None) -> Source:
    """The image files of a folder: perhaps split folders, then perhaps class folders, then any depth."""
    if asked is not None and asked.task == "auto":
        asked = replace(asked, task="classification")  # a subfolder is a class, whatever its name
    parts, around = _without_wrapping([Path(file).parts for file in files])
    splits = split_folders(parts)
    bases = [splits.get(part[0], "") if splits else "" for part in parts]
    inner = _without_twins(bases, [part[1:] if base else part for base, part in zip(bases, parts, strict=True)])
    unclear = None if splits else _half_splits(parts) or _alike(parts)
    names, notes = ([""] * len(parts), [unclear]) if unclear else _class_folders(bases, inner)
    if splits and (outside := [part[0] for part in parts if len(part) == 1]):
        notes.insert(0, f"{_some(outside, len(parts))} lie beside the splits: they are unlabelled")
    if around:
        notes.insert(0, f"all images lie in the folder {'/'.join(around)}, which is taken for no class")
    task, labels = read_labels(RawLabels(names) if any(names) else None, len(names), asked, name)
    paths = [root / file for file in files]
    return Source(
        name=name,
        keys=[str(path) for path in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, files, reader),
        labels=labels,
        task=task,
        splits=split_column(bases, task.labelled(labels)) if splits else None,
        notes=tuple(notes),
    )


def _without_wrapping(parts: list[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The parts of paths without the folders that all of them lie in, and those folders: one folder is no class."""
    around: tuple[str, ...] = ()
    while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        around += (parts[0][0],)
        parts = [part[1:] for part in parts]
    return parts, around


def _without_twins(bases: list[str], inner: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the one folder, such as seg_train/seg_train, that all classes of a split lie in."""
    for base in dict.fromkeys(bases):
        of_base = [part for other, part in zip(bases, inner, strict=True) if base and other == base]
        is_deep = bool(of_base) and all(len(part) > 2 for part in of_base)
        if is_deep and len({part[0] for part in of_base}) == 1 < len({part[1] for part in of_base}):
            inner = [part[1:] if other == base else part for other, part in zip(bases, inner, strict=True)]
    return inner


def split_folders(parts: Sequence[Sequence[str]]) -> dict[str, str] | None:
    """Top folder -> split, where every image but a few stray ones lies in a folder that is named after one, and these
    names differ in nothing else, such as seg_train and seg_test; else None."""
    tops = {part[0] for part in parts if len(part) > 1}
    outside = sum(len(part) == 1 for part in parts)
    named = _split_names(tops)
    if not named or len(named) < len(tops) or (outside and (len(named) < 2 or not _are_few(outside, len(parts)))):
        return None
    return named


def _split_names(folders: Iterable[str]) -> dict[str, str]:
    """Folder -> split, of those that are named after one; empty where these names differ in something else."""
    found = {folder: split_named(folder) for folder in folders}
    named = {folder: split for folder, split in found.items() if split is not None}
    same_rest = len({rest for _, rest in named.values()}) == 1
    return {folder: split for folder, (split, _) in named.items()} if same_rest else {}


def _half_splits(parts: Sequence[Sequence[str]]) -> str | None:
    """What to say where some top folders are a train and a test set by their names, and others beside them are not."""
    tops = {part[0] for part in parts if len(part) > 1}
    named = _split_names(tops)
    if len({*named.values()}) < 2 or len(named) == len(tops):
        return None
    others = tops - named.keys()
    return (
        f"the folders {_listed(named)} are named after splits, {_listed(others)} beside them not, so that nothing is "
        f"taken for a class. If they are splits, move {_listed(others)} elsewhere; if all are classes, list the images "
        "in a CSV with the columns path and label"
    )


def _alike(parts: Sequence[Sequence[str]]) -> str | None:
    """What to say where the top folders all hold the same subfolders: these may be the classes, or those."""
    inner: dict[str, set[str]] = {}
    for part in parts:
        inner.setdefault(part[0] if len(part) > 2 else "", set()).add(part[1] if len(part) > 2 else "")
    first = next(iter(inner.values()))
    if len(inner) < 2 or len(first) < 2 or "" in inner or any(found != first for found in inner.values()):
        return None
    return (
        f"the folders {_listed(inner)} all hold the subfolders {_listed(first)}, so that nothing is taken for a class. "
        f"If {_listed(first)} are the classes, name the outer folders train and test, or give one of them; if "
        f"{_listed(inner)} are, list the images in a CSV with the columns path and label"
    )


FEW_STRAY, STRAY_SHARE = 3, 0.1
"""Images beside folders of classes or splits, and their share of all, up to which the folders are still those."""


def _are_few(stray: int, images: int) -> bool:
    return stray <= FEW_STRAY and stray <= STRAY_SHARE * images


def _some(stray: Sequence[str], images: int) -> str:
    """ "2 of 90 images (a.png, b.png)"."""
    return f"{len(stray)} of {images} images ({', '.join(stray[:3])}{', ...' * (len(stray) > 3)})"


def _class_folders(bases: list[str], inner: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """The class that each image's folder names, "" for none, and what is to be said of that.

    In a base (a split, or all) the subfolders are classes where every image lies in one, or all but a few stray ones.
    """
    names = [part[0] if len(part) > 1 else "" for part in inner]
    notes: list[str] = []
    for base in dict.fromkeys(bases):
        rows = [row for row, other in enumerate(bases) if other == base]
        stray = [row for row in rows if not names[row]]
        if not stray or len(stray) == len(rows):
            continue
        shown = ", ".join(inner[row][-1] for row in stray[:3]) + ", ..." * (len(stray) > 3)
        where = f"the subfolders of {base}" if base else "the subfolders"
        beside = f"{len(stray)} of {len(rows)} images lie beside {where} ({shown})"
        folders = len({names[row] for row in rows} - {""})
        if _are_few(len(stray), len(rows)) and folders > 1:
            notes.append(f"{beside}: they are unlabelled, the {folders} subfolders are classes")
            continue
        notes.append(f"{beside}, so that the subfolders are not taken for classes")
        for row in rows:
            names[row] = ""
    return names, notes


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + ", ..." * (len(shown) > 5)


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
    at = next((lower.index(title) for title in PATH_COLUMNS if title in lower), None)
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
    splits = [_text(value).lower() for value in columns.pop("split", [])]
    if unknown := {*splits} - {*SPLIT_OF, ""}:
        raise WhymaskError(f"{name}: the splits {sorted(unknown)}; {', '.join(SPLIT_OF)} were expected; rename them")
    used, raw = find_labels(name, columns, lambda column: columns[column], asked)
    notes = [*notes, *label_notes(columns, used, raw)] if asked is not None else notes
    task, labels = read_labels(raw, len(rows), asked, name)
    return Source(
        name=name,
        keys=[str(file) for file in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, written, reader),
        labels=labels,
        task=task,
        splits=split_column(splits, task.labelled(labels)) if splits else None,
        columns={
            title: np.array([_text(value) for value in values])
            for title, values in columns.items()
            if title not in used
        },
        notes=tuple(notes),
    )


def _located(written: list[str], folders: Sequence[Path]) -> tuple[list[str], Path, list[str]]:
    """The paths as this system has them, the folder that they are relative to, and what is to be said of that."""
    spellings = [_spellings(path) for path in written]
    for folder in folders:
        there = [next((form for form in forms if (folder / form).exists()), None) for forms in spellings]
        if any(there):
            how = [] if folder == folders[0] else [f"paths are read relative to {folder.resolve()}"]
            found = [form or forms[0] for form, forms in zip(there, spellings, strict=True)]
            if turned := sum(form == forms[2] not in forms[:2] for form, forms in zip(found, spellings, strict=True)):
                how.append(f"backslashes in {turned} paths are read as slashes")
            return found, folder, how
    tried = dict.fromkeys(str((folder / form).absolute()) for folder in folders for form in spellings[0])
    nowhere = f"none of its {len(written)} files is there: tried {', '.join(tried)} and the like"
    return written, folders[0], [nowhere]


def _spellings(path: str) -> tuple[str, ...]:
    """What a written path may stand for: itself, with escapes undone, with slashes, or without its suffix."""
    turned = path.replace("\\", "/")
    return (path, as_named(path), turned, *(turned + suffix for suffix in SUFFIXES if not Path(turned).suffix))


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
