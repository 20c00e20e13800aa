"""Small images as data URIs, and the arrays that they are made of."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from whymask.disk import read_arrays
from whymask.errors import DamagedError

MOST_LOSSLESS = 4096
"""Bytes."""


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels of 8 or 16 bits as uint8, of the same shape."""
    return pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)


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
