"""Where images come from: `open_source` opens any of them as a `Source`, `merge` joins two, and `open_asked` gives what
a run's settings ask for."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whymask.data.addresses import from_address, from_list
from whymask.data.arrays import from_arrays, from_npz
from whymask.data.braces import ARCHIVES, PARQUET, braced, parted, refuse_holes
from whymask.data.coco import from_coco
from whymask.data.composite_settings import is_composites, parse_composites
from whymask.data.composites import composite_source
from whymask.data.directories import from_directory
from whymask.data.files import from_csv
from whymask.data.glyph_settings import parse_glyphs
from whymask.data.glyphs import glyph_source
from whymask.data.map_folders import with_images
from whymask.data.objects import from_object
from whymask.data.opening import image_suffixes
from whymask.data.picked import from_picked
from whymask.data.protocols import is_address
from whymask.data.readers import of_reader, reader_named
from whymask.data.settings import DataSettings, LabelSettings, default_store, matching
from whymask.data.shards import from_tar
from whymask.data.source import RawImage, Reader, Source
from whymask.data.stamps import digest_of
from whymask.data.tables import from_hub, from_parquet
from whymask.errors import WhymaskError
from whymask.tasks import Classification

__all__ = ["RawImage", "Reader", "Source", "merge", "open_asked", "open_source"]

DERIVED = LabelSettings()
"""What labels are is derived from them."""


def open_source(
    data: Any,
    *,
    reader: Reader | str | None = None,
    labels: LabelSettings | None = DERIVED,
    beside: Path | None = None,
    cache: Path | None = None,
) -> Source:
    """Opens images of any kind; nothing is decoded yet.

    - a folder, at any depth. Its subfolders may be the splits (train, test, val ...). Where every image lies in a
      subfolder, the subfolders are the classes; otherwise the images are unlabelled. Hidden files do not count.
      A metadata.csv or metadata.jsonl with a column file_name, as Hugging Face has them, gives the labels instead.
    - a CSV file with the columns path and label (empty: unlabelled; "cat|dog": several), or path and target (numbers),
      and perhaps split; further columns are kept
    - a folder of files in the form of MNIST (train-images-idx3-ubyte.gz)
    - a parquet file or a folder of them, a `datasets.save_to_disk` folder, or the id of a data set on the hub, with
      columns image and label (a class, or a list of them) or target
    - WebDataset shards: a .tar, a .tar.gz or .tgz, a folder or a pattern of them, or "train-{000000..000009}.tar"; a
      sample's label is its .cls, a field label of its .json, or its .txt. Of parquet likewise, patterns and braces too
    - an address that fsspec knows (s3://, gs://, https:// ...) of such shards, parquet files, a folder or a pattern of
      them, or a CSV; and a CSV whose paths, or a .txt whose lines, are addresses of images
    - an image file, a pattern such as "photos/*.jpg" ("**" goes through all subfolders), or a list of files, patterns
      and folders: unlabelled images
    - images (N, H, W) or (N, H, W, C), a PIL image, a pair (images, labels), a dict or `.npz` of images and labels
      (also named x, y; x_train, y_train, x_test, y_test; or as MedMNIST train_images, train_labels ...) or target.
      Labels (N, L) of 0 and 1 are several classes an image.
    - a pandas frame with the columns path and label, as a CSV has them, or images as parquet has them; a
      `datasets.Dataset` or a dict of splits; a PyTorch data set of images, or of pairs of image and label
    - with a label map for each image, of which class each pixel is: folders images and masks side by side with files of
      the same names, also as Pascal VOC has them, a column mask of paths in a CSV or of pictures in parquet, arrays of
      whole numbers (N, H, W) as labels, or a COCO JSON, as a file or beside the images in a folder
    - with the objects of each image marked by boxes: Pascal VOC's XML or YOLO's texts beside the images, or in a folder
      beside theirs, a COCO JSON, a column of objects in parquet, a row a box in a CSV, or targets {"boxes", "labels"}
    - "glyphs" or "glyphs:unlabelled=2000,seed=1": built-in images whose features are known
    - "composites:A=photos,B=fashion.npz,train=500": pictures of paired classes, one above the other, each from a source
      of its own
    - a Source, returned as it is

    `reader` opens the files of a folder or CSV that Pillow cannot: it gets a path and returns a PIL image or an
    array (H, W) or (H, W, C), from several threads at once; every file of the folder is then an image::

        def reader(path):
            return np.fromfile(path, dtype="<u2").reshape(64, 64)

        source = open_source("scans/", reader=reader)

    or its name, "scans:reader". What is fetched or unpacked lies in `cache`, the store's folder. `beside` is a folder
    that a CSV's paths may be relative to. `labels` says what labels are and which columns hold them; None that they do
    not matter: all images are then unlabelled. Raises WhymaskError when nothing is there, nothing in it is an image, or
    its labels are not what was asked for, or could be two things.
    """
    if isinstance(data, Source):
        return data
    function = reader_named(reader) if isinstance(reader, str) else reader
    source = _opened(data, function, labels, beside, cache or default_store())
    if source.boxes is not None and labels is not None and labels.ignored != LabelSettings.ignored:
        raise WhymaskError(
            f"--ignored {labels.ignored}: pixels of label maps were expected, and {source.name} has boxes, of which "
            "crowds and difficult ones alone do not count; leave it out, and the boxes of a class out of the data"
        )
    if source.boxes is None and labels is not None and labels.box_format != LabelSettings.box_format:
        raise WhymaskError(
            f"--box-format {labels.box_format}: a column of objects was expected, and {source.name} has no boxes; "
            "leave it out"
        )
    return of_reader(source, reader)


def _opened(data: Any, reader: Reader | None, labels: LabelSettings | None, beside: Path | None, cache: Path) -> Source:
    if isinstance(data, list | tuple) and data and all(isinstance(entry, str | os.PathLike) for entry in data):
        if len(data) > 1:
            entries = [os.fspath(entry) for entry in data]
            return _packed(entries[0], entries, labels, cache) or from_picked(entries, reader, labels)
        (data,) = data
    if isinstance(data, Image.Image):
        data = [data]
    if not isinstance(data, str | os.PathLike):
        return from_object(data, reader, labels) or from_arrays(data, labels)
    text, path = os.fspath(data), Path(data).expanduser()
    if text == "glyphs" or text.startswith("glyphs:"):
        return glyph_source(parse_glyphs(text))
    if is_composites(text):
        return composite_source(parse_composites(text), partial(open_source, cache=cache))
    if is_address(text):
        return from_address(text, labels, cache)
    if path.is_dir():
        return from_directory(text, path, reader, labels, cache)
    if path.is_file():
        return _from_file(text, path, reader, labels, beside, cache)
    if has_magic(text) or len(braced(text)) > 1:
        return _packed(text, list(map(str, matching(text))), labels, cache) or from_picked([text], reader, labels)
    return from_hub(text, labels)


def _packed(name: str, files: Sequence[str], labels: LabelSettings | None, cache: Path) -> Source | None:
    """Files that hold many images each: shards or parquet; None of others."""
    if not files or not all(file.endswith((*ARCHIVES, PARQUET)) for file in files):
        return None
    if len(files) > 1 and len(braced(name)) == 1:
        refuse_holes(name, files)
    around, inner = parted([os.path.realpath(Path(file).expanduser()) for file in files])
    if all(file.endswith(PARQUET) for file in files):
        return from_parquet(name, Path(around), inner, labels, cache)
    if not any(file.endswith(PARQUET) for file in files):
        return from_tar(name, Path(around), inner, labels, cache)
    raise WhymaskError(f"{name}: tar files and parquet files; one kind was expected; give the others as --labels")


def open_asked(data: Any, config: DataSettings, reader: Reader | str | None = None) -> Source:
    """`data`, with the images of `config.labels` where these are given, or without labels where these are none;
    `reader` goes before `config.reader`."""
    reader, cache = reader or config.reader, config.store
    if config.is_unlabelled:
        return _unlabelled(open_source(data, reader=reader, labels=None, cache=cache))
    if config.labels is None:
        return open_source(data, reader=reader, labels=config, cache=cache)
    pool = open_source(data, reader=reader, labels=None, cache=cache)
    folder = Path(data).expanduser() if isinstance(data, str | os.PathLike) else None
    beside = folder if folder is not None and folder.is_dir() else None
    labels = with_images(config.labels, config)
    return merge(pool, open_source(labels, reader=reader, labels=config, beside=beside, cache=cache))


def _unlabelled(source: Source) -> Source:
    """`source` without the labels that it has by itself, such as those of glyphs."""
    task = Classification()
    labels = task.unlabelled(len(source))
    return replace(source, task=task, labels=labels, tags=None, maps=None, boxes=None, mended=(), by_folders=False)


def merge(pool: Source, labelled: Source) -> Source:
    """`pool` as unlabelled images together with `labelled`; an image in both appears once, labelled, and label maps are
    no images.

    The pool's own labels and tags are dropped: its rows come first, without label, in the training split. Where the
    labelled images name no splits, those of the pool are theirs.
    """
    if not labelled.labelled.any():
        raise WhymaskError(
            f"{labelled.name}: no labels in it; a folder with one subfolder a class, a folder of images/ and "
            "masks/ or annotations/, or a CSV of path and label, was expected; sort the labelled images so"
        )
    if labelled.splits is None and pool.splits is not None:
        labelled = _with_splits(labelled, pool)
    known = {*labelled.keys} | ({*labelled.maps.files} if labelled.maps is not None else set())
    rows = [row for row, key in enumerate(pool.keys) if key not in known]
    of_labelled = np.r_[np.full(len(rows), -1), np.arange(len(labelled))]

    def read(index: int) -> RawImage:
        return pool.read(rows[index]) if index < len(rows) else labelled.read(index - len(rows))

    def column(of_pool: np.ndarray | None, of_labelled: np.ndarray | None, default: str) -> np.ndarray:
        ours = np.full(len(rows), default) if of_pool is None else of_pool[rows]
        theirs = np.full(len(labelled), default) if of_labelled is None else of_labelled
        return np.concatenate([ours, theirs])

    return Source(
        name=f"{pool.name} + {labelled.name}",
        keys=[pool.keys[row] for row in rows] + labelled.keys,
        read=read,
        stamp=digest_of(["merge", pool.stamp, labelled.stamp, ",".join(map(str, rows))]),
        labels=np.concatenate([labelled.task.unlabelled(len(rows)), labelled.labels]),
        task=labelled.task,
        splits=None if labelled.splits is None else column(None, labelled.splits, "train"),
        tags=None if labelled.tags is None else column(None, labelled.tags, ""),
        columns={
            name: column(pool.columns.get(name), labelled.columns.get(name), "")
            for name in {**pool.columns, **labelled.columns}
        },
        notes=(*pool.notes, *labelled.notes),
        missing=pool.missing | labelled.missing,
        reader=labelled.reader,
        maps=labelled.maps and labelled.maps.taken(of_labelled),
        boxes=labelled.boxes and labelled.boxes.taken(of_labelled),
        mended=labelled.mended,
        spent=lambda: [source.spent() for source in (pool, labelled) if source.spent is not None],
    )


def _with_splits(labelled: Source, pool: Source) -> Source:
    """`labelled` with the splits of `pool`, where some of both are tested on."""
    there = dict(zip(pool.keys, pool.splits.tolist() if pool.splits is not None else [], strict=True))
    splits = np.array([there.get(key, "train") for key in labelled.keys])
    if not (labelled.labelled & (splits == "test")).any():
        return labelled
    return replace(labelled, splits=splits, notes=(*labelled.notes, f"the splits are those of {pool.name}"))


def _from_file(
    name: str, path: Path, reader: Reader | None, labels: LabelSettings | None, beside: Path | None, cache: Path
) -> Source:
    if packed := _packed(name, [str(path)], labels, cache):
        return packed
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return from_csv(name, path, reader, labels, beside, cache)
        case ".txt" if reader is None:
            return from_list(name, path, labels, cache)
        case ".json":
            around = [path.absolute().parent.parent, *([beside] if beside else []), Path()]
            return from_coco(name, [path.absolute()], around, reader, labels)
        case ".npz":
            return from_npz(name, path, labels)
        case suffix if reader is not None or suffix in image_suffixes():
            return from_picked([name], reader, labels)
    raise WhymaskError(
        f"{name}: a file that is no image source; a folder of images, an image file, .csv, .tsv, .parquet, .tar, .npz, "
        "a COCO .json or a .txt of addresses was expected; check the path"
    )
