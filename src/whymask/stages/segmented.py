"""What `predict` writes of a segmentation network: a label map of each image, at the image's own size."""

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whymask.data.lost import warnings_of
from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.readers import why_unread
from whymask.data.sources import Source
from whymask.disk import check_folder, check_writable, write_bytes
from whymask.errors import WhymaskError
from whymask.progress import Steps, say
from whymask.report.label_maps import as_picture, legend, overlaid, palette
from whymask.stages.segment import Segmenter
from whymask.stages.settings import OVERLAP
from whymask.stages.windows import label_maps_of
from whymask.tasks import Task

TABLE, MAPS, OVERLAYS, CLASSES, LEGEND = "predictions.csv", "label_maps", "overlays", "classes.txt", "legend.png"
MOST_SAID = 20
"""Classes of which something is said."""
JPEG = {"quality": 90, "subsampling": 0}
"""Of overlays, whose borders are of colour alone."""


@dataclass(frozen=True)
class Places:
    """Where things are written: the table, and the folder in which label_maps/ and overlays/ are."""

    table: Path
    folder: Path

    @classmethod
    def of(cls, out: Path, data: Any) -> "Places":
        """Of what --out names: a CSV file, beside which the folder lies, or the folder, in which the CSV does. Raises
        WhymaskError for what is neither, where nothing can be written, and for a folder within that of the images
        `data`, which would be read as images next time."""
        if out.suffix.lower() not in ("", ".csv") and not out.is_dir():
            raise WhymaskError(
                f"--out {out}: a folder for label maps, or a .csv beside which a folder of that name is made, was "
                "expected; change it"
            )
        is_table = out.suffix.lower() == ".csv" and not out.is_dir()
        places = cls(out, out.with_suffix("")) if is_table else cls(out / TABLE, out)
        given = data if isinstance(data, list | tuple) else [data]
        around = next((entry for entry in given if _holds(entry, places.folder)), None)
        if around is not None:
            raise WhymaskError(
                f"--out {out}: label maps would lie in {around}, among the images that are read; give another --out"
            )
        check_folder(places.folder)
        if is_table:
            check_writable(out)
        return places


def _holds(data: Any, folder: Path) -> bool:
    is_folder = isinstance(data, str | os.PathLike) and Path(data).expanduser().is_dir()
    return is_folder and folder.resolve().is_relative_to(Path(data).expanduser().resolve())


class Segmented:
    """What becomes of a source.

    Attributes:
        header, rows: of the table, a row for each image that could be read.
        skipped: (key, reason) of the others.
    """

    def __init__(self, task: Task, source: Source, prep: Preprocessing, places: Places, overlays: bool):
        self.task, self.source, self.prep, self.places, self.overlays = task, source, prep, places, overlays
        self.colours, self.names = palette(len(task.names)), names_of(source.keys)
        self.header = ["path", "label_map", *task.header]
        self.rows: list[list[str]] = []
        self.skipped: list[tuple[str, str]] = []
        self.pixels = np.zeros(len(task.names), np.int64)

    def take(self, row: int, found: np.ndarray | str) -> None:
        """Writes the label map of an image, or notes why it has none."""
        if isinstance(found, str):
            self.skipped.append((self.source.keys[row], found))
            return
        if not self.rows:
            self._write_classes()
        path = self.places.folder / MAPS / f"{self.names[row]}.png"
        write_bytes(path, encoded(as_picture(found, self.colours), "PNG"))
        if self.overlays:
            shown = Image.fromarray(overlaid(pixels_of(self.source, row, self.prep), found, self.colours))
            write_bytes(self.places.folder / OVERLAYS / f"{self.names[row]}.jpg", encoded(shown, "JPEG"))
        counts = np.bincount(found.ravel(), minlength=len(self.task.names))
        self.pixels += counts
        beside = Path(os.path.relpath(path, self.places.table.parent)).as_posix()
        self.rows.append([self.source.keys[row], beside, *self.task.row(counts / found.size)])

    def _write_classes(self) -> None:
        write_bytes(self.places.folder / MAPS / CLASSES, ("\n".join(self.task.names) + "\n").encode())
        if self.overlays:
            write_bytes(self.places.folder / OVERLAYS / LEGEND, legend(self.task.names, self.colours))

    def text(self) -> str:
        """ "pixels by predicted class: road: 41.2%, sky: 20.0%", the most frequent first."""
        shares = sorted(zip(self.pixels / self.pixels.sum(), self.task.names, strict=True), reverse=True)
        return f"pixels by predicted class: {first_classes([f'{name}: {share:.1%}' for share, name in shares])}"


def segment(
    model: Segmenter, task: Task, source: Source, places: Places, overlap: float = OVERLAP, overlays: bool = False
) -> Segmented:
    """Write a label map of each image, `places.folder`/label_maps/NAME.png: a picture of class numbers, with a palette.
    Class 0 is the first line of classes.txt beside them. An image that is longer than what the network sees is seen by
    windows that overlap by this share. With `overlays` also pictures of both in overlays/, and a legend.

    Raises WhymaskError where no image can be read.
    """
    prep, device = model.encoder.transform, next(model.parameters()).device
    for line in warnings_of(source, prep):
        say(line)
    made = Segmented(task, source, prep, places, overlays)
    maps = label_maps_of(lambda x: model(x.to(device)), len(task.names), prep, source, overlap)
    with Steps("segmenting", len(source), unit="image") as bar:
        for done, (row, found) in enumerate(maps, 1):
            made.take(row, found)
            bar.update(done)
    if not made.rows:
        raise WhymaskError(why_unread(source, len(source), [f"{key}: {reason}" for key, reason in made.skipped]))
    say(made.text())
    return made


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
