"""A directory as a source: what its files are, which of them give the labels, and what is not read."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from whymask.data import formats
from whymask.data.artefacts import refuse_artefacts
from whymask.data.box_folders import are_of_classes, from_marks, marks_beside
from whymask.data.braces import ARCHIVES, refuse_holes
from whymask.data.coco import coco_files, from_coco, without_others
from whymask.data.files import from_csv, from_folder, maps_named_in
from whymask.data.idx import from_idx, is_idx
from whymask.data.layout import listed
from whymask.data.map_files import paired
from whymask.data.map_folders import from_pairs
from whymask.data.metadata import NAMES, from_metadata
from whymask.data.opening import image_suffixes
from whymask.data.places import files_under
from whymask.data.settings import LabelSettings
from whymask.data.shards import from_tar
from whymask.data.source import Reader, Source
from whymask.data.tables import from_disk, from_parquet
from whymask.errors import WhymaskError
from whymask.tasks.detection import Detection
from whymask.tasks.segmentation import Segmentation

TABLES = (".csv", ".tsv")
ANSWERS = "predictions.csv"
"""What `predict` writes, unless told otherwise: answers are no labels."""
DENSE = (Segmentation.name, Detection.name)
BOXES_NAMED = "--task detection learns them"
MANY_TABLES = 3
"""Tables beside images up to which it is said of each why it gives no labels."""


def from_directory(name: str, folder: Path, reader: Reader | None, labels: LabelSettings | None, cache: Path) -> Source:
    """Images of a folder, labelled by metadata, by their folders or by a table beside them; or its parquet files, or
    its shards."""
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        return from_disk(name, folder, labels)
    hidden: list[str] = []
    files = files_under(folder, hidden)
    suffixes = image_suffixes()
    images = files if reader else [file for file in files if Path(file).suffix.lower() in suffixes]
    root = folder.resolve()
    refuse_artefacts(name, (root / image for image in images), [root], (root / file for file in files))
    if images:
        source, used = _of_images(name, root, files, images, reader, labels)
        others = sorted({*files} - {*used})
        if labels is None:  # they may be given beside the images
            others = [file for file in others if not file.endswith(TABLES)]
        unread = [*({*images} & {*others})]
        return replace(source, notes=(*source.notes, *_left_out(root, others, unread, hidden)))
    tables = [file for file in files if file.endswith(".parquet")]
    shards = [file for file in files if file.endswith(ARCHIVES)]
    refuse_holes(name, tables or shards)
    if tables:
        return from_parquet(name, root, tables, labels, cache)
    if shards:
        return from_tar(name, root, shards, labels, cache)
    if any(map(is_idx, files)):
        return from_idx(name, root, files, labels)
    raise WhymaskError(
        f"{name}: no images in this folder ({_by_suffix(files) or 'no files'}); files such as .jpg, .png, .parquet "
        "or .tar were expected; check the path, or give a --reader for formats that Pillow cannot open"
    )


def _of_images(
    name: str, root: Path, files: list[str], images: list[str], reader: Reader | None, labels: LabelSettings | None
) -> tuple[Source, list[str]]:
    """The source, and the files that are read for it."""
    task = "auto" if labels is None else labels.task
    if task not in ("auto", *DENSE):
        return _of_whole_images(name, root, files, images, reader, labels)
    pairs = paired(name, images, is_asked=labels is not None and task != Detection.name)
    shown = images if pairs is None else [*pairs.maps]
    marks = None if task == Segmentation.name else marks_beside(root, files, shown)
    if marks is not None and (task == Detection.name or (pairs is None and not are_of_classes(shown))):
        return from_marks(name, root, marks, files, reader, labels)
    if pairs is not None and task != Detection.name:
        source, used = from_pairs(name, root, pairs, files, reader, labels)
    else:
        source, used = _of_whole_images(name, root, files, shown, reader, labels)
    if marks is None or labels is None:
        return source, used
    return replace(source, notes=(*source.notes, f"boxes, such as {marks.first}, are not read: {BOXES_NAMED}")), used


def _of_whole_images(
    name: str, root: Path, files: list[str], images: list[str], reader: Reader | None, labels: LabelSettings | None
) -> tuple[Source, list[str]]:
    """Of images without pictures or files of labels for each."""
    tables = _tables_of(images, files)
    named = maps_named_in(root, tables) if labels is None or labels.task in ("auto", Segmentation.name) else set()
    images = [image for image in images if image not in named] or images
    regions = coco_files(files)
    images = without_others(images) if regions else images
    if labels is None:
        return from_folder(name, root, images, reader, labels), [*images, *named]
    of_folders = None if labels.task in DENSE else labels  # whose names are then no classes
    source, notes = from_folder(name, root, images, reader, of_folders), list[str]()
    if regions and labels.task in ("auto", *DENSE) and not source.labelled.any():
        table, notes = _regions_of(name, source, root, regions, reader, labels)
        if table is not None:
            source = from_folder(name, root, images, reader, of_folders, table)
            return replace(source, notes=(*source.notes, *notes)), [*images, *named, *regions]
    described = from_metadata(name, root, files, reader, labels)
    if described is not None:
        used = [file for file in files if Path(file).name in NAMES]
        notes += _said_of(replace(described, name=used[0]), source)
        source = from_folder(name, root, images, reader, of_folders, described)
    elif source.labelled.any():
        return source, [*images, *named]
    else:
        table, of_tables = _table_of(source, root, tables, reader, labels)
        notes += of_tables
        used = [] if table is None else [table.name]
        source = source if table is None else from_folder(name, root, images, reader, of_folders, table)
    return replace(source, notes=(*source.notes, *notes)), [*images, *named, *used]


def _tables_of(images: Sequence[str], files: Sequence[str]) -> list[str]:
    """Those of the `files` that are tables and lie in a folder around all images."""
    tables = [file for file in files if file.endswith(TABLES)]
    around = os.path.commonpath([os.path.dirname(image) for image in images]) if tables else ""  # noqa: PTH120
    places = {"", *map(str, Path(around).parents), around} - {"."}
    return [file for file in tables if os.path.dirname(file) in places]  # noqa: PTH120


def _regions_of(
    name: str, source: Source, root: Path, files: Sequence[str], reader: Reader | None, labels: LabelSettings
) -> tuple[Source | None, list[str]]:
    """Images of `source` with the label maps or boxes of COCO JSONs in the folder, and what is said of them; None where
    these give none, unless they were asked for."""
    try:
        table = from_coco(", ".join(files), [root / file for file in files], [root], reader, labels)
    except WhymaskError as error:
        if labels.task in DENSE:
            raise
        return None, [f"{', '.join(files)} gives no labels: {error}"]
    return table, _said_of(table, source)


def _table_of(
    source: Source, root: Path, tables: Sequence[str], reader: Reader | None, labels: LabelSettings
) -> tuple[Source | None, list[str]]:
    """The one of the `tables` that gives labels of images of `source`, if only one does, and what is said of them."""
    keys, notes = {*source.keys}, []
    found: list[Source] = []
    for file in tables:
        try:
            table = _labels_in(file, root, reader, labels)
        except WhymaskError as error:
            notes.append(f"{file} gives no labels: {error}")
            continue
        if any(key in keys for key, known in zip(table.keys, table.labelled, strict=True) if known):
            found.append(table)
        else:
            notes += [*table.notes, f"{file} gives no labels of these images"]
    if not found:
        return None, notes if len(tables) <= MANY_TABLES else [
            f"none of {len(tables)} tables gives labels of the images"
        ]
    if len(found) > 1:
        names = ", ".join(table.name for table in found)
        return None, [
            f"{names} each give labels of these images, so that none is taken: --labels names the one to take"
        ]
    return found[0], _said_of(found[0], source)


def _said_of(table: Source, source: Source) -> list[str]:
    """What is said of a table that gives labels of the images of `source`."""
    named, there = {*table.keys}, {*source.keys}
    beyond, unnamed = len(named - there), len(there - named)
    return [
        f"labels are those of {table.name}",
        *table.notes,
        *[f"{beyond:,} of its {len(table):,} rows name none of these images"] * bool(beyond),
        *[f"{unnamed:,} images are not in it, and unlabelled"] * bool(unnamed),
    ]


def _labels_in(file: str, root: Path, reader: Reader | None, labels: LabelSettings) -> Source:
    """Raises WhymaskError for answers of a network, which would be learnt as if somebody had labelled so."""
    table = from_csv(file, root / file, reader, labels)
    if Path(file).name == ANSWERS or any(column.startswith("probability of ") for column in table.columns):
        raise WhymaskError("it holds a network's answers; to take them for labels, give it as --labels")
    return table


def _left_out(root: Path, others: list[str], pictures: list[str], hidden: list[str]) -> list[str]:
    """What is to be said of files that are not read, `pictures` among them."""
    gone = [file for file in others if not (root / file).exists()]
    tables = [file for file in others if file.endswith((*TABLES, ".jsonl")) and file not in gone]
    files = sorted({*others} - {*gone} - {*tables} - {*pictures})
    told = {
        "not read, as they lie in no folder of images or label maps:": sorted({*pictures} - {*gone}),
        "no labels are taken of": tables,
        "not read, as they are links to what is not there:": gone,
        "not read, as their names are hidden ones:": {*hidden},
    }
    lines = [f"{what} {listed(names)}" for what, names in told.items() if names]
    return [*lines, *[_not_read(files)] * bool(files)]


def _not_read(files: list[str]) -> str:
    suffixes = {Path(file).suffix.lower() for file in files}
    readable = formats.wanting(suffixes)
    advice = f"; {formats.EXTRA} reads {', '.join(readable)}" if readable else ""
    unnamed = "; a picture without a suffix is opened once its name ends in one, such as .png" if "" in suffixes else ""
    return f"not read, as their names are of no picture that is opened here: {_by_suffix(files)}{advice}{unnamed}"


def _by_suffix(files: Iterable[str]) -> str:
    """ "12 .heic, 3 .txt, 1 without suffix and 4 others"."""
    counts = Counter(Path(file).suffix.lower() or "without suffix" for file in files)
    shown = counts.most_common(5)
    rest = counts.total() - sum(count for _, count in shown)
    return ", ".join(f"{count} {suffix}" for suffix, count in shown) + (f" and {rest} others" if rest else "")
