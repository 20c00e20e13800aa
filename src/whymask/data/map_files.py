"""Which picture is the label map of which image, by the folders that they lie in and by their names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from whymask.data.layout import listed
from whymask.errors import WhymaskError

IMAGE_FOLDERS = frozenset({"images", "image", "img", "imgs", "jpegimages"})
MAP_FOLDERS = frozenset(
    {"masks", "mask", "labelmaps", "label_maps", "annotations", "labels", "segmentationclass", "segmentationclassaug"}
)
"""Names of folders, in any case, that lie side by side and hold files of the same names."""
MARKS = ("_mask", "_label", "_labels", "_gt", "_seg", "_l", "-mask")
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
    """The pairs among pictures that lie in folders named for both, such as images/train/a.jpg and masks/train/a.png;
    None where that is not so.

    Raises WhymaskError where all lie so, and no name of the ones is one of the others, unless nothing `is_asked` of
    labels: there are then images alone."""
    images = {file: place for file in files if (place := _place(file, IMAGE_FOLDERS)) is not None}
    maps: dict[str, list[str]] = {}
    for file in files:
        if (place := _place(file, MAP_FOLDERS)) is not None:
            maps.setdefault(place, []).append(file)
    found = {file: _maps_of(place, maps) for file, place in images.items()}
    alone = sorted({file for several in maps.values() for file in several} - {m for of in found.values() for m in of})
    if any(found.values()):
        return Pairs(found, alone)
    if not images or len(images) + len(alone) < len(files) or not alone:
        return None
    if not is_asked:
        return Pairs(found)
    raise WhymaskError(
        f"{name}: images such as {min(images)} and label maps such as {alone[0]}, none of which has the name of an "
        "image; the same names, but for the suffix, or with _mask behind it, were expected; rename them, or give "
        "--task classification where these folders are classes"
    )


def _place(file: str, folders: frozenset[str]) -> str | None:
    """The path without the folder that is named so and without suffix, in lower case; None where not one folder is."""
    path = PurePosixPath(Path(file).as_posix())
    kept = [part for part in path.parts[:-1] if part.lower() not in folders]
    return "/".join([*kept, path.stem]).lower() if len(kept) == len(path.parts) - 2 else None


def _maps_of(place: str, maps: dict[str, list[str]]) -> list[str]:
    return [file for mark in ("", *MARKS) for file in maps.get(place + mark, [])]


def without_image_folder(file: str) -> str:
    """The path as if images and maps lay in one folder, for what its folders say."""
    path = PurePosixPath(Path(file).as_posix())
    return str(PurePosixPath(*[part for part in path.parts[:-1] if part.lower() not in IMAGE_FOLDERS], path.name))
