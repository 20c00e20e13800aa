"""Several images of one file: its frames or pages, and the tiles of a large picture.

Each part is an image with its file's label, split and columns. `Source.wholes` says which parts are of one file: these
are never on both sides of a split, and `predict` answers once for all of them.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from threading import Lock, get_ident

import numpy as np
from PIL import Image

from whymask.data.opening import whole_pictures
from whymask.data.pixels import frame_count, frame_of, native_pixels, size_of
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.source import RawImage, Source
from whymask.data.stamps import digest_of
from whymask.errors import WhymaskError

KEPT_FILES, KEPT_BYTES = 64, 2**30
"""Files of which further parts may be asked for, and their decoded pixels: more files than threads read at once."""


@dataclass(frozen=True)
class Part:
    """One frame of a file, and of it the pixels from (top, left) on, (height, width) of them; a height of 0 is all."""

    row: int  # of the file, in the source
    frame: int | None = None  # of several
    top: int = 0
    left: int = 0
    height: int = 0
    width: int = 0
    is_array: bool = False  # whether the file's frames are decoded together

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
    if source.maps is not None or source.boxes is not None:
        raise WhymaskError(
            f"{source.name}: {'--tile' if how.tile else '--frames all'} cuts files into images, and "
            f"{'label maps' if source.boxes is None else 'boxes'} are of "
            "whole files; leave it out, or cut both beforehand"
        )
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda row: _parts_of(source, row, how), range(len(source))))
    parts = [part for several in found for part in several]
    rows = np.array([part.row for part in parts])
    files = _Files(source, how)

    def read(index: int) -> RawImage:
        part = parts[index]
        if part.frame is None and not part.height:
            return source.read(part.row)
        pixels = files(part)
        return pixels[part.top : part.top + part.height, part.left : part.left + part.width] if part.height else pixels

    cut = (how.frames, how.tile, how.overlap, how.alpha)
    named = [name for name, is_one in (("frames", how.frames == "all"), ("tiles", how.tile is not None)) if is_one]
    said = f"{len(source):,} files are {len(parts):,} images: their {' and '.join(named)}"
    if len(parts) == len(source):
        said = f"each of {len(source):,} files is one image: none has several {' or is larger than its '.join(named)}"
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
        notes=(*source.notes, said),
    )


def _parts_of(source: Source, row: int, how: DataSettings | Preprocessing) -> list[Part]:
    try:
        raw = _read(source, row, how)
        count = frame_count(raw) if how.frames == "all" else 1
        is_array = isinstance(raw, np.ndarray)
        numbers = [None] if count == 1 else list(range(count))
        if how.tile is None:
            return [Part(row, frame, is_array=is_array) for frame in numbers]
        parts = []
        for frame in numbers:
            height, width = size_of(raw if frame is None else frame_of(raw, frame))
            rows, columns = (tiles_along(side, how.tile, how.overlap) for side in (height, width))
            parts += [Part(row, frame, top, left, h, w, is_array) for (top, h), (left, w) in product(rows, columns)]
        return parts
    except Exception:  # whatever a decoder raises; the store, or predict, says it
        return [Part(row)]


def tiles_along(side: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """(start, length) of the tiles along a side: the last ends where the side ends, and so may overlap more."""
    if side <= tile:
        return [(0, side)]
    starts = [*range(0, side - tile, tile - overlap), side - tile]
    return [(start, tile) for start in starts]


class _File:
    """One file while its parts are asked for: opened once, and of its frames the last one kept for the tiles beside."""

    def __init__(self, source: Source, row: int, how: DataSettings | Preprocessing):
        self.source, self.row, self.how = source, row, how
        self.lock = Lock()
        self.raw: RawImage | None = None
        self.number: int | None = None
        self.pixels: np.ndarray | None = None

    def __call__(self, number: int | None) -> np.ndarray:
        """The pixels of a frame, or of the file where that is None."""
        with self.lock:
            if self.pixels is None or self.number != number:
                if self.raw is None:
                    self.raw = _read(self.source, self.row, self.how)
                raw = self.raw if number is None else frame_of(self.raw, number)
                self.pixels, self.number = native_pixels(raw, self.how.alpha, self.how.frames), number
                if number is None:
                    self.raw = None
            return self.pixels

    @property
    def nbytes(self) -> int:
        """Of what is decoded; of Pillow's images four a pixel."""
        raw, pixels = self.raw, self.pixels
        whole = 4 * raw.width * raw.height if isinstance(raw, Image.Image) else 0 if raw is None else raw.nbytes
        return whole + (0 if pixels is None else pixels.nbytes)


class _Files:
    """The files of a source by their rows, of which the last ones are kept: neighbouring parts are of one file.

    A file of several frames is opened by each thread that asks for them: they are decoded one after another, and two
    threads would each turn it back to where they are.
    """

    def __init__(self, source: Source, how: DataSettings | Preprocessing):
        self.source, self.how = source, how
        self.kept: OrderedDict[tuple[int, int | None], _File] = OrderedDict()
        self.lock = Lock()

    def __call__(self, part: Part) -> np.ndarray:
        place = (part.row, None if part.frame is None or part.is_array else get_ident())
        with self.lock:
            file = self.kept.setdefault(place, _File(self.source, part.row, self.how))
            self.kept.move_to_end(place)
        pixels = file(part.frame)
        with self.lock:
            held = sum(other.nbytes for other in self.kept.values())
            while len(self.kept) > 1 and (held > KEPT_BYTES or len(self.kept) > KEPT_FILES):
                held -= self.kept.popitem(last=False)[1].nbytes
        return pixels


def _read(source: Source, row: int, how: DataSettings | Preprocessing) -> RawImage:
    """A file, of which every pixel is wanted where it is cut into tiles."""
    with whole_pictures() if how.tile is not None else nullcontext():
        return source.read(row)


def means_of_wholes(
    parts: Iterable[tuple[Sequence[str], np.ndarray]],
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Of parts, a batch at a time, which file (n,) each is of and its values (n, D): the files in order, a batch at a
    time, and the mean float32 (m, D) of the parts of each, which stand one after another: how they vote."""
    whole, total, count = "", np.zeros(0), 0
    for wholes, values in parts:
        names: list[str] = []
        means: list[np.ndarray] = []
        for name, value in zip(wholes, values.astype(np.float64), strict=True):
            if count and name == whole:
                total, count = total + value, count + 1
                continue
            if count:
                names.append(whole)
                means.append(total / count)
            whole, total, count = name, value, 1
        if names:
            yield names, np.stack(means).astype(np.float32)
    if count:
        yield [whole], (total / count)[None].astype(np.float32)
