"""Sources in memory: arrays, dicts of arrays, and `.npz` files."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.class_names import classes_beside
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.labels import LABEL, TARGET, Column, find_labels, read_labels
from whymask.data.map_columns import MAP_COLUMNS, map_column
from whymask.data.settings import LabelSettings
from whymask.data.source import SPLITS, RawImage, Source, split_column
from whymask.data.stamps import stamp_files
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels, Regression

ALIASES = {LABEL: ("labels", "y", "label"), TARGET: ("target", "targets")}


def from_npz(name: str, path: Path, asked: LabelSettings | None) -> Source:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:
        raise WhymaskError(f"{name}: cannot be read as .npz ({error}); save it with numpy.savez") from error
    stamp = stamp_files([path], [path.name])
    return from_named(name, str(path.resolve()), arrays, stamp, asked, path.parent)


def from_arrays(data: Any, asked: LabelSettings | None) -> Source:
    if isinstance(data, Mapping):
        arrays = {str(key): _as_array(value) for key, value in data.items()}
    elif isinstance(data, tuple) and len(data) == 2:
        arrays = {"images": np.asarray(data[0]), "labels": _as_array(data[1])}
    else:
        arrays = {"images": np.asarray(data)}
    digest = hashlib.blake2b(digest_size=16)
    for key, array in arrays.items():
        digest.update(f"{key} {array.shape} {array.dtype.str}".encode())
        is_object = array.dtype == object  # whose bytes are addresses
        digest.update(repr(array.tolist()).encode() if is_object else np.ascontiguousarray(array).data)
    return from_named("arrays", f"array-{digest.hexdigest()[:8]}", arrays, digest.hexdigest(), asked)


def _as_array(values: Any) -> np.ndarray:
    """Lists of several lengths, such as the classes of each image, become an array of lists (N,)."""
    try:
        return np.asarray(values)
    except ValueError:
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array


def from_named(
    name: str,
    prefix: str,
    arrays: Mapping[str, np.ndarray],
    stamp: str,
    asked: LabelSettings | None,
    beside: Path | None = None,
) -> Source:
    """Named arrays: images and labels, or a pair of them for each split; `prefix` begins their keys, and the names of
    classes may lie in the folder `beside`. Labels as large as the images are label maps."""
    parts = {split: _named(arrays, split, ("images", "x")) for split in ("", *SPLITS)}
    images = {split: _checked_images(name, part) for split, part in parts.items() if part is not None}
    if not sum(map(len, images.values())):
        raise WhymaskError(
            f"{name}: no images in the arrays {', '.join(arrays)}; images and labels, or x_train, y_train, x_test and "
            "y_test, were expected; rename them"
        )
    counts = {split: len(part) for split, part in images.items()}
    wanted = [LABEL, TARGET, *((asked and asked.label_columns) or ())]
    there = [column for column in wanted if any(_labels_of(arrays, split, column) is not None for split in counts)]

    def labels_in(columns: list[str], asked: LabelSettings | None) -> tuple[list[str], RawLabels | None]:
        return find_labels(name, columns, lambda column: _column(name, arrays, counts, column), asked)

    maps = map_column(
        name,
        dict.fromkeys([*there, *(column for column in MAP_COLUMNS if column not in ALIASES[LABEL])]),
        lambda column: _are_maps(arrays, images, column),
        lambda columns: labels_in([column for column in columns if column in there], None)[0],
        asked,
    )
    plain = [c for c in (*there, *arrays) if asked is not None or not _are_maps(arrays, images, c)]
    used, raw = labels_in(plain, asked) if maps is None else ([maps], None)
    if raw is not None:
        _refuse_signs(name, raw.values, asked)
        raw = replace(raw, nothing=(-1,))
    task, labels = read_labels(raw, sum(counts.values()), asked, name)
    words = [split for split, part in images.items() for _ in range(len(part))]
    starts = np.cumsum([0, *map(len, images.values())])
    stacks = list(images.values())

    def place(index: int) -> tuple[int, int]:
        stack = int(np.searchsorted(starts, index, side="right")) - 1
        return stack, index - int(starts[stack])

    def read(index: int) -> RawImage:
        stack, row = place(index)
        return stacks[stack][row]

    own = {"images", "x", "labels", "y", *(form for column in used for form in ALIASES.get(column, (column,)))}
    source = Source(
        name=name,
        keys=[f"{prefix}#{row}" for row in range(len(words))],
        read=read,
        stamp=stamp,
        labels=labels,
        task=task,
        columns={k: v.astype(str) for k, v in arrays.items() if k not in own and v.shape == (len(words),)},
    )
    if maps is not None and asked is not None:
        parts_of_maps = [_labels_of(arrays, split, maps) for split in images]

        def read_map(index: int) -> RawImage | None:
            stack, row = place(index)
            part = parts_of_maps[stack]
            return None if part is None else part[row]

        given = GivenMaps(np.ones(len(words), bool), read_map, stamp)
        source = with_maps(source, given, classes_beside(beside, asked), asked)
    splits, notes = split_column(words, source.labelled)
    return replace(source, splits=splits, notes=(*source.notes, *notes))


def _are_maps(arrays: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray], column: str) -> bool:
    """Whether the labels of that name are whole numbers for each pixel of the images."""
    parts = [(part, images[split]) for split in images if (part := _labels_of(arrays, split, column)) is not None]
    return bool(parts) and all(
        part.dtype.kind in "bui" and part.shape[:3] == of.shape[:3] and part.shape[3:] in ((), (1,))
        for part, of in parts
    )


def _refuse_signs(name: str, values: Column, asked: LabelSettings | None) -> None:
    """Raise WhymaskError for labels of -1 and 1 alone, of which -1 may be a class or no label."""
    is_said = asked is not None and (asked.unlabelled is not None or asked.task == Regression.name)
    found = {str(value) for value in np.asarray(values, dtype=object).ravel()}
    if not is_said and found in ({"-1", "1"}, {"-1.0", "1.0"}):
        raise WhymaskError(
            f"{name}: the labels are -1 and 1, which may be two classes, or no label and one class; give 0 and 1, or "
            "--unlabelled -1"
        )


def _labels_of(arrays: Mapping[str, np.ndarray], split: str, column: str) -> np.ndarray | None:
    return _named(arrays, split, ALIASES.get(column, (column,)))


def _column(name: str, arrays: Mapping[str, np.ndarray], counts: Mapping[str, int], column: str) -> Column:
    """The labels of all images, split after split: (N, L) where they are rows of numbers, else a list of N.

    A split without labels has None or NaN; (N, 1) is taken for (N,), as MedMNIST has it.
    """
    parts = {split: _labels_of(arrays, split, column) for split in counts}
    for split, part in parts.items():
        if part is not None and (not part.ndim or len(part) != counts[split]):
            raise WhymaskError(
                f"{name}: {counts[split]} images and labels of shape {part.shape}; one label, or one row of labels, an "
                "image was expected; give as many"
            )
    widths = {part.size // max(1, len(part)) for part in parts.values() if part is not None}
    if widths == {1}:
        return [
            value
            for split, part in parts.items()
            for value in ([None] * counts[split] if part is None else part.ravel().tolist())
        ]
    if any(part is not None and (part.ndim != 2 or len(widths) > 1) for part in parts.values()):
        shapes = ", ".join(str(part.shape) for part in parts.values() if part is not None)
        raise WhymaskError(
            f"{name}: labels of shape {shapes}; (N, L), with one L, or for label maps whole numbers as "
            "large as the images, (N, height, width), were expected; reshape them"
        )
    if any(part is not None and part.dtype.kind not in "buif" for part in parts.values()):
        return [
            value
            for split, part in parts.items()
            for value in ([None] * counts[split] if part is None else part.tolist())
        ]
    (width,) = widths
    return np.concatenate(
        [np.full((counts[s], width), np.nan) if part is None else part.astype(np.float64) for s, part in parts.items()]
    )


def _named(arrays: Mapping[str, np.ndarray], split: str, names: tuple[str, ...]) -> np.ndarray | None:
    """The array called "images"; for a split, "train_images" or "images_train"."""
    forms = [form for name in names for form in ((f"{split}_{name}", f"{name}_{split}") if split else (name,))]
    return next((arrays[form] for form in forms if form in arrays), None)


def _checked_images(name: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3 and images.shape[2] in (3, 4) and images.dtype == np.uint8:
        raise WhymaskError(
            f"{name}: an array of shape {images.shape}, which may be one image in colour or {len(images)} grey ones of "
            f"{images.shape[1]} x {images.shape[2]} pixels; give images[None], or images[..., None]"
        )
    is_first = images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4)
    if images.ndim not in (3, 4) or images.dtype.kind not in "buif" or is_first:
        raise WhymaskError(
            f"{name}: images of shape {images.shape} and type {images.dtype}; (N, height, width) or (N, height, "
            "width, channels) real numbers were expected; "
            + ("use numpy.moveaxis(images, 1, -1)" if is_first else "reshape them")
        )
    return images
