"""Small images as data URIs, and the arrays that they are made of."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from whymask.disk import read_arrays
from whymask.errors import DamagedError


def data_uri(image: np.ndarray, side: int) -> str:
    """A lossless WebP (half a PNG) of `image` (h, w, C), uint8, its longer side at most `side` pixels.

    Of many channels, the first three.
    """
    picture = Image.fromarray(np.ascontiguousarray(image[..., :3] if image.shape[-1] >= 3 else image[..., 0]))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, quality=75, method=4)  # 100 and 6 take 30 times as long, for no less
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; none if there is no such file or it is damaged: a page is made from what is there."""
    try:
        return read_arrays(path)
    except DamagedError:
        return {}
