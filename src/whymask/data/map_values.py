"""The pixels of a label map as numbers: of classes, or of the values that stand for them."""

from collections import Counter

import numpy as np
from PIL import Image

from whymask.data.class_names import ClassTable
from whymask.data.pixels import ORIENTATION, TURNED
from whymask.data.source import RawImage
from whymask.errors import WhymaskError
from whymask.tasks.label_map_counts import IGNORED

VALUES = 256
"""Of a map: bytes."""
COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
"""Of Pillow's images, where classes have colours; else colours of a palette are numbers."""
SPREAD = {"L;2": 85, "L;4": 17}
"""Pillow's names of grey pixels of few bits -> what one is of 255."""
TOLD = 3
"""Of what is wrong with many maps, how many are named."""


class UnknownColours(WhymaskError):
    """A map in colours that are of no class; `counts` are pixels by colour, as r << 16 | g << 8 | b."""

    def __init__(self, counts: Counter[int], file: str):
        self.counts = counts
        super().__init__(f"its label map has pixels in {colours_text(counts)}, which {file} does not name")


def colours_text(counts: Counter[int]) -> str:
    shown = [
        f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255}) ({count:,})"
        for colour, count in counts.most_common(TOLD)
    ]
    return ", ".join([*shown, *["..."] * (len(counts) > TOLD)])


def values_of(raw: RawImage, classes: ClassTable | None = None, ignored: int = IGNORED) -> np.ndarray:
    """Which values a map has, upright, uint8 (H, W): its grey levels, or which colours of its palette; where classes
    have colours, of which class these are. An `ignored` value that is no byte becomes IGNORED.

    Raises WhymaskError for colours without a table of them, for numbers that are no bytes, and for a JPEG, which
    changes numbers.
    """
    if isinstance(raw, Image.Image) and raw.format in ("JPEG", "MPO"):
        raise WhymaskError(
            "its label map is a JPEG, which does not keep class numbers; a PNG was expected; write it as one from the "
            "original"
        )
    if classes is not None and classes.colours is not None and (classes.is_grey or is_coloured(raw)):
        return _of_colours(raw, classes)
    spread = _spread_of(raw)
    pixels = _upright(raw, np.asarray(raw)) // spread if spread > 1 else _upright(raw, np.asarray(raw))
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2, 4):  # without transparency
        pixels = pixels[..., : 3 if pixels.shape[2] == 4 else 1]
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise WhymaskError(
            "its label map is in colours; class numbers (a grey or palette picture) were expected; write it so, or "
            "give --class-names FILE.csv with the columns name, r, g and b"
        )
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if not 0 <= ignored < VALUES:
        pixels = np.where(pixels == ignored, IGNORED, pixels.astype(np.int64))
    if pixels.dtype.kind not in "ui" or pixels.min(initial=0) < 0 or pixels.max(initial=0) >= VALUES:
        odd = pixels.min() if pixels.min() < 0 else pixels.max()
        raise WhymaskError(
            f"its label map holds {odd} ({pixels.dtype}); class numbers from 0 to 255 were expected; write it so, or "
            "give --ignored the value of pixels that are of no class"
        )
    return pixels.astype(np.uint8)


def _spread_of(raw: RawImage) -> int:
    """By how much Pillow multiplies the numbers of a grey picture of 2 or 4 bits, which it must not have read yet."""
    tiles = raw.tile if isinstance(raw, Image.Image) and raw.mode == "L" and hasattr(raw, "tile") else []
    return next((times for tile in tiles for mode, times in SPREAD.items() if tile[3] == mode), 1)


def is_coloured(raw: RawImage) -> bool:
    """Whether a map may be in colours, its palette's included."""
    return raw.mode in COLOUR_MODES if isinstance(raw, Image.Image) else raw.ndim == 3 and raw.shape[2] >= 3


def _of_colours(raw: RawImage, classes: ClassTable) -> np.ndarray:
    assert classes.colours is not None
    pixels = np.asarray(raw.convert("RGB")) if isinstance(raw, Image.Image) else np.asarray(raw)
    pixels = _upright(raw, pixels if pixels.ndim == 3 and pixels.shape[2] >= 3 else np.dstack([pixels] * 3))
    found, of_classes = _packed(pixels), _packed(classes.colours)
    order = np.argsort(of_classes)
    at = np.searchsorted(of_classes[order], found).clip(max=len(order) - 1)
    is_known = of_classes[order][at] == found
    if not is_known.all():
        colours, counts = np.unique(found[~is_known], return_counts=True)
        raise UnknownColours(Counter(dict(zip(colours.tolist(), counts.tolist(), strict=True))), classes.file)
    return order[at].astype(np.uint8)


def _packed(colours: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(colours[..., :3].astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue


def _upright(raw: RawImage, pixels: np.ndarray) -> np.ndarray:
    """Turned as its own EXIF says, which Pillow does itself of a TIFF."""
    if not isinstance(raw, Image.Image) or raw.format == "TIFF":
        return pixels
    turned = TURNED.get(raw.getexif().get(ORIENTATION, 1))
    return pixels if turned is None else turned(pixels)
