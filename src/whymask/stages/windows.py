"""Whole images of any size and shape before a network that sees one size: by windows that overlap, whose logits are
averaged, and of these a class for each pixel."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from whymask.data.decoding import reason_of
from whymask.data.opening import REDUCED
from whymask.data.parts import tiles_along
from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.sources import Source
from whymask.errors import WhymaskError

MOST = 32
"""Images that are decoded, and windows that the network sees, at once."""
LOGITS = 256 * 2**20
"""Bytes: of the windows that it sees at once, and of the rows of an image that are brought to its own size at once."""
LONGEST = 2**30
"""Bytes of an image's logits at the scale that the network sees: an image with more is too long for its width."""

Size = tuple[int, int]


def windows_of(sides: Size, window: Size, overlap: float) -> list[tuple[int, int]]:
    """(top, left) of the windows (h, w) over an image (H, W), row by row. Neighbours have the share `overlap` of a side
    in common; the last one ends where the image ends, and so may have more."""
    along = (tiles_along(side, length, int(overlap * length)) for side, length in zip(sides, window, strict=True))
    return [(top, left) for (top, _), (left, _) in product(*along)]


class Whole:
    """One image at the scale that the network was trained at, and the logits of its windows, as far as they are there.

    Attributes:
        row: of the image, in its source.
        own: (height, width) of the image itself.
        places: (top, left) of the windows that are still to be seen.
    """

    def __init__(self, row: int, pixels: np.ndarray, prep: Preprocessing, outputs: int, overlap: float):
        """Raises WhymaskError for an image that is too long for its width."""
        self.row, self.own, self.prep = row, (pixels.shape[0], pixels.shape[1]), prep
        height, width = prep.covering(*self.own)
        if 4 * outputs * height * width > LONGEST:
            raise WhymaskError(
                f"an image of {self.own[0]:,} x {self.own[1]:,} pixels, of which the network would see {height:,} x "
                f"{width:,}; at most {LONGEST // (4 * outputs):,} pixels were expected; cut it into shorter ones"
            )
        self.stored = prep.fit(pixels, whole=True)
        self.places = windows_of((height, width), prep.size, overlap)
        self.left = len(self.places)
        self.sum: Tensor | None = None
        self.times = torch.zeros(height, width)

    def window(self, place: tuple[int, int]) -> Tensor:
        """What the network sees there, (C, h, w)."""
        (top, left), (height, width) = place, self.prep.size
        return self.prep.normalise(self.stored[None, top : top + height, left : left + width])[0]

    def add(self, place: tuple[int, int], logits: Tensor) -> bool:
        """Logits (k, h, w) of a window, on any device; whether they were the last ones."""
        (top, left), (height, width) = place, self.prep.size
        if self.sum is None:
            self.sum, self.times = logits.new_zeros(len(logits), *self.times.shape), self.times.to(logits.device)
        self.sum[:, top : top + height, left : left + width] += logits
        self.times[top : top + height, left : left + width] += 1
        self.left -= 1
        return self.left == 0

    def label_map(self) -> np.ndarray:
        """The class of each pixel of the image itself, uint8 (H, W), of the mean logits of all windows."""
        assert self.sum is not None
        return classes_at(self.sum / self.times, self.own)


def classes_at(logits: Tensor, size: Size) -> np.ndarray:
    """The class with the largest of logits (k, h, w), which are brought to `size` (H, W) bilinearly, a few rows at a
    time: uint8 (H, W)."""
    classes, rows, _ = logits.shape
    height, width = size
    if logits.shape[1:] == size:
        return logits.argmax(dim=0).byte().cpu().numpy()
    at = ((torch.arange(height, device=logits.device) + 0.5) * (rows / height) - 0.5).clamp(min=0)
    above = at.long()
    below, share = (above + 1).clamp(max=rows - 1), at - above
    found = np.empty(size, np.uint8)
    each = max(1, LOGITS // (4 * classes * width))
    for start in range(0, height, each):
        part = slice(start, start + each)
        band = torch.lerp(logits[:, above[part]], logits[:, below[part]], share[part, None])
        wide = F.interpolate(band[None], size=(band.shape[1], width), mode="bilinear")[0]
        found[part] = wide.argmax(dim=0).byte().cpu().numpy()
    return found


@torch.inference_mode()
def label_maps_of(
    network: Callable[[Tensor], Tensor], outputs: int, prep: Preprocessing, source: Source, overlap: float
) -> Iterator[tuple[int, np.ndarray | str]]:
    """Each row of `source` with its label map uint8 (H, W), of the image's own size, or why it cannot be used.

    `network`: images (B, C, h, w) of `prep.size` -> logits (B, k, h, w), k being `outputs`. Images are decoded by
    threads, a few at a time, and windows of several are seen together.
    """
    together = max(1, min(MOST, LOGITS // (4 * outputs * prep.size[0] * prep.size[1])))

    def opened(row: int) -> Whole | str:
        try:
            raw = source.read(row)
            if isinstance(raw, Image.Image) and REDUCED in raw.info:
                raise WhymaskError("more than 179 million pixels, which are read reduced; cut it into smaller files")
            return Whole(row, native_pixels(raw, prep.alpha, prep.frames), prep, outputs, overlap)
        except Exception as error:
            return reason_of(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each holds an image of its own size
        for start in range(0, len(source), MOST):
            rows = range(start, min(start + MOST, len(source)))
            found = dict(zip(rows, pool.map(opened, rows), strict=True))
            yield from ((row, each) for row, each in found.items() if isinstance(each, str))
            wholes = [each for each in found.values() if isinstance(each, Whole)]
            yield from _seen(network, wholes, together)


def _seen(
    network: Callable[[Tensor], Tensor], wholes: Sequence[Whole], together: int
) -> Iterator[tuple[int, np.ndarray]]:
    windows = [(whole, place) for whole in wholes for place in whole.places]
    for start in range(0, len(windows), together):
        part = windows[start : start + together]
        logits = network(torch.stack([whole.window(place) for whole, place in part])).float()
        for (whole, place), one in zip(part, logits, strict=True):
            if whole.add(place, one):
                yield whole.row, whole.label_map()
                whole.sum = None
