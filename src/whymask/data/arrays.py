"""Sources in memory: arrays, dicts of arrays, and `.npz` files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.source import SPLITS, RawImage, Source, encode_labels, split_column, stamp_files
from whymask.errors import WhymaskError


def from_npz(name: str, path: Path) -> Source:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:
        raise WhymaskError(f"{name}: cannot be read as .npz ({error}); save it with numpy.savez") from error
    return _from_named(name, str(path.resolve()), arrays, stamp_files([path], [path.name]))


def from_arrays(data: Any) -> Source:
    if isinstance(data, Mapping):
        arrays = {str(key): np.asarray(value) for key, value in data.items()}
    elif isinstance(data, tuple) and len(data) == 2:
        arrays = {"images": np.asarray(data[0]), "labels": np.asarray(data[1])}
    else:
        arrays = {"images": np.asarray(data)}
    digest = hashlib.blake2b(digest_size=16)
    for key, array in arrays.items():
        digest.update(f"{key} {array.shape} {array.dtype.str}".encode())
        digest.update(
            np.ascontiguousarray(array).tobytes() if array.dtype == object else np.ascontiguousarray(array).data
        )
    return _from_named("arrays", f"array-{digest.hexdigest()[:8]}", arrays, digest.hexdigest())


def _from_named(name: str, prefix: str, arrays: Mapping[str, np.ndarray], stamp: str) -> Source:
    """Named arrays: images and labels, or a pair of them for each split."""
    parts = {split: _named(arrays, split, ("images", "x")) for split in ("", *SPLITS)}
    images = {split: _checked_images(name, part) for split, part in parts.items() if part is not None}
    if not sum(map(len, images.values())):
        raise WhymaskError(
            f"{name}: no images in the arrays {', '.join(arrays)}; images and labels, or x_train, y_train, x_test and "
            "y_test, were expected; rename them"
        )
    labels, classes = encode_labels(
        [value for split, part in images.items() for value in _label_list(name, arrays, split, len(part))], name
    )
    splits = [split for split, part in images.items() for _ in range(len(part))]
    starts = np.cumsum([0, *map(len, images.values())])
    stacks = list(images.values())

    def read(index: int) -> RawImage:
        stack = int(np.searchsorted(starts, index, side="right")) - 1
        return stacks[stack][index - starts[stack]]

    own = {"images", "x", "labels", "y"}
    return Source(
        name=name,
        keys=[f"{prefix}#{row}" for row in range(len(splits))],
        read=read,
        stamp=stamp,
        labels=labels,
        classes=classes,
        splits=split_column(splits, labels),
        columns={k: v.astype(str) for k, v in arrays.items() if k not in own and v.shape == (len(splits),)},
    )


def _label_list(name: str, arrays: Mapping[str, np.ndarray], split: str, count: int) -> list:
    """One label for each of the `count` images of a split; (N, 1) is taken for (N,), as MedMNIST has it."""
    labels = _named(arrays, split, ("labels", "y"))
    if labels is None:
        return [None] * count
    if len(labels) != count or labels.size != count:
        raise WhymaskError(
            f"{name}: {count} images and labels of shape {labels.shape}; one class an image was expected (several "
            "labels an image are not covered yet); give class numbers or names"
        )
    return labels.ravel().tolist()


def _named(arrays: Mapping[str, np.ndarray], split: str, names: tuple[str, ...]) -> np.ndarray | None:
    """The array called "images"; for a split, "train_images" or "images_train"."""
    forms = [form for name in names for form in ((f"{split}_{name}", f"{name}_{split}") if split else (name,))]
    return next((arrays[form] for form in forms if form in arrays), None)


def _checked_images(name: str, images: np.ndarray) -> np.ndarray:
    is_first = images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4)
    if images.ndim not in (3, 4) or images.dtype.kind not in "buif" or is_first:
        raise WhymaskError(
            f"{name}: images of shape {images.shape} and type {images.dtype}; (N, height, width) or (N, height, "
            "width, channels) real numbers were expected; "
            + ("use numpy.moveaxis(images, 1, -1)" if is_first else "reshape them")
        )
    return images
