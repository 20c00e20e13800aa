"""Images whose objects are marked in a file for each, beside them or in folders beside theirs: Pascal VOC's XML, and
YOLO's texts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from whymask.data import voc
from whymask.data.annotations import Annotation, GivenBoxes, Size, with_boxes
from whymask.data.box_files import Marks, marks_of
from whymask.data.class_names import ClassTable, read_classes
from whymask.data.files import from_folder
from whymask.data.layout import layout_of
from whymask.data.map_files import without_image_folder
from whymask.data.settings import LabelSettings
from whymask.data.source import Reader, Source, split_column
from whymask.data.voc_xml import FIRST, SUFFIX, is_voc_xml, read_voc_xml
from whymask.data.yolo import HINT, beside_yolo, is_yolo, read_yolo, yolo_classes, yolo_splits
from whymask.data.yolo import SUFFIX as YOLO_SUFFIX
from whymask.errors import WhymaskError

LOOKED = 20
"""Files of marks of which more than half must be of a form for it to be that."""


@dataclass(frozen=True)
class _Form:
    """How a kind of file is known, and read for an image of that size, and the number of its first pixel."""

    is_one: Callable[[Path], bool]
    read: Callable[[Path, Size], Annotation]
    first: int = 0
    hint: str = GivenBoxes.hint


FORMS = {
    SUFFIX: _Form(is_voc_xml, lambda path, size: read_voc_xml(path), FIRST),
    YOLO_SUFFIX: _Form(is_yolo, read_yolo, hint=HINT),
}
"""By the suffix of the files, the first of them that marks images."""


def marks_beside(root: Path, files: Sequence[str], images: Sequence[str]) -> Marks | None:
    """Which of a folder's files mark the objects of its images; None where none do."""
    for suffix, form in FORMS.items():
        written = {file for file in files if file.lower().endswith(suffix)}
        found = marks_of([image for image in images if image not in written], sorted(written))
        if found is None:
            continue
        named = [file for several in found.of.values() for file in several]
        first = [form.is_one(root / file) for file in islice(filter(lambda file: _is_full(root / file), named), LOOKED)]
        if 2 * sum(first) > len(first):
            alone = [file for file in found.alone if _is_full(root / file) and form.is_one(root / file)]
            return replace(found, alone=alone)
    return None


def _is_full(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def are_of_classes(images: Sequence[str]) -> bool:
    """Whether the folders of images are classes, whatever is marked in the images."""
    return any(layout_of(list(map(without_image_folder, images))).classes)


def from_marks(
    name: str, root: Path, marks: Marks, files: Sequence[str], reader: Reader | None, asked: LabelSettings | None
) -> tuple[Source, list[str]]:
    """The images, with their boxes and the splits that their folders or lists name, and which of the `files` are read
    for that. Where nothing is `asked` of labels, the images alone."""
    images, several = [*marks.of], [*marks.of.values()]
    source = replace(from_folder(name, root, images, reader, None), notes=(), splits=None)
    named = [file for found in several for file in found]
    beside = _beside(root, Path(marks.first).suffix.lower(), files, images)
    used = [*images, *named, *marks.alone, *beside.files]
    if asked is None:
        return source, used
    form, users = FORMS[Path(marks.first).suffix.lower()], Counter(named)

    def read(row: int, size: Size) -> Annotation:
        file, *others = several[row]
        if others:
            names = " and ".join(several[row])
            raise WhymaskError(f"it has {len(several[row])} annotations, {names}; one was expected")
        if users[file] > 1:
            raise WhymaskError(f"{file} is the annotation of {users[file]} images of that name; one was expected")
        return form.read(root / file, size)

    given = GivenBoxes(np.array(list(map(bool, several))), read, form.first, form.hint)
    classes = beside.classes if asked.class_names is None else read_classes(asked.class_names.expanduser())
    source = with_boxes(replace(source, notes=tuple(marks.notes)), given, classes, asked)
    words = layout_of(list(map(without_image_folder, images))).splits or beside.splits
    splits, notes = (None, ()) if words is None else split_column(words, source.labelled)
    return replace(source, splits=splits, notes=(*source.notes, *notes)), used


@dataclass(frozen=True)
class _Beside:
    """What lies beside the marks: names of classes, the split of each image, and the files that say so."""

    classes: ClassTable | None
    splits: list[str] | None
    files: list[str]


def _beside(root: Path, suffix: str, files: Sequence[str], images: Sequence[str]) -> _Beside:
    if suffix == SUFFIX:
        lists = voc.lists_in(files, voc.BOXES)
        return _Beside(None, voc.splits_of(root, lists, images) if lists else None, lists)
    content, file = beside_yolo(root, files)
    classes = yolo_classes(root, files, content, file)
    read = {file} | ({str(Path(classes.file).relative_to(root))} if classes is not None else set())
    return _Beside(classes, yolo_splits(root, content, images), sorted(read - {""}))
