"""One picture, opened: regular files alone, up to a size, and only the formats of Pillow that are pictures."""

import io
import stat
from pathlib import Path

from PIL import Image

from whymask.errors import WhymaskError
from whymask.report.text import in_bytes

NOT_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF")
"""Pillow knows the names, not the pixels, or starts another program for them."""
LARGEST_FILE = 2 * 2**30
"""Bytes."""


def picture_formats() -> tuple[str, ...]:
    """Names of the formats that are opened."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NOT_PICTURES)


def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with the dot, of the files that Pillow decodes here."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in NOT_PICTURES)


def regular(path: Path) -> Path:
    """`path`. Raises WhymaskError for what is no file of pixels, such as a pipe, which would be read for ever."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise WhymaskError("no regular file, such as a pipe or a device; a picture was expected")
    if state.st_size > LARGEST_FILE:
        raise WhymaskError(f"a file of {in_bytes(state.st_size)}; at most {in_bytes(LARGEST_FILE)} were expected")
    return path


def open_file(path: Path) -> Image.Image:
    return open_bytes(regular(path).read_bytes())


def open_bytes(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=picture_formats())
