"""Label maps of images: which of their values are classes, and what cannot be used of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from whymask.data.class_names import ClassTable
from whymask.data.decoding import reason_of
from whymask.data.looking import looked
from whymask.data.map_values import TOLD, VALUES, UnknownColours, colours_text, is_coloured, values_of
from whymask.data.pixels import size_of
from whymask.data.settings import LabelSettings
from whymask.data.source import LabelMaps, RawImage, Source
from whymask.data.stamps import digest_of
from whymask.errors import WhymaskError
from whymask.tasks.label_map_counts import IGNORED
from whymask.tasks.segmentation import Segmentation

MUCH = 0.05
"""Share of pixels that are of no class from which on it is said."""


@dataclass(frozen=True)
class GivenMaps:
    """The label maps of N images as a source has them: `there`, bool (N,), which of them may have one, `read(i)`, a
    picture or an array, None where there is none after all, which may raise, a `stamp` that changes when they may
    have, and their `files`."""

    there: np.ndarray
    read: Callable[[int], RawImage | None]
    stamp: str
    files: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Look:
    """A map looked at: the values that it has, how many pixels each, and whether it may be in colours; or why it cannot
    be used, and colours of it that are of no class."""

    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    is_coloured: bool = False
    problem: str = ""
    colours: Counter[int] | None = None


def with_maps(source: Source, given: GivenMaps, classes: ClassTable | None, asked: LabelSettings) -> Source:
    """`source` with label maps, each looked at once. Of what cannot be used, an unreadable map, one of another size
    than its image, or one with a value that is no class, the image is left out, with the reason; a map whose pixels are
    all ignored leaves it unlabelled.

    Raises WhymaskError where more than half of the maps cannot be used, or none shows a class.
    """
    ignored = _ignored(asked.ignored, classes)
    looks = dict(looked(given.there, lambda row: _look(source, given, row, classes, ignored), "label maps"))
    counts = np.zeros(VALUES, np.int64)
    for look in looks.values():
        counts[look.values] += look.counts
    numbers, task, notes = _classes(counts, classes, ignored)
    problems = _problems(looks, [*numbers, ignored, IGNORED], classes)
    _refuse_most(source, problems, looks, counts, classes)
    labels, usable = task.unlabelled(len(source)), np.zeros(len(source), bool)
    for row, look in looks.items():
        of_values = np.zeros(VALUES, np.int64)
        of_values[look.values] = look.counts
        if row not in problems and of_values[numbers].any():
            labels[row], usable[row] = of_values[numbers], True
    if looks and not usable.any():
        raise WhymaskError(
            f"{source.name}: all pixels of its {len(looks):,} label maps hold {ignored}, which is ignored; the numbers "
            f"of classes, below {IGNORED}, were expected; write these into them, or give --ignored another value"
        )
    number = np.full(VALUES, IGNORED, np.uint8)
    number[numbers] = np.arange(len(numbers))

    def image(row: int) -> RawImage:
        if row in problems:
            raise WhymaskError(problems[row])
        return source.read(row)

    def read(row: int) -> np.ndarray:
        raw = given.read(row)
        assert raw is not None
        return number[values_of(raw, classes, ignored)]

    empty = len(looks) - len(problems) - int(usable.sum())
    without = len(source) - len(looks)
    told = digest_of([given.stamp, repr((numbers, ignored, classes and classes.colours, sorted(problems)))])
    return replace(
        source,
        read=image,
        stamp=digest_of([source.stamp, repr(sorted(problems))]) if problems else source.stamp,
        labels=labels,
        task=task,
        maps=LabelMaps(usable, read, told, given.files),
        notes=(
            *source.notes,
            *notes,
            *_of_colours_unknown(looks, classes),
            *_of_much_ignored(counts, numbers),
            *[f"{without:,} images have no label map: they are unlabelled"] * bool(without),
            *[f"{empty:,} label maps hold ignored pixels alone: their images are unlabelled"] * bool(empty),
        ),
    )


def _of_much_ignored(counts: np.ndarray, numbers: list[int]) -> list[str]:
    """What to say where MUCH of the pixels have no class."""
    others = np.setdiff1d(np.flatnonzero(counts), numbers)
    share = counts[others].sum() / max(1, counts.sum())
    values = " and ".join(map(str, others[:TOLD]))
    return [f"{share:.0%} of the pixels of label maps hold {values}, which is no class"] * bool(share > MUCH)


def _ignored(asked: int | str, classes: ClassTable | None) -> int:
    """The value of pixels that are of no class, which may be named."""
    if isinstance(asked, int):
        return asked
    names = () if classes is None else classes.names
    if asked not in names:
        raise WhymaskError(
            f"--ignored {asked}: a number, or one of the classes {', '.join(names) or '(which have no names here)'}, "
            "was expected; give the value of pixels that are of no class"
        )
    return names.index(asked)


def _look(source: Source, given: GivenMaps, row: int, classes: ClassTable | None, ignored: int) -> _Look | None:
    try:
        raw = given.read(row)
        if raw is None:
            return None
        values = values_of(raw, classes, ignored)
    except UnknownColours as error:
        return _Look(problem=reason_of(error), colours=Counter(dict(error.counts.most_common(TOLD + 1))))
    except WhymaskError as error:
        return _Look(problem=reason_of(error))
    except Exception as error:  # whatever decoders raise
        return _Look(problem=f"its label map cannot be read: {reason_of(error)}")
    try:
        height, width = size_of(source.read(row))
    except Exception as error:
        return _Look(problem=reason_of(error))
    if values.shape != (height, width):
        return _Look(
            problem=f"its label map has {values.shape[0]} x {values.shape[1]} pixels, and it has {height} x {width}"
        )
    counts = np.bincount(values.ravel(), minlength=VALUES)
    seen = np.flatnonzero(counts)
    return _Look(seen.astype(np.uint8), counts[seen], is_coloured(raw))


def _classes(counts: np.ndarray, classes: ClassTable | None, ignored: int) -> tuple[list[int], Segmentation, list[str]]:
    """The values that are classes, in their order, the task, and what is to be said of them."""
    seen = np.flatnonzero(counts).tolist()
    names = None if classes is None else classes.names
    notes = [] if classes is None else [f"the names of the classes are those of {classes.file}"]
    if seen == [0, IGNORED] and ignored == IGNORED and (names is None or len(names) == 2):
        notes.append("label maps hold 0 and 255, which are taken for two classes: none is ignored")
        return seen, Segmentation(names or ("0", "255")), notes
    if names is not None:
        numbers = [number for number in range(len(names)) if number != ignored]
        return numbers, Segmentation(tuple(names[number] for number in numbers)), notes
    numbers = [number for number in seen if number not in (ignored, IGNORED)]
    return numbers, Segmentation(tuple(map(str, numbers))), notes


def _problems(looks: dict[int, _Look], fine: Sequence[int], classes: ClassTable | None) -> dict[int, str]:
    """Row -> why its map cannot be used."""
    named = "" if classes is None else f" ({classes.file} names {len(classes.names)})"
    has_colours = classes is not None and classes.colours is not None and not classes.is_grey
    are_coloured = has_colours and any(look.is_coloured for look in looks.values())
    found = {}
    for row, look in looks.items():
        odd = np.setdiff1d(look.values, np.array(fine))
        if look.problem:
            found[row] = look.problem
        elif are_coloured and not look.is_coloured:
            found[row] = "its label map is grey, and others are in colours; one of both was expected"
        elif len(odd):
            found[row] = f"its label map holds {odd[0]}, which is no class{named}"
    return found


def _refuse_most(
    source: Source, problems: dict[int, str], looks: dict[int, _Look], counts: np.ndarray, classes: ClassTable | None
) -> None:
    if 2 * len(problems) <= len(looks):
        return
    first = {problem: row for row, problem in reversed(problems.items())}
    shown = "; ".join(f"{source.keys[row]}: {problem}" for problem, row in list(first.items())[: -TOLD - 1 : -1])
    of = f"; they hold {', '.join(map(str, np.flatnonzero(counts)[:20]))}" * bool(counts.any())
    told = "".join(f"; {line}" for line in _of_colours_unknown(looks, classes))
    raise WhymaskError(
        f"{source.name}: {len(problems):,} of {len(looks):,} label maps cannot be used ({shown}{of}{told}); pictures "
        "of class numbers from 0 to 255, such as PNG, each as large as its image, were expected; correct them, name "
        "every class, give --ignored the value of pixels that are of none, or give the images without them"
    )


def _of_colours_unknown(looks: dict[int, _Look], classes: ClassTable | None) -> list[str]:
    total: Counter[int] = Counter()
    for look in looks.values():
        total.update(look.colours or {})
    count = sum(look.colours is not None for look in looks.values())
    if classes is None or not count:
        return []
    return [f"{count:,} label maps have pixels in colours that {classes.file} does not name: {colours_text(total)}"]
