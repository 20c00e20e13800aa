"""Thumbnails of many images in a few pictures, whose size is bounded."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from whymask.report.pictures import as_bytes

SIDES = ((64, 2_000), (48, 5_000), (32, 20_000), (24, 50_000))
"""Pixels of a thumbnail's side, and up to how many images they have it."""
SHEET = 1024
"""Pixels of a sheet's side."""
MOST_BYTES = 8_000_000
"""Of all sheets, before they are written as text, which is a third more."""
QUALITY = 70


@dataclass(frozen=True)
class Sheets:
    """Pictures as data URIs, in each `across` x `across` thumbnails of `side` pixels; `place` int64 (N,): where each
    image's is, counted through all sheets, -1 for none."""

    uris: list[str]
    side: int
    across: int
    place: np.ndarray
    nbytes: int

    @property
    def shown(self) -> int:
        """Images that have a thumbnail."""
        return int((self.place >= 0).sum())

    def to_dict(self) -> dict[str, Any]:
        return {"uris": self.uris, "side": self.side, "across": self.across}


def sheets_of(images: np.ndarray, rows: np.ndarray, order: np.ndarray, most: int = MOST_BYTES) -> Sheets:
    """Thumbnails of these rows (n,) of `images` (N, H, W, C), uint8 or uint16, in this `order` of the n, until the
    sheets take `most` bytes."""
    side = next(side for side, count in SIDES if len(rows) <= count)
    across = SHEET // side
    place, uris, total = np.full(len(rows), -1), list[str](), 0
    for start in range(0, len(order), across**2):
        part = order[start : start + across**2]
        data = _sheet([_thumbnail(images[row], side) for row in rows[part]], side, across)
        if total + len(data) > most:
            break
        total += len(data)
        place[part] = start + np.arange(len(part))
        uris.append("data:image/webp;base64," + base64.b64encode(data).decode())
    return Sheets(uris, side, across, place, total)


def none_of(rows: np.ndarray) -> Sheets:
    """No thumbnails of so many images."""
    return Sheets([], 0, 1, np.full(len(rows), -1), 0)


def _thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """The image within a square; of many channels the first three."""
    plain = as_bytes(image)
    picture = Image.fromarray(np.ascontiguousarray(plain[..., :3] if plain.shape[2] >= 3 else plain[..., 0]))
    ratio = side / max(picture.size)
    sides = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    resample = Image.Resampling.LANCZOS if ratio < 1 else Image.Resampling.NEAREST
    return picture if picture.size == sides else picture.resize(sides, resample)


def _sheet(pictures: list[Image.Image], side: int, across: int) -> bytes:
    sheet = Image.new("RGB", (across * side, -(-len(pictures) // across) * side))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, across)
        left, top = column * side + (side - picture.width) // 2, row * side + (side - picture.height) // 2
        sheet.paste(picture, (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()
