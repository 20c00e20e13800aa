"""A network run over all images of a source, a batch at a time: of what comes of them one batch is held."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whymask.data.decoding import reason_of
from whymask.data.lost import warnings_of
from whymask.data.parts import in_parts, means_of_wholes
from whymask.data.preprocessing import Preprocessing
from whymask.data.readers import why_unread
from whymask.data.sources import Source
from whymask.disk import write_csv
from whymask.errors import WhymaskError
from whymask.progress import Steps, say

BATCH = 256


class Applied(NamedTuple):
    """Of images that could be read: their keys, of parts of files (see `parts`) the file of each, else the keys again,
    and what the network made of them, float32 (n, ...)."""

    keys: list[str]
    wholes: list[str]
    values: np.ndarray


@dataclass
class Application:
    """`network` over all images of `source`, which are prepared by `transform`, `batch` at a time.

    It is gone through once: each step reads the next images, by threads. `images`: how many were read so far;
    `skipped`: (key, reason) of those that could not; `is_of_parts`: whether images are parts of files.
    """

    network: Callable[[Tensor], Tensor]
    transform: Preprocessing
    source: Source
    batch: int = field(default_factory=lambda: BATCH)
    images: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for line in warnings_of(self.source, self.transform):
            say(line)
        self.source = in_parts(self.source, self.transform)

    @property
    def is_of_parts(self) -> bool:
        return self.source.wholes is not None

    def __iter__(self) -> Iterator[Applied]:
        """Raises WhymaskError at the end where no image could be read."""
        count, source = len(self.source), self.source
        with ThreadPoolExecutor() as pool, Steps("reading", count, unit="image") as bar:
            for start in range(0, count, self.batch):
                rows = range(start, min(start + self.batch, count))
                read = list(zip(rows, pool.map(self._prepared, rows), strict=True))
                self.skipped += [(source.keys[row], image) for row, image in read if isinstance(image, str)]
                usable = [(row, image) for row, image in read if isinstance(image, Tensor)]
                self.images += len(usable)
                if usable:
                    keys = [source.keys[row] for row, _ in usable]
                    wholes = keys if source.wholes is None else [str(source.wholes[row]) for row, _ in usable]
                    yield Applied(keys, wholes, self._made(torch.stack([image for _, image in usable])))
                bar.update(rows[-1] + 1)
        if not self.images:
            raise WhymaskError(why_unread(source, count, [f"{key}: {reason}" for key, reason in self.skipped]))

    def answers(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Keys and what the network made of them, a batch at a time; where images are parts of files, of each file the
        mean over its parts."""
        found = ((wholes, values) for _, wholes, values in self)
        return means_of_wholes(found) if self.is_of_parts else found

    @torch.inference_mode()
    def _made(self, images: Tensor) -> np.ndarray:
        return self.network(images).float().cpu().numpy()

    def _prepared(self, row: int) -> Tensor | str:
        try:
            return self.transform(self.source.read(row))
        except Exception as error:  # whatever decoders raise
            return reason_of(error)


def check_form(out: Path, form: str) -> None:
    """Raises WhymaskError for a name that says that the file has another form than it will have."""
    if out.suffix.lower() in {".csv", ".tsv", ".parquet", ".json", ".npy", ".npz", ".xlsx"} - {f".{form}"}:
        raise WhymaskError(f"--out {out}: it is written as {form}; a name that ends in .{form} was expected; change it")


def report(skipped: list[tuple[str, str]], images: int, out: Path) -> None:
    """Say how many images were written, and list beside `out` those that could not be used."""
    say(f"{images:,} images: {out}")
    report_skipped(skipped, out)


def report_skipped(skipped: list[tuple[str, str]], out: Path) -> None:
    """List beside `out` the images that could not be used, and say so."""
    if skipped:
        beside = out.with_name(f"{out.stem}.skipped.csv")
        write_csv(beside, ["image", "reason"], skipped)
        say(f"{len(skipped):,} images cannot be used: {beside}")
