"""Where the objects of images are: boxes, as a source has them, and as a network that sees these images learns them."""

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

    def counts(self, classes: int) -> np.ndarray:
        """How many objects of each class that count each image shows, int64 (N, k), a row of -1 where none was looked
        for."""
        image = np.repeat(np.arange(len(self.there)), np.diff(self.starts))
        counted = self.ignored == 0
        found = np.zeros((len(self.there), classes), np.int64)
        np.add.at(found, (image[counted], self.classes[counted]), 1)
        return np.where(self.there[:, None], found, -1)
