"""Sources that are tables: parquet, `datasets.save_to_disk` and the hub, all through Hugging Face datasets.

Cells are taken from the arrow storage, so that nothing is decoded here and a damaged image is one skipped row.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whymask.data.hub import loaded_from_hub
from whymask.data.labels import Column, find_labels, label_notes, read_labels
from whymask.data.opening import open_bytes, open_file
from whymask.data.places import files_under
from whymask.data.settings import LabelSettings, check_there
from whymask.data.source import SPLIT_OF, RawImage, Source, split_column
from whymask.data.stamps import stamp_files
from whymask.errors import WhymaskError

if TYPE_CHECKING:  # takes a second to import, which folders and arrays need not pay
    import datasets


def from_parquet(name: str, root: Path, files: list[str], asked: LabelSettings | None) -> Source:
    """Parquet files under `root`; a file's split is the first split name among the words of its path."""
    import datasets
    from pyarrow import parquet

    paths = [root / file for file in files]
    try:
        counts = [parquet.read_metadata(path).num_rows for path in paths]
        table = datasets.load_dataset("parquet", data_files=[escape(str(path)) for path in paths], split="train")
    except Exception as error:
        raise WhymaskError(f"{name}: cannot be read as parquet ({error}); check or replace the file") from error
    words = [re.split(r"[^a-z]+", file.lower()) for file in files]
    splits = [next((SPLIT_OF[word] for word in parts if word in SPLIT_OF), "train") for parts in words]
    keys = [f"{path}#{row}" for path, count in zip(paths, counts, strict=True) for row in range(count)]
    return _from_tables(name, [table], [keys], np.repeat(splits, counts).tolist(), stamp_files(paths, files), asked)


def from_disk(name: str, folder: Path, asked: LabelSettings | None) -> Source:
    """What `datasets.save_to_disk` wrote."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise WhymaskError(f"{name}: cannot be read by datasets.load_from_disk ({error}); save it again") from error
    files = files_under(folder)
    stamp = stamp_files([folder / file for file in files], files)
    return from_loaded(name, str(folder.resolve()), loaded, stamp, asked)


def from_hub(name: str, asked: LabelSettings | None) -> Source:
    """A data set of the Hugging Face hub, or of its local cache."""
    check_there(name)
    loaded = loaded_from_hub(name)
    files = [Path(file["filename"]) for table in loaded.values() for file in table.cache_files]
    return from_loaded(name, name, loaded, stamp_files(files, [file.name for file in files]), asked)


def from_loaded(name: str, prefix: str, loaded: Any, stamp: str, asked: LabelSettings | None) -> Source:
    """A Dataset or a DatasetDict."""
    tables = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    keys = [[f"{prefix}/{split}#{row}" for row in range(len(table))] for split, table in tables.items()]
    splits = [split for split, table in tables.items() for _ in range(len(table))]
    return _from_tables(name, list(tables.values()), keys, splits, stamp, asked)


def _from_tables(
    name: str,
    tables: "list[datasets.Dataset]",
    keys: list[list[str]],
    splits: list[str],
    stamp: str,
    asked: LabelSettings | None,
) -> Source:
    tables = [table.flatten_indices() if table._indices is not None else table for table in tables]
    image = _image_column(name, tables[0])
    images = [table.data.column(image) for table in tables]  # arrow storage: nothing is decoded
    starts = np.cumsum([0, *map(len, images)])

    def read(index: int) -> RawImage:
        table = int(np.searchsorted(starts, index, side="right")) - 1
        return _open_cell(images[table][index - int(starts[table])].as_py())

    columns = [column for column in tables[0].features if column != image]
    used, raw = find_labels(name, columns, lambda column: _values(tables, column), asked, _label_column(tables[0]))
    if raw is not None and len(used) == 1 and (names := _class_names(tables[0].features[used[0]])):
        raw = replace(raw, names=names, nothing=(-1,))
    task, labels = read_labels(raw, int(starts[-1]), asked, name)
    given, of_splits = split_column(splits, task.labelled(labels))
    return Source(
        name=name,
        keys=[key for column, part in zip(images, keys, strict=True) for key in _with_paths(column, part)],
        read=read,
        stamp=stamp,
        labels=labels,
        task=task,
        splits=given,
        columns=_other_columns(tables, {image, *used}),
        notes=of_splits if asked is None else (*label_notes(columns, used, raw), *of_splits),
    )


def _values(tables: "list[datasets.Dataset]", column: str) -> Column:
    """A column of labels. Lists that are 0 or 1 for each class, rather than numbers of classes, become an array (N, L):
    they have one length, and say one of both twice."""
    values = [value for table in tables for value in table.data.column(column).to_pylist()]
    lists = [value for value in values if isinstance(value, list)]
    lengths = {len(value) for value in lists}
    if len(lengths) != 1 or _class_names(tables[0].features[column]):
        return values
    are_bits = all(item in (0, 1) for value in lists for item in value)
    if not are_bits or all(len(set(value)) == len(value) for value in lists):
        return values
    nothing = [np.nan] * lengths.pop()
    return np.array([value if isinstance(value, list) else nothing for value in values], np.float64)


def _class_names(kind: Any) -> tuple[str, ...]:
    """The names of the class numbers in a column, or in the lists of a column; () where they have none."""
    inner = kind[0] if isinstance(kind, list) else getattr(kind, "feature", kind)
    return tuple(getattr(inner, "names", None) or ())


def _other_columns(tables: "list[datasets.Dataset]", used: set[str]) -> dict[str, np.ndarray]:
    """Columns of single values as text, "" where empty."""
    import datasets

    kinds = {name: kind for name, kind in tables[0].features.items() if name not in used}
    plain = [name for name, kind in kinds.items() if isinstance(kind, datasets.Value | datasets.ClassLabel)]
    values = {name: [v for table in tables for v in table.data.column(name).to_pylist()] for name in plain}
    return {name: np.array(["" if v is None else str(v) for v in column]) for name, column in values.items()}


def _image_column(name: str, table: "datasets.Dataset") -> str:
    import datasets

    kinds = table.features
    pictures = [column for column, kind in kinds.items() if isinstance(kind, datasets.Image)]
    chosen = next((c for c in ("image", "img") if c in kinds), pictures[0] if len(pictures) == 1 else None)
    if chosen is None or not str(table.data.schema.field(chosen).type).startswith(("struct<bytes", "binary", "string")):
        raise WhymaskError(
            f"{name}: a table with the columns {', '.join(kinds)}; a column image of encoded images was expected; "
            "rename or encode it"
        )
    return chosen


def _label_column(table: "datasets.Dataset") -> str | None:
    """The column of labels where none is called so: the only one of class numbers, or lists called labels."""
    numbered = [column for column, kind in table.features.items() if _class_names(kind)]
    listed = isinstance(table.features.get("labels"), list) or hasattr(table.features.get("labels"), "feature")
    return numbered[0] if len(numbered) == 1 else "labels" if listed else None


def _open_cell(cell: Any) -> RawImage:
    """A cell of an image column: {"bytes", "path"}, the bytes, or the path."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell["bytes"] is not None else cell["path"]
    if cell is None:
        raise ValueError("no image in this row")
    return open_bytes(cell) if isinstance(cell, bytes) else open_file(Path(cell))


def _with_paths(column: Any, keys: list[str]) -> Iterable[str]:
    """Row keys, each with the path that the table gives for its image, if any."""
    import pyarrow
    from pyarrow import compute

    if not pyarrow.types.is_struct(column.type):
        return keys
    paths = compute.struct_field(column, "path").to_pylist()
    return (f"{key}:{path}" if path else key for key, path in zip(keys, paths, strict=True))
