"""The decode-once store: every image of a source, in one of two forms, beside its hashes.

A store is named after the source's stamp and the geometry that its pixels were brought to, so a changed file or
another size makes a new one. A store that exists is whole (`building` says how it comes to be). index.json, a record,
holds the SHA-256 of the other files. The hashes are compared at each opening, the images when the store is first opened
on a machine, or after they were written to.
"""

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whymask.data.boxes import Boxes
from whymask.data.building import HASHES, VERSION, Progress, build, mark_checked, partial_of, was_checked
from whymask.data.forms import FORMS, QUALITY, Form, encode, memory
from whymask.data.map_values import VALUES
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import LabelMaps, Source
from whymask.disk import check_file, damaged, read_json
from whymask.progress import Decoding
from whymask.report.text import in_bytes
from whymask.tasks import Classification, Task

DECODED = FORMS["decoded"]
SAMPLE = 32  # images by which the size of an encoded store is told


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
    maps: np.ndarray | None = None  # memory-mapped (M, H, W, 1) uint8, the label maps of a dense task, as stored
    map_rows: np.ndarray | None = None  # int64 (N,): which of these is each image's, -1 for none
    boxes: Boxes | None = None  # of the objects in the images, where they are to be found

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

    def maps_of(self, rows: np.ndarray) -> np.ndarray:
        """The label maps of images that have one, uint8 (n, H, W), as stored."""
        if self.maps is None or self.map_rows is None:
            raise ValueError(f"{self.path} holds images without label maps")
        return self.maps[self.map_rows[rows]][..., 0]

    def objects_of(self, rows: np.ndarray) -> np.ndarray:
        """The objects of images, float32 (n, M, 8), whose columns are `boxes.COLUMNS`, in pixels as stored."""
        if self.boxes is None:
            raise ValueError(f"{self.path} holds images without boxes")
        return self.boxes.seen(rows, self.preprocessing.fitting)


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
        if path.exists() or partial_of(path).exists():
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
    geometry += () if prep.interpolation == "bicubic" else (prep.interpolation,)
    geometry += ("padded",) if prep.pads else ()
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
    is_new = not folder.exists()
    if is_new:
        size = store_size if form is DECODED else encoded_size
        needed = size(source, preprocessing)
        build(source, preprocessing, folder, form, progress or (lambda done, total: None), needed)
    images, hashes, index = _opened(folder, form)
    kept = np.ones(len(source), dtype=bool)
    kept[[row for row, _ in index["skipped"]]] = False
    labels, maps, map_rows, beside = source.labels[kept], None, None, None
    boxes = None if source.boxes is None else source.boxes.taken(np.flatnonzero(kept))
    if boxes is not None:
        beside = boxes.hashes()
    if source.maps is not None:
        maps, map_rows, beside = _open_maps(source, source.maps, kept, preprocessing, cache)
        labels = _counted(maps, map_rows, source.task, preprocessing)
    if is_new and source.spent is not None:
        source.spent()
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
        fingerprint=_fingerprint(hashes, source.labels[kept], beside, source.classes),
        preprocessing=preprocessing,
        path=folder,
        nbytes=_bytes_of(folder),
        is_exact=form.is_exact(preprocessing),
        maps=maps,
        map_rows=map_rows,
        boxes=boxes,
    )


def _open_maps(
    source: Source, label_maps: LabelMaps, kept: np.ndarray, preprocessing: Preprocessing, cache: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The label maps of the `kept` images, in a store of their own, made as that of the images is but by the nearest
    pixel: (M, H, W, 1), of which each image is (N,), and the hash of each image's (N,), b"" without one."""
    rows = np.flatnonzero(label_maps.there)
    as_images = Source(
        name=f"{source.name} (label maps)",
        keys=[source.keys[row] for row in rows.tolist()],
        read=lambda index: label_maps.read(int(rows[index])),
        stamp=label_maps.stamp,
        labels=Classification().unlabelled(len(rows)),
    )
    prep = Preprocessing(preprocessing.size, preprocessing.store, 1, interpolation="nearest")
    folder = store_path(as_images, prep, cache)
    if not folder.exists():
        progress = Decoding("decoding label maps", "label maps")
        build(as_images, prep, folder, DECODED, progress, store_size(as_images, prep))
    maps, hashes, index = _opened(folder, DECODED)
    usable = np.delete(rows, [row for row, _ in index["skipped"]])
    place, of_row = np.full(len(source), -1), np.full(len(source), b"", "S32")
    place[usable], of_row[usable] = np.arange(len(usable)), hashes
    return maps, place[kept], of_row[kept]


def _counted(maps: np.ndarray, map_rows: np.ndarray, task: Task, preprocessing: Preprocessing) -> np.ndarray:
    """How many pixels of what a network sees of each image are of each class, int64 (N, k), a row of -1 without a
    map."""
    labels = task.unlabelled(len(map_rows))
    for row in np.flatnonzero(map_rows >= 0):
        seen = preprocessing.centre_crop(torch.tensor(maps[map_rows[row], ..., 0]))
        labels[row] = np.bincount(seen.flatten(), minlength=VALUES)[: len(task.names)]
    return labels


def _opened(folder: Path, form: Form) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """Images, hashes and index of a store. Raises DamagedError where they are not what was written."""
    large = folder / form.files[0]
    try:
        index = read_json(folder / "index.json")
        for name in (*form.files, HASHES):
            if name != large.name or not was_checked(folder, large):
                check_file(folder / name, index.get("sha256", {}).get(name))
        mark_checked(folder, large)
        return form.open(folder), np.load(folder / HASHES), index
    except (OSError, EOFError, ValueError) as error:
        raise damaged(large, str(error)) from error


def _fingerprint(
    hashes: np.ndarray, labels: np.ndarray, beside: np.ndarray | None = None, classes: tuple[str, ...] = ()
) -> str:
    """Of images and labels; of label maps or boxes, whose hashes lie `beside`, also where which class is, and what the
    classes are called."""
    hashed = [] if beside is None else [beside]
    order = np.lexsort((*hashed, *np.atleast_2d(labels.T), hashes))
    digest = hashlib.blake2b(hashes[order].tobytes(), digest_size=16)
    digest.update(labels[order].astype("<f8" if labels.dtype.kind == "f" else "<i8").tobytes())
    for values in hashed:
        digest.update(values[order].tobytes() + repr(classes).encode())
    return digest.hexdigest()


def last_used(folder: Path) -> float:
    """When a store was last opened, on any machine, in seconds since the epoch."""
    return max(path.stat().st_mtime for path in (folder / "index.json", *folder.glob("checked-*")))
