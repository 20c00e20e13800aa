"""Where the objects of images are: boxes, as a source has them, and as a network that sees these images learns them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from whymask.tasks.coco_matches import COLUMNS as COLUMNS
from whymask.tasks.coco_matches import CROWD as CROWD
from whymask.tasks.coco_matches import DIFFICULT as DIFFICULT


@dataclass(frozen=True)
class Boxes:
    """Where the objects of N images are.

    Attributes:
        there: bool (N,), which images were looked at for objects, of which there may be none.
        starts: int64 (N + 1,): the objects of image i are the rows starts[i] to starts[i + 1] of what follows.
        corners: float64 (M, 4): left, top, right, bottom, in pixels of the image as it is seen (`pixels.size_of`).
        classes: int64 (M,).
        ignored: uint8 (M,): 0, CROWD or DIFFICULT.
        areas: float64 (M,), in pixels.
        sizes: int64 (N, 2): height and width of each image.
    """

    there: np.ndarray
    starts: np.ndarray
    corners: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray
    sizes: np.ndarray

    def of(self, row: int) -> slice:
        """Where the objects of that image are."""
        return slice(int(self.starts[row]), int(self.starts[row + 1]))

    def taken(self, rows: np.ndarray) -> "Boxes":
        """Those of these images, -1 for one without any."""
        known = rows >= 0
        counts = np.where(known, np.diff(self.starts)[rows], 0)
        starts = np.concatenate([[0], np.cumsum(counts)])
        places = np.repeat(self.starts[rows] - starts[:-1], counts) + np.arange(starts[-1])
        return Boxes(
            known & self.there[rows],
            starts,
            self.corners[places],
            self.classes[places],
            self.ignored[places],
            self.areas[places],
            np.where(known[:, None], self.sizes[rows], 0),
        )

    def hashes(self) -> np.ndarray:
        """Of what is known of each image's objects, (N,) "S32"; b"" where none were looked for."""
        kept = [self.corners.astype("<f8"), self.classes.astype("<i8"), self.ignored, self.areas.astype("<f8")]
        found = np.full(len(self.there), b"", "S32")
        for row in np.flatnonzero(self.there).tolist():
            order = np.lexsort([column[self.of(row)] for column in (self.classes, *self.corners.T)])
            digest = hashlib.blake2b(digest_size=16)
            for values in kept:
                digest.update(values[self.of(row)][order].tobytes())
            found[row] = digest.hexdigest().encode()
        return found

    def seen(self, rows: np.ndarray, fitting: Callable[[int, int], tuple[int, int]]) -> np.ndarray:
        """The objects of images that are brought to the sides `fitting(height, width)`, float32 (n, M, 8) of COLUMNS: M
        is the most that one of them has, at least 1, and rows beyond an image's objects have the class -1."""
        most = max(1, int(np.diff(self.starts)[rows].max(initial=0)))
        made = np.zeros((len(rows), most, len(COLUMNS)), np.float32)
        made[..., 4] = -1
        for one, row in zip(made, rows, strict=True):
            height, width = self.sizes[row].tolist()
            fitted = fitting(height, width)
            down, across = fitted[0] / height, fitted[1] / width
            where = self.of(row)
            count = where.stop - where.start
            one[:count, :4] = self.corners[where] * [across, down, across, down]
            one[:count, 4], one[:count, 5], one[:count, 6] = self.classes[where], self.ignored[where], self.areas[where]
            one[:, 7] = 1 / (down * across)
        return made

    def counts(self, classes: int) -> np.ndarray:
        """How many objects of each class that count each image shows, int64 (N, k), a row of -1 where none was looked
        for."""
        image = np.repeat(np.arange(len(self.there)), np.diff(self.starts))
        counted = self.ignored == 0
        found = np.zeros((len(self.there), classes), np.int64)
        np.add.at(found, (image[counted], self.classes[counted]), 1)
        return np.where(self.there[:, None], found, -1)
