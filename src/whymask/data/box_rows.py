"""Tables with a row a box: the path of an image, a class and four corners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whymask.data.annotations import Annotation, GivenBoxes, Size
from whymask.data.box_columns import CLASSES, CROWDS, DIFFICULTS, marked_from
from whymask.data.settings import LabelSettings
from whymask.errors import WhymaskError
from whymask.tasks.detection import Detection

CORNERS = (
    *(("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2")),
    *(("left", "top", "right", "bottom"), ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")),
)
"""What the columns of corners may be called, in any case."""
SIDES = (("height",), ("width",))


@dataclass(frozen=True)
class BoxRows:
    """What such a table says with a row an image, and the boxes of each."""

    header: list[str]
    rows: list[list[Any]]
    given: GivenBoxes


def box_rows(
    source: str, header: Sequence[str], rows: Sequence[Sequence[Any]], path: int, asked: LabelSettings | None
) -> BoxRows | None:
    """None of a table without columns of corners and classes, or where another task was asked for. An image without
    objects is a row whose corners are empty.

    Raises WhymaskError where boxes were asked for and there are no classes, and where no image has two boxes, which may
    then be of the object that a whole image is labelled by, unless boxes were asked for."""
    task = "auto" if asked is None else asked.task
    if task not in ("auto", Detection.name):
        return None
    lower = [str(title).lower() for title in header]

    def place(titles: Sequence[str]) -> int | None:
        return next((lower.index(title) for title in titles if title in lower and lower.index(title) != path), None)

    corners = next(([*map(lower.index, titles)] for titles in CORNERS if {*titles} <= {*lower}), None)
    kind, crowd, difficult, height, width = map(place, (CLASSES, CROWDS, DIFFICULTS, *SIDES))
    if corners is None or (kind is None and task == "auto"):
        return None
    if kind is None:
        raise WhymaskError(
            f"{source}: corners of boxes, and no column of their classes among {', '.join(header)}; one called class "
            "was expected; add it"
        )
    of_path: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        of_path.setdefault(str(row[path]), []).append(row)
    if asked is not None and task == "auto" and len(of_path) == len(rows):
        raise WhymaskError(
            f"{source}: a class and the corners of one box for each image; give --task detection to learn the boxes, "
            "or classification to learn what whole images show"
        )
    several = list(of_path.values())

    def read(index: int, size: Size) -> Annotation:
        full = [row for row in several[index] if any(row[at] not in (None, "") for at in corners)]
        said = [[None if at is None else row[at] for at in (kind, crowd, difficult)] for row in full]
        objects = (([row[at] for at in corners], *of, None) for row, of in zip(full, said, strict=True))
        sides = (0 if at is None else _whole(several[index][0][at]) for at in (height, width))
        return Annotation(tuple(marked_from(each, "xyxy", ()) for each in objects), (next(sides), next(sides)))

    kept = [at for at in range(len(header)) if at not in (kind, crowd, difficult, height, width, *corners)]
    given = GivenBoxes(np.ones(len(several), bool), read, hint="corners in pixels were expected")
    return BoxRows([header[at] for at in kept], [[of[0][at] for at in kept] for of in several], given)


def _whole(value: Any) -> int:
    """A side in pixels, 0 where none is written."""
    try:
        return int(float(value or 0))
    except (TypeError, ValueError):
        return 0
