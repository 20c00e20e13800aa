"""What a COCO JSON says: its images, the regions or the boxes of each, and its categories."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from whymask.data.annotations import Marked
from whymask.data.boxes import CROWD
from whymask.data.class_names import ClassTable
from whymask.errors import WhymaskError
from whymask.tasks.label_map_counts import IGNORED

BACKGROUND = "background"
BEYOND = 4
"""Sides of the image that a polygon may reach beyond it: what reaches further would fill the memory."""


@dataclass(frozen=True)
class Region:
    """Polygons, float64 (2 p,) each, of x and y in pixels, or lengths of runs, column by column, outside and inside in
    turn; of which class, and whether of a crowd."""

    number: int
    is_crowd: bool
    polygons: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None

    def coded(self, size: tuple[int, int]) -> Any:
        """As pycocotools takes it."""
        if self.runs is None:
            return list(self.polygons)
        return {"size": list(size), "counts": self.runs.tolist()}


@dataclass
class CocoImage:
    """Its name, height and width, 0 where they are not written, and its regions or objects, or why these cannot be
    used."""

    name: str
    size: tuple[int, int]
    regions: list[Region] = field(default_factory=list)
    objects: list[Marked] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class Coco:
    images: list[CocoImage]
    classes: ClassTable
    notes: list[str]


Content = dict[str, list[dict[str, Any]]]


def regions_in(file: str, content: Content) -> Coco:
    """Raises WhymaskError for a JSON of boxes alone."""
    of_id = _images(file, content, are_sized=True)
    numbers, classes = _classes(file, content, BACKGROUND)
    notes = _added(of_id, content, lambda image, each, counts: _add(image, each, numbers, counts))
    if content["annotations"] and not any(image.regions or image.problem for image in of_id.values()):
        raise WhymaskError(
            f"{file}: {len(content['annotations']):,} annotations, none with a region (segmentation), as boxes alone "
            "have none; polygons or run lengths were expected; export them, or give --task detection"
        )
    return Coco([*of_id.values()], classes, notes)


def boxes_in(file: str, content: Content) -> Coco:
    """The boxes, whose classes have no background."""
    of_id = _images(file, content, are_sized=False)
    numbers, classes = _classes(file, content)
    notes = _added(of_id, content, lambda image, each, counts: _add_box(image, each, numbers, classes.names, counts))
    return Coco([*of_id.values()], classes, notes)


def _images(file: str, content: Content, are_sized: bool) -> dict[Any, CocoImage]:
    """By their ids."""
    of_id: dict[Any, CocoImage] = {}
    for entry in content["images"]:
        name = entry.get("file_name") or PurePosixPath(str(entry.get("coco_url", ""))).name
        height, width = (side if isinstance(side, int) else 0 for side in (entry.get("height"), entry.get("width")))
        if not name or not isinstance(name, str) or (are_sized and min(height, width) < 1):
            raise WhymaskError(
                f"{file}: an image {str(entry)[:80]}; file_name, height and width were expected; add them"
            )
        of_id[entry.get("id")] = CocoImage(name, (height, width))
    if len(of_id) < len(content["images"]):
        raise WhymaskError(
            f"{file}: several images of one id; an id of its own for each was expected; number them anew"
        )
    return of_id


def _added(
    of_id: dict[Any, CocoImage],
    content: Content,
    add: Callable[[CocoImage, dict[str, Any], dict[str, int]], None],
) -> list[str]:
    """What is to be said, once each annotation is added to its image."""
    counts: dict[str, int] = defaultdict(int)
    for annotation in content["annotations"]:
        image = of_id.get(annotation.get("image_id"))
        if image is None:
            counts["they are of no image that it names"] += 1
        else:
            add(image, annotation, counts)
    return [f"{count:,} of its annotations: {what}" for what, count in counts.items()]


def content_of(file: str) -> Content:
    """Raises WhymaskError for what is no COCO JSON of regions or boxes: another JSON, or a panoptic one."""
    try:
        content = json.loads(Path(file).read_bytes())
    except (ValueError, RecursionError) as error:
        raise WhymaskError(f"{file}: no JSON ({error}); a COCO JSON was expected; write it again") from error
    wanted = ("images", "annotations", "categories")
    parts = [content.get(key) for key in wanted] if isinstance(content, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in parts):
        raise WhymaskError(
            f"{file}: a JSON without images, annotations and categories; COCO's, of instances or stuff, was expected; "
            "check the path"
        )
    if any("segments_info" in annotation for annotation in content["annotations"][:100]):
        raise WhymaskError(
            f"{file}: a panoptic JSON, whose regions lie in pictures beside it, which is not read here; COCO's "
            "instances or stuff was expected; give one of these, or label maps of classes, masks/NAME.png beside "
            "images/NAME.jpg"
        )
    return {key: content[key] for key in wanted}


def _classes(file: str, content: Content, *first: str) -> tuple[dict[Any, int], ClassTable]:
    """Category id -> class number, and the classes: that which is `first`, background, whatever its id, before all
    others."""
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    above = {c.get("supercategory") for c in content["categories"] if c.get("supercategory") != c.get("name")}
    kept = [c for c in content["categories"] if c.get("id") in used or str(c.get("name")) not in above]
    try:
        named = [(c["id"], str(c["name"])) for c in sorted(kept, key=lambda c: int(c["id"]))]
    except (KeyError, ValueError, TypeError) as error:
        raise WhymaskError(f"{file}: a category without id or name ({error}); both were expected; add them") from None
    ordered = dict(named)
    if len(ordered) < len({*named}):
        id, name = next((id, name) for id, name in named if ordered[id] != name)
        raise WhymaskError(
            f"{file}: the categories {name} and {ordered[id]} have one id, {id}; an id of its own for each "
            "was expected; number them anew"
        )
    first = tuple(next((name for name in ordered.values() if name.lower() == each), each) for each in first)
    names = tuple(dict.fromkeys([*first, *ordered.values()]))
    if first and len(names) > IGNORED:
        raise WhymaskError(f"{file}: {len(names)} categories; up to {IGNORED - 1} were expected; leave some out")
    return {id: names.index(name) for id, name in ordered.items()}, ClassTable(names, file)


def _add(image: CocoImage, annotation: dict[str, Any], numbers: dict[Any, int], counts: dict[str, int]) -> None:
    """The region of an annotation to its image, or why it cannot be used."""
    shape, category = annotation.get("segmentation"), annotation.get("category_id")
    if not shape:
        counts["boxes without a region are passed over"] += 1
    elif category not in numbers:
        image.problem = f"a region of the category {category}, which is none of the file's"
    else:
        try:
            region = _region(shape, image.size, numbers[category], bool(annotation.get("iscrowd")))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            image.problem = f"a region that is neither polygons nor run lengths of the image ({error})"
            return
        if region is None:
            counts["polygons of fewer than three corners are passed over"] += 1
        else:
            image.regions.append(region)


def _add_box(
    image: CocoImage,
    annotation: dict[str, Any],
    numbers: dict[Any, int],
    names: Sequence[str],
    counts: dict[str, int],
) -> None:
    """The box of an annotation to its image, or why it cannot be used."""
    box, category, area = annotation.get("bbox"), annotation.get("category_id"), annotation.get("area")
    if not box:
        counts["regions without a box are passed over"] += 1
    elif category not in numbers:
        image.problem = f"a box of the category {category}, which is none of the file's"
    else:
        try:
            left, top, width, height = map(float, box)
            size = float(area or 0)
        except (TypeError, ValueError) as error:
            image.problem = f"a box {str(box)[:80]}, and left, top, width and height were expected ({error})"
            return
        corners = (left, top, left + width, top + height)
        ignored = CROWD * bool(annotation.get("iscrowd"))
        image.objects.append(Marked(names[numbers[category]], corners, ignored, size))


def _region(shape: Any, size: tuple[int, int], number: int, is_crowd: bool) -> Region | None:
    """None of lines and points. Raises ValueError for what would not lie on the image."""
    if isinstance(shape, list):
        polygons = [np.array(polygon, np.float64) for polygon in shape]
        if any(polygon.ndim != 1 or len(polygon) % 2 for polygon in polygons):
            raise ValueError("corners of other than two numbers")
        furthest = (1 + BEYOND) * max(size)
        if not all((np.abs(polygon) <= furthest).all() for polygon in polygons):
            raise ValueError(f"corners further than {furthest} pixels away")
        areas = tuple(polygon for polygon in polygons if len(polygon) >= 6)
        return Region(number, is_crowd, areas) if areas else None
    if shape["size"] != list(size):
        raise ValueError(f"of {shape['size'][0]} x {shape['size'][1]} pixels")
    counts = shape["counts"]
    runs = np.array(counts if isinstance(counts, list) else run_lengths(counts), np.int64)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(f"runs of {runs.sum()} pixels, and an image of {size[0] * size[1]}")
    return Region(number, is_crowd, runs=runs)


def run_lengths(text: str) -> list[int]:
    """Lengths as COCO packs them: five bits a character, of each from the third on what it is more than the one before
    the last."""
    found: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    return found
