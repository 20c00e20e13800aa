"""One picture, opened: regular files alone, up to a size, and only the formats of Pillow that are pictures.

Pillow's own limit of 179 megapixels is for who opens what strangers send. Here larger pictures, up to 1,000, are
reduced while they are read, one at a time, so that memory holds them.
"""

import io
import logging
import math
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from threading import Lock

from PIL import Image, UnidentifiedImageError

from whymask.data import formats
from whymask.data.pixels import FRAMES
from whymask.data.source import RawImage
from whymask.errors import WhymaskError
from whymask.report.text import in_bytes

NOT_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF")
"""Pillow knows the names, not the pixels, or starts another program for them."""
USUAL = ("BMP", "DIB", "GIF", "JPEG", "PPM", "PNG")
"""Which `Image.open` tries before all others: each that fails takes time."""
LARGEST_FILE = 2 * 2**30
"""Bytes."""
LARGEST_WHOLE, LARGEST = 179_000_000, 1_000_000_000
"""Pixels: of a picture that is read whole, and of one that is read at all."""
REDUCED = "whymask_reduced"
"""In `Image.info`: how many pixels of a side were made one."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # of what cannot be opened the reason is told here, once
_wanted_whole: ContextVar[bool] = ContextVar("wanted_whole", default=False)
_of_large = Lock()


def picture_formats() -> tuple[str, ...]:
    """Names of the formats that are opened, the usual ones first."""
    Image.init()
    formats.register()
    return _pictures_of(len(Image.OPEN))


@cache
def _pictures_of(known: int) -> tuple[str, ...]:
    """Of the formats that Pillow knows, of which there may come to be more."""
    pictures = [name for name in Image.OPEN if name not in NOT_PICTURES]
    return tuple(sorted(pictures, key=lambda name: name not in USUAL))


def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with the dot, of the files that are decoded here."""
    opened = picture_formats()
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in opened) | formats.suffixes()


def regular(path: Path) -> Path:
    """`path`. Raises WhymaskError for what is no file of pixels, such as a pipe, which would be read for ever."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise WhymaskError("no regular file, such as a pipe or a device; a picture was expected")
    if state.st_size > LARGEST_FILE:
        raise WhymaskError(f"a file of {in_bytes(state.st_size)}; at most {in_bytes(LARGEST_FILE)} were expected")
    return path


def open_file(path: Path) -> RawImage:
    return open_bytes(regular(path).read_bytes())


def open_bytes(data: bytes) -> RawImage:
    """Pillow's image, or an array where it would show less than there is (see `formats`)."""
    image = _by_pillow(data)
    whole = formats.read_whole(data, image)
    if whole is not None:
        return whole
    if image is None:
        raise UnidentifiedImageError(formats.advice(data) or "cannot identify image file")
    return _in_bounds(image)


@contextmanager
def whole_pictures() -> Iterator[None]:
    """Within it, this thread reads large pictures whole: who cuts tiles wants every pixel."""
    token = _wanted_whole.set(True)
    try:
        yield
    finally:
        _wanted_whole.reset(token)


def _by_pillow(data: bytes) -> Image.Image | None:
    """What `Image.open` gives, but without its check of the size, which only a variable of the whole process turns off,
    and without its warning; None where no format is that of the data."""
    stream, start = io.BytesIO(data), data[:16]
    for name in picture_formats():
        factory, accepts = Image.OPEN[name]
        try:
            verdict = accepts is None or accepts(start)
            if not verdict or isinstance(verdict, str):  # a text says why it cannot be decoded
                continue
            stream.seek(0)
            return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # as Image.open: another format's
            continue
    return None


def _in_bounds(image: Image.Image) -> Image.Image:
    pixels = image.width * image.height
    if pixels > LARGEST:
        raise WhymaskError(
            f"a picture of {image.width:,} x {image.height:,} pixels; at most {LARGEST // 10**6:,} million were "
            "expected; cut it into smaller files, or give a --reader that reads a part"
        )
    if pixels <= LARGEST_WHOLE or _wanted_whole.get():
        return image
    side = math.ceil(math.sqrt(pixels / LARGEST_WHOLE))
    with _of_large:
        if image.format == "JPEG":
            image.draft(image.mode, (image.width // side, image.height // side))
        left = math.ceil(math.sqrt(image.width * image.height / LARGEST_WHOLE))
        reduced = image if left == 1 else _reduced(image, left)
        reduced.load()
    reduced.info |= {REDUCED: side, FRAMES: getattr(image, "n_frames", 1)}
    return reduced


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """Also where Pillow averages no pixels of that mode: bits, colours of a palette, numbers of 16 bits."""
    if image.mode.startswith("I;16"):
        return image.convert("I").reduce(factor).convert("I;16")
    others = {"1": "L", "P": "RGBA" if image.has_transparency_data else "RGB", "PA": "RGBA"}
    return image.convert(others.get(image.mode, image.mode)).reduce(factor)
