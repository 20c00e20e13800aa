"""Which picture is the label map of which image, by the folders that they lie in and by their names."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from whymask.data.layout import listed
from whymask.errors import WhymaskError

IMAGES = re.compile(r"(^|[_-])(images?|imgs?|jpegimages)($|[_-])")
MAPS = re.compile(
    r"(^|[_-])(masks?|labels?|label[_-]?maps?|annotations?|gt|ground[_-]?truth|segmentationclass(aug)?)($|[_-])|annot$"
)
"""In names of folders, in lower case: images/ and masks/, train_images/ and train_masks/, train/ and train_labels/."""
MARKS = ("_mask", "_label", "_labels", "_gt", "_seg", "_l", "_p", "-mask")
"""What a map's name may have behind its image's, in any case."""


@dataclass(frozen=True)
class Pairs:
    """Relative paths: of each image its label maps, of which there should be one, or none; and maps of no image."""

    maps: dict[str, list[str]]
    alone: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        count = len(self.alone)
        are_alone = f"{count:,} label maps have the name of no image, and are not read: {listed(self.alone)}"
        return [are_alone] * bool(count)


def paired(name: str, files: Sequence[str], is_asked: bool = True) -> Pairs | None:
    """The pairs among pictures whose paths are alike but for the names of folders: named for both, as those of
    images/train/a.jpg and masks/train/a.png are, or one for label maps, as of train/a.jpg and train_labels/a.png; None
    where there are none.

    Raises WhymaskError where all lie in folders named for both, and no name of the ones is one of the others, unless
    nothing `is_asked` of labels: there are then images alone."""
    maps = {file: place for file in files if (place := _place(file, MAPS)) is not None}
    if not maps:
        return None
    named = {file: place for file in files if file not in maps and (place := _place(file, IMAGES)) is not None}
    others = {file: _plain(file) for file in files if file not in maps}
    apart = {file: place for file, place in maps.items() if _place(file, IMAGES) is None}  # else a folder of a class
    readings = ((named, maps), (others, maps), _by_names(named, apart))
    found = next(filter(None, (_pairs(*two) for two in readings)), None)
    if found is not None or not named or not apart or len(named) + len(apart) < len(files):
        return found
    if not is_asked:
        return Pairs({file: [] for file in named})
    raise WhymaskError(
        f"{name}: images such as {min(named)} and label maps such as {min(maps)}, none of which has the name of an "
        "image; the same names, but for the suffix, or with _mask behind it, were expected; rename them, or give "
        "--task classification where these folders are classes"
    )


_Places = dict[str, str]


def _by_names(images: _Places, maps: _Places) -> tuple[_Places, _Places]:
    """The names of files alone, as of images/a.jpg and annotations/trimaps/a.png; none where one is there twice."""
    stems = [{file: PurePosixPath(place).name for file, place in places.items()} for places in (images, maps)]
    are_plain = all(len({*of.values()}) == len(of) for of in stems)
    return (stems[0], stems[1]) if are_plain else ({}, {})


def _pairs(images: _Places, maps: _Places) -> Pairs | None:
    at: dict[str, list[str]] = {}
    for file, place in maps.items():
        at.setdefault(place, []).append(file)
    places = {*images.values()}

    def of_image(place: str) -> list[str]:
        """Of marked names those that are no other image's own."""
        names = [place, *(place + mark for mark in MARKS if place + mark not in places)]
        return [file for name in names for file in at.get(name, [])]

    found = {file: of_image(place) for file, place in images.items()}
    used = {file for several in found.values() for file in several}
    return Pairs(found, sorted({*maps} - used)) if used else None


def _place(file: str, kind: re.Pattern[str]) -> str | None:
    """The path without what names the kind of the folder and without suffix, in lower case; None where not one folder
    is of that kind."""
    parent, name = os.path.split(file)
    folder = _folder(parent, kind)
    return None if folder is None else f"{folder}/{PurePosixPath(name).stem.lower()}"


@lru_cache(4096)  # of many files in few folders
def _folder(parent: str, kind: re.Pattern[str]) -> str | None:
    parts = Path(parent.lower()).parts
    rest = [_rest(part, kind) for part in parts]
    if sum(left is not None for left in rest) != 1:
        return None
    return "/".join(filter(None, (part if left is None else left for part, left in zip(parts, rest, strict=True))))


def _rest(part: str, kind: re.Pattern[str]) -> str | None:
    found = kind.search(part)
    return None if found is None else "_".join(filter(None, (part[: found.start()], part[found.end() :])))


def _plain(file: str) -> str:
    parent, name = os.path.split(file)
    return f"{Path(parent.lower()).as_posix() if parent else ''}/{PurePosixPath(name).stem.lower()}"


def without_image_folder(file: str) -> str:
    """The path as if images and maps lay in one folder, for what its folders say."""
    path = PurePosixPath(Path(file).as_posix())
    rest = (part if (left := _rest(part.lower(), IMAGES)) is None else left for part in path.parts[:-1])
    return str(PurePosixPath(*filter(None, rest), path.name))
