"""Where `predict` writes what goes beside its table, files that belong to images; and the pictures among them."""

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.sources import Source
from whymask.disk import check_folder, check_writable
from whymask.errors import WhymaskError

TABLE, OVERLAYS = "predictions.csv", "overlays"
MOST_SAID = 20
"""Classes of which something is said."""
JPEG = {"quality": 90, "subsampling": 0}
"""Of overlays, whose borders are of colour alone."""


@dataclass(frozen=True)
class Places:
    """The table, and the folder in which all else lies."""

    table: Path
    folder: Path

    @classmethod
    def of(cls, out: Path, data: Any) -> "Places":
        """Of what --out names: a CSV file, beside which the folder lies, or the folder, in which the CSV does. Raises
        WhymaskError for what is neither, where nothing can be written, and for a folder within that of the images
        `data`, which would be read as images next time."""
        if out.suffix.lower() not in ("", ".csv") and not out.is_dir():
            raise WhymaskError(
                f"--out {out}: a folder for what is written, or a .csv beside which a folder of that name is made, was "
                "expected; change it"
            )
        is_table = out.suffix.lower() == ".csv" and not out.is_dir()
        places = cls(out, out.with_suffix("")) if is_table else cls(out / TABLE, out)
        given = data if isinstance(data, list | tuple) else [data]
        around = next((entry for entry in given if _holds(entry, places.folder)), None)
        if around is not None:
            raise WhymaskError(
                f"--out {out}: pictures would lie in {around}, among the images that are read; give another --out"
            )
        check_folder(places.folder)
        if is_table:
            check_writable(out)
        return places


def _holds(data: Any, folder: Path) -> bool:
    is_folder = isinstance(data, str | os.PathLike) and Path(data).expanduser().is_dir()
    return is_folder and folder.resolve().is_relative_to(Path(data).expanduser().resolve())


def first_classes(listed: list[str]) -> str:
    """What is said of each class, of up to MOST_SAID of them."""
    more = [f"and {len(listed) - MOST_SAID} classes more"] if len(listed) > MOST_SAID else []
    return ", ".join([*listed[:MOST_SAID], *more])


def names_of(keys: list[str]) -> list[str]:
    """What each image's map is called, without its suffix: as the image is, below the folder that holds all, with the
    images' own suffixes where two would be called alike; numbers where images are no files."""
    if not all(Path(key).is_absolute() and "#" not in key for key in keys):
        return [f"{row:0{len(str(len(keys) - 1))}}" for row in range(len(keys))]
    root = os.path.commonpath([os.path.dirname(key) for key in keys])  # noqa: PTH120
    whole = [os.path.relpath(key, root) for key in keys]
    short = [os.path.splitext(name)[0] for name in whole]  # noqa: PTH122
    return short if len({*short}) == len(short) else whole


def pixels_of(source: Source, row: int, prep: Preprocessing) -> np.ndarray:
    """An image as the network sees it, at its own size: uint8 (H, W, 3), of many channels the first three."""
    pixels = native_pixels(source.read(row), prep.alpha, prep.frames)
    seen = replace(prep, store=pixels.shape[:2]).fit(pixels)
    plain = seen if seen.dtype == np.uint8 else (seen >> 8).astype(np.uint8)
    return plain[..., :3] if plain.shape[2] >= 3 else plain[..., :1].repeat(3, axis=2)


def encoded(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **(JPEG if form == "JPEG" else {}))
    return buffer.getvalue()
