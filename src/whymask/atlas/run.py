"""`map_images`: every image as a point on an offline page, by what a network makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.atlas.colourings import by_class, by_cluster, by_error, by_split
from whymask.atlas.finds import Finds, finds_of, text_of
from whymask.atlas.label_errors import ASKED
from whymask.atlas.layouts import check_layout, clusters_of, places_of
from whymask.atlas.neighbours import neighbours_of
from whymask.atlas.page import Atlas, page_of
from whymask.atlas.settings import MapSettings
from whymask.atlas.sheets import none_of, sheets_of
from whymask.data.inherited import check_inherited, inherited_text
from whymask.data.prepare import Prepared, are_same_images, prepare
from whymask.data.sources import Reader
from whymask.disk import check_writable, write_bytes
from whymask.encoders import Encoder, load_encoder
from whymask.errors import WhymaskError
from whymask.keywords import with_keywords
from whymask.progress import Decoding, say
from whymask.report.privacy import class_names
from whymask.report.text import in_bytes
from whymask.stages.probe import features_of
from whymask.stages.record import read_record
from whymask.stages.taken import encoder_of, reader_left_out
from whymask.training.device import make_fabric


def map_images(
    run: str | Path,
    data: Any,
    *,
    out: str | Path = "map.html",
    cell: str | None = None,
    images: bool = True,
    names: bool = True,
    settings: MapSettings | None = None,
    reader: Reader | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Write a page on which each image of `data` is a point, placed by the features of the encoder that `run` leaves
    (a run, a study or its cell, as `embed` takes it), as the file `out`.

    Beside the points stand near copies, outliers and the most doubtful labels, each with what was measured of how
    often it is right. `images=False` leaves thumbnails out, `names=False` the names of files and classes. Settings may
    be given by their names, such as ``layout="pca"``.

    Returns {"images", "shown", "bytes", "copies": [[key, key, likeness]], "outliers": [[key, distance]], "errors":
    [[key, doubt, label, what neighbours are labelled, their share]], "measures": {...}}. Raises WhymaskError where
    `run` has no encoder, `data` cannot be used, or fewer than three images are there.
    """
    asked = with_keywords(settings or MapSettings(), keywords)
    check_writable(Path(out))
    if Path(out).suffix.lower() not in ("", ".html", ".htm"):
        raise WhymaskError(f"--out {out}: it is written as a page; a name that ends in .html was expected; change it")
    check_layout(asked.layout)
    fabric = make_fabric(asked.runtime, alone=True)
    folder = encoder_of(Path(run), cell, images=data)
    encoder = load_encoder(folder).to(fabric.device)
    prepared, is_shaped = _prepared(asked, folder, encoder, data, reader)
    prepared = prepared if names else _without_names(prepared)
    rows = _rows(prepared, asked.points)
    say(f"placing {len(rows):,} images by the features of {folder}")
    features = features_of(encoder, prepared, rows)
    if not np.isfinite(features).all():
        raise WhymaskError(f"{folder}: its features are not finite; a network that was trained was expected")
    atlas = _made(asked, Path(run) if cell is None else folder, folder, prepared, rows, features, images, is_shaped)
    page = page_of(atlas, asked, names)
    write_bytes(Path(out), page)
    for line in text_of(atlas.finds, atlas.is_shaped):
        say(line)
    unseen = len(atlas.rows) - atlas.sheets.shown if images else 0
    say(f"{len(atlas.rows):,} points, {in_bytes(len(page))}: {out}")
    if unseen:
        say(f"{unseen:,} of them have no thumbnail: thumbnails take at most {in_bytes(atlas.sheets.nbytes)} here")
    return _told(atlas, len(page))


def _made(
    asked: MapSettings,
    run: Path,
    folder: Path,
    prepared: Prepared,
    rows: np.ndarray,
    features: np.ndarray,
    images: bool,
    is_shaped: bool,
) -> Atlas:
    neighbours = neighbours_of(features, max(ASKED, asked.neighbours))
    finds = finds_of(prepared, rows, features, neighbours)
    classes = len(prepared.classes) if prepared.images.labelled.any() else 0
    error = by_error(run, folder, prepared, rows)
    return Atlas(
        prepared,
        rows,
        folder,
        places_of(features, asked.layout),
        neighbours,
        [
            by_class(prepared, rows),
            by_split(prepared, rows),
            *([] if error is None else [error]),
            by_cluster(clusters_of(features, classes)),
        ],
        finds,
        sheets_of(prepared.images.images, rows, _order(finds, len(rows))) if images else none_of(rows),
        is_shaped,
    )


def _prepared(
    asked: MapSettings, folder: Path, encoder: Encoder, data: Any, reader: Reader | None
) -> tuple[Prepared, bool]:
    """The images as the encoder sees them, and whether its run was trained on labels of them."""
    seen = encoder.transform
    check_inherited(asked.data, seen, f"{folder} sees")
    for line in [*inherited_text(seen, folder), *reader_left_out(folder, reader or asked.data.reader)]:
        say(line)
    record = read_record(folder) if (folder / "config.json").exists() else None
    prepared = prepare(
        data,
        asked.data,
        preprocessing=seen,
        like=None if record is None else record.data,
        reader=reader,
        say=say,
        progress=Decoding(),
    )
    is_shaped = record is not None and record.stage == "finetune" and are_same_images(record.data, prepared.identity)
    return prepared, is_shaped


def _without_names(prepared: Prepared) -> Prepared:
    task = replace(prepared.task, names=tuple(class_names(list(prepared.classes))))
    return replace(prepared, images=replace(prepared.images, task=task))


def _rows(prepared: Prepared, most: int) -> np.ndarray:
    """All rows, or as many of them, evenly spaced."""
    count = len(prepared.images)
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    if len(rows) < 3:
        raise WhymaskError(f"{prepared.name}: {len(rows)} images; a map needs at least 3")
    if len(rows) < count:
        say(f"of {count:,} images {len(rows):,} are shown, evenly spaced")
    return rows


def _order(finds: Finds, count: int) -> np.ndarray:
    """Who gets a thumbnail first: the images that lists show, then evenly spaced ones."""
    step = next(step for step in range(max(1, round(0.618 * count)), count + 1) if np.gcd(step, count) == 1)
    spread = (np.arange(count) * step) % count
    return np.array(list(dict.fromkeys([*finds.named, *spread.tolist()])))


def _told(atlas: Atlas, size: int) -> dict[str, Any]:
    keys = [atlas.prepared.images.keys[row] for row in atlas.rows]
    labels = atlas.prepared.images.labels[atlas.rows]
    finds, classes = atlas.finds, atlas.prepared.classes
    return {
        "images": len(atlas.prepared.images),
        "shown": len(atlas.rows),
        "bytes": size,
        "copies": [[keys[first], keys[second], likeness] for first, second, likeness in finds.copies],
        "outliers": [[keys[place], far] for place, far in finds.outliers],
        "errors": [
            [keys[place], doubt, classes[labels[place]], likely, share] for place, doubt, likely, share in finds.errors
        ],
        "measures": finds.measures(),
    }
