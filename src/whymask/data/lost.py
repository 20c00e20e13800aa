"""What of the pictures is not seen: said before anything is made of them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
from PIL import Image

from whymask.data.derive import looks
from whymask.data.formats import EXTRA, loses_depth
from whymask.data.opening import REDUCED, whole_pictures
from whymask.data.pixels import Translucent, frame_count, top_of
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.source import RawImage, Source
from whymask.errors import WhymaskError

USUAL = DataSettings()
OUTSIDE = 0.1
"""Of the range of values, how far others may lie beyond it before that is said."""
SAMPLE = 100
"""Images that are looked at."""
FRAMES = (
    "several frames or pages, of which the first alone is seen (--frames all makes each an image, channels all one)"
)
DEPTH = f"colours of 16 bits, of which Pillow reads the upper 8 ({EXTRA} reads all)"
LARGE = "more than 179 million pixels, of which squares are seen as one (--tile 512 sees each)"
TRANSPARENT = "transparent parts, whose colours are seen as if they were not (--alpha white or channel shows them)"


def lost(source: Source, how: DataSettings | Preprocessing = USUAL) -> list[str]:
    """A line for each kind of content that is left out of some of up to 100 evenly spaced images, with their number;
    `how` is what is done with transparency, frames and tiles; of `source` before its files are in parts."""
    rows = source.sample(SAMPLE)
    with whole_pictures() if how.tile is not None else nullcontext():
        found = Counter(what for row in rows for what in _of_row(source, row))
    is_seen = {TRANSPARENT: how.alpha != "drop", FRAMES: how.frames != "first"}
    return [
        f"warning: {count:,} of {len(rows):,} images looked at have {what}"
        for what, count in found.items()
        if not is_seen.get(what)
    ]


def _of_row(source: Source, row: int) -> list[str]:
    try:
        return list(_of(source.read(row)))
    except Exception:  # a damaged image, whatever its decoder raises; it is listed as skipped
        return []


def _of(raw: RawImage) -> Iterator[str]:
    if frame_count(raw) > 1:
        yield FRAMES
    if isinstance(raw, Translucent) and (np.asarray(raw)[..., raw.opaque :] < top_of(raw.dtype)).any():
        yield TRANSPARENT
    if not isinstance(raw, Image.Image):
        return
    raw.seek(0)
    if loses_depth(raw):
        yield DEPTH
    if REDUCED in raw.info:
        yield LARGE
    if _is_transparent(raw):
        yield TRANSPARENT


def _is_transparent(image: Image.Image) -> bool:
    """Whether a pixel is not opaque; of a palette, whether one may be."""
    if "A" not in image.getbands():
        return image.has_transparency_data
    return bool(np.asarray(image.getchannel("A")).min() < 255)


def other_depth(source: Source, preprocessing: Preprocessing) -> str | None:
    """What to say where images have more bits a value than the network was trained on; None where they have not."""
    try:
        seen = looks(source, preprocessing.alpha, preprocessing.frames)
    except WhymaskError:  # none can be read, which others tell
        return None
    deeper = {look.bits for look in seen} - {8}
    if (preprocessing.low, preprocessing.high) != (0.0, 255.0):
        return _outside(min(look.low for look in seen), max(look.high for look in seen), preprocessing)
    if not deeper:
        return None
    of = "16 bits a value" if deeper == {16} else "other values than of 8 or 16 bits"
    return (
        f"these images have {of}, those that the network was trained on 8 bits: the whole range of their type becomes "
        "256 levels, of which an image that uses little of it fills few; bring them to 8 bits by a --reader"
    )


def _outside(low: float, high: float, preprocessing: Preprocessing) -> str | None:
    room = OUTSIDE * (preprocessing.high - preprocessing.low)
    if preprocessing.low - room <= low and high <= preprocessing.high + room:
        return None
    return (
        f"these images have values from {low:,.6g} to {high:,.6g}, those that the network was trained on from "
        f"{preprocessing.low:,.6g} to {preprocessing.high:,.6g}: what lies outside is seen as the nearest of these"
    )


def warnings_of(source: Source, preprocessing: Preprocessing) -> list[str]:
    """What is to be said of images that a trained network is to see: another depth than it knows, and what is lost."""
    depth = other_depth(source, preprocessing)
    return [*[f"warning: {depth}"] * bool(depth), *lost(source, preprocessing)]
