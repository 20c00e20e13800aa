"""How many near copies are found of those that are made on purpose, among the images at hand."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from whymask.data.near import ALIKE, BLOCK, LIKENESS, MANY, SMALLEST, contours, likenesses

COPIED = 200
"""Images of which copies are made."""
KINDS = ("as JPEG of quality 75", "half as large", "mirrored")


@dataclass(frozen=True)
class Copied:
    """Of so many `images`, copied in each way of KINDS, how many were found, (3,)."""

    images: int
    found: tuple[int, ...]


def copied(images: np.ndarray, rows: np.ndarray) -> Copied | None:
    """Copy some of these rows on purpose, and look for the copies; None of pictures too small to tell, and of those
    that no JPEG holds."""
    if images.dtype != np.uint8 or images.shape[3] not in (1, 3) or min(images.shape[1:3]) < SMALLEST:
        return None
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(COPIED, len(rows))).round().astype(int))]
    originals = images[chosen]
    own = contours(originals)
    alike = np.zeros(len(chosen), int)
    for start in range(0, len(rows), BLOCK):
        alike += (likenesses(own, contours(images[rows[start : start + BLOCK]])) >= ALIKE).sum(axis=1)
    of_few = alike < MANY  # with itself, in the copy's place
    made = zip(*(_copies_of(image) for image in originals), strict=True)
    found = [np.diagonal(likenesses(contours(np.stack(kind)), own)) >= LIKENESS for kind in made]
    return Copied(len(chosen), tuple(int((each & of_few).sum()) for each in found))


def _copies_of(image: np.ndarray) -> list[np.ndarray]:
    """The copies (H, W, C) of an image, one of each of KINDS."""
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    half = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.LANCZOS)
    copies = (Image.open(file), half.resize(picture.size, Image.Resampling.BICUBIC))
    return [*(np.asarray(copy).reshape(image.shape) for copy in copies), image[:, ::-1]]
