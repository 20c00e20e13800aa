"""COCO JSON as boxes, or as label maps: images, and regions of categories as polygons or run lengths, painted by
pycocotools.

A pixel is of the category whose region lies on it: of several the smallest region's, as large ones are painted first,
of equally large ones the later one's. Where a crowd region lies alone it is of no class that counts, and where none
lies of "background", class 0: an image without regions is all background. Categories are numbered in the order of their
ids, those of one name together.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from whymask.data.annotations import Annotation, GivenBoxes, Size, with_boxes
from whymask.data.class_names import read_classes
from whymask.data.coco_regions import CocoImage, Content, Region, boxes_in, content_of, regions_in
from whymask.data.files import file_reader, resolved
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.places import located
from whymask.data.settings import LabelSettings
from whymask.data.source import Reader, Source, split_column, split_in
from whymask.data.stamps import stamp_files
from whymask.errors import WhymaskError
from whymask.tasks import Classification, Detection
from whymask.tasks.label_map_counts import IGNORED
from whymask.tasks.segmentation import Segmentation

STARTS = ("instances", "stuff", "annotations", "_annotations")
"""How names of files begin that may be COCO's, beside images; or they have "coco" in them."""
HINT = "COCO's bbox is left, top, width and height in pixels"
OTHER_PICTURES = ("annotations", "panoptic", "stuffthingmaps")
"""How names of folders begin that lie beside COCO's images, and whose pictures are no images."""


def coco_files(files: Sequence[str]) -> list[str]:
    """Those of a folder's files that, by their names, hold regions of its images; of things rather than of stuff."""
    names = [(file, Path(file).name.lower()) for file in files if file.lower().endswith(".json")]
    found = [(file, name) for file, name in names if name.startswith(STARTS) or "coco" in name]
    if not found:
        found = [(file, name) for file, name in names if Path(file).parent.name.lower().startswith("annotation")]
    return [file for file, name in found if not name.startswith("stuff")] or [file for file, _ in found]


def without_others(images: Sequence[str]) -> list[str]:
    """Pictures but for those that lie in folders of annotations."""
    folders = ((image, PurePosixPath(Path(image).as_posix()).parts[:-1]) for image in images)
    return [image for image, parts in folders if not any(part.lower().startswith(OTHER_PICTURES) for part in parts)]


def from_coco(
    name: str, files: Sequence[Path], around: Sequence[Path], reader: Reader | None, asked: LabelSettings | None
) -> Source:
    """The images that COCO JSONs of one set of categories name, in the folder of each or in one of those `around`, with
    their boxes, or with the label maps that their regions make. A file's split is named by it, or by its folder."""
    paths: list[Path] = []
    images: list[CocoImage] = []
    splits: list[str] = []
    present: list[bool] = []
    notes: list[str] = []
    classes, parents = None, dict[str, str]()
    contents = [content_of(str(file)) for file in files]
    kind, said_of_kind = _kind(name, contents, asked)
    parsed = regions_in if kind == Segmentation.name else boxes_in
    for file, content in zip(files, contents, strict=True):
        coco = parsed(str(file), content)
        if classes is not None and coco.classes.names != classes.names:
            raise WhymaskError(
                f"{name}: the categories of {file.name} are others than those of {files[0].name}; one "
                "set of them was expected; give one of the files"
            )
        classes, written = coco.classes, [image.name for image in coco.images]
        found = located(written, _folders_of(file, around))
        paths += [resolved(str(found.folder / each), parents) for each in found.files]
        present += found.there
        images += coco.images
        splits += [split_in(file.stem) or split_in(file.parent.name)] * len(written)
        notes += [*found.notes, *coco.notes]
    if not any(present):
        raise WhymaskError(f"{name}: {notes[0]}; the images beside it, or in a folder images, were expected; move them")
    keys = list(map(str, paths))
    if len({*keys}) < len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise WhymaskError(f"{name}: {twice} is an image twice; one entry an image was expected; delete the others")
    task = Classification()
    missing = frozenset(key for key, is_there in zip(keys, present, strict=True) if not is_there)
    read, stamp = file_reader(paths, reader), stamp_files(paths, keys, reader)
    source = Source(name, keys, read, stamp, task.unlabelled(len(keys)), missing=missing)
    if asked is None:
        return source
    source, there = replace(source, notes=(*said_of_kind, *dict.fromkeys(notes))), np.ones(len(keys), bool)
    if kind == Segmentation.name:
        of_files = stamp_files(files, [f.name for f in files])
        source = with_maps(source, GivenMaps(there, partial(_map_of, images, _tools(name)), of_files), classes, asked)
    else:
        table = classes if asked.class_names is None else read_classes(asked.class_names.expanduser())
        source = with_boxes(source, GivenBoxes(there, partial(_boxes_of, images), hint=HINT), table, asked)
    named, of_splits = split_column(splits, source.labelled)
    return replace(source, splits=named, notes=(*source.notes, *of_splits))


def _kind(name: str, contents: Sequence[Content], asked: LabelSettings | None) -> tuple[str, list[str]]:
    """The task of label maps where there are regions and no other was asked for, else that of boxes; and what is to be
    said of that. Raises WhymaskError for another task, and where nothing tells."""
    if asked is None:
        return Detection.name, []  # whose images need no sizes
    if asked.task not in ("auto", Segmentation.name, Detection.name):
        raise WhymaskError(
            f"{name}: a COCO JSON, whose labels are regions or boxes in images; --task segmentation or detection was "
            f"expected, and {asked.task} was given; leave it out"
        )
    marks = [mark for content in contents for mark in content["annotations"]]
    has = {key: any(mark.get(key) for mark in marks) for key in ("segmentation", "bbox")}
    if asked.task != "auto":
        return asked.task, []
    if not any(has.values()):
        raise WhymaskError(
            f"{name}: no boxes and no regions in it ({len(marks):,} annotations), so that images without any are not "
            "known to be labelled; --task segmentation or detection says that nothing is to be seen in them"
        )
    if not has["segmentation"]:
        return Detection.name, []
    both = "regions are learnt as label maps, and boxes are not read: --task detection learns these"
    return Segmentation.name, [both] * has["bbox"]


def _folders_of(file: Path, around: Sequence[Path]) -> list[Path]:
    """Where its images may lie: beside it, or in a folder that its name is, or ends in, as in
    instances_train2017.json."""
    inner = [Path(), Path("images"), Path(file.stem.partition("_")[2] or file.stem)]
    return [base / folder for base in (file.parent, *around) for folder in (*inner, Path("images") / inner[-1])]


def _tools(name: str) -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise WhymaskError(
            f"{name}: regions of a COCO JSON are painted by pycocotools; install it: pip install 'whymask[dense]'"
        ) from error
    return mask


def _boxes_of(images: Sequence[CocoImage], row: int, size: Size) -> Annotation:
    image = images[row]
    if image.problem:
        raise WhymaskError(image.problem)
    return Annotation(tuple(image.objects), image.size)


def _map_of(images: Sequence[CocoImage], tools: Any, row: int) -> np.ndarray:
    image = images[row]
    if image.problem:
        raise WhymaskError(image.problem)
    return painted(image.regions, image.size, tools)


def painted(regions: Sequence[Region], size: tuple[int, int], tools: Any) -> np.ndarray:
    """The class numbers, uint8 (H, W), of an image of that height and width; `tools` are pycocotools' of masks."""
    height, width = size
    found: list[tuple[Region, Any, int]] = []
    for region in regions:
        lengths = tools.frPyObjects(region.coded(size), height, width)
        whole = tools.merge(lengths) if region.polygons else lengths
        found.append((region, whole, int(tools.area(whole))))
    label_map = np.zeros(size, np.uint8)
    for region, whole, _ in sorted(found, key=_by_crowd_and_area):
        label_map[tools.decode(whole).astype(bool)] = IGNORED if region.is_crowd else region.number
    return label_map


def _by_crowd_and_area(found: tuple[Region, Any, int]) -> tuple[bool, int]:
    """Crowd regions first, of others the large ones."""
    region, _, area = found
    return not region.is_crowd, -area
