"""Small images as data URIs, and the arrays that they are made of."""

import base64
import colorsys
import io
from pathlib import Path

import numpy as np
from PIL import Image

from whymask.disk import read_arrays
from whymask.errors import DamagedError

MOST_LOSSLESS = 4096
"""Bytes."""
COLOUR = 0.6
"""Of a label map over its image."""


def class_colours(count: int) -> np.ndarray:
    """A colour for each class, uint8 (count, 3): neighbours in number are far apart in hue."""
    hues = [(0.55 + 0.618034 * number) % 1 for number in range(count)]
    shades = [(0.85, 0.9), (0.55, 0.95), (0.9, 0.6)]
    colours = [colorsys.hsv_to_rgb(hue, *shades[number % 3]) for number, hue in enumerate(hues)]
    return (255 * np.array(colours).reshape(count, 3)).round().astype(np.uint8)


def overlaid(image: np.ndarray, label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """An image (H, W, C) under the colours of its label map (H, W), uint8 (H, W, 3); what is beyond the colours is seen
    as it is."""
    picture = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    known = label_map < len(colours)
    mixed = COLOUR * colours[np.where(known, label_map, 0)] + (1 - COLOUR) * picture
    return np.where(known[..., None], mixed.round(), picture).astype(np.uint8)


def data_uri(image: np.ndarray, side: int) -> str:
    """A WebP of `image` (h, w, C), uint8, its longer side at most `side` pixels: lossless (half a PNG), or where that
    takes more than `MOST_LOSSLESS`, as of photos, of quality 90.

    Of many channels, the first three.
    """
    picture = Image.fromarray(np.ascontiguousarray(image[..., :3] if image.shape[-1] >= 3 else image[..., 0]))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = _webp(picture, lossless=True, quality=75)  # 100 and method 6 take 30 times as long, for no less
    if len(data) > MOST_LOSSLESS:
        data = _webp(picture, lossless=False, quality=90)
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def _webp(picture: Image.Image, lossless: bool, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=lossless, quality=quality, method=4)
    return buffer.getvalue()


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; none if there is no such file or it is damaged: a page is made from what is there."""
    try:
        return read_arrays(path)
    except DamagedError:
        return {}
