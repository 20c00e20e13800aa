"""A column of the objects of each image, as Hugging Face data sets have it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np

from whymask.data.annotations import Annotation, Corners, GivenBoxes, Marked, Size
from whymask.data.boxes import CROWD, DIFFICULT
from whymask.data.labels import LABEL, OTHER_NAMES, column_of_places
from whymask.data.settings import BoxFormat, LabelSettings
from whymask.errors import WhymaskError
from whymask.tasks.detection import Detection

BOXES = ("bbox", "bboxes", "boxes", "box")
CLASSES = (*OTHER_NAMES, LABEL, "categories", "classes", "category_id", "category_name", "label_id", "name")
CROWDS, DIFFICULTS = ("iscrowd", "is_crowd", "crowd"), ("difficult", "is_difficult")
"""What the fields of objects may be called."""
HINT = "--box-format says what the four numbers are: xywh, xyxy or cxcywh, in pixels"


def corners_of(box: Sequence[float], form: BoxFormat) -> Corners:
    """Left, top, right and bottom. Raises WhymaskError for other than four numbers."""
    try:
        a, b, c, d = map(float, box)
    except (TypeError, ValueError):
        raise WhymaskError(f"a box {str(box)[:80]}, and four numbers were expected") from None
    if form == "xyxy":
        return a, b, c, d
    return (a, b, a + c, b + d) if form == "xywh" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)


def marked_of(cell: Any, form: BoxFormat, names: Sequence[str] = ()) -> Annotation | None:
    """The objects in a cell, a dict of lists or a list of dicts; None in an empty one. `names`: of class numbers."""
    if cell is None:
        return None
    if not len(cell):
        return Annotation(())
    fields = cell if isinstance(cell, Mapping) else {key: [each.get(key) for each in cell] for key in cell[0]}
    boxes, kinds = _field(fields, BOXES), _field(fields, CLASSES)
    if boxes is None or kinds is None:
        raise WhymaskError(f"objects with the fields {', '.join(fields)}; bbox and category were expected")
    if len(boxes) != len(kinds):
        raise WhymaskError(f"{len(boxes)} boxes and {len(kinds)} classes; as many were expected")
    none = [None] * len(boxes)
    crowds, difficults, areas = (_field(fields, titles) or none for titles in (CROWDS, DIFFICULTS, ("area", "areas")))
    rows = zip(boxes, kinds, crowds, difficults, areas, strict=True)
    return Annotation(tuple(marked_from(row, form, names) for row in rows))


def marked_from(row: tuple[Any, ...], form: BoxFormat, names: Sequence[str]) -> Marked:
    """The object of a box, a class, whether it is a crowd or difficult, and an area, each None where it is not said."""
    box, kind, crowd, difficult, area = row
    if isinstance(kind, int | np.integer) and names:
        if not 0 <= kind < len(names):
            raise WhymaskError(f"an object of the class {kind}, of which there are {len(names)}")
        kind = names[int(kind)]
    elif kind is None or kind == "":
        raise WhymaskError("an object without a class")
    elif not isinstance(kind, str):
        kind = int(kind)
    ignored = CROWD if _is(crowd) else DIFFICULT * _is(difficult)
    return Marked(kind, corners_of(box, form), ignored, nan if area is None else float(area))


def _is(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "1.0", "true")


def _field(fields: Mapping[str, Any], titles: Sequence[str]) -> Any:
    lower = {str(key).lower(): key for key in fields}
    found = next((lower[title] for title in titles if title in lower), None)
    return None if found is None else fields[found]


def holds_boxes(kind: str) -> bool:
    """Whether a column of that type, as arrow names it, holds objects with boxes."""
    return "struct<" in kind and re.search(rf"\b({'|'.join(BOXES)}): ", kind.lower()) is not None


def box_column(
    source: str,
    columns: Iterable[str],
    holds: Callable[[str], bool],
    labels: Callable[[list[str]], list[str]],
    asked: LabelSettings | None,
) -> str | None:
    """The column of objects; None where there is none, or another task was asked for. `holds` says whether a column
    is one, `labels` which of some columns are of other labels.

    Raises WhymaskError where there are two, or other labels beside it and no task was asked for."""
    if asked is None or asked.task not in ("auto", Detection.name):
        return None
    columns = list(columns)
    found = [column for column in asked.label_columns or columns if column in columns and holds(column)]
    words = {"held": "boxes", "learnt": "boxes", "others_hold": "other labels"}
    return column_of_places(source, columns, found, labels, asked, task=Detection.name, **words)


def given_of(
    cells: Callable[[int], Any],
    count: int,
    form: BoxFormat,
    names: Sequence[str] = (),
    size: Callable[[int], Size] | None = None,
) -> GivenBoxes:
    """The boxes in the cells of a column, on images that are said to have that `size`."""

    def read(row: int, seen: Size) -> Annotation | None:
        found = marked_of(cells(row), form, names)
        return found if size is None or found is None else replace(found, size=size(row))

    return GivenBoxes(np.ones(count, bool), read, hint=HINT, form=form)
