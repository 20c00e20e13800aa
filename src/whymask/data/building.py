"""A store while it is built, in the folder NAME.partial, under a lock.

Its files grow block by block. Every few seconds they are synced, and then a journal says how far they are whole, with a
checksum of each block. A build that was killed, or met a full disk, goes on behind the last block that is as the
journal says, and ends with the bytes of one that was not. Only the whole store gets its name.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from whymask.data.decoding import Block, decoded
from whymask.data.forms import Form, Row
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.disk import sha256_of, sync_folder, write_record
from whymask.errors import WhymaskError
from whymask.locks import holding
from whymask.progress import say
from whymask.report.text import in_bytes

VERSION = 4  # of the files and of the decoding rules: a new number makes new stores
HASHES = "hashes.npy"
PARTIAL, JOURNAL = ".partial", "journal"
SECONDS = 2.0
"""Between two entries of the journal: what a kill may lose."""

Progress = Callable[[int, int], None]


def partial_of(store: Path) -> Path:
    """Where the store is built."""
    return store.with_name(store.name + PARTIAL)


def build(
    source: Source, preprocessing: Preprocessing, folder: Path, form: Form, progress: Progress, needed: int
) -> None:
    """Make the store `folder`, or wait for the process that makes it; `needed` bytes are looked for beforehand.

    Raises WhymaskError when more than half of the images cannot be used, and when the disk is too small or full: what
    is written then stays, for the same command to go on from.
    """
    partial = partial_of(folder)
    try:
        while not folder.exists():
            partial.mkdir(parents=True, exist_ok=True)
            try:
                with holding(partial, wait=True):
                    if not folder.exists():  # made by another process, meanwhile
                        _remove_outdated(source, partial)
                        _grow(source, preprocessing, partial, form, progress, needed)
                        _name(partial / "store", folder)
            except FileNotFoundError:  # the folder went with the process that was waited for
                if partial.exists():
                    raise
        shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise WhymaskError(
            f"{folder.parent}: the decode store cannot be written there ({error}); a folder with room was expected; "
            "give another cache folder, or make room: the same command goes on with what is written"
        ) from error


def _grow(
    source: Source, preprocessing: Preprocessing, partial: Path, form: Form, progress: Progress, needed: int
) -> None:
    about = {"version": VERSION, "name": source.name, "stamp": source.stamp, "form": form.name, "images": len(source)}
    growing = Growing(partial, form, preprocessing, about)
    try:
        if growing.done:
            say(f"decoding goes on after {growing.done:,} of {len(source):,} images")
        _check_room(partial.parent, needed - growing.nbytes)
        for block in decoded(source, preprocessing, form, growing.done):
            growing.append(block)
            if 2 * len(growing.skipped) > len(source):
                _raise_most_fail(source, growing.skipped)
            progress(growing.done, len(source))
        growing.finish(preprocessing)
        index = {"version": VERSION, "name": source.name, "stamp": source.stamp, "skipped": growing.skipped}
        sums = {name: sha256_of(growing.store / name) for name in (*form.files, HASHES)}
        write_record(growing.store / "index.json", index | {"sha256": sums})
        mark_checked(growing.store, growing.store / form.files[0])
        sync_folder(growing.store)
    finally:
        with suppress(OSError):  # of the disk that is full
            growing.sync()
        growing.close()
        if not growing.done or 2 * len(growing.skipped) > len(source):
            shutil.rmtree(partial, ignore_errors=True)


def _name(built: Path, folder: Path) -> None:
    try:
        built.rename(folder)
    except OSError:
        if not folder.exists():  # else it was copied there meanwhile
            raise
    sync_folder(folder.parent)


def _check_room(cache: Path, needed: int) -> None:
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise WhymaskError(
            f"{cache}: {in_bytes(free)} free; the decode store needs {in_bytes(needed)}; give another cache folder or "
            "a smaller image size, or make room: whymask clean --stores 30"
        )


def _raise_most_fail(source: Source, skipped: list[tuple[int, str]]) -> None:
    listed = "; ".join(f"{source.keys[row]}: {reason}" for row, reason in skipped[:3])
    raise WhymaskError(
        f"{source.name}: more than half of {len(source)} images cannot be used ({listed}); images that can be decoded, "
        f"of one number of channels, were expected; check the files, or {source.reader or 'give a --reader'}"
    )


def _remove_outdated(source: Source, partial: Path) -> None:
    """Remove what builds left of the same source as it was before: nothing goes on from them."""
    for other in partial.parent.glob(f"*{PARTIAL}"):
        about = next(_entries(other / JOURNAL), None)
        is_older = about is not None and about["name"] == source.name and about["stamp"] != source.stamp
        if is_older and not _is_held(other):
            shutil.rmtree(other, ignore_errors=True)


def unfinished(cache: Path, days: float) -> list[tuple[Path, float]]:
    """Stores that nobody builds at present, and the days for which nobody did, where these are as many."""
    found = [(partial, _days_since(partial)) for partial in cache.glob(f"*{PARTIAL}")]
    return [(partial, age) for partial, age in found if age >= days and not _is_held(partial)]


def _days_since(partial: Path) -> float:
    journal = partial / JOURNAL
    return (time.time() - (journal if journal.exists() else partial).stat().st_mtime) / 86400


def _is_held(partial: Path) -> bool:
    try:
        with holding(partial):
            return False
    except WhymaskError:  # also of a folder that is another's
        return True


class Growing:
    """The files of a store that is built in `folder`/store, as far as the journal in `folder` tells.

    `kept`: images in it; `skipped`: row and reason of the others; `about`: what it is of, as another is begun anew.
    """

    def __init__(self, folder: Path, form: Form, preprocessing: Preprocessing, about: dict[str, Any]):
        self.form, self.store = form, folder / "store"
        self.store.mkdir(exist_ok=True)
        self.rows: dict[str, Row | None] = form.rows(preprocessing) | {HASHES: (np.dtype("S32"), ())}
        self.large = form.files[0]
        self.files = {name: _opened(self.store / name) for name in self.rows}
        self.journal = _opened(folder / JOURNAL)
        self.nbytes, self.kept = 0, 0  # of the images
        self.skipped: list[tuple[int, str]] = []
        self.waiting: list[str] = []
        self.synced = time.monotonic()
        self._begin(about["images"])
        entries = _entries(folder / JOURNAL)
        at = len(_line(about))
        if next(entries, None) == about:
            for entry in entries:
                if not self._holds(entry):
                    break
                at += len(_line(entry))
                self._count(*entry)
        else:
            _cut(self.journal, 0)
            _write(self.journal, _line(about).encode())
        _cut(self.journal, at)
        for name, file in self.files.items():
            _cut(file, self.starts[name] + (self.nbytes if name == self.large else self.kept * self._row(name)))

    @property
    def done(self) -> int:
        """Rows of the source."""
        return self.kept + len(self.skipped)

    def append(self, block: Block) -> None:
        beside = self.form.beside(block.packed, self.nbytes) | {HASHES: b"".join(block.hashes)}
        images = self.form.joined(block.packed)
        for name, data in {self.large: images, **beside}.items():
            _write(self.files[name], data)
        entry = (len(block.hashes), memoryview(images).nbytes, block.checksum, _checksum(beside), block.failures)
        self.waiting.append(_line(entry))
        self._count(*entry)
        if time.monotonic() - self.synced > SECONDS:
            self.sync()

    def sync(self) -> None:
        """Make what was appended last, and only then say so in the journal."""
        if self.waiting:
            for file in self.files.values():
                os.fsync(file.fileno())
            _write(self.journal, "".join(self.waiting).encode())
            os.fsync(self.journal.fileno())
        self.waiting, self.synced = [], time.monotonic()

    def finish(self, preprocessing: Preprocessing) -> None:
        self.sync()
        self._begin(self.kept)
        self.form.finish(self.store, preprocessing)
        for file in self.files.values():
            os.fsync(file.fileno())

    def close(self) -> None:
        for file in (*self.files.values(), self.journal):
            file.close()

    def _begin(self, count: int) -> None:
        """Write what stands before the rows; NumPy pads it so that another `count` takes the same room."""
        self.starts = {}
        for name, row in self.rows.items():
            file = self.files[name]
            file.seek(0)
            if row is not None:
                about = {"descr": np.lib.format.dtype_to_descr(row[0]), "fortran_order": False}
                np.lib.format.write_array_header_1_0(file, about | {"shape": (count, *row[1])})
            self.starts[name] = file.tell()

    def _row(self, name: str) -> int:
        row = self.rows[name]
        assert row is not None
        return row[0].itemsize * int(np.prod(row[1]))

    def _count(self, kept: int, nbytes: int, images: int, beside: int, failures: list[tuple[int, str]]) -> None:
        self.kept, self.nbytes = self.kept + kept, self.nbytes + nbytes
        self.skipped += [(row, reason) for row, reason in failures]

    def _holds(self, entry: list[Any]) -> bool:
        """Whether the files hold what an entry of the journal says, behind what is counted already."""
        kept, nbytes, images, beside, _ = entry
        large = self.files[self.large]
        large.seek(self.starts[self.large] + self.nbytes)
        data: dict[str, bytes | memoryview] = {}
        for name, file in self.files.items():
            if name != self.large:
                file.seek(self.starts[name] + self.kept * self._row(name))
                data[name] = file.read(kept * self._row(name))
        return crc32(large.read(nbytes)) == images and _checksum(data) == beside


def _opened(path: Path) -> FileIO:
    """Unbuffered: what a full disk has no room for is known where it is written."""
    path.touch()
    return FileIO(path, "r+")


def _write(file: FileIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    rest = view.cast("B") if view.nbytes else view[:0]
    while rest.nbytes:
        rest = rest[file.write(rest) :]


def _cut(file: FileIO, size: int) -> None:
    """End the file there, and write on from there."""
    file.truncate(size)
    file.seek(size)


def _checksum(beside: dict[str, bytes | memoryview]) -> int:
    found = 0
    for name in sorted(beside):
        found = crc32(beside[name], found)
    return found


def _line(entry: Any) -> str:
    text = json.dumps(entry)
    return f"{crc32(text.encode()):08x} {text}\n"


def _entries(journal: Path) -> Iterator[Any]:
    """What the journal says, up to a line that is not whole."""
    if not journal.exists():
        return
    with journal.open(encoding="ascii", errors="replace") as file:
        for line in file:
            checksum, _, text = line.rstrip("\n").partition(" ")
            if not line.endswith("\n") or checksum != f"{crc32(text.encode()):08x}":
                return
            yield json.loads(text)


# whether the images were compared with their checksum


def was_checked(folder: Path, large: Path) -> bool:
    """Whether this machine compared the images with their checksum since they were last written to."""
    mark = folder / f"checked-{socket.gethostname()}"
    return mark.exists() and mark.read_text() == _state(large)


def mark_checked(folder: Path, large: Path) -> None:
    """The mark's time is when the store was last used. A store that is read only is checked at each opening."""
    with suppress(OSError):
        (folder / f"checked-{socket.gethostname()}").write_text(_state(large))


def _state(large: Path) -> str:
    state = large.stat()
    return f"{state.st_size} {state.st_mtime_ns}"
