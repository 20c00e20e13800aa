"""Parquet files as one table, here or behind addresses: columns are read alone, and images row group by row group, so
that memory holds a few of these and each is read once, by whoever comes first."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from whymask.data.remote import Fetched, Remote, bring, of_all, retried, system_of
from whymask.errors import WhymaskError

KEPT_BYTES = 2**30
"""Of the row groups that are kept, where they are more than one."""


@dataclass(frozen=True)
class Place:
    """A file: at a path, or behind an address, of which parts are asked for, or, where its server gives none, all."""

    path: Path | None = None
    remote: Remote | None = None
    fetched: Fetched | None = None

    @property
    def name(self) -> str:
        return str(self.path) if self.remote is None else self.remote.address

    def read(self, work: Callable[[Any], Any]) -> Any:
        """What `work` makes of the open file, or its path."""
        if self.remote is None:
            return work(self.path)
        assert self.fetched is not None
        name, remote = f"{self.remote.name}.parquet", self.remote
        if name not in self.fetched:
            try:
                return retried(remote.address, lambda: self._of_parts(work))
            except WhymaskError as error:
                if "range requests" not in str(error):
                    raise WhymaskError(f"{error}; check the connection: the same command goes on") from error
        return work(self.fetched(name, remote.size, lambda part: bring(remote, part)))

    def _of_parts(self, work: Callable[[Any], Any]) -> Any:
        assert self.remote is not None
        system, path = system_of(self.remote.address)
        with system.open(path, "rb") as file:
            return work(file)


class ParquetFiles:
    """The rows of several files, one behind another. Raises WhymaskError for files that are no parquet."""

    def __init__(self, name: str, places: Sequence[Place]):
        import datasets
        from pyarrow import parquet

        self.name, self.places = name, list(places)
        self.metadata = of_all(self.places, lambda place: self._ask(place, parquet.read_metadata))
        self.counts = [each.num_rows for each in self.metadata]
        self.schema = self.metadata[0].schema.to_arrow_schema()
        self.features = datasets.Features.from_arrow_schema(self.schema)
        self.groups = [(file, group) for file, each in enumerate(self.metadata) for group in range(each.num_row_groups)]
        rows = [self.metadata[file].row_group(group).num_rows for file, group in self.groups]
        self.starts = np.cumsum([0, *rows])
        self.columns: dict[str, Any] = {}
        self.kept: OrderedDict[tuple[str, int], _Group] = OrderedDict()
        self.lock = Lock()

    def __len__(self) -> int:
        return sum(self.counts)

    @cached_property
    def nbytes(self) -> int:
        """Of all row groups, unpacked."""
        return sum(self.metadata[file].row_group(group).total_byte_size for file, group in self.groups)

    def kind(self, column: str) -> str:
        return str(self.schema.field(column).type)

    def column(self, column: str) -> list[Any]:
        """The values of all rows. A field of a struct is named as in image.path."""
        if column not in self.columns:
            parts = of_all(range(len(self.places)), lambda file: self._column(file, column))
            self.columns[column] = [value for part in parts for value in part]
        return self.columns[column]

    def cell(self, column: str, row: int) -> Any:
        """One value; of its row group the column is read whole, and kept while neighbours may be asked for."""
        at = int(np.searchsorted(self.starts, row, side="right")) - 1
        with self.lock:
            group = self.kept.setdefault((column, at), _Group())
            self.kept.move_to_end((column, at))
            while len(self.kept) > self._most * len({of for of, _ in self.kept}):
                self.kept.popitem(last=False)
        with group.lock:
            if group.values is None:
                group.values = self._group(column, at)
            return group.values[row - int(self.starts[at])].as_py()

    @cached_property
    def _most(self) -> int:
        """Row groups that are kept: as many as threads read at once, within KEPT_BYTES."""
        largest = max(self.metadata[file].row_group(group).total_byte_size for file, group in self.groups)
        return max(1, min((os.cpu_count() or 1) + 2, KEPT_BYTES // max(1, largest)))

    def _group(self, column: str, at: int) -> Any:
        from pyarrow import parquet

        file, group = self.groups[at]

        def work(source: Any) -> Any:
            with parquet.ParquetFile(source, metadata=self.metadata[file], pre_buffer=True) as opened:
                return opened.read_row_group(group, columns=[column]).column(0)

        return self._ask(self.places[file], work)

    def _column(self, file: int, column: str) -> list[Any]:
        from pyarrow import parquet

        def work(source: Any) -> Any:
            with parquet.ParquetFile(source, metadata=self.metadata[file], pre_buffer=True) as opened:
                return opened.read(columns=[column]).column(0).to_pylist()

        values: list[Any] = self._ask(self.places[file], work)
        inner = column.partition(".")[2]
        return [value and value[inner] for value in values] if inner else values

    def _ask(self, place: Place, work: Callable[[Any], Any]) -> Any:
        try:
            return place.read(work)
        except WhymaskError:
            raise
        except Exception as error:  # whatever pyarrow raises
            raise WhymaskError(
                f"{self.name}: {place.name} cannot be read as parquet ({error}); check or replace the file"
            ) from error


class _Group:
    """A column of a row group, once it is read."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.values: Any = None
