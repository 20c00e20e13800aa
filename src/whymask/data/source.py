"""What a source of images is, and the splits that it may name."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from whymask.data.boxes import Boxes
from whymask.tasks import Classification, Task

RawImage = Image.Image | np.ndarray
Reader = Callable[[Path], RawImage]

SPLITS = ("train", "unlabelled", "unlabeled", "val", "valid", "validation", "dev", "test")
"""Parts that data come in, as arrays and columns name them."""
SPLIT_OF = {"training": "train", "testing": "test", "eval": "validation", "evaluation": "validation"}
SPLIT_OF |= {"trainset": "train", "testset": "test", "valset": "validation", "holdout": "test"}
SPLIT_OF |= {word: "validation" if word in ("val", "valid", "dev") else word for word in SPLITS}
"""What a word in the name of a folder, a file or a split means."""


def split_named(name: str) -> tuple[str, str] | None:
    """The split that a name such as "Training", "seg_test" or "TrainingData" is of, and what else is in the name; None
    where it is of none, or of two."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
    return (found.pop(), " ".join(word for word in words if word not in SPLIT_OF)) if len(found) == 1 else None


def split_in(path: str) -> str:
    """The first split that a word of a path names; "" for none."""
    return next((SPLIT_OF[word] for word in re.split(r"[^a-z]+", path.lower()) if word in SPLIT_OF), "")


@dataclass(frozen=True)
class LabelMaps:
    """Of which class each pixel of some of N images is.

    `there`: bool (N,), which images have a map; `read(i)`: that of image i, uint8 (H, W) of class numbers, 255 where no
    class counts, as large as the image; called from several threads at once. `stamp` changes when the maps may have.
    `files`: their paths, as keys are, which are no images.
    """

    there: np.ndarray
    read: Callable[[int], np.ndarray]
    stamp: str
    files: frozenset[str] = frozenset()

    def taken(self, rows: np.ndarray) -> "LabelMaps":
        """Those of these rows, -1 for an image without one."""
        known = rows >= 0
        there = np.where(known, self.there[rows], False)
        return LabelMaps(there, lambda index: self.read(int(rows[index])), self.stamp, self.files)


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
    labels: np.ndarray  # N rows, of a form that the task says: class numbers (N,), 0 or 1 (N, L), numbers (N, T)
    task: Task = field(default_factory=Classification)
    splits: np.ndarray | None = None  # str (N,) of "train" and "test"; None when the source has no test split
    tags: np.ndarray | None = None  # str (N,), subsets reported apart
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # str (N,), "" where unknown; for --group-by
    wholes: np.ndarray | None = None  # str (N,): the key of the file that each image is a part of (see `parts`)
    notes: tuple[str, ...] = ()  # how it was read where that was not plain, for the person who gave it
    missing: frozenset[str] = frozenset()  # keys of files that are named and not there: they have no labels
    by_folders: bool = False  # whether its labels are the names of folders
    reader: str | None = None  # what a user's own reader is called (see `readers`)
    maps: LabelMaps | None = None  # of segmentation, whose labels they are
    boxes: Boxes | None = None  # of detection, likewise
    mended: tuple[tuple[str, str, str], ...] = ()  # boxes repaired or left out: of which key, as written, what was done
    spent: Callable[[], object] | None = None  # called once its images are in a store: what was fetched for it may go

    def __len__(self) -> int:
        return len(self.keys)

    def sample(self, most: int) -> list[int]:
        """Up to so many rows, evenly spaced."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(int)).tolist()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes or targets."""
        return self.task.names

    @property
    def labelled(self) -> np.ndarray:
        """Which images have labels, bool (N,)."""
        return self.task.labelled(self.labels)


def split_column(words: Iterable[str], labelled: np.ndarray) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Words of `SPLIT_OF`, of any source -> "train" and "test", or None where there is no test split; and what is to be
    said of a validation split. `labelled` is bool (N,).

    Without a test split, or where only the validation split has labels, that one is the test split.
    """
    given = np.array([SPLIT_OF.get(word, "train") for word in words], dtype=str)
    is_test, is_validation = given == "test", given == "validation"
    has_labels = labelled[is_test].any() or not labelled[is_validation].any()
    chosen = is_test if is_test.any() and has_labels else is_validation
    if not chosen.any() or chosen.all():
        return None, ()
    return np.where(chosen, "test", "train"), tuple(_notes(chosen is is_test, is_test, is_validation, labelled))


def _notes(is_test_tested: bool, is_test: np.ndarray, is_validation: np.ndarray, labelled: np.ndarray) -> Iterator[str]:
    if not is_test_tested:
        yield "the validation split is tested on"
    elif is_validation.any():
        yield "the validation split is trained on, as there is a test split: nothing is chosen by it here"
    if is_test.any() and labelled.any() and not labelled[is_test].any():
        drawn = "" if not is_test_tested else ", and test images are drawn from those that have"
        yield f"the test split has no labels: its images count as unlabelled{drawn}"
