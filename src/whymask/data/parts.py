"""Several images of one file: its frames or pages, and the tiles of a large picture.

Each part is an image with its file's label, split and columns. `Source.wholes` says which parts are of one file: these
are never on both sides of a split, and `predict` answers once for all of them.
"""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from threading import Lock

import numpy as np

from whymask.data.opening import whole_pictures
from whymask.data.pixels import frame_count, frame_of, native_pixels, size_of
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.source import RawImage, Source
from whymask.data.stamps import digest_of

KEPT = 2
"""Decoded pictures of which further tiles may be asked for: neighbouring parts are of one file."""


@dataclass(frozen=True)
class Part:
    """One frame of a file, and of it the pixels from (top, left) on, (height, width) of them; a height of 0 is all."""

    row: int  # of the file, in the source
    frame: int | None = None  # of several
    top: int = 0
    left: int = 0
    height: int = 0
    width: int = 0

    @property
    def suffix(self) -> str:
        """What a part's key has behind its file's."""
        frame = "" if self.frame is None else f"#frame={self.frame}"
        return frame + (f"#tile={self.height}x{self.width}+{self.top}+{self.left}" if self.height else "")


def in_parts(source: Source, how: DataSettings | Preprocessing) -> Source:
    """`source` with an image for each frame, where `how` asks for all, and for each tile; the source itself where it
    asks for neither. Every file is opened once; one that cannot be read stays one image, which is then skipped."""
    if how.frames != "all" and how.tile is None:
        return source
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda row: _parts_of(source, row, how), range(len(source))))
    parts = [part for several in found for part in several]
    rows = np.array([part.row for part in parts])
    pictures = _Pictures(source, how)

    def read(index: int) -> RawImage:
        part = parts[index]
        picture = pictures(part.row, part.frame)
        if not part.height:
            return picture
        return np.asarray(picture)[part.top : part.top + part.height, part.left : part.left + part.width]

    cut = (how.frames, how.tile, how.overlap, how.alpha)
    named = [name for name, is_one in (("frames", how.frames == "all"), ("tiles", how.tile is not None)) if is_one]
    return replace(
        source,
        keys=[source.keys[part.row] + part.suffix for part in parts],
        read=read,
        stamp=digest_of([source.stamp, repr(cut)]),
        labels=source.labels[rows],
        splits=None if source.splits is None else source.splits[rows],
        tags=None if source.tags is None else source.tags[rows],
        columns={name: column[rows] for name, column in source.columns.items()},
        wholes=np.array(source.keys)[rows],
        notes=(*source.notes, f"{len(source):,} files are {len(parts):,} images: their {' and '.join(named)}"),
    )


def _parts_of(source: Source, row: int, how: DataSettings | Preprocessing) -> list[Part]:
    try:
        with whole_pictures():
            raw = source.read(row)
        count = frame_count(raw) if how.frames == "all" else 1
        numbers = [None] if count == 1 else list(range(count))
        if how.tile is None:
            return [Part(row, frame) for frame in numbers]
        parts = []
        for frame in numbers:
            height, width = size_of(raw if frame is None else frame_of(raw, frame))
            rows, columns = (_steps(side, how.tile, how.overlap) for side in (height, width))
            parts += [Part(row, frame, top, left, h, w) for (top, h), (left, w) in product(rows, columns)]
        return parts
    except Exception:  # whatever a decoder raises; the store, or predict, says it
        return [Part(row)]


def _steps(side: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """(start, length) of the tiles along a side: the last ends where the side ends, and so may overlap more."""
    if side <= tile:
        return [(0, side)]
    starts = [*range(0, side - tile, tile - overlap), side - tile]
    return [(start, tile) for start in starts]


class _Pictures:
    """The pixels of a source's files, a frame at a time, the last few of which are kept for the tiles beside."""

    def __init__(self, source: Source, how: DataSettings | Preprocessing):
        self.source, self.how = source, how
        self.kept: OrderedDict[tuple[int, int | None], Future[RawImage]] = OrderedDict()
        self.lock = Lock()

    def __call__(self, row: int, frame: int | None) -> RawImage:
        if self.how.tile is None:
            return self._read(row, frame)
        with self.lock:
            place = (row, frame)
            waiting, is_mine = self.kept.get(place), place not in self.kept
            if waiting is None:
                waiting = self.kept[place] = Future()
                while len(self.kept) > KEPT:
                    self.kept.popitem(last=False)
        if is_mine:
            try:
                waiting.set_result(native_pixels(self._read(row, frame), self.how.alpha, self.how.frames))
            except BaseException as error:
                waiting.set_exception(error)
        return waiting.result()

    def _read(self, row: int, frame: int | None) -> RawImage:
        with whole_pictures():
            raw = self.source.read(row)
        return raw if frame is None else frame_of(raw, frame)


def mean_of_wholes(wholes: Sequence[str], values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The files in order, and the mean (n, D) of the rows (N, D) of each: how its parts vote."""
    names, first, group = np.unique(np.asarray(wholes), return_index=True, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]), np.float64)
    np.add.at(sums, group, values)
    order = np.argsort(first)
    means = sums / np.bincount(group)[:, None]
    return names[order].tolist(), means[order].astype(np.float32)
