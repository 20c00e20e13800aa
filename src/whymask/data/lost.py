"""What of the pictures is not seen: said before anything is made of them."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from PIL import Image

from whymask.data.preprocessing import Preprocessing, looks
from whymask.data.settings import Alpha
from whymask.data.source import RawImage, Source
from whymask.errors import WhymaskError

SAMPLE = 100
"""Images that are looked at."""
FRAMES = "several frames or pages, of which the first alone is seen"
DEPTH = "colours of 16 bits, of which Pillow reads the upper 8"
TRANSPARENT = "transparent parts, whose colours are seen as if they were not (--alpha white lays them on white)"


def lost(source: Source, alpha: Alpha = "drop") -> list[str]:
    """A line for each kind of content that is left out of some of up to 100 evenly spaced images, with their number;
    `alpha` is what is done with transparency."""
    rows = np.unique(np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).round().astype(int)).tolist()
    found = Counter(what for row in rows for what in _of_row(source, row))
    return [
        f"warning: {count:,} of {len(rows):,} images looked at have {what}; "
        "to see all of it, convert them, or give a reader="
        for what, count in found.items()
        if what != TRANSPARENT or alpha == "drop"
    ]


def _of_row(source: Source, row: int) -> list[str]:
    try:
        return list(_of(source.read(row)))
    except Exception:  # a damaged image, whatever its decoder raises; it is listed as skipped
        return []


def _of(raw: RawImage) -> Iterator[str]:
    if not isinstance(raw, Image.Image):
        return
    if raw.format != "MPO" and getattr(raw, "is_animated", False):  # of which a phone's further frames are previews
        yield FRAMES
    raw.seek(0)
    if not raw.mode.startswith("I;16") and any(";16" in str(tile[3]) for tile in getattr(raw, "tile", ())):
        yield DEPTH
    if _is_transparent(raw):
        yield TRANSPARENT


def _is_transparent(image: Image.Image) -> bool:
    """Whether a pixel is not opaque; of a palette, whether one may be."""
    if "A" not in image.getbands():
        return image.has_transparency_data
    return bool(np.asarray(image.getchannel("A")).min() < 255)


def other_depth(source: Source, preprocessing: Preprocessing) -> str | None:
    """What to say where images have more bits a value than the network was trained on; None where they have not."""
    if preprocessing.high > 255 or preprocessing.low < 0:
        return None
    try:
        deeper = {look.bits for look in looks(source)} - {8}
    except WhymaskError:  # none can be read, which others tell
        return None
    if not deeper:
        return None
    of = "16 bits a value" if deeper == {16} else "other values than of 8 or 16 bits"
    return (
        f"these images have {of}, those that the network was trained on 8 bits: the whole range of their type becomes "
        "256 levels, of which an image that uses little of it fills few; bring them to 8 bits by a reader="
    )
