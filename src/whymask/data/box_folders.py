"""Images whose objects are marked in a file for each, beside them or in folders beside theirs: Pascal VOC's XML."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whymask.data import voc
from whymask.data.annotations import Annotation, GivenBoxes, Size, with_boxes
from whymask.data.box_files import Marks, marks_of
from whymask.data.class_names import read_classes
from whymask.data.files import from_folder
from whymask.data.layout import layout_of
from whymask.data.map_files import without_image_folder
from whymask.data.settings import LabelSettings
from whymask.data.source import Reader, Source, split_column
from whymask.data.voc_xml import FIRST, SUFFIX, is_voc_xml, read_voc_xml
from whymask.errors import WhymaskError


def marks_beside(root: Path, files: Sequence[str], images: Sequence[str]) -> Marks | None:
    """Which of a folder's files mark the objects of its images; None where none do."""
    written = {file for file in files if file.lower().endswith(SUFFIX)}
    found = marks_of([image for image in images if image not in written], sorted(written))
    return found if found is not None and is_voc_xml(root / found.first) else None


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
    lists = voc.lists_in(files, voc.BOXES)
    used = [*images, *named, *marks.alone, *lists]
    if asked is None:
        return source, used
    users = Counter(named)

    def read(row: int, size: Size) -> Annotation:
        file, *others = several[row]
        if others:
            names = " and ".join(several[row])
            raise WhymaskError(f"it has {len(several[row])} annotations, {names}; one was expected")
        if users[file] > 1:
            raise WhymaskError(f"{file} is the annotation of {users[file]} images of that name; one was expected")
        return read_voc_xml(root / file)

    given = GivenBoxes(np.array(list(map(bool, several))), read, FIRST)
    classes = None if asked.class_names is None else read_classes(asked.class_names.expanduser())
    source = with_boxes(replace(source, notes=tuple(marks.notes)), given, classes)
    words = layout_of(list(map(without_image_folder, images))).splits
    words = voc.splits_of(root, lists, images) if words is None and lists else words
    splits, notes = (None, ()) if words is None else split_column(words, source.labelled)
    return replace(source, splits=splits, notes=(*source.notes, *notes)), used
