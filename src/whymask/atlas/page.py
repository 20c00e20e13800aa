"""The page of a map: what its script is given, packed, and what it tells without one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from whymask.atlas.colourings import Colouring
from whymask.atlas.copies import KINDS
from whymask.atlas.finds import FIRST, Finds, Row
from whymask.atlas.neighbours import Neighbours
from whymask.atlas.outliers import LEFT, RARE
from whymask.atlas.settings import MapSettings
from whymask.atlas.sheets import Sheets
from whymask.data.prepare import Prepared
from whymask.disk import printable
from whymask.report.page import packed_bytes, packed_table, render
from whymask.report.privacy import HIDDEN
from whymask.report.text import clean

NONE = 2**16 - 1
"""Says that an image has no thumbnail."""
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Atlas:
    """Of n images, `rows` of the prepared ones, all that the page shows. `places`: by layout (n, 2); `is_shaped`:
    whether the network was trained on labels of these images."""

    prepared: Prepared
    rows: np.ndarray
    folder: Path
    places: dict[str, np.ndarray]
    neighbours: Neighbours
    colourings: list[Colouring]
    finds: Finds
    sheets: Sheets
    is_shaped: bool


def page_of(atlas: Atlas, asked: MapSettings, names: bool) -> bytes:
    """The page; without `names` images are called by their numbers."""
    keys = [printable(atlas.prepared.images.keys[row]) for row in atlas.rows] if names else []
    root = _root(keys)
    called = [key.removeprefix(root) for key in keys] or [f"image {row}" for row in atlas.rows]
    points = packed_bytes(in_one(_header(atlas, root, called if names else []), _arrays(atlas, asked)))
    sheets = json.dumps(atlas.sheets.to_dict())
    images = atlas.prepared.images
    return render(
        "atlas.html.j2",
        _TEMPLATES,
        further=_TEMPLATES / "atlas.js",
        name=clean(atlas.prepared.name) if names else HIDDEN,
        network=clean(str(atlas.folder)) if names else HIDDEN,
        count=len(atlas.rows),
        total=len(images),
        thumbnails=atlas.sheets,
        points=points,
        sheets=sheets,
        bytes={"points": len(points), "thumbnails": len(sheets)},
        colourings=clean([each.to_dict() for each in atlas.colourings]),
        layouts=list(atlas.places),
        size=images.preprocessing.size,
        is_shaped=atlas.is_shaped,
        finds=atlas.finds,
        first=FIRST,
        rare=RARE,
        left=LEFT,
        kinds=KINDS,
        tables=_tables(atlas, called),
    )


def in_one(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of unsigned numbers behind a header, which tells of each its type and where it begins: the header's length
    in four bytes, the header as JSON, filled up to a multiple of 4, then the arrays, each filled up too."""
    places, start = {}, 0
    for name, array in arrays.items():
        places[name] = {"bytes": array.itemsize, "start": start, "length": array.size}
        start += -(-array.nbytes // 4) * 4
    text = json.dumps({**header, "arrays": places}).encode()
    text += b" " * (-len(text) % 4)
    filled = [array.tobytes() + bytes(-array.nbytes % 4) for array in arrays.values()]
    return b"".join([len(text).to_bytes(4, "little"), text, *filled])


def _header(atlas: Atlas, root: str, called: list[str]) -> Row:
    return {
        "count": len(atlas.rows),
        "root": root,
        "names": called,
        "layouts": list(atlas.places),
        "colourings": [each.to_dict() for each in atlas.colourings],
    }


def _arrays(atlas: Atlas, asked: MapSettings) -> dict[str, np.ndarray]:
    near = atlas.neighbours.places[:, : asked.neighbours]
    arrays = {
        "numbers": atlas.rows.astype("<u4"),
        "near": near.astype("<u2"),
        "thumbnails": np.where(atlas.sheets.place < 0, NONE, atlas.sheets.place).astype("<u2"),
    }
    for number, places in enumerate(atlas.places.values()):
        x, y = _in_square(places)
        arrays |= {f"x{number}": x, f"y{number}": y}
    for number, each in enumerate(atlas.colourings):
        arrays[f"of{number}"] = each.of.astype("<u1")
    return arrays


def _in_square(places: np.ndarray) -> np.ndarray:
    """Places (N, 2) -> uint16 (2, N), in the middle of a square, both axes to one scale, the second one upwards."""
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (high - low).max()
    within = (places - (low + high) / 2) / (scale if scale > 0 else 1) + 0.5
    return np.rint((within * [1, -1] + [0, 1]).clip(0, 1) * NONE).astype("<u2").T


def _root(keys: Sequence[str]) -> str:
    """The folder that all are in, with its slash; "" of none."""
    pairs = zip(min(keys, default=""), max(keys, default=""), strict=False)
    common = "".join(one for one, other in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return common[: common.rfind("/") + 1]


def _tables(atlas: Atlas, called: list[str]) -> Row:
    """Of each list what is shown of its head, and all of it as a file."""
    finds, classes, labels = atlas.finds, atlas.prepared.classes, atlas.prepared.images.labels[atlas.rows]

    def of(place: int, key: str = "image") -> Row:
        return {key: called[place], f"{key}_point": place}

    copies: list[Row] = [of(a) | of(b, "other") | {"likeness": like} for a, b, like in finds.copies]
    outliers: list[Row] = [of(place) | {"distance": far} for place, far in finds.outliers]
    errors: list[Row] = [
        of(place) | {"doubt": doubt, "label": classes[labels[place]], "neighbours": likely, "share": share}
        for place, doubt, likely, share in finds.errors
    ]
    columns = {
        "copies": ("image", "other", "likeness"),
        "outliers": ("image", "distance"),
        "errors": ("image", "label", "neighbours", "share", "doubt"),
    }
    return {
        name: {"rows": clean(rows[:FIRST]), "count": len(rows), "file": packed_table(columns[name], rows)}
        for name, rows in (("copies", copies), ("outliers", outliers), ("errors", errors))
    }
