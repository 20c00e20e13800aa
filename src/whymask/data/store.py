"""The decode-once store: every image of a source, in one of two forms, beside its hashes.

A store is named after the source's stamp and the geometry that its pixels were brought to, so a changed file or
another size makes a new one. It is written under a temporary name, synced and renamed: a store that exists is whole.
index.json, a record, holds the SHA-256 of the other files. The hashes are compared at each opening, the images when the
store is first opened on a machine, or after they were written to.
"""

import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.decoding import decoded
from whymask.data.forms import FORMS, QUALITY, Form, Packed, encode, memory
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.disk import check_file, damaged, read_json, sha256_of, sync_file, sync_folder, write_record
from whymask.errors import WhymaskError
from whymask.report.text import in_bytes
from whymask.tasks import Task

VERSION = 4  # of the files and of the decoding rules: a new number makes new stores
HASHES = "hashes.npy"
DECODED = FORMS["decoded"]
SAMPLE = 32  # images by which the size of an encoded store is told
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageSet:
    """A decoded source: N usable images, all arrays aligned with them."""

    images: np.ndarray  # memory-mapped (N, H, W, C) uint8 or uint16, or `forms.EncodedImages`, which gives rows alike
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
    is_exact: bool = True  # whether the images are to the bit what was decoded

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


def encoded_size(source: Source, preprocessing: Preprocessing) -> int:
    """About how many bytes the encoded store of `source` takes, by up to SAMPLE evenly spaced images."""
    sizes = []
    for row in source.sample(SAMPLE):
        with suppress(Exception):  # a damaged image, which is left out
            sizes.append(len(encode(preprocessing.decode(source.read(row)))))
    return round(float(np.mean(sizes)) * len(source)) if sizes else 0


def form_for(source: Source, preprocessing: Preprocessing, cache: Path, asked: str, of_run: Form | None = None) -> Form:
    """The form that was `asked` for; of "auto" that `of_run` which is gone on from, else the one that is there or is
    being made, else decoded where it fits into half of the free disk and of the memory, else encoded."""
    if asked != "auto":
        return FORMS[asked]
    if of_run is not None:
        return of_run
    for form in FORMS.values():
        path = store_path(source, preprocessing, cache, form)
        if path.exists() or any(path.parent.glob(f"{path.name}.*.partial")):
            return form
    place = next(folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.exists())
    room = [shutil.disk_usage(place).free, memory()]
    fits = all(there is None or 2 * store_size(source, preprocessing) <= there for there in room)
    return FORMS["decoded" if fits else "encoded"]


def form_text(source: Source, preprocessing: Preprocessing, cache: Path, form: Form) -> str:
    """Where the store is kept, and its size; of an encoded one also what it would take decoded."""
    decoded_size = in_bytes(store_size(source, preprocessing))
    if form is DECODED:
        return f"decoded images are kept in {cache} ({decoded_size})"
    path = store_path(source, preprocessing, cache, form)
    about = in_bytes(_bytes_of(path) if path.exists() else encoded_size(source, preprocessing))
    return f"images are kept encoded in {cache} (about {about}; decoded they would take {decoded_size})"


def _bytes_of(store: Path) -> int:
    return sum(file.stat().st_size for file in store.iterdir())


def store_path(source: Source, preprocessing: Preprocessing, cache: Path, form: Form = DECODED) -> Path:
    """The folder that the store of `source` has, or will have, under `cache`."""
    prep = preprocessing
    geometry: tuple[Any, ...] = (prep.store, prep.size, prep.channels, prep.low, prep.high, prep.alpha, prep.frames)
    geometry += () if form is DECODED else (form.name, QUALITY)
    name = hashlib.blake2b(repr((VERSION, source.stamp, len(source), geometry)).encode(), digest_size=8).hexdigest()
    return Path(cache) / name


def open_images(
    source: Source, preprocessing: Preprocessing, cache: Path, progress: Progress | None = None, form: Form = DECODED
) -> ImageSet:
    """Opens the store of `source` under `cache`, in that `form`, decoding the images first if it is not there.

    `progress(done, total)` is called while decoding. Raises WhymaskError when more than half of the images cannot be
    used, when the disk is too small, and when the store is damaged.
    """
    folder = store_path(source, preprocessing, cache, form)
    if not folder.exists():
        _build(source, preprocessing, folder, form, progress or (lambda done, total: None))
    images, hashes, index = _opened(folder, form)
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
        nbytes=_bytes_of(folder),
        is_exact=form.is_exact(preprocessing),
    )


def _opened(folder: Path, form: Form) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """Images, hashes and index of a store. Raises DamagedError where they are not what was written."""
    large = folder / form.files[0]
    try:
        index = read_json(folder / "index.json")
        for name in (*form.files, HASHES):
            if name != large.name or not _was_checked(folder, large):
                check_file(folder / name, index.get("sha256", {}).get(name))
        _mark_checked(folder, large)
        return form.open(folder), np.load(folder / HASHES), index
    except (OSError, EOFError, ValueError) as error:
        raise damaged(large, str(error)) from error


def _was_checked(folder: Path, large: Path) -> bool:
    """Whether this machine compared the images with their checksum since they were last written to."""
    mark = folder / f"checked-{socket.gethostname()}"
    return mark.exists() and mark.read_text() == _state(large)


def _mark_checked(folder: Path, large: Path) -> None:
    """The mark's time is when the store was last used. A store that is read only is checked at each opening."""
    with suppress(OSError):
        (folder / f"checked-{socket.gethostname()}").write_text(_state(large))


def _state(large: Path) -> str:
    state = large.stat()
    return f"{state.st_size} {state.st_mtime_ns}"


def _fingerprint(hashes: np.ndarray, labels: np.ndarray) -> str:
    order = np.lexsort((*np.atleast_2d(labels.T), hashes))
    digest = hashlib.blake2b(hashes[order].tobytes(), digest_size=16)
    digest.update(labels[order].astype("<f8" if labels.dtype.kind == "f" else "<i8").tobytes())
    return digest.hexdigest()


def _build(source: Source, preprocessing: Preprocessing, folder: Path, form: Form, progress: Progress) -> None:
    partial = folder.with_name(f"{folder.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in abandoned(folder.parent):
            shutil.rmtree(left, ignore_errors=True)
        size = store_size if form is DECODED else encoded_size
        needed, free = size(source, preprocessing), shutil.disk_usage(folder.parent).free
        if needed > free:
            raise WhymaskError(
                f"{folder.parent}: {in_bytes(free)} free; the decode store needs {in_bytes(needed)}; give another "
                "cache folder or a smaller image size, or make room: whymask clean --stores 30"
            )
        partial.mkdir()
        _write(source, preprocessing, partial, form, progress)
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


def _write(source: Source, preprocessing: Preprocessing, folder: Path, form: Form, progress: Progress) -> None:
    skipped: list[tuple[int, str]] = []
    hashes: list[bytes] = []

    def packed() -> Iterator[Packed]:
        for images, digests, failures in decoded(source, preprocessing, form):
            yield images
            hashes.extend(digests)
            skipped.extend(failures)
            if 2 * len(skipped) > len(source):
                _raise_most_fail(source, skipped)
            progress(len(hashes) + len(skipped), len(source))

    form.write(folder, packed(), len(source), preprocessing)
    with (folder / HASHES).open("wb") as file:
        np.save(file, np.array(hashes, dtype="S32"))
        sync_file(file)
    index = {"version": VERSION, "name": source.name, "stamp": source.stamp, "skipped": skipped}
    sums = {name: sha256_of(folder / name) for name in (*form.files, HASHES)}
    write_record(folder / "index.json", index | {"sha256": sums})
    _mark_checked(folder, folder / form.files[0])


def _raise_most_fail(source: Source, skipped: list[tuple[int, str]]) -> None:
    listed = "; ".join(f"{source.keys[row]}: {reason}" for row, reason in skipped[:3])
    raise WhymaskError(
        f"{source.name}: more than half of {len(source)} images cannot be used ({listed}); images that can be decoded, "
        f"of one number of channels, were expected; check the files, or {source.reader or 'give a --reader'}"
    )
