"""What images that are to be labelled are called in a CSV, so that it finds them again."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from whymask.data.protocols import is_address
from whymask.data.source import RawImage, Source
from whymask.disk import write_bytes
from whymask.errors import WhymaskError

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Of Pillow, that PNG keeps to the bit."""


def labelling_keys(source: Source, rows: Sequence[int], out: Path) -> list[str]:
    """The path or address of each row; of images that are no files of their own, such as a parquet's, those of PNG
    files that are written into a folder beside `out`. They are called by their content: labels that were filled in
    earlier, wherever they are kept now, stay those of their images. WhymaskError for pixels that PNG does not hold."""
    folder = out.absolute().with_suffix("")
    return [_key_of(source, row, folder) for row in rows]


def _key_of(source: Source, row: int, folder: Path) -> str:
    key = source.keys[row]
    if is_address(key) or Path(key).is_file():
        return key
    picture = _picture(source.read(row), key)
    about = f"{picture.mode} {picture.size} {picture.getpalette()}".encode()
    path = folder / f"{hashlib.sha256(about + picture.tobytes()).hexdigest()[:16]}.png"
    if not path.exists():
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_bytes(path, buffer.getvalue())
    return str(path)


def _picture(raw: RawImage, key: str) -> Image.Image:
    if isinstance(raw, Image.Image):
        raw = ImageOps.exif_transpose(raw)  # a PNG does not say how it is to be turned
        return raw if raw.mode in MODES else raw.convert("RGB")
    plane = raw[..., 0] if raw.ndim == 3 and raw.shape[-1] == 1 else raw
    if (plane.dtype == np.uint8 and (plane.ndim == 2 or plane.shape[-1] in (3, 4))) or (
        plane.dtype == np.uint16 and plane.ndim == 2
    ):
        return Image.fromarray(np.ascontiguousarray(plane))
    raise WhymaskError(
        f"{key}: values of {raw.dtype} and shape {raw.shape}, which PNG does not hold, so that it cannot be written to "
        "be labelled; give the images as files"
    )
