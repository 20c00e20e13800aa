"""What `predict` writes of a detection network: the objects of all images as COCO JSON, in pixels of the images."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from whymask.data.decoding import reason_of
from whymask.data.lost import warnings_of
from whymask.data.pixels import size_of
from whymask.data.preprocessing import Preprocessing
from whymask.data.readers import why_unread
from whymask.data.sources import Source
from whymask.disk import Table, printable, write_bytes
from whymask.errors import WhymaskError
from whymask.progress import Steps, say
from whymask.report.marks import SURE, boxed
from whymask.stages.beside import OVERLAYS, Places, encoded, first_classes, names_of, pixels_of
from whymask.stages.detect import Detector
from whymask.tasks import Task

FOUND = "detections.json"
BATCH = 16
"""Images that the network sees at once."""


class Detected:
    """What becomes of a source.

    Attributes:
        table: a row for each image that could be read.
        skipped: (key, reason) of the others.
    """

    def __init__(
        self, task: Task, source: Source, prep: Preprocessing, places: Places, table: Table, overlays: bool
    ) -> None:
        self.task, self.source, self.prep, self.places, self.overlays = task, source, prep, places, overlays
        self.table = table
        self.skipped: list[tuple[str, str]] = []
        self.images: list[dict[str, Any]] = []
        self.objects: list[dict[str, Any]] = []
        self.names = names_of(source.keys)

    def take(self, row: int, size: tuple[int, int], found: np.ndarray) -> None:
        """The detections (D, 6) of an image of that height and width, in pixels that the network sees; those that lie
        in the grey beside it are left out."""
        height, width = size
        fitted = self.prep.fitting(height, width)
        found = found[found[:, 5] >= 0].astype(np.float64)
        found[:, :4] *= np.tile([width / fitted[1], height / fitted[0]], 2)
        found[:, :4] = found[:, :4].clip(0, [width, height, width, height]).round(2)
        found = found[(found[:, 2:4] > found[:, :2]).all(axis=1)]
        number = len(self.images) + 1
        sure = found[found[:, 4] >= SURE]
        self.table.add([self.source.keys[row], *self.task.row(sure)])
        name = printable(self.source.keys[row])
        self.images.append({"id": number, "file_name": name, "height": height, "width": width})
        for left, top, right, bottom, score, kind in found.tolist():
            box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
            self.objects.append(
                {
                    "id": len(self.objects) + 1,
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": round(score, 6),
                }
            )
        if self.overlays:
            texts = [f"{self.task.names[int(kind)]} {score:.2f}" for score, kind in sure[:, 4:]]
            pixels = pixels_of(self.source, row, self.prep)
            drawn = Image.fromarray(boxed(pixels, sure[:, [0, 1, 2, 3, 5]], len(self.task.names), texts))
            write_bytes(self.places.folder / OVERLAYS / f"{self.names[row]}.jpg", encoded(drawn, "JPEG"))

    def write(self) -> Path:
        """detections.json: COCO's images, categories, numbered from 1, and annotations, each with its score."""
        kinds = [{"id": number, "name": name} for number, name in enumerate(self.task.names, 1)]
        content = {"images": self.images, "categories": kinds, "annotations": self.objects}
        write_bytes(self.places.folder / FOUND, json.dumps(content).encode())
        return self.places.folder / FOUND

    def text(self) -> str:
        """ "objects found with a score of at least 0.3: cat: 41, dog: 12", the most frequent first."""
        classes = np.array([one["category_id"] - 1 for one in self.objects if one["score"] >= SURE], int)
        counts = np.bincount(classes, minlength=len(self.task.names))
        pairs = sorted(zip(counts.tolist(), self.task.names, strict=True), key=lambda pair: -pair[0])
        listed = first_classes([f"{name}: {count:,}" for count, name in pairs])
        return f"objects found with a score of at least {SURE}: {listed}"


@torch.inference_mode()
def detect(
    model: Detector, task: Task, source: Source, places: Places, overlays: bool = False
) -> tuple[list[str], int, list[tuple[str, str]]]:
    """Write the table, and the objects of all images, with their scores, `places.folder`/detections.json; the table
    counts those whose score is at least SURE, and with `overlays` pictures show them.

    Returns the table's header, how many rows it has, and (key, reason) of images that cannot be used. Raises
    WhymaskError where no image can be read.
    """
    prep, device = model.encoder.transform, next(model.parameters()).device
    for line in warnings_of(source, prep):
        say(line)
    header = ["path", *task.header]
    with Steps("detecting", len(source), unit="image") as bar, Table.at(places.table, header) as table:
        made = Detected(task, source, prep, places, table, overlays)
        for rows, opened in _opened(source, prep):
            made.skipped += [(source.keys[row], one) for row, one in zip(rows, opened, strict=True) if type(one) is str]
            seen = [(row, *one) for row, one in zip(rows, opened, strict=True) if not isinstance(one, str)]
            if seen:
                images = torch.stack([image for _, _, image in seen])
                found = model(images.to(device)).float().cpu().numpy()
                for (row, size, _), of_image in zip(seen, found, strict=True):
                    made.take(row, size, of_image)
            bar.update(rows[-1] + 1)
        if not table.count:
            raise WhymaskError(why_unread(source, len(source), [f"{key}: {reason}" for key, reason in made.skipped]))
    say(made.text())
    say(f"their boxes, in pixels, as COCO JSON: {made.write()}")
    return header, table.count, made.skipped


def _opened(
    source: Source, prep: Preprocessing
) -> Iterator[tuple[range, list[tuple[tuple[int, int], torch.Tensor] | str]]]:
    """Images, a few at a time: the height and width of each and what the network sees of it, or why it cannot be
    used."""

    def opened(row: int) -> tuple[tuple[int, int], torch.Tensor] | str:
        try:
            raw = source.read(row)
            return size_of(raw), prep(raw)
        except Exception as error:  # whatever decoders raise
            return reason_of(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(source), BATCH):
            rows = range(start, min(start + BATCH, len(source)))
            yield rows, list(pool.map(opened, rows))
