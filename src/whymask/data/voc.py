"""Pascal VOC's layout: JPEGImages beside SegmentationClass or Annotations, whose names in ImageSets/Segmentation or
ImageSets/Main are the splits, and the 21 classes where maps have VOC's palette."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from whymask.data.class_names import ClassTable
from whymask.data.source import SPLIT_OF

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
MAPS, BOXES = "Segmentation", "Main"
"""The folders of lists of images with label maps and with boxes."""
BOTH = "trainval"
"""The list of images to train on where there are none of train and val."""
FOLDER = "SegmentationClass"


def palette() -> np.ndarray:
    """The colours of the classes 0, 1, ..., uint8 (256, 3): the bits of a number, three by three."""
    numbers, colours = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (numbers >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def is_voc(maps: Sequence[str]) -> bool:
    """Whether label maps, relative paths, lie where VOC has them."""
    return any(FOLDER in PurePosixPath(file).parts for file in maps)


def voc_classes(path: Path) -> ClassTable | None:
    """VOC's classes, where that map has the colours of VOC's palette for them."""
    try:
        with Image.open(path) as picture:
            found = picture.getpalette() if picture.mode == "P" else None
    except Exception:  # a map that is not there, or damaged, is told of where all are read
        return None
    wanted = palette()[: len(NAMES)].ravel().tolist()
    return (
        ClassTable(NAMES, "Pascal VOC, whose palette the label maps have")
        if (found or [])[: len(wanted)] == wanted
        else None
    )


def lists_in(files: Sequence[str], kind: str = MAPS) -> list[str]:
    """Those of `files` that list the images of a split, such as ImageSets/Segmentation/train.txt; not those that list
    which show a class, such as ImageSets/Main/dog_train.txt."""
    paths = [(file, PurePosixPath(Path(file).as_posix())) for file in files if file.endswith(".txt")]
    found = [(file, path.stem) for file, path in paths if path.parts[-3:-1] == ("ImageSets", kind)]
    return [file for file, stem in found if stem in SPLIT_OF or (stem == BOTH and kind == BOXES)]


def splits_of(root: Path, lists: Sequence[str], images: Sequence[str]) -> list[str]:
    """The split of each image, "" where no list names it."""
    found: dict[str, str] = {}
    for file in sorted(lists, key=lambda file: PurePosixPath(Path(file).as_posix()).stem != BOTH):
        path = PurePosixPath(Path(file).as_posix())
        for name in (root / file).read_text(encoding="utf-8", errors="replace").split():
            found[str(path.parents[2] / "JPEGImages" / name)] = SPLIT_OF.get(path.stem, "train")
    return [found.get(str(PurePosixPath(Path(image).as_posix()).with_suffix("")), "") for image in images]
