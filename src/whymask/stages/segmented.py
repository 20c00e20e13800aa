"""What `predict` writes of a segmentation network: a label map of each image, at the image's own size."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from whymask.data.lost import warnings_of
from whymask.data.preprocessing import Preprocessing
from whymask.data.readers import why_unread
from whymask.data.sources import Source
from whymask.disk import Table, write_bytes
from whymask.errors import WhymaskError
from whymask.progress import Steps, say
from whymask.report.label_maps import as_picture, legend, overlaid, palette
from whymask.stages.beside import OVERLAYS, Places, encoded, first_classes, names_of, pixels_of
from whymask.stages.segment import Segmenter
from whymask.stages.settings import OVERLAP
from whymask.stages.windows import label_maps_of
from whymask.tasks import Task

MAPS, CLASSES, LEGEND = "label_maps", "classes.txt", "legend.png"


class Segmented:
    """What becomes of a source.

    Attributes:
        table: a row for each image that could be read.
        skipped: (key, reason) of the others.
    """

    def __init__(
        self, task: Task, source: Source, prep: Preprocessing, places: Places, table: Table, overlays: bool
    ) -> None:
        self.task, self.source, self.prep, self.places, self.overlays = task, source, prep, places, overlays
        self.colours, self.names = palette(len(task.names)), names_of(source.keys)
        self.table = table
        self.skipped: list[tuple[str, str]] = []
        self.pixels = np.zeros(len(task.names), np.int64)

    def take(self, row: int, found: np.ndarray | str) -> None:
        """Writes the label map of an image, or notes why it has none."""
        if isinstance(found, str):
            self.skipped.append((self.source.keys[row], found))
            return
        if not self.table.count:
            self._write_classes()
        path = self.places.folder / MAPS / f"{self.names[row]}.png"
        write_bytes(path, encoded(as_picture(found, self.colours), "PNG"))
        if self.overlays:
            shown = Image.fromarray(overlaid(pixels_of(self.source, row, self.prep), found, self.colours))
            write_bytes(self.places.folder / OVERLAYS / f"{self.names[row]}.jpg", encoded(shown, "JPEG"))
        counts = np.bincount(found.ravel(), minlength=len(self.task.names))
        self.pixels += counts
        beside = Path(os.path.relpath(path, self.places.table.parent)).as_posix()
        self.table.add([self.source.keys[row], beside, *self.task.row(counts / found.size)])

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
) -> tuple[list[str], int, list[tuple[str, str]]]:
    """Write the table, and a label map of each image, `places.folder`/label_maps/NAME.png: a picture of class numbers,
    with a palette. Class 0 is the first line of classes.txt beside them. An image that is longer than what the network
    sees is seen by windows that overlap by this share. With `overlays` also pictures of both in overlays/, and a
    legend.

    Returns the table's header, how many rows it has, and (key, reason) of images that cannot be used. Raises
    WhymaskError where no image can be read.
    """
    prep, device = model.encoder.transform, next(model.parameters()).device
    for line in warnings_of(source, prep):
        say(line)
    header = ["path", "label_map", *task.header]
    maps = label_maps_of(lambda x: model(x.to(device)), len(task.names), prep, source, overlap)
    with Steps("segmenting", len(source), unit="image") as bar, Table.at(places.table, header) as table:
        made = Segmented(task, source, prep, places, table, overlays)
        for done, (row, found) in enumerate(maps, 1):
            made.take(row, found)
            bar.update(done)
        if not table.count:
            raise WhymaskError(why_unread(source, len(source), [f"{key}: {reason}" for key, reason in made.skipped]))
    say(made.text())
    return header, table.count, made.skipped
