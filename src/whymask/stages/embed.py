"""Features of images, pooled or of each patch, as parquet: row group by row group, of which one is held."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from whymask.data.inherited import inherited_text
from whymask.data.sources import Reader, open_source
from whymask.disk import check_writable, printable, writing
from whymask.encoders import Encoder, load_encoder
from whymask.encoders.pyramids import map_of
from whymask.errors import WhymaskError
from whymask.keywords import with_keywords
from whymask.progress import say
from whymask.stages.applying import BATCH, Application, check_form, report
from whymask.stages.taken import encoder_of, reader_left_out
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

if TYPE_CHECKING:
    import pandas

GROUP = 2**25
"""Bytes of features that a row group has, and that are held at once; of patches those of a batch too."""


def embed(
    run: str | Path,
    data: Any,
    *,
    out: str | Path = "features.parquet",
    cell: str | None = None,
    patches: bool = False,
    layer: int | None = None,
    frame: bool = True,
    runtime: RuntimeSettings | None = None,
    reader: Reader | str | None = None,
    **keywords: Any,
) -> "pandas.DataFrame":
    """Features of the images of `data`, in the columns path and features (float32 lists): as a frame, and as the
    parquet file `out`; of frames or tiles a row each.

    They are pooled, or with `patches` those of each position of the map (h', w'), which its row and its column number,
    from the upper left corner; of the network's last layer as it gives them, or of a `layer` counted from 1, before any
    final norm, pooled by the mean over positions. The file is written while images are read; without `frame` the frame
    is empty, and what is held does not grow with the number of images.

    `run` is any run with an encoder, a study or a study's cell; of a study the first seed's pretrained encoder, unless
    `cell` names another network. Settings of `runtime` may be given by their names, such as ``device="cuda"``. Raises
    WhymaskError for a layer that the encoder has not.
    """
    out = Path(out)
    check_writable(out)
    check_form(out, "parquet")
    fabric = make_fabric(with_keywords(runtime or RuntimeSettings(), keywords), alone=True)
    folder = encoder_of(Path(run), cell, images=data)
    encoder = load_encoder(folder).to(fabric.device)
    check_layer(encoder, layer)
    source = open_source(data, reader=reader, labels=None)
    say(f"embedding with {folder}: {len(source):,} images")
    for line in [*inherited_text(encoder.transform, folder), *reader_left_out(folder, reader)]:
        say(line)
    network = features_at(encoder, layer, patches)
    batch = _batch(encoder, layer) if patches else BATCH
    applied = Application(lambda images: network(images.to(fabric.device)), encoder.transform, source, batch)
    files, last = 0, ""
    with RowGroups.at(out) as groups:
        for keys, wholes, values in applied:
            groups.add(_of_patches(keys, values) if patches else _of_images(keys, values))
            files += sum(before != own for before, own in zip([last, *wholes], wholes, strict=False))
            last = wholes[-1]
    if applied.is_of_parts:
        say(f"a row for each of {applied.images:,} parts of {files:,} files")
    report(applied.skipped, applied.images, out)
    return (pq.read_table(out) if frame else pq.read_schema(out).empty_table()).to_pandas()


def check_layer(encoder: Encoder, layer: int | None) -> None:
    """Raises WhymaskError for a layer that the encoder has not."""
    there = len(encoder.config.layers(encoder.size))
    if layer is not None and not 1 <= layer <= there:
        raise WhymaskError(
            f"--layer {layer}: {encoder.config.name} has {there} layers; a number from 1 to {there} was expected, or "
            "leave it out for the features that the network gives"
        )


def features_at(encoder: Encoder, layer: int | None, patches: bool) -> Callable[[Tensor], Tensor]:
    """Images (B, C, h, w) -> what `embed` writes of them: (B, D), or of patches a map (B, D, h', w')."""
    if layer is None:
        return (lambda x: map_of(encoder, encoder(x))) if patches else (lambda x: encoder.pool(encoder(x)))
    read = encoder.as_map if patches else encoder.mean_over_positions
    return lambda x: read(encoder.outputs(x)[layer - 1])


def _batch(encoder: Encoder, layer: int | None) -> int:
    """Images whose patches' features take GROUP bytes, but at most BATCH."""
    width, stride = encoder.config.layers(encoder.size)[-1 if layer is None else layer - 1]
    positions = -(-encoder.size[0] // stride) * -(-encoder.size[1] // stride)
    return max(1, min(BATCH, GROUP // (4 * width * positions)))


def _of_images(keys: list[str], values: np.ndarray) -> pa.Table:
    """Of pooled features (n, D)."""
    return pa.table({"path": [printable(key) for key in keys], "features": _lists(values)})


def _of_patches(keys: list[str], values: np.ndarray) -> pa.Table:
    """Of maps (n, D, h', w'), the positions of an image row by row."""
    count, width, height, across = values.shape
    place = np.tile(np.arange(height * across, dtype=np.int32), count)
    paths = pa.array([printable(key) for key in keys]).take(pa.array(np.repeat(np.arange(count), height * across)))
    columns = {"path": paths, "row": place // across, "column": place % across}
    rows = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).reshape(-1, width)
    return pa.table(columns | {"features": _lists(rows)})


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


class RowGroups:
    """A parquet file to which tables are added; what is `held` of them is written once it has GROUP bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.writer: pq.ParquetWriter | None = None
        self.held: list[pa.Table] = []

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> "Iterator[RowGroups]":
        """The file that becomes `path` once it is whole, as `disk.writing` does it."""
        with writing(path) as file:
            groups = cls(file)
            yield groups
            groups.write()
            if groups.writer is not None:
                groups.writer.close()

    def add(self, table: pa.Table) -> None:
        self.held.append(table)
        if sum(each.nbytes for each in self.held) >= GROUP:
            self.write()

    def write(self) -> None:
        """As one row group."""
        if not self.held:
            return
        table = pa.concat_tables(self.held)
        self.held = []
        self.writer = self.writer or pq.ParquetWriter(self.file, table.schema)
        self.writer.write_table(table, row_group_size=len(table))
