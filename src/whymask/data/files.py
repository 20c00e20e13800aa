"""Sources with one file an image: folders, and CSV files of path and label."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.annotations import with_boxes
from whymask.data.box_columns import BOXES, box_column, given_of
from whymask.data.box_rows import box_rows
from whymask.data.class_names import classes_beside
from whymask.data.csv_rows import read_csv
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.labels import find_labels, label_notes, read_labels
from whymask.data.layout import layout_of
from whymask.data.map_columns import MAP_COLUMNS, map_column
from whymask.data.opening import image_suffixes, open_file, regular
from whymask.data.pictures import Pictures
from whymask.data.places import located
from whymask.data.protocols import is_address
from whymask.data.settings import LabelSettings
from whymask.data.source import SPLIT_OF, RawImage, Reader, Source, split_column
from whymask.data.stamps import digest_of, stamp_files
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels

SPLIT_COLUMNS = ("split", "set", "subset", "partition")
PATH_COLUMNS = (
    *("path", "image", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img", "img_path"),
    *("url", "image_url", "uri", "image_name", "image_id", "id", "name"),  # where nothing is called so
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
    paths = [resolved(os.path.join(root, file), parents) for file in files]  # noqa: PTH118
    source = Source(
        name=name,
        keys=[str(path) for path in paths],
        read=file_reader(paths, reader),
        stamp=stamp_files(paths, files, reader),
        labels=labels,
        task=task,
        notes=layout.notes if asked is not None else (),
        by_folders=bool(task.labelled(labels).any()),
    )
    if labelled_by is not None:
        source = _labelled_by(source, labelled_by)
        if classes := sorted({*layout.classes} - {""}):
            told = f"the subfolders, such as {classes[0]}, are taken for no classes, as a table gives the labels"
            source = replace(source, notes=(*source.notes, told))
    if layout.splits is None:
        return source
    splits, of_splits = split_column(layout.splits, source.labelled)
    if splits is None:
        return source
    if source.splits is not None and not np.array_equal(source.splits, splits):
        of_splits = (*of_splits, "the splits are those of the folders, and not those of the table, which are others")
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
    if table.maps is not None or table.boxes is not None:  # which say of some images why these are left out
        read = source.read
        source = replace(
            source,
            read=lambda row: table.read(int(at[row])) if known[row] else read(row),
            stamp=digest_of([source.stamp, table.stamp]),
            maps=table.maps and table.maps.taken(at),
            boxes=table.boxes and table.boxes.taken(at),
            mended=table.mended,
        )
    return replace(
        source,
        labels=labels,
        task=table.task,
        by_folders=False,
        splits=None if table.splits is None else of_table(table.splits, "train"),
        columns={name: of_table(values, "") for name, values in table.columns.items()},
    )


def from_csv(
    name: str,
    path: Path,
    reader: Reader | None,
    asked: LabelSettings | None,
    beside: Path | None = None,
    cache: Path | None = None,
    around: str | None = None,
) -> Source:
    """The files that a CSV names, relative to its folder, to that of the images beside it, or to the working one; or
    the addresses, which may be relative to that `around` the table, and whose images are kept in `cache`."""
    header, rows = read_csv(name, path)
    bad = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if bad is not None:
        raise WhymaskError(
            f"{name}: row {bad} has not the {len(header)} fields of the header; quote values with commas"
        )
    folders = [path.parent, *([beside] if beside else []), Path()]
    return from_table(name, header, rows, folders, reader, asked, cache, around)


def from_table(
    name: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    folders: Sequence[Path],
    reader: Reader | None,
    asked: LabelSettings | None,
    cache: Path | None = None,
    around: str | None = None,
) -> Source:
    """The files of a table with a row an image, its paths relative to the first of `folders` that has one of them, or
    addresses; None and "" are empty cells."""
    at = path_column(header)
    if at is None or not rows:
        raise WhymaskError(
            f"{name}: a table with the columns {', '.join(header) or '(empty)'} and {len(rows)} rows; a column path "
            f"(or {', '.join(PATH_COLUMNS[1:])}), perhaps label and split, and one row an image were expected; add them"
        )
    marked = box_rows(name, header, rows, at, asked)
    if marked is not None:
        header, rows = marked.header, marked.rows
        at = path_column(header) or 0
    columns = {title: [row[i] for row in rows] for i, title in enumerate(header) if i != at}
    files = _files_of(name, [os.fspath(row[at]) for row in rows], folders, reader, cache, around)
    notes = files.notes
    twice = [key for key, count in Counter(files.keys).items() if count > 1]
    if twice:
        raise WhymaskError(
            f"{name}: {len(twice)} paths stand in several rows, {twice[0]} for one; one row an image was expected; "
            "delete the others, or write several classes into one row, such as cat|dog"
        )
    words, of_column = _splits_in(name, columns, len(rows))

    def labels_in(titles: Sequence[str], asked: LabelSettings | None = None) -> tuple[list[str], RawLabels | None]:
        return find_labels(name, titles, lambda column: columns[column], asked)

    def find(kind: Callable[..., str | None], holds: Callable[[Sequence[Any]], bool]) -> str | None:
        return kind(name, columns, lambda title: holds(columns[title]), lambda titles: labels_in(titles)[0], asked)

    objects = find(box_column, _are_boxes)
    maps = find(map_column, _are_pictures) if objects is None and marked is None else None
    dense = [column for column in (objects, maps) if column is not None]
    is_dense = bool(dense) or marked is not None
    used, raw = (dense, None) if is_dense else labels_in([*columns], asked)
    notes = [*notes, *label_notes(columns, used, raw)] if asked is not None and not is_dense else notes
    task, labels = read_labels(raw, len(rows), asked, name)
    gone = [row for row, key in enumerate(files.keys) if key in files.missing]
    labels[gone] = task.unlabelled(len(gone))
    source = Source(
        name=name,
        keys=files.keys,
        read=files.image,
        stamp=files.stamp,
        labels=labels,
        task=task,
        columns={
            title: np.array([_text(value) for value in values])
            for title, values in columns.items()
            if title not in used
        },
        missing=files.missing,
        notes=(*notes, *of_column),
    )
    if maps is not None and asked is not None:
        given = _maps_of(name, list(map(_text, columns[maps])), folders, cache, around)
        source = with_maps(source, given, classes_beside(folders[0], asked), asked)
    if is_dense and maps is None and asked is not None:
        cells = columns.get(str(objects), [])
        boxes = given_of(cells.__getitem__, len(source), asked.box_format) if marked is None else marked.given
        source = with_boxes(source, boxes, classes_beside(folders[0], asked), asked)
    splits, of_splits = split_column(words, source.labelled)
    return replace(source, splits=splits, notes=(*source.notes, *of_splits))


def _are_boxes(values: Sequence[Any]) -> bool:
    """Whether a column holds objects with boxes, as metadata.jsonl has them."""
    kinds = (value[0] if isinstance(value, list) and value else value for value in values)
    return any(isinstance(kind, dict) and {*BOXES} & {*map(str.lower, kind)} for kind in kinds)


def _are_pictures(values: Sequence[Any]) -> bool:
    """Whether a column holds names of pictures."""
    named = [str(value) for value in values if value not in (None, "")]
    suffixes = image_suffixes()
    return bool(named) and all(os.path.splitext(value)[1].lower() in suffixes for value in named)  # noqa: PTH122


def _maps_of(
    name: str, written: list[str], folders: Sequence[Path], cache: Path | None, around: str | None
) -> GivenMaps:
    """The label maps that a column names, "" where an image has none."""
    there = np.array([path != "" for path in written])
    files = _files_of(name, [path for path in written if path], folders, None, cache, around)
    place = np.cumsum(there) - 1

    def read(row: int) -> RawImage:
        try:
            return files.read(int(place[row]))
        except FileNotFoundError:
            raise WhymaskError(f"its label map {written[row]} is not there") from None

    return GivenMaps(there, read, files.stamp, frozenset(files.keys))


def maps_named_in(root: Path, tables: Sequence[str]) -> set[str]:
    """The files below `root`, relative to it, that its tables name as label maps: they are no images."""
    found: set[str] = set()
    for table in tables:
        try:
            header, rows = read_csv(table, root / table)
        except WhymaskError:  # which is told of where labels are read
            continue
        for at, title in enumerate(header):
            named = [row[at] for row in rows if len(row) > at and row[at]]
            if title.lower() in MAP_COLUMNS and _are_pictures(named):
                maps = located(named, [(root / table).parent, root])
                found |= {os.path.relpath(os.path.join(maps.folder, file), root) for file in maps.files}  # noqa: PTH118
    return found


@dataclass(frozen=True)
class _Files:
    """What a table names: here, or behind addresses."""

    keys: list[str]
    read: Callable[[int], RawImage]
    stamp: str
    notes: list[str]
    missing: frozenset[str] = frozenset()

    def image(self, row: int) -> RawImage:
        """Raises WhymaskError for one that is not there."""
        if self.keys[row] in self.missing:
            raise WhymaskError("no such file")
        return self.read(row)


def _files_of(
    name: str,
    written: list[str],
    folders: Sequence[Path],
    reader: Reader | None,
    cache: Path | None,
    around: str | None,
) -> _Files:
    if around is not None:
        written = [path if is_address(path) else f"{around}/{path}" for path in written]
    remote = sum(map(is_address, written))
    if not remote:
        parents: dict[str, str] = {}
        found = located(written, folders)
        if not any(found.there):
            raise WhymaskError(
                f"{name}: {found.notes[0]}; paths relative to the table's folder, to that of the images or to the "
                "working one, or whole ones, were expected; correct them"
            )
        paths = [resolved(os.path.join(found.folder, file), parents) for file in found.files]  # noqa: PTH118
        keys = list(map(str, paths))
        missing = frozenset(key for key, there in zip(keys, found.there, strict=True) if not there)
        return _Files(keys, file_reader(paths, reader), stamp_files(paths, found.files, reader), found.notes, missing)
    if remote < len(written) or cache is None:
        which = f"{remote:,} of its {len(written):,} paths are addresses"
        raise WhymaskError(f"{name}: {which}; all or none, in a table that is given itself, were expected; divide it")
    pictures = Pictures(name, written, cache)
    read = pictures.read if reader is None else lambda row: reader(pictures.file(row))
    return _Files(written, read, digest_of([pictures.stamp, stamp_files([], [], reader)]), pictures.notes)


def _splits_in(name: str, columns: dict[str, list[Any]], rows: int) -> tuple[list[str], list[str]]:
    """The words of the column of splits, which is taken out of `columns`, and what is to be said of it."""
    for title in sorted(columns, key=lambda title: title.lower() != SPLIT_COLUMNS[0]):
        if title.lower() not in SPLIT_COLUMNS:
            continue
        words = [_text(value).lower() for value in columns[title]]
        unknown = {*words} - {*SPLIT_OF, ""}
        if unknown and title.lower() == SPLIT_COLUMNS[0]:
            expected = ", ".join(SPLIT_OF)
            raise WhymaskError(f"{name}: the splits {sorted(unknown)}; {expected} were expected; rename them")
        if not unknown and any(words):
            del columns[title]
            return words, [f"the column {title} is read as the splits"] * (title.lower() != SPLIT_COLUMNS[0])
    return [""] * rows, []


def path_column(header: Sequence[str]) -> int | None:
    """The place of a table's column of paths, by the order of PATH_COLUMNS; None where there is none."""
    lower = [title.lower() for title in header]
    return next((lower.index(title) for title in PATH_COLUMNS if title in lower), None)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def resolved(file: str, parents: dict[str, str]) -> Path:
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
