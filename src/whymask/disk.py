"""Files: written whole or not at all, and read as they were written.

Every file is written under a temporary name, synced, and renamed: a reader sees the old file or the new one. A record,
a JSON object that something relies on, carries the checksum of its content; one that names a file of tensors, which
lies beside it under the same name, carries that file's SHA-256 too. Files of arrays are zip files, whose comment is the
SHA-256 of the rest. What was damaged since is an error that says what to do.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from whymask.errors import DamagedError, WhymaskError

CHECKSUM = "checksum"
"""Of a record: SHA-256 of the rest of it, as JSON with an indent of 1."""
DIGEST = "sha256"
"""Of a record: that of the .safetensors file beside it."""
COMMENT, NO_COMMENT = b"\x40\x00", b"\x00\x00"
"""How a zip file says that a comment of 64 characters follows, or none."""
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What disks in a network and the like say that sync no folder."""
FORMULA, ESCAPE = ("=", "+", "-", "@"), re.compile(r"\\[\\xuUnrt]")
"""How a spreadsheet's formula begins, and an escape of Python."""
BOUND = {
    *("config.json", "predictions.npz", "pool.npz", "images.npy", "hashes.npy", "index.json"),
    *("images.bin", "ends.npy", "shape.npy"),
    *(f"{part}.{suffix}" for part in ("encoder", "decoder", "head") for suffix in ("json", "safetensors")),
}
"""Files that are made together with all of their folder."""

Record = dict[str, Any]


# writing ---------------------------------------------------------------------------------------------------


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old content or the new, never a half.

    Raises WhymaskError when it cannot be written there.
    """
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` once it is whole: whatever ends the writing before, the old content stays.

    Raises WhymaskError when it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                sync_file(file)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> WhymaskError:
    """What to say where `path` cannot be written."""
    return WhymaskError(
        f"{path} cannot be written ({error}); a folder with room, in which files may be made, was expected. "
        "Choose another --out."
    )


def check_writable(path: Path) -> None:
    """Raise WhymaskError now, and not after the work, where the file `path` cannot be written."""
    if path.is_dir():
        raise WhymaskError(f"{path} is a folder; a file to write was expected. Choose another --out.")
    probe = path.with_name(f".{path.name}.probe")
    write_bytes(probe, b"")
    probe.unlink()


def check_folder(path: Path) -> None:
    """Raise WhymaskError now, and not after the work, where the folder `path` is a file or cannot be made; what is made
    of it is removed again."""
    if path.is_file():
        raise WhymaskError(f"{path} is a file; a new or empty folder was expected. Choose another --out.")
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def sync_file(file: BinaryIO) -> None:
    """Make what was written to it last."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last, where the system can. Raises OSError where it can and fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder, nobody one that only lets in
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON that others read, atomically. NaN and infinities are refused: they are not JSON."""
    write_bytes(path, _text(value).encode())


def write_record(path: Path, record: Record) -> None:
    """Write `record` as JSON with its checksum, atomically."""
    rest = {key: value for key, value in record.items() if key != CHECKSUM}
    write_json(path, rest | {CHECKSUM: _sha256(_text(as_json(rest)).encode())})


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Record) -> None:
    """Write a .safetensors file, and then the record beside it, of the same name with .json, which makes it valid."""
    data = tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(path, data)
    write_record(path.with_suffix(".json"), about | {DIGEST: _sha256(data)})


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed .npz with its checksum, atomically."""
    data = io.BytesIO()
    np.savez_compressed(data, allow_pickle=False, **dict(arrays))
    whole = data.getvalue()
    write_bytes(path, whole[:-2] + COMMENT + _sha256(whole).encode())


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table atomically, its texts as `printable` has them."""
    with Table.at(path, header) as table:
        for row in rows:
            table.add(row)


class Table:
    """A CSV file that is written row by row, of which none is kept. `count`: of the rows that are there."""

    def __init__(self, file: TextIO, header: list[str]) -> None:
        self._writer, self.header, self.count = csv.writer(file), header, 0
        self._writer.writerow(map(printable, header))

    @classmethod
    @contextlib.contextmanager
    def at(cls, path: Path, header: list[str]) -> Iterator["Table"]:
        """The table that becomes `path` once it is whole, as `writing` does it; its texts as `printable` has them."""
        with writing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            try:
                yield cls(text, header)
            finally:
                text.detach()

    def add(self, row: Iterable[Any]) -> None:
        self._writer.writerow([printable(cell) if isinstance(cell, str) else cell for cell in row])
        self.count += 1


def printable(name: str) -> str:
    """A name as every table can hold it. What is plain stays; bytes that are no UTF-8, control characters, and what a
    spreadsheet would take for a formula become escapes of Python, such as \\n and \\udce9, which `as_named` undoes."""
    is_formula = name[:1] in FORMULA and not _is_number(name)
    if name.isprintable() and not is_formula and not ESCAPE.search(name):
        return name
    plain = [c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name]
    return "".join([f"\\x{ord(name[0]):02x}", *plain[1:]] if is_formula else plain)


def as_named(text: str) -> str:
    """The name that `printable` wrote."""
    return text.encode("ascii", "backslashreplace").decode("unicode_escape") if ESCAPE.search(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_json(value: Any) -> Any:
    """`value` as it would be read back."""
    return json.loads(json.dumps(value, default=str))


# reading ---------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The JSON in `path`; a record without its checksum, which is compared where there is one.

    Raises DamagedError where it is no JSON, or another than was written, and OSError where it cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if isinstance(value, dict) and CHECKSUM in value:
        checksum = value.pop(CHECKSUM)
        if checksum != _sha256(_text(value).encode()):
            raise damaged(path, "its checksum does not fit")
    return value


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, compared with the SHA-256 in the record beside it, where there is one.

    Raises DamagedError where they are others than were written.
    """
    try:
        data, beside = path.read_bytes(), path.with_suffix(".json")
        about = read_json(beside) if beside.exists() else {}
        if isinstance(about, dict) and about.get(DIGEST, digest := _sha256(data)) != digest:
            raise damaged(path, "its checksum does not fit")
        return tensors_from_bytes(data)
    except (SafetensorError, OSError) as error:
        raise damaged(path, str(error)) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, compared with its checksum, where there is one.

    Raises DamagedError where they are others than were written.
    """
    try:
        data = path.read_bytes()
        rest, length, checksum = data[:-66], data[-66:-64], data[-64:]
        if length == COMMENT and checksum != _sha256(rest + NO_COMMENT).encode():
            raise ValueError("its checksum does not fit")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # zip, zlib and npy headers raise what they like
        raise damaged(path, str(error)) from error


def check(path: Path) -> bool:
    """Whether the file carries a checksum, which fits: of a JSON, an .npz or a .safetensors file, with what its record
    beside it says. A file that is not there is none. Raises DamagedError where it does not fit."""
    if not path.exists():
        return False
    if path.suffix == ".npz":
        read_arrays(path)
        return path.read_bytes()[-66:-64] == COMMENT
    if path.suffix == ".safetensors":
        beside = path.with_suffix(".json")
        digest = read_json(beside).get(DIGEST) if beside.exists() else None
        check_file(path, digest)
        return digest is not None
    read_json(path)
    return CHECKSUM.encode() in path.read_bytes()


def check_file(path: Path, digest: str | None) -> None:
    """Raises DamagedError where the file's SHA-256 is another than `digest`; None of a record that has none."""
    if digest is not None and sha256_of(path) != digest:
        raise damaged(path, "its checksum does not fit")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path, why: str) -> DamagedError:
    """What to say of a damaged file: what to delete, so that it is made again."""
    folder = path.parent.parent if path.parent.name in ("encoder", "teacher") else path.parent
    what = f"the folder {folder}, if whymask made it," if path.name in BOUND else str(path)
    return DamagedError(
        f"{path} is damaged ({why}); use another copy, or delete {what} and give the command that made it again"
    )


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, default=str) + "\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
