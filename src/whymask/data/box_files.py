"""Which file marks the objects of which image, by the folders that they lie in and by their names."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from whymask.data.layout import listed

KINDS = re.compile(r"(^|[_-])(images?|imgs?|jpegimages|annotations?|annots?|labels?|boxes|bboxes|xmls?)($|[_-])")
"""In names of folders, in lower case: images/ and annotations/, train_images/ and train_labels/."""


@dataclass(frozen=True)
class Marks:
    """Relative paths: of each image the files that mark its objects, of which there should be one, or none; and those
    of no image."""

    of: dict[str, list[str]]
    alone: list[str]

    @property
    def first(self) -> str:
        return next(file for several in self.of.values() for file in several)

    @property
    def notes(self) -> list[str]:
        count = len(self.alone)
        are_alone = f"{count:,} annotations have the name of no image, and are not read: {listed(self.alone)}"
        return [are_alone] * bool(count)


def marks_of(images: Sequence[str], files: Sequence[str]) -> Marks | None:
    """The files whose paths are those of images but for the suffix and for folders named for images or for annotations,
    as of images/train/a.jpg and annotations/train/a.xml, or of train/a.jpg and train/a.xml; else whose names are, where
    no name is there twice; None where there are none."""
    by_place = _matched(*({file: _place(file) for file in several} for several in (images, files)))
    if by_place is not None:
        return by_place
    stems = [{file: PurePosixPath(file).stem.lower() for file in several} for several in (images, files)]
    are_plain = all(max(Counter(of.values()).values(), default=0) == 1 for of in stems)
    return _matched(*stems) if are_plain else None


def _matched(images: dict[str, str], files: dict[str, str]) -> Marks | None:
    at: dict[str, list[str]] = {}
    for file, place in files.items():
        at.setdefault(place, []).append(file)
    found = {image: at.get(place, []) for image, place in images.items()}
    used = {file for several in found.values() for file in several}
    return Marks(found, sorted({*files} - used)) if used else None


def _place(file: str) -> str:
    """The path without what names the kind of its folders and without suffix, in lower case."""
    parent, name = os.path.split(file)
    parts = (KINDS.sub("", part) for part in Path(parent.lower()).parts)
    return "/".join([*filter(None, parts), PurePosixPath(name).stem.lower()])
