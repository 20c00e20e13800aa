"""Label maps beside images: which file is whose, which classes their values are, and what cannot be used of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from whymask.data.decoding import reason_of
from whymask.data.opening import open_file
from whymask.data.pixels import size_of
from whymask.data.settings import LabelSettings
from whymask.data.source import LabelMaps, RawImage, Source
from whymask.data.stamps import digest_of
from whymask.errors import WhymaskError
from whymask.tasks.label_map_counts import IGNORED
from whymask.tasks.segmentation import Segmentation

IMAGE_FOLDERS = frozenset({"images", "image", "img", "imgs", "jpegimages"})
MAP_FOLDERS = frozenset({"masks", "mask", "labelmaps", "annotations", "segmentationclass", "labels"})
"""Names of folders, in any case, that lie side by side and hold files of the same names."""
MARKS = ("_mask", "_label", "_labels", "_gt", "_seg", "_l", "-mask")
"""What a map's name may have behind its image's."""
NAME_FILES = ("classes.txt", "codes.txt", "labels.txt", "class_names.txt")
VALUES = 256
"""Of a map: bytes."""


def paired(files: Sequence[str]) -> dict[str, str | None] | None:
    """Image -> its label map, None where it has none, of relative paths that lie in folders named for both, such as
    images/train/a.jpg and masks/train/a.png; None where that is not so."""
    images = {file: place for file in files if (place := _place(file, IMAGE_FOLDERS)) is not None}
    maps = {place: file for file in files if (place := _place(file, MAP_FOLDERS)) is not None}
    found = {file: _map_of(place, maps) for file, place in images.items()}
    return found if any(found.values()) else None


def _place(file: str, folders: frozenset[str]) -> str | None:
    """The path without the folder that is named so and without suffix; None where not one folder is."""
    path = PurePosixPath(file)
    kept = [part for part in path.parts[:-1] if part.lower() not in folders]
    return "/".join([*kept, path.stem]) if len(kept) == len(path.parts) - 2 else None


def _map_of(place: str, maps: dict[str, str]) -> str | None:
    return next((maps[place + mark] for mark in ("", *MARKS) if place + mark in maps), None)


def without_image_folder(file: str) -> str:
    """The path as if images and maps lay in one folder, for what its folders say."""
    path = PurePosixPath(file)
    return str(PurePosixPath(*[part for part in path.parts[:-1] if part.lower() not in IMAGE_FOLDERS], path.name))


def read_map(path: Path) -> np.ndarray:
    """The values (H, W) of a picture: its grey levels, or which colours of its palette."""
    return values_of(open_file(path))


def values_of(raw: RawImage) -> np.ndarray:
    """uint8 (H, W). Raises WhymaskError for colours, which are no class numbers, and for numbers that are no bytes."""
    pixels = np.asarray(raw.convert("L") if isinstance(raw, Image.Image) and raw.mode == "LA" else raw)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise WhymaskError(
            "its label map is in colours; a grey or palette picture of class numbers was expected; write it as one"
        )
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if pixels.dtype.kind not in "ui" or pixels.min() < 0 or pixels.max() >= VALUES:
        raise WhymaskError(f"its label map holds {pixels.max()}; class numbers from 0 to 255 were expected")
    return pixels.astype(np.uint8)


def names_beside(folder: Path, asked: LabelSettings) -> tuple[str, ...] | None:
    """The names of the classes, from the file that was asked for, or that lies in the folder; None where none does."""
    path = asked.class_names or next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WhymaskError(f"--class-names {path}: a text file with a class a line was expected ({error})") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len({*names}) < len(names) or len(names) > IGNORED:
        raise WhymaskError(
            f"{path}: {len(names)} class names, {len({*names})} of them different; up to {IGNORED} different names, "
            "one a line, were expected"
        )
    return names


@dataclass(frozen=True)
class _Read:
    """A map looked at: how many pixels have each value, or why it cannot be used."""

    counts: np.ndarray
    problem: str = ""


def with_maps(
    source: Source,
    there: np.ndarray,
    read: Callable[[int], np.ndarray],
    stamp: str,
    names: tuple[str, ...] | None,
    asked: LabelSettings,
) -> Source:
    """`source` with label maps, each looked at once: `there` bool (N,) says which images have one, `read(i)` gives the
    values uint8 (H, W) of one. Of what cannot be used, an unreadable map, one of another size than its image, or one
    with a value that is no class, the image is left out, with the reason."""
    with ThreadPoolExecutor() as pool:
        looked = list(pool.map(lambda row: _look(source, row, read) if there[row] else None, range(len(source))))
    values = sum((look.counts for look in looked if look is not None), np.zeros(VALUES, np.int64))
    classes, names, notes = _classes(values, names, asked.ignored)
    fine = [*classes, asked.ignored, IGNORED]
    problems = {row: problem for row, look in enumerate(looked) if look and (problem := _problem(look, fine))}
    number = np.full(VALUES, IGNORED, np.uint8)
    number[classes] = np.arange(len(classes))
    task = Segmentation(names)
    labels = task.unlabelled(len(source))
    for row, look in enumerate(looked):
        if look is not None and row not in problems:
            labels[row] = look.counts[classes]
    usable = there & ~np.isin(np.arange(len(source)), list(problems))

    def image(row: int) -> RawImage:
        if row in problems:
            raise WhymaskError(problems[row])
        return source.read(row)

    told = repr((stamp, classes.tolist(), sorted(problems)))
    without = int((~there).sum())
    notes += [f"{without:,} images have no label map: they are unlabelled"] * bool(without)
    return replace(
        source,
        read=image,
        stamp=digest_of([source.stamp, repr(sorted(problems))]) if problems else source.stamp,
        labels=labels,
        task=task,
        maps=LabelMaps(usable, lambda row: number[read(row)], digest_of([told])),
        notes=(*source.notes, *notes),
    )


def _look(source: Source, row: int, read: Callable[[int], np.ndarray]) -> _Read:
    try:
        values = read(row)
        height, width = size_of(source.read(row))
    except Exception as error:  # whatever decoders raise
        return _Read(np.zeros(VALUES, np.int64), reason_of(error))
    if values.shape != (height, width):
        problem = f"its label map has {values.shape[0]} x {values.shape[1]} pixels, and it has {height} x {width}"
        return _Read(np.zeros(VALUES, np.int64), problem)
    return _Read(np.bincount(values.ravel(), minlength=VALUES))


def _problem(look: _Read, fine: list[int]) -> str:
    odd = np.setdiff1d(np.flatnonzero(look.counts), fine)
    return look.problem or (f"its label map holds {odd[0]}, which is no class" if len(odd) else "")


def _classes(
    values: np.ndarray, names: tuple[str, ...] | None, ignored: int
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """The values that are classes, in their order, their names, and what is to be said of them."""
    seen = np.flatnonzero(values)
    if names is not None:
        classes = [number for number in range(len(names)) if number != ignored]
        return np.array(classes), tuple(names[number] for number in classes), []
    if seen.tolist() == [0, IGNORED] and ignored == IGNORED:
        return seen, ("0", "255"), ["label maps hold 0 and 255, which are taken for two classes: none is ignored"]
    classes = seen[~np.isin(seen, (ignored, IGNORED))].tolist()
    return np.array(classes, np.int64), tuple(map(str, classes)), []
