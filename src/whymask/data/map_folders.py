"""Images with label maps in folders beside theirs, as files of the same names; Pascal VOC's folders are such."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whymask.data import voc
from whymask.data.class_names import ClassTable, classes_beside
from whymask.data.files import from_folder
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.layout import layout_of
from whymask.data.map_files import IMAGES, MAPS, Pairs, without_image_folder
from whymask.data.opening import open_file
from whymask.data.settings import LabelSettings
from whymask.data.source import RawImage, Reader, Source, split_column
from whymask.data.stamps import stamp_files
from whymask.errors import WhymaskError
from whymask.tasks.detection import Detection
from whymask.tasks.segmentation import Segmentation


def from_pairs(
    name: str, root: Path, pairs: Pairs, files: Sequence[str], reader: Reader | None, asked: LabelSettings | None
) -> tuple[Source, list[str]]:
    """The images, with their maps and the splits that their folders or lists name, and which `files` are read for that.
    Where nothing is `asked` of labels, the images alone."""
    images, maps = [*pairs.maps], [*pairs.maps.values()]
    source = replace(from_folder(name, root, images, reader, None), notes=(), splits=None)
    named = [file for several in maps for file in several]
    used = [*images, *named, *pairs.alone]
    if asked is None:
        return source, used

    users = Counter(named)

    def read(row: int) -> RawImage:
        if len(maps[row]) > 1:
            raise WhymaskError(f"it has {len(maps[row])} label maps, {' and '.join(maps[row])}; one was expected")
        if (sharing := users[maps[row][0]]) > 1:
            raise WhymaskError(f"{maps[row][0]} is the label map of {sharing} images of that name; one was expected")
        return open_file(root / maps[row][0])

    paths = [root / file for file in named]
    there = np.array([bool(several) for several in maps])
    given = GivenMaps(there, read, stamp_files(paths, named), frozenset(map(str, paths)))
    classes = classes_beside(root, asked) or _of_voc(root, named)
    source = with_maps(replace(source, notes=tuple(pairs.notes)), given, classes, asked)
    lists = voc.lists_in(files)
    words = layout_of(list(map(without_image_folder, images))).splits
    words = voc.splits_of(root, lists, images) if words is None and lists else words
    splits, notes = (None, ()) if words is None else split_column(words, source.labelled)
    beside = [] if classes is None else [file for file in files if str(root / file) == classes.file]
    return replace(source, splits=splits, notes=(*source.notes, *notes)), [*used, *beside, *lists]


def with_images(labels: str, asked: LabelSettings) -> str:
    """The folder that holds label maps or annotations and their images, where that of the maps or annotations alone was
    given for segmentation or detection; else `labels` as given."""
    folder = Path(labels).expanduser()
    is_of_labels = asked.task in (Segmentation.name, Detection.name) and MAPS.search(folder.name.lower())
    if not is_of_labels or not folder.is_dir():
        return labels
    beside = (entry for entry in folder.absolute().parent.iterdir() if IMAGES.search(entry.name.lower()))
    return str(folder.parent) if any(entry.is_dir() for entry in beside) else labels


def _of_voc(root: Path, maps: Sequence[str]) -> ClassTable | None:
    return voc.voc_classes(root / maps[0]) if voc.is_voc(maps) else None
