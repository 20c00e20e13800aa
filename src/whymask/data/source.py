"""What a source of images is, and the three things every kind of source makes: labels, splits and a stamp."""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from whymask.errors import WhymaskError

RawImage = Image.Image | np.ndarray
Reader = Callable[[Path], RawImage]

VALIDATION = ("val", "valid", "validation", "dev")
SPLITS = ("train", "unlabelled", "unlabeled", *VALIDATION, "test")


@dataclass(frozen=True)
class Source:
    """N images that have not been decoded yet.

    `read(i)` decodes image i, from several threads at once, and may raise: the image is then skipped. `stamp`
    changes when the pixels may have changed; it does not cover labels.
    """

    name: str  # what the user gave
    keys: list[str]  # unique: an absolute path, "/data/train.parquet#17:cat/3.jpg" or "array-1f3a5c7e#3"
    read: Callable[[int], RawImage]
    stamp: str
    labels: np.ndarray  # int64 (N,), -1 = unlabelled
    classes: tuple[str, ...] = ()
    splits: np.ndarray | None = None  # str (N,) of "train" and "test"; None when the source has no test split
    tags: np.ndarray | None = None  # str (N,), subsets reported apart
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # str (N,), "" where unknown; for --group-by

    def __len__(self) -> int:
        return len(self.keys)


def encode_labels(values: Sequence | np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers (N,) int64 and class names of labels of any type.

    Names are in order of their number where all are numbers, else of the alphabet. None, "", NaN and negative numbers
    mean unlabelled, -1.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.empty((len(values), 0))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or (array.dtype.kind == "f" and (array[np.isfinite(array)] % 1).any()):
        raise WhymaskError(
            f"{name}: labels of shape {array.shape} and type {array.dtype}; one class an image was expected (several "
            "labels an image and regression are not covered yet); give class numbers or names"
        )
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, -1).astype(np.int64)
    if array.dtype.kind not in "iu":
        array = np.array(["" if value is None else str(value).strip() for value in array.tolist()], dtype=str)
        if all(re.fullmatch(r"-1|\d*", text) for text in np.unique(array).tolist()):
            return _encode(array, (array != "") & (array != "-1"), int)
        return _encode(array, array != "", str)
    return _encode(array, array >= 0, int)


def _encode(array: np.ndarray, is_known: np.ndarray, order: Callable) -> tuple[np.ndarray, tuple[str, ...]]:
    names = sorted(np.unique(array[is_known]).tolist(), key=order)
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers.get(value, -1) for value in array.tolist()], dtype=np.int64)
    return labels, tuple(str(name) for name in names)


def split_column(words: Iterable[str], labels: np.ndarray) -> np.ndarray | None:
    """Split names of any source -> "train" and "test", or None where there is no test split.

    Without a test split, or where only the validation split has labels, that one is the test split.
    """
    given = np.array(list(words), dtype=str)
    is_test, is_validation = given == "test", np.isin(given, VALIDATION)
    has_labels = (labels[is_test] >= 0).any() or not (labels[is_validation] >= 0).any()
    if not is_test.any() or not has_labels:
        is_test = is_validation
    return np.where(is_test, "test", "train") if is_test.any() and not is_test.all() else None


def stamp_files(paths: Sequence[Path], names: Sequence[str], reader: Reader | None = None) -> str:
    """A digest of names, sizes and times, and of the reader's text: another reader sees other pixels."""
    parts = []
    for path, name in zip(paths, names, strict=True):
        try:
            state = path.stat()
        except OSError:
            parts.append(f"{name} missing")
        else:
            parts.append(f"{name} {state.st_size} {state.st_mtime_ns}")
    if reader is not None:
        try:
            parts.append(inspect.getsource(reader))
        except (OSError, TypeError):
            parts.append(getattr(reader, "__qualname__", type(reader).__qualname__))
    return digest_of(parts)


def digest_of(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()
