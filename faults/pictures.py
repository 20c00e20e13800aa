"""Odd files among pictures, made by code: none ends a run or makes it wait; each is used, or listed with a reason."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from faults.child import DONE, PATIENCE, start
from faults.trial import Trial
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings

GOOD = 12
"""Pictures that are none of the odd ones."""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few kilobytes, and without all of its data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def jpeg() -> bytes:
    return encoded(picture(), "JPEG")


ODD: dict[str, Callable[[], bytes]] = {
    "empty.png": lambda: b"",
    "text.png": lambda: b"this is no picture",
    "zeros.jpg": lambda: bytes(4096),
    "half.jpg": lambda: jpeg()[: len(jpeg()) // 2],
    "half.png": lambda: encoded(picture(), "PNG")[:900],
    "named.png": jpeg,
    "postscript.jpg": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%stdout) print\n",
    "bomb.png": bomb,
    "dot.png": lambda: encoded(picture(size=(1, 1)), "PNG"),
    "line.png": lambda: encoded(picture(size=(1, 5000)), "PNG"),
    "grey.png": lambda: encoded(picture("L"), "PNG"),
    "one_bit.png": lambda: encoded(picture("1"), "PNG"),
    "palette.png": lambda: encoded(picture("P"), "PNG"),
    "clear.png": lambda: encoded(picture("RGBA"), "PNG"),
    "grey_clear.png": lambda: encoded(picture("LA"), "PNG"),
    "print.jpg": lambda: encoded(picture("CMYK"), "JPEG"),
    "ycc.jpg": lambda: encoded(picture("YCbCr"), "JPEG"),
    "lab.tif": lambda: encoded(picture("LAB"), "TIFF"),
    "deep.png": lambda: encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
    "float.tif": lambda: encoded(Image.fromarray(np.full((30, 40), np.nan, np.float32)), "TIFF"),
    "infinite.tif": lambda: encoded(Image.fromarray(np.full((30, 40), np.inf, np.float32)), "TIFF"),
    "moving.gif": lambda: encoded(picture("P"), "GIF", save_all=True, append_images=[picture("P"), picture("L")]),
    "moving.webp": lambda: encoded(picture(), "WEBP", save_all=True, append_images=[picture()]),
    "pages.tif": lambda: encoded(picture(), "TIFF", save_all=True, append_images=[picture("L")]),
    "turned.jpg": lambda: encoded(
        picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    ),
    "broken_exif.jpg": lambda: encoded(picture(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 60),
    "name with \n line, and =cmd|'.png": lambda: encoded(picture(), "PNG"),
    "<script>alert(1)<x>.png": lambda: encoded(picture(), "PNG"),
    "naïve 日本 \N{RIGHT-TO-LEFT OVERRIDE}.png": lambda: encoded(picture(), "PNG"),
}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing.png"))


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def not_utf8(path: Path) -> None:
    (path.parent / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(picture(), "PNG"))


STRANGE: dict[str, Callable[[Path], None]] = {
    "fifo.jpg": fifo,
    "endless.png": endless,
    "dangling.png": dangling,
    "circle.png": circle,
    "folder.png": folder,
    "not_utf8.png": not_utf8,
}


def pictures(folder: Path, random: np.random.Generator) -> Iterator[Iterator[Trial]]:
    """A round: each odd file once, beside good pictures."""
    os.environ["WHYMASK_STORE"] = str(folder / "store")
    yield (_beside_good_ones(name, folder / str(at), random) for at, name in enumerate([*ODD, *STRANGE]))


def _beside_good_ones(name: str, place: Path, random: np.random.Generator) -> Trial:
    place.mkdir()
    for good in range(GOOD):
        Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(place / f"{good}.png")
    if name in ODD:
        (place / name).write_bytes(ODD[name]())
    else:
        STRANGE[name](place / name)
    child = start(partial(_opened, place), place.with_suffix(".log"))
    code = child.end()
    lost = f"waited {PATIENCE:.0f} s" if code is None else f"ended with {code}: {child.said()[-500:]}"
    return Trial("odd picture", repr(name), "" if code == DONE else lost)


def _opened(place: Path) -> None:
    prepared = prepare(place, DataSettings())
    if len(prepared.pool) < GOOD:
        raise RuntimeError(f"{len(prepared.pool)} of {GOOD} good pictures are left")
