"""Near copies: one picture encoded, resized or mirrored anew, on both sides of a split.

The likeness of two pictures is the correlation of their 16 x 16 lowest spatial frequencies (the discrete cosine
transform of their grey values, as in the perceptual hash pHash, which keeps the signs of 8 x 8 of them), without the
mean, each frequency weighed by its distance from zero: contours count, brightness, contrast, colour and fine detail do
not. Mirroring from left to right turns the signs of the odd horizontal frequencies; the larger of the two correlations
is the likeness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import dct

from whymask.data.preprocessing import LUMINANCE, TOP

FREQUENCIES = 16
LIKENESS = 0.9
"""From here on two pictures are near copies. docs/near-copies.md says what this finds, and what it takes for one."""
ALIKE, MANY = 0.7, 5
"""A test image that is this like so many others is one of a kind, as digits and clothes on a plain background are, or
parts before one camera: copies of it cannot be told from others of its kind."""
FAINTEST = 0.005
"""Standard deviation, of values in [0, 1], of the contours below which a picture is blank, and like nothing."""
SMALLEST = 8  # pixels a side, below which pictures hold too little to tell copies by
SHOWN = 20  # pairs that a page shows
BLOCK, FEW = 512, 64  # images that are compared at once, and whose pixels are read at once


@dataclass(frozen=True)
class NearCopies:
    """The images that are near copies of test images. Arrays (n,), the least alike pair first.

    rows: the copies; of: the test image that each is most like; likeness: how much; untold: how many images are as like
    a test image, of a kind where copies cannot be told.
    """

    rows: np.ndarray
    of: np.ndarray
    likeness: np.ndarray
    untold: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, kept: bool) -> list[str]:
        """What is said of them before anything is trained."""
        so = "kept in training" if kept else "left out of all training; --near-duplicates keep keeps them"
        found = f"{len(self):,} images are near copies of a test image (likeness {LIKENESS} or more) and are {so}"
        untold = (
            f"{self.untold:,} images are as like a test image as near copies are, but so are many others of their "
            "kind: whether they are copies cannot be told, and they are trained on"
        )
        return [found] * (len(self) > 0) + [untold] * (self.untold > 0)

    def describe(self, keys: Sequence[str]) -> dict[str, Any]:
        """Their number, and up to SHOWN pairs, the least alike; `keys` are those of all images."""
        shown = zip(self.rows[:SHOWN], self.of[:SHOWN], self.likeness[:SHOWN], strict=True)
        pairs = [{"image": keys[row], "test": keys[of], "likeness": round(float(like), 4)} for row, of, like in shown]
        return {"near_duplicates": len(self), "near_untold": self.untold, "near_pairs": pairs}


NONE = NearCopies(np.zeros(0, int), np.zeros(0, int), np.zeros(0))


def near_copies(images: np.ndarray, test: np.ndarray, rest: np.ndarray) -> NearCopies:
    """Which of the rows `rest` of `images` (N, H, W, C), uint8 or uint16, are near copies of the rows `test`; of a row
    that is in both, of another one."""
    if not len(test) or not len(rest) or min(images.shape[1:3]) < SMALLEST:
        return NONE
    tested = _contours_of(images, test)
    nearest, likeness = np.zeros(len(rest), int), np.zeros(len(rest))
    alike = np.zeros(len(test), int)
    for start in range(0, len(rest), BLOCK):
        here = slice(start, start + BLOCK)
        likes = likenesses(_contours_of(images, rest[here]), tested)
        if test is rest:
            likes[np.arange(len(likes)), np.arange(start, start + len(likes))] = -1
        nearest[here], likeness[here] = likes.argmax(axis=1), likes.max(axis=1)
        alike += np.count_nonzero(likes >= ALIKE, axis=0)
    close = np.flatnonzero(likeness >= LIKENESS)
    told = close[alike[nearest[close]] < MANY]
    told = told[np.argsort(likeness[told], kind="stable")]
    return NearCopies(rest[told], test[nearest[told]], likeness[told], len(close) - len(told))


def near_pairs(images: np.ndarray, rows: np.ndarray | None = None) -> NearCopies:
    """Which of these rows of `images` (N, H, W, C), uint8 or uint16, by default all, are near copies of an earlier
    one."""
    rows = np.arange(len(images)) if rows is None else rows
    found = near_copies(images, rows, rows) if len(rows) > 1 else NONE
    later = found.rows > found.of
    return NearCopies(found.rows[later], found.of[later], found.likeness[later], found.untold)


def contours(images: np.ndarray) -> np.ndarray:
    """What is compared of (n, H, W, C): float32 (n, FREQUENCIES, FREQUENCIES), fewer of smaller pictures, of length 1;
    of blank ones zeros."""
    grey = images.astype(np.float32) @ _grey(images.shape[-1]) / np.float32(TOP[images.dtype])
    down, across = (_cosines(side) for side in grey.shape[1:])
    found = down @ grey @ across.T
    found[:, 0, 0] = 0
    energy = np.sqrt(np.square(found).sum(axis=(1, 2)) / grey[0].size)
    found *= np.hypot(*np.indices(found.shape[1:])).astype(np.float32)
    length = np.sqrt(np.square(found).sum(axis=(1, 2)))
    return np.where(energy < FAINTEST, 0, 1 / np.maximum(length, 1e-12))[:, None, None].astype(np.float32) * found


def likenesses(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The likeness, -1 to 1, of each of `contours` (n, ...) with each of (m, ...): (n, m)."""
    same, turned = (
        left[..., parity::2].reshape(len(left), -1) @ right[..., parity::2].reshape(len(right), -1).T
        for parity in (0, 1)
    )
    return same + np.abs(turned)


def _cosines(side: int) -> np.ndarray:
    """The lowest frequencies of the orthonormal cosine transform of `side` values, (FREQUENCIES or fewer, side)."""
    return dct(np.eye(side, dtype=np.float32), axis=0, norm="ortho")[:FREQUENCIES]


def _grey(channels: int) -> np.ndarray:
    return (LUMINANCE if channels == 3 else np.full(channels, 1 / channels)).astype(np.float32)


def _contours_of(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The contours of some rows, read a few at a time: what fits into a processor's cache."""
    return np.concatenate([contours(images[rows[start : start + FEW]]) for start in range(0, len(rows), FEW)])
