"""Objects that somebody marked in images: which of their boxes can be used, and what is done with the others.

The rule: corners in another order than left, top, right, bottom are swapped; what lies beyond the image is cut off,
and told where it is more than a pixel; a box that, as it was written or as it is then, is less than a pixel wide or
high, or has a corner that is no finite number, is left out; of boxes of one class in one place the first is kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import isfinite, nan

import numpy as np

from whymask.data.boxes import CROWD, DIFFICULT, Boxes
from whymask.data.class_names import ClassTable
from whymask.data.decoding import reason_of
from whymask.data.looking import looked
from whymask.data.pixels import size_of
from whymask.data.settings import BoxFormat, LabelSettings
from whymask.data.source import RawImage, Source
from whymask.data.stamps import digest_of
from whymask.errors import WhymaskError
from whymask.tasks.base import ordered
from whymask.tasks.detection import Detection

Corners = tuple[float, float, float, float]
Size = tuple[int, int]
"""Height and width."""

LEAST = 0.99
"""Pixels that a box is wide and high at least: one, less what rounded shares of a side lose."""
BEYOND = 1.0
"""Pixels beyond the image that are cut off without a word: what rounding, and counting from 0 or 1, make."""
SHOWN = 3
"""Of boxes with one fault, and of images, how many are named."""
MANY = 0.05
"""Share of the boxes with a fault from which on it is asked whether they are read as they were meant."""

SWAPPED = "with corners in another order, which are swapped"
CUT = "with parts beyond their image, which are cut off"
SMALL = "less than a pixel wide or high, and left out"
OUTSIDE = "outside of their image, and left out"
ENDLESS = "with corners that are no finite numbers, and left out"
TWICE = "of the class and in the place of another one, and left out"


@dataclass(frozen=True)
class Marked:
    """An object as it was written down: its class, by name or by number; left, top, right and bottom of its box, in
    pixels of the image as it is seen; 0, or why it does not count; its area, where that is written, too."""

    kind: str | int
    corners: Corners
    ignored: int = 0
    area: float = nan

    @property
    def text(self) -> str:
        return " ".join([str(self.kind), *(f"{corner:g}" for corner in self.corners)])


@dataclass(frozen=True)
class Annotation:
    """What was written of an image: its objects, which may be none, and the size that it is said to have, 0 for a side
    that is not said."""

    objects: tuple[Marked, ...]
    size: Size = (0, 0)


@dataclass(frozen=True)
class GivenBoxes:
    """The boxes of N images as a source has them: `there`, bool (N,), which of them may have an annotation, and
    `read(i, size)`, that of image i, whose height and width are given; None where there is none after all; it may
    raise. `first`: the number of the first pixel, 1 where pixels and not the lines between them are counted. `hint`:
    what to do where the boxes do not lie on the images. `form`: what their four numbers are asked to be, where they
    may be several things."""

    there: np.ndarray
    read: Callable[[int, Size], Annotation | None]
    first: int = 0
    hint: str = "pixels of their images were expected"
    form: BoxFormat | None = None


@dataclass(frozen=True)
class _Look:
    """An annotation looked at: the size of its image, the objects that can be used, and the others, or those that were
    repaired, with what was done; or why it cannot be used."""

    size: Size = (0, 0)
    objects: list[Marked] = field(default_factory=list)
    faults: list[tuple[Marked, str]] = field(default_factory=list)
    problem: str = ""


def with_boxes(source: Source, given: GivenBoxes, classes: ClassTable | None, asked: LabelSettings) -> Source:
    """`source` with boxes, each annotation and the header of its image looked at once. `classes` number and name them;
    else they are those that are seen, in order. Of an annotation that cannot be used, that is unreadable, of an image
    of another size, or with an object of no class, the image is left out, with the reason.

    Raises WhymaskError where more than half of the annotations, or of the boxes, cannot be used, or there are none, or
    where a form of boxes is asked for, and theirs is fixed.
    """
    if given.form is None and asked.box_format != LabelSettings.box_format:
        raise WhymaskError(
            f"--box-format {asked.box_format}: a column of objects was expected, and the boxes of {source.name} are of "
            "a kind whose numbers mean one thing; leave it out"
        )
    looks = dict(looked(given.there, lambda row: _look(source, given, row), "annotations"))
    names = _names(looks.values()) if classes is None else classes.names
    numbers = {name: number for number, name in enumerate(names)}
    problems = {row: problem for row, look in looks.items() if (problem := _problem(look, numbers, classes))}
    _refuse_most(source, looks, problems)
    usable = {row: look for row, look in looks.items() if row not in problems}
    faults = [(row, *fault) for row, look in usable.items() for fault in look.faults]
    _refuse_misread(source, usable.values(), faults, given.hint)
    boxes = _boxes(len(source), usable, numbers, classes)
    if not len(boxes.corners):
        raise WhymaskError(
            f"{source.name}: no objects in its {len(looks):,} annotations; boxes of objects in some of them, at least, "
            "were expected; check them, or give --task another task"
        )

    def read(row: int) -> RawImage:
        if row in problems:
            raise WhymaskError(problems[row])
        return source.read(row)

    return replace(
        source,
        read=read,
        stamp=digest_of([source.stamp, repr(sorted(problems))]) if problems else source.stamp,
        labels=boxes.counts(len(names)),
        task=Detection(names),
        boxes=boxes,
        mended=tuple((source.keys[row], marked.text, what) for row, marked, what in faults),
        notes=(*source.notes, *_notes(source, looks, classes, boxes), *_of_faults(source, boxes, faults, given.hint)),
    )


def _look(source: Source, given: GivenBoxes, row: int) -> _Look | None:
    try:
        size = size_of(source.read(row))
    except Exception as error:  # whatever decoders raise
        return _Look(problem=reason_of(error))
    try:
        found = given.read(row, size)
    except WhymaskError as error:
        return _Look(problem=reason_of(error))
    except Exception as error:
        return _Look(problem=f"its annotation cannot be read: {reason_of(error)}")
    if found is None:
        return None
    if any(said not in (0, side) for said, side in zip(found.size, size, strict=True)):
        turned = ", as its EXIF turns it" if found.size == size[::-1] else ""
        said = " x ".join(map(str, found.size))
        return _Look(problem=f"its annotation is of {said} pixels, and it has {size[0]} x {size[1]}{turned}")
    return _Look(size, *mended(found.objects, size, given.first))


def mended(objects: Iterable[Marked], size: Size, first: int = 0) -> tuple[list[Marked], list[tuple[Marked, str]]]:
    """The objects whose boxes can be used, repaired by the rule above, and those, as they were written, of which a box
    was repaired or is left out, with what was done."""
    kept: dict[tuple[str | int, Corners], Marked] = {}
    faults: list[tuple[Marked, str]] = []
    for marked in objects:
        corners, found = _mended(marked.corners, size, first)
        if corners is not None and (marked.kind, corners) in kept:
            found = [TWICE]
        elif corners is not None:
            kept[marked.kind, corners] = replace(marked, corners=corners)
        faults += [(marked, what) for what in found]
    return list(kept.values()), faults


def _mended(corners: Corners, size: Size, first: int) -> tuple[Corners | None, list[str]]:
    """The corners on an image of that height and width, None where the box is left out, and what was done."""
    if not all(map(isfinite, corners)):
        return None, [ENDLESS]
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    found = [SWAPPED] * ((left, top, right, bottom) != corners)
    if min(right - left, bottom - top) < LEAST:
        return None, [SMALL]
    left, top = left - first, top - first
    height, width = size
    found += [CUT] * (max(-left, -top, right - width, bottom - height) > BEYOND)
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    return ((left, top, right, bottom), found) if min(right - left, bottom - top) >= LEAST else (None, [OUTSIDE])


def _names(looks: Iterable[_Look]) -> tuple[str, ...]:
    """Of all that was marked, also of what is left out."""
    of_faults = (marked.kind for look in looks for marked, _ in look.faults)
    return tuple(map(str, ordered({marked.kind for look in looks for marked in look.objects} | {*of_faults})))


def _number(kind: str | int, numbers: dict[str, int], classes: ClassTable | None) -> int | None:
    """The number of a class; None where it is none."""
    found = numbers.get(kind) if isinstance(kind, str) else None
    if found is not None or classes is None or not str(kind).isdigit():
        return numbers.get(str(kind))
    return int(kind) if int(kind) < len(numbers) else None


def _problem(look: _Look, numbers: dict[str, int], classes: ClassTable | None) -> str:
    """Why an annotation cannot be used, or ""."""
    unknown = [marked.kind for marked in look.objects if _number(marked.kind, numbers, classes) is None]
    if look.problem or not unknown:
        return look.problem
    named = "" if classes is None else f" ({classes.file} names {len(classes.names)})"
    return f"it shows an object of the class {unknown[0]}, which is none{named}"


def _boxes(count: int, looks: dict[int, _Look], numbers: dict[str, int], classes: ClassTable | None) -> Boxes:
    there, counts, sizes = np.zeros(count, bool), np.zeros(count, np.int64), np.zeros((count, 2), np.int64)
    rows = sorted(looks)
    objects = [marked for row in rows for marked in looks[row].objects]
    for row in rows:
        there[row], counts[row], sizes[row] = True, len(looks[row].objects), looks[row].size
    corners = np.array([marked.corners for marked in objects], np.float64).reshape(-1, 4)
    own = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    said = np.array([marked.area for marked in objects], np.float64)
    return Boxes(
        there,
        np.concatenate([[0], np.cumsum(counts)]),
        corners,
        np.array([_number(marked.kind, numbers, classes) for marked in objects], np.int64),
        np.array([marked.ignored for marked in objects], np.uint8),
        np.where(np.isfinite(said) & (said > 0), said, own),
        sizes,
    )


def _refuse_most(source: Source, looks: dict[int, _Look], problems: dict[int, str]) -> None:
    if 2 * len(problems) <= len(looks):
        return
    first = {problem: row for row, problem in reversed(problems.items())}
    shown = "; ".join(f"{source.keys[row]}: {problem}" for problem, row in list(first.items())[: -SHOWN - 1 : -1])
    raise WhymaskError(
        f"{source.name}: {len(problems):,} of {len(looks):,} annotations cannot be used ({shown}); the boxes of "
        "objects, each of a class, on images of the same size, were expected; correct them, name every class, or "
        "give the images without them"
    )


def _refuse_misread(source: Source, looks: Iterable[_Look], faults: list[tuple[int, Marked, str]], hint: str) -> None:
    """Raise WhymaskError where most boxes are at fault, so that these are not what they are taken for."""
    odd = {id(marked) for _, marked, what in faults if what != TWICE}
    total = sum(len(look.objects) for look in looks) + sum(what in (SMALL, OUTSIDE, ENDLESS) for *_, what in faults)
    if 2 * len(odd) <= total:
        return
    counts = Counter(what for *_, what in faults)
    told = "; ".join(f"{count:,} {what}" for what, count in counts.most_common())
    row, marked, _ = faults[0]
    raise WhymaskError(
        f"{source.name}: most of its {total:,} boxes do not lie on their images: {told}; such as {marked.text} of "
        f"{source.keys[row]}; {hint}"
    )


def _notes(source: Source, looks: dict[int, _Look], classes: ClassTable | None, boxes: Boxes) -> list[str]:
    without, empty = len(source) - len(looks), int((boxes.there & (np.diff(boxes.starts) == 0)).sum())
    ignored = {what: int((boxes.ignored == kind).sum()) for kind, what in ((CROWD, "crowd"), (DIFFICULT, "difficult"))}
    marks = " and ".join(f"{count:,} as {what}" for what, count in ignored.items() if count)
    return [
        *([] if classes is None else [f"the names of the classes are those of {classes.file}"]),
        f"{len(boxes.corners):,} boxes of objects in {boxes.there.sum():,} images",
        *[f"of these are marked {marks}: they are neither learnt nor counted"] * bool(marks),
        *[f"{empty:,} images were annotated and show no object"] * bool(empty),
        *[f"{without:,} images have no annotation: they are unlabelled"] * bool(without),
    ]


def _of_faults(source: Source, boxes: Boxes, faults: list[tuple[int, Marked, str]], hint: str) -> list[str]:
    notes = []
    for what, count in Counter(what for *_, what in faults).items():
        some = [(row, marked) for row, marked, found in faults if found == what][:SHOWN]
        shown = ", ".join(f"{marked.text} of {source.keys[row]}" for row, marked in some)
        notes.append(f"{count:,} boxes {what}: {shown}{', ...' * (count > SHOWN)}")
    are_many = len(faults) > MANY * (len(boxes.corners) + len(faults))
    return [*notes, *[f"that are many: {hint}"] * are_many]
