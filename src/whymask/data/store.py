"""The decode-once store: every image of a source as one memory-mapped array beside its hashes.

A store is named after the source's stamp and the geometry that its pixels were brought to, so a changed file or
another size makes a new one. It is written under a temporary name, synced and renamed: a store that exists is whole.
index.json, a record, holds the SHA-256 of the other files. The hashes are compared at each opening, the images when the
store is first opened on a machine, or after they were written to.
"""

import hashlib
import os
import re
import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.disk import check_file, damaged, read_json, sha256_of, sync_folder, write_record
from whymask.errors import WhymaskError
from whymask.report.text import in_bytes
from whymask.tasks import Task

VERSION = 3  # of the files and of the decoding rules: a new number makes new stores
FILES = ("images.npy", "hashes.npy")
BLOCK = 64  # images that one task decodes
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageSet:
    """A decoded source: N usable images, all arrays aligned with them."""

    images: np.ndarray  # memory-mapped (N, H, W, C) uint8 or uint16
    keys: list[str]
    labels: np.ndarray  # N rows, as the task has them
    task: Task
    splits: np.ndarray | None  # str (N,): "train", "test"
    tags: np.ndarray | None
    columns: dict[str, np.ndarray]
    hashes: np.ndarray  # (N,) "S32": equal native pixels, shape and type <=> equal hash
    skipped: list[tuple[str, str]]  # (key, reason) of the images that could not be used
    fingerprint: str  # of hashes and labels, whatever their order and wherever the files lie
    preprocessing: Preprocessing  # mean and std as given to open_images
    path: Path  # the store's folder
    nbytes: int  # of the store on disk
    wholes: np.ndarray | None = None  # str (N,): of which file each is a part

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes or targets."""
        return self.task.names

    @property
    def labelled(self) -> np.ndarray:
        """Which images have labels, bool (N,)."""
        return self.task.labelled(self.labels)


def store_size(source: Source, preprocessing: Preprocessing) -> int:
    """Bytes that the store of `source` takes."""
    height, width = preprocessing.store
    return len(source) * height * width * preprocessing.channels * preprocessing.dtype.itemsize


def store_path(source: Source, preprocessing: Preprocessing, cache: Path) -> Path:
    """The folder that the store of `source` has, or will have, under `cache`."""
    prep = preprocessing
    geometry = (prep.store, prep.size, prep.channels, prep.low, prep.high, prep.alpha, prep.frames)
    name = hashlib.blake2b(repr((VERSION, source.stamp, len(source), geometry)).encode(), digest_size=8).hexdigest()
    return Path(cache) / name


def open_images(
    source: Source, preprocessing: Preprocessing, cache: Path, progress: Progress | None = None
) -> ImageSet:
    """Opens the store of `source` under `cache`, decoding the images first if it is not there.

    `progress(done, total)` is called while decoding. Raises WhymaskError when more than half of the images cannot be
    used, when the disk is too small, and when the store is damaged.
    """
    folder = store_path(source, preprocessing, cache)
    if not folder.exists():
        _build(source, preprocessing, folder, progress or (lambda done, total: None))
    images, hashes, index = _opened(folder)
    kept = np.ones(len(source), dtype=bool)
    kept[[row for row, _ in index["skipped"]]] = False
    labels = source.labels[kept]
    return ImageSet(
        images=images,
        keys=[key for key, keep in zip(source.keys, kept.tolist(), strict=True) if keep],
        labels=labels,
        task=source.task,
        splits=None if source.splits is None else source.splits[kept],
        tags=None if source.tags is None else source.tags[kept],
        columns={name: column[kept] for name, column in source.columns.items()},
        wholes=None if source.wholes is None else source.wholes[kept],
        hashes=hashes,
        skipped=[(source.keys[row], reason) for row, reason in index["skipped"]],
        fingerprint=_fingerprint(hashes, labels),
        preprocessing=preprocessing,
        path=folder,
        nbytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def _opened(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Images (memory-mapped), hashes and index of a store. Raises DamagedError where they are not what was written."""
    try:
        index = read_json(folder / "index.json")
        for name in FILES:
            if name != "images.npy" or not _was_checked(folder):
                check_file(folder / name, index.get("sha256", {}).get(name))
        _mark_checked(folder)
        return np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "hashes.npy"), index
    except (OSError, EOFError, ValueError) as error:
        raise damaged(folder / "images.npy", str(error)) from error


def _was_checked(folder: Path) -> bool:
    """Whether this machine compared the images with their checksum since they were last written to."""
    mark = folder / f"checked-{socket.gethostname()}"
    return mark.exists() and mark.read_text() == _state(folder)


def _mark_checked(folder: Path) -> None:
    """The mark's time is when the store was last used. A store that is read only is checked at each opening."""
    with suppress(OSError):
        (folder / f"checked-{socket.gethostname()}").write_text(_state(folder))


def _state(folder: Path) -> str:
    state = (folder / "images.npy").stat()
    return f"{state.st_size} {state.st_mtime_ns}"


def _fingerprint(hashes: np.ndarray, labels: np.ndarray) -> str:
    order = np.lexsort((*np.atleast_2d(labels.T), hashes))
    digest = hashlib.blake2b(hashes[order].tobytes(), digest_size=16)
    digest.update(labels[order].astype("<f8" if labels.dtype.kind == "f" else "<i8").tobytes())
    return digest.hexdigest()


def _build(source: Source, preprocessing: Preprocessing, folder: Path, progress: Progress) -> None:
    partial = folder.with_name(f"{folder.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in abandoned(folder.parent):
            shutil.rmtree(left, ignore_errors=True)
        needed, free = store_size(source, preprocessing), shutil.disk_usage(folder.parent).free
        if needed > free:
            raise WhymaskError(
                f"{folder.parent}: {in_bytes(free)} free; the decode store needs {in_bytes(needed)}; give another "
                "cache folder or a smaller image size, or make room: whymask clean --stores 30"
            )
        partial.mkdir()
        _write(source, preprocessing, partial, progress)
        sync_folder(partial)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same images
                raise
        sync_folder(folder.parent)
    except OSError as error:
        raise WhymaskError(
            f"{folder.parent}: the decode store cannot be written there ({error}); a folder with room was expected; "
            "give another cache folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def abandoned(store: Path) -> list[Path]:
    """What decodings on this machine left that were killed, of whatever source."""
    if os.name != "posix":  # where signal 0 is not a mere question
        return []
    return [left for left in store.glob(f"*.{socket.gethostname()}.*.partial") if not _is_alive(left)]


def _is_alive(partial: Path) -> bool:
    try:
        os.kill(int(partial.name.split(".")[-2]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def last_used(folder: Path) -> float:
    """When a store was last opened, on any machine, in seconds since the epoch."""
    return max(path.stat().st_mtime for path in (folder / "index.json", *folder.glob("checked-*")))


def _write(source: Source, preprocessing: Preprocessing, folder: Path, progress: Progress) -> None:
    """Streams the decoded images to images.npy: a full disk is an error here, where a memory map would be a crash."""
    skipped: list[tuple[int, str]] = []
    hashes: list[bytes] = []
    with (folder / "images.npy").open("wb") as file:
        _write_header(file, len(source), preprocessing)
        for images, digests, failures in _decoded(source, preprocessing):
            file.write(images.data)
            hashes += digests
            skipped += failures
            if 2 * len(skipped) > len(source):
                _raise_most_fail(source, skipped)
            progress(len(hashes) + len(skipped), len(source))
        file.seek(0)
        _write_header(file, len(hashes), preprocessing)
        file.flush()
        os.fsync(file.fileno())
    with (folder / "hashes.npy").open("wb") as file:
        np.save(file, np.array(hashes, dtype="S32"))
        file.flush()
        os.fsync(file.fileno())
    index = {"version": VERSION, "name": source.name, "stamp": source.stamp, "skipped": skipped}
    write_record(folder / "index.json", index | {"sha256": {name: sha256_of(folder / name) for name in FILES}})
    _mark_checked(folder)


def _write_header(file: BinaryIO, count: int, preprocessing: Preprocessing) -> None:
    """A .npy header; NumPy pads it so that another count takes the same room."""
    shape = (count, *preprocessing.store, preprocessing.channels)
    header = {"descr": preprocessing.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _raise_most_fail(source: Source, skipped: list[tuple[int, str]]) -> None:
    listed = "; ".join(f"{source.keys[row]}: {reason}" for row, reason in skipped[:3])
    raise WhymaskError(
        f"{source.name}: more than half of {len(source)} images cannot be used ({listed}); images that can be decoded, "
        f"of one number of channels, were expected; check the files, or {source.reader or 'give a --reader'}"
    )


Block = tuple[np.ndarray, list[bytes], list[tuple[int, str]]]


def _decoded(source: Source, preprocessing: Preprocessing) -> Iterator[Block]:
    """Blocks of images in order, decoded by threads (Pillow and hashing release the GIL) a few blocks ahead."""
    workers = os.cpu_count() or 1
    starts = iter(range(0, len(source), BLOCK))
    with ThreadPoolExecutor(workers) as pool:

        def submit(count: int) -> None:
            for start in islice(starts, count):
                waiting.append(pool.submit(_decode_block, source, preprocessing, start))

        waiting: deque[Future[Block]] = deque()
        submit(2 * workers)
        try:
            while waiting:
                yield waiting.popleft().result()
                submit(1)
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_block(source: Source, preprocessing: Preprocessing, start: int) -> Block:
    """Images, hashes, and (row, reason) of the failures, of one block."""
    rows = range(start, min(start + BLOCK, len(source)))
    images = np.empty((len(rows), *preprocessing.store, preprocessing.channels), preprocessing.dtype)
    hashes: list[bytes] = []
    failures: list[tuple[int, str]] = []
    for row in rows:
        try:
            pixels = native_pixels(source.read(row), preprocessing.alpha, preprocessing.frames)
            images[len(hashes)] = preprocessing.fit(pixels)
        except Exception as error:  # decoders raise anything; one image never ends a run
            failures.append((row, reason_of(error)))
        else:
            hashes.append(hash_of(pixels))
    return images[: len(hashes)], hashes, failures


def hash_of(pixels: np.ndarray) -> bytes:
    """Of native pixels (H, W, C): equal for equal pixels, shape and type."""
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest().encode()


def reason_of(error: Exception) -> str:
    """Why an image cannot be used, in one line, without memory addresses."""
    text = " ".join(str(error).split())
    if "cannot identify image file" in text:
        return "not an image that Pillow can open"
    text = text if isinstance(error, WhymaskError) else f"{type(error).__name__}: {text}"
    return re.sub(r"( object)? at 0x[0-9a-f]+", "", text)
