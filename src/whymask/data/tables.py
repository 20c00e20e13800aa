"""Sources that are tables: parquet, and `datasets.save_to_disk` and the hub through Hugging Face datasets.

Cells are taken as they are stored, so that nothing is decoded here and a damaged image is one skipped row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from whymask.data.annotations import with_boxes
from whymask.data.box_columns import CLASSES, box_column, given_of, holds_boxes
from whymask.data.braces import parted
from whymask.data.class_names import ClassTable, classes_beside
from whymask.data.formats import there
from whymask.data.glances import with_glances
from whymask.data.hub import loaded_from_hub
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.labels import Column, find_labels, label_notes, read_labels
from whymask.data.map_columns import MAP_COLUMNS, map_column
from whymask.data.opening import open_bytes, regular
from whymask.data.parquets import KEPT_BYTES, ParquetFiles, Place
from whymask.data.places import files_under
from whymask.data.remote import Fetched, Remote
from whymask.data.settings import LabelSettings, check_there
from whymask.data.source import RawImage, Source, split_column, split_in
from whymask.data.stamps import digest_of, stamp_files
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels

if TYPE_CHECKING:  # takes a second to import, which folders and arrays need not pay
    import datasets


class Table(Protocol):
    """Rows, of which images are taken alone: nothing is decoded here, and few are held."""

    features: Any

    def __len__(self) -> int: ...
    def kind(self, column: str) -> str:
        """Its type, as arrow names it."""

    def column(self, column: str) -> list[Any]:
        """The values of all rows; of a field of a struct, named as in image.path."""

    def cell(self, column: str, row: int) -> Any: ...


class Loaded:
    """A table of `datasets`, which lies in memory, or is mapped into it."""

    def __init__(self, table: "datasets.Dataset"):
        self.table = table.flatten_indices() if table._indices is not None else table
        self.features = self.table.features

    def __len__(self) -> int:
        return len(self.table)

    def kind(self, column: str) -> str:
        return str(self.table.data.schema.field(column).type)

    def column(self, column: str) -> list[Any]:
        from pyarrow import compute

        column, _, inner = column.partition(".")
        values = self.table.data.column(column)
        found: list[Any] = (compute.struct_field(values, inner) if inner else values).to_pylist()
        return found

    def cell(self, column: str, row: int) -> Any:
        return self.table.data.column(column)[row].as_py()


def from_parquet(name: str, root: Path, files: Sequence[str], asked: LabelSettings | None, cache: Path) -> Source:
    """Parquet files under `root`; a file's split is the first split name among the words of its path."""
    paths = [root / file for file in files]
    places = [Place(path) for path in paths]
    stamp = stamp_files(paths, files)
    return _from_places(name, places, [str(path) for path in paths], files, stamp, asked, cache, root)


def from_parquet_at(name: str, remote: Sequence[Remote], asked: LabelSettings | None, cache: Path) -> Source:
    """Parquet files behind addresses, whose row groups are asked for as their images are."""
    fetched, addresses = Fetched(cache / "fetched"), [file.address for file in remote]
    places = [Place(remote=file, fetched=fetched) for file in remote]
    stamp = digest_of([*there(), *(f"{file.address} {file.token}" for file in remote)])
    return _from_places(name, places, addresses, parted(addresses)[1], stamp, asked, cache)


def _from_places(
    name: str,
    places: Sequence[Place],
    keys: Sequence[str],
    relative: Sequence[str],
    stamp: str,
    asked: LabelSettings | None,
    cache: Path,
    beside: Path | None = None,
) -> Source:
    table = ParquetFiles(name, places)
    splits = np.repeat([split_in(path) for path in relative], table.counts).tolist()
    rows = [f"{key}#{row}" for key, count in zip(keys, table.counts, strict=True) for row in range(count)]
    source, image = _from_tables(name, [table], [rows], splits, stamp, asked, beside)
    is_near = table.nbytes <= KEPT_BYTES and not any(place.remote for place in places)
    return source if is_near else with_glances(source, cache, lambda row: _bytes_of(table.cell(image, row)))


def from_disk(name: str, folder: Path, asked: LabelSettings | None) -> Source:
    """What `datasets.save_to_disk` wrote."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise WhymaskError(f"{name}: cannot be read by datasets.load_from_disk ({error}); save it again") from error
    files = files_under(folder)
    stamp = stamp_files([folder / file for file in files], files)
    return from_loaded(name, str(folder.resolve()), loaded, stamp, asked, folder)


def from_hub(name: str, asked: LabelSettings | None) -> Source:
    """A data set of the Hugging Face hub, or of its local cache."""
    check_there(name)
    loaded = loaded_from_hub(name)
    files = [Path(file["filename"]) for table in loaded.values() for file in table.cache_files]
    return from_loaded(name, name, loaded, stamp_files(files, [file.name for file in files]), asked)


def from_loaded(
    name: str, prefix: str, loaded: Any, stamp: str, asked: LabelSettings | None, beside: Path | None = None
) -> Source:
    """A Dataset or a DatasetDict."""
    tables = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    keys = [[f"{prefix}/{split}#{row}" for row in range(len(table))] for split, table in tables.items()]
    splits = [split for split, table in tables.items() for _ in range(len(table))]
    return _from_tables(name, list(map(Loaded, tables.values())), keys, splits, stamp, asked, beside)[0]


def _from_tables(
    name: str,
    tables: Sequence[Table],
    keys: list[list[str]],
    splits: list[str],
    stamp: str,
    asked: LabelSettings | None,
    beside: Path | None,
) -> tuple[Source, str]:
    """The source, and the column of its images; a file of class names may lie in the folder `beside`."""
    image = _image_column(name, tables[0])
    starts = np.cumsum([0, *map(len, tables)])

    def cell(column: str, index: int) -> Any:
        table = int(np.searchsorted(starts, index, side="right")) - 1
        return tables[table].cell(column, index - int(starts[table]))

    def labels_in(columns: list[str], asked: LabelSettings | None) -> tuple[list[str], RawLabels | None]:
        return find_labels(name, columns, lambda column: _values(tables, column), asked, _label_column(tables[0]))

    columns = [column for column in tables[0].features if column != image]
    plain = [column for column in columns if not _is_encoded(tables[0], column)]
    maps = map_column(
        name,
        columns,
        lambda column: column not in plain,
        lambda found: labels_in([*{*found} & {*plain}], None)[0],
        asked,
    )
    boxes = box_column(
        name,
        columns,
        lambda column: holds_boxes(tables[0].kind(column)),
        lambda found: [*labels_in([*{*found} & {*plain}], None)[0], *([maps] if maps is not None else [])],
        asked,
    )
    dense = [column for column in (maps, boxes) if column is not None]
    used, raw = (dense, None) if dense else labels_in(plain if asked is None else columns, asked)
    if raw is not None and len(used) == 1 and (names := _class_names(tables[0].features[used[0]])):
        raw = replace(raw, names=names, nothing=(-1,))
    task, labels = read_labels(raw, int(starts[-1]), asked, name)
    source = Source(
        name=name,
        keys=[key for table, part in zip(tables, keys, strict=True) for key in _with_paths(table, image, part)],
        read=lambda row: open_bytes(_bytes_of(cell(image, row))),
        stamp=stamp,
        labels=labels,
        task=task,
        columns=_other_columns(tables, {image, *used, *({*columns} - {*plain})}),
        notes=() if asked is None or dense else tuple(label_notes(columns, used, raw)),
    )
    if maps is not None and asked is not None:
        given = GivenMaps(np.ones(len(source), bool), lambda row: _map_of(cell(maps, row)), stamp)
        source = with_maps(source, given, classes_beside(beside, asked), asked)
    if boxes is not None and asked is not None:
        names = _names_of_objects(tables[0].features[boxes])
        sides = ("height", "width") if {"height", "width"} <= {*columns} else ()
        size = (lambda row: (cell(sides[0], row) or 0, cell(sides[1], row) or 0)) if sides else None
        marked = given_of(lambda row: cell(boxes, row), len(source), asked.box_format, names, size)
        is_named = names and asked.class_names is None
        classes = ClassTable(names, f"the column {boxes}") if is_named else classes_beside(beside, asked)
        source = with_boxes(source, marked, classes, asked)
    named, of_splits = split_column(splits, source.labelled)
    return replace(source, splits=named, notes=(*source.notes, *of_splits)), image


def _values(tables: Sequence[Table], column: str) -> Column:
    """A column of labels. Lists that are 0 or 1 for each class, rather than numbers of classes, become an array (N, L):
    they have one length, and say one of both twice."""
    values = [value for table in tables for value in table.column(column)]
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


def _names_of_objects(kind: Any) -> tuple[str, ...]:
    """Of the class numbers in a column of objects; () where they have none."""
    fields = kind[0] if isinstance(kind, list) else getattr(kind, "feature", kind)
    of_fields = {str(title).lower(): _class_names(inner) for title, inner in dict(fields).items()}
    return next((names for title in CLASSES if (names := of_fields.get(title))), ())


def _other_columns(tables: Sequence[Table], used: set[str]) -> dict[str, np.ndarray]:
    """Columns of single values as text, "" where empty."""
    import datasets

    kinds = {name: kind for name, kind in tables[0].features.items() if name not in used}
    plain = [name for name, kind in kinds.items() if isinstance(kind, datasets.Value | datasets.ClassLabel)]
    values = {name: [v for table in tables for v in table.column(name)] for name in plain}
    return {name: np.array(["" if v is None else str(v) for v in column]) for name, column in values.items()}


def _image_column(name: str, table: Table) -> str:
    import datasets

    kinds = table.features
    pictures = [column for column, kind in kinds.items() if isinstance(kind, datasets.Image)]
    if len(pictures) > 1:
        pictures = [column for column in pictures if column.lower() not in MAP_COLUMNS]
    chosen = next((c for c in ("image", "img") if c in kinds), pictures[0] if len(pictures) == 1 else None)
    if chosen is None or not _is_encoded(table, chosen, "string"):
        raise WhymaskError(
            f"{name}: a table with the columns {', '.join(kinds)}; a column image of encoded images was expected; "
            "rename or encode it"
        )
    return chosen


def _is_encoded(table: Table, column: str, *others: str) -> bool:
    """Whether a column holds pictures as files have them, or is of one of the `others` kinds."""
    return table.kind(column).removeprefix("large_").startswith(("struct<bytes", "binary", *others))


def _label_column(table: Table) -> str | None:
    """The column of labels where none is called so: the only one of class numbers, or lists called labels."""
    numbered = [column for column, kind in table.features.items() if _class_names(kind)]
    listed = isinstance(table.features.get("labels"), list) or hasattr(table.features.get("labels"), "feature")
    return numbered[0] if len(numbered) == 1 else "labels" if listed else None


def _bytes_of(cell: Any) -> bytes:
    """Of a cell of an image column: {"bytes", "path"}, the bytes, or the path."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell["bytes"] is not None else cell["path"]
    if cell is None:
        raise ValueError("no image in this row")
    return cell if isinstance(cell, bytes) else regular(Path(cell)).read_bytes()


def _map_of(cell: Any) -> RawImage | None:
    """The label map in a cell; None in an empty one."""
    held = cell.values() if isinstance(cell, dict) else [cell]
    return None if all(value is None for value in held) else open_bytes(_bytes_of(cell))


def _with_paths(table: Table, image: str, keys: list[str]) -> Iterable[str]:
    """Row keys, each with the path that the table gives for its image, if any."""
    if not table.kind(image).startswith("struct"):
        return keys
    return (f"{key}:{path}" if path else key for key, path in zip(keys, table.column(f"{image}.path"), strict=True))
