"""What a map's lists hold: near copies, outliers and the most doubtful labels, each with how often it is right."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from whymask.atlas.copies import KINDS, Copied, copied
from whymask.atlas.label_errors import (
    ASKED,
    FIRST,
    Planted,
    can_be_told,
    doubts_of,
    neighbour_shares,
    planted,
)
from whymask.atlas.neighbours import Neighbours, neighbours_of
from whymask.atlas.outliers import RARE, Withheld, unlikeness, withheld
from whymask.data.near import NearCopies, near_pairs
from whymask.data.prepare import Prepared
from whymask.tasks import Classification

LISTED = 0.05
"""Share of the labelled images that the list of doubtful labels holds, and FIRST at least."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Finds:
    """Of n images, by their places: `copies` [first, second, likeness], the most alike first; `outliers` [place,
    distance]; `errors` [place, doubt, what most neighbours are labelled, their share]; the clearest first. The measures
    are None where there was nothing to measure by."""

    copies: list[tuple[int, int, float]]
    outliers: list[tuple[int, float]]
    errors: list[tuple[int, float, str, float]]
    copied: Copied | None
    withheld: Withheld | None
    planted: Planted | None

    @property
    def named(self) -> list[int]:
        """Every image of the head of a list, in the lists' order, once."""
        pairs = [place for first, second, _ in self.copies[:FIRST] for place in (first, second)]
        outliers = [place for place, _ in self.outliers[:FIRST]]
        errors = [place for place, *_ in self.errors[:FIRST]]
        return list(dict.fromkeys([*pairs, *outliers, *errors]))

    def measures(self) -> Row:
        """As JSON: what was measured of each list, None where nothing was."""
        found = {"copied": self.copied, "withheld": self.withheld, "planted": self.planted}
        return {name: None if each is None else asdict(each) for name, each in found.items()}


def finds_of(prepared: Prepared, rows: np.ndarray, features: np.ndarray, neighbours: Neighbours) -> Finds:
    """What is found among these rows of the images, with features (n, D) and their neighbours."""
    images, labels = prepared.images.images, prepared.images.labels[rows]
    far = unlikeness(neighbours)
    outliers = np.argsort(-far, kind="stable")[: max(FIRST, round(RARE * len(rows)))]
    has_classes = prepared.task.name == Classification.name
    known = np.flatnonzero(labels >= 0) if has_classes else rows[:0]
    told = len(known) > 0 and can_be_told(labels[known])
    own, classes = features[known], labels[known]
    among = neighbours if len(known) == len(rows) else neighbours_of(own, ASKED) if told else neighbours
    return Finds(
        copies=_pairs(near_pairs(images, rows), rows),
        outliers=[(int(place), float(far[place])) for place in outliers],
        errors=_errors(prepared, known, own, classes, among) if told else [],
        copied=copied(images, rows),
        withheld=withheld(own, classes) if told else None,
        planted=planted(own, classes) if told else None,
    )


def _pairs(found: NearCopies, rows: np.ndarray) -> list[tuple[int, int, float]]:
    first, second = (np.searchsorted(rows, each).tolist() for each in (found.of, found.rows))
    return list(zip(first, second, found.likeness.tolist(), strict=True))[::-1]


def _errors(
    prepared: Prepared, known: np.ndarray, features: np.ndarray, classes: np.ndarray, among: Neighbours
) -> list[tuple[int, float, str, float]]:
    doubts, shares = doubts_of(features, classes), neighbour_shares(classes, among)
    listed = np.argsort(-doubts, kind="stable")[: max(FIRST, round(LISTED * len(known)))]
    likely = shares.argmax(axis=1)
    return [
        (int(known[one]), float(doubts[one]), prepared.classes[likely[one]], float(shares[one, likely[one]]))
        for one in listed
    ]


def text_of(finds: Finds, is_shaped: bool) -> list[str]:
    """What is said of the lists; `is_shaped`: whether the network was trained on these labels."""
    lines = [f"{len(finds.copies):,} pairs of near copies"]
    if finds.copied is not None:
        kinds = ", ".join(f"{count} {kind}" for count, kind in zip(finds.copied.found, KINDS, strict=True))
        lines[0] += f"; of {finds.copied.images} images copied on purpose were found {kinds}"
    lines.append(f"{len(finds.outliers):,} images that are the least like others are listed as outliers")
    if finds.withheld is not None:
        seen = finds.withheld
        lines[1] += (
            f"; of {seen.left} images of {seen.classes} classes that were left out but for these, {seen.found} were in "
            f"the list (by chance {RARE * seen.left:.2g})"
        )
    if finds.planted is not None:
        made = finds.planted
        lines.append(
            f"{len(finds.errors):,} most doubtful labels are listed; of {made.changed:,} that were changed on purpose "
            f"{made.found:,} are among the first {made.changed:,}, and {made.first} of the first {FIRST} are such"
        )
        if is_shaped:
            lines.append("The network was trained on these labels, and not on the changed ones: so many are too many")
    return lines
