"""Who is tested on, and what leaks.

The test images depend on the data alone: their pixels and labels, not where the files lie nor the study's seed.
"""

import hashlib
import math
import re

import numpy as np

from whymask.data.store import ImageSet
from whymask.errors import WhymaskError
from whymask.randomness import numpy_generator
from whymask.tasks import Classification, Task

CLASSES = Classification()  # their names do not matter here
USUAL_SHARE, LARGEST_SHARE = 0.2, 0.5
ENOUGH = 20
"""Test images, or groups of them, in the median class below which a larger share than the usual one is drawn."""


def share_for(counts: list[int]) -> float:
    """The share of the labelled images to test on, where `counts` are those of each class (see `counts_of`): the usual
    one, or where that leaves fewer than ENOUGH in the median class, what leaves ENOUGH, in hundredths, but at most
    half."""
    median = float(np.median([count for count in counts if count] or [ENOUGH]))
    return min(max(USUAL_SHARE, math.ceil(100 * ENOUGH / median) / 100), LARGEST_SHARE)


def counts_of(task: Task, labels: np.ndarray, groups: np.ndarray | None) -> list[int]:
    """Of each class among known `labels`, how many images show it, or where they come in `groups` (n,), such as the
    parts of a file, how many groups: what a split divides, and what is independent."""
    if groups is None or not len(groups):
        return task.counts(labels)
    names, group = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    shown = np.array([task.counts(labels[rows]) for rows in members]).reshape(len(names), -1) > 0
    return shown.sum(axis=0).tolist()


def raised_text(task: Task, counts: list[int], test: np.ndarray, labelled: np.ndarray, units: str) -> str:
    """What to say where more than the usual share of the `labelled` images, bool (N,), is `test`, bool (N,). `counts`
    are of each class, in `units`."""
    fifth = np.median([count for count in counts if count] or [0]) * USUAL_SHARE
    drawn = test.sum() / labelled.sum()
    return (
        f"{drawn:.0%} of the labelled images are kept to test on: {USUAL_SHARE:.0%} would be about {fifth:.0f} {units} "
        f"of the median {task.name_is}; --test-share {USUAL_SHARE} trains on more and shows less"
    )


def test_rows(images: ImageSet, groups: np.ndarray | None, share: float = USUAL_SHARE) -> np.ndarray:
    """Which images are tested on, bool (N,); all of them are labelled.

    The source's test split if it has labelled images. Else a stratified `share`, drawn by ranking the images by a
    hash of the data's fingerprint and their pixels: `share` of each class (or part of the targets' range), rounded, at
    least one of two. With `groups` (N,), whole groups, their classes as near to the share as they allow.
    """
    labelled = images.labelled
    if images.splits is not None:
        test = labelled & (images.splits == "test")
        if test.any():
            return test
    rows = np.flatnonzero(labelled)
    hashed = (images.fingerprint.encode() + b" " + bytes(pixels) for pixels in images.hashes[rows])
    lots = np.array([hashlib.blake2b(text, digest_size=16).hexdigest() for text in hashed])
    drawn = _draw_share(images.task, images.labels[rows], None if groups is None else groups[rows], lots, share)
    test = np.zeros(len(labelled), bool)
    test[rows[drawn]] = True
    return test


def leaking_rows(images: ImageSet, test: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Images that training must not see, bool (N,): not in `test` (N,), but equal to a test image or of its group."""
    leaking = np.isin(images.hashes, images.hashes[test])
    if groups is not None:
        leaking |= np.isin(groups, groups[test])
    return leaking & ~test


def groups_of(images: ImageSet, group_by: str | None) -> np.ndarray | None:
    """The group of each image, str (N,); the parts of one file are of one.

    `group_by` names a column, or is a regular expression searched in the keys, whose first capture group that takes
    part is the image's group (the whole match if none does). An unlabelled image without a value in the column is a
    group of its own. WhymaskError where a labelled image has no value, or a key does not match.
    """
    if group_by is None:
        return images.wholes
    if group_by in images.columns:
        return _column_groups(images, group_by)
    columns = f"the columns are {', '.join(images.columns)}" if images.columns else "there are no columns"
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise WhymaskError(
            f"group-by {group_by!r} is no column ({columns}) and no regular expression ({error})"
        ) from None
    keys = _file_keys(images)
    matches = [pattern.search(key) for key in keys]
    unmatched = [key for key, match in zip(keys, matches, strict=True) if match is None]
    if unmatched:
        raise WhymaskError(
            f"group-by {group_by!r} is no column ({columns}), and as a regular expression it does not match "
            f"{len(unmatched)} of {len(images.keys)} images, such as {unmatched[0]}; "
            "give one that matches every image"
        )
    found = np.array([next(filter(None, match.groups()), match[0]) for match in matches if match])
    if len(images) > 1 and len(np.unique(found)) == 1:
        raise WhymaskError(
            f"group-by {group_by!r} is no column ({columns}), and as a regular expression it puts all {len(images)} "
            f"images into the one group {str(found[0])!r}; give one whose first group differs, such as '(patient\\d+)'"
        )
    return found


def _column_groups(images: ImageSet, column: str) -> np.ndarray:
    values = images.columns[column].tolist()
    missing = np.array([value is None or value == "" or value != value for value in values])
    wanting = np.flatnonzero(missing & images.labelled)
    if len(wanting):
        raise WhymaskError(
            f"column {column!r} has no value for {len(wanting)} labelled images, such as {images.keys[wanting[0]]}; "
            "without it they may be on both sides of a split; fill it in"
        )
    return np.array(
        [f"key {k}" if lone else f"value {v}" for k, v, lone in zip(_file_keys(images), values, missing, strict=True)]
    )


def _file_keys(images: ImageSet) -> list[str]:
    return images.keys if images.wholes is None else images.wholes.tolist()


def hold_out(
    labels: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
    share: float = 0.2,
    task: Task = CLASSES,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide labelled `rows` into those to train on and a stratified `share` to validate on; groups stay whole.

    `labels` and `groups` are of all images (N,). Of two or more images of a class at least one is held out.
    """
    lots = numpy_generator(seed, "hold out").permutation(len(rows))
    held = _draw_share(task, labels[rows], None if groups is None else groups[rows], lots, share)
    return rows[~held], rows[held]


def _draw_share(
    task: Task, labels: np.ndarray, groups: np.ndarray | None, lots: np.ndarray, share: float
) -> np.ndarray:
    """A `share` of labelled images, bool (n,), of each of the task's strata, the smallest stratum first: those with the
    smallest `lots` (n,) among the images that no stratum before has decided on."""
    if groups is not None:
        return _draw_groups(task, labels, groups, lots, share)
    drawn, decided = np.zeros((2, len(labels)), bool)
    for members in sorted(task.strata(labels, len(labels)), key=len):
        count = min(max(1, math.floor(share * len(members) + 0.5)), len(members) - 1)
        rest = members[~decided[members]]
        drawn[rest[np.argsort(lots[rest], kind="stable")[: max(0, count - drawn[members].sum())]]] = True
        decided[members] = True
    return drawn


def _draw_groups(task: Task, labels: np.ndarray, groups: np.ndarray, lots: np.ndarray, share: float) -> np.ndarray:
    """Whole groups, bool (n,): in the order of their smallest lot, those that bring the strata nearer to the share.

    Then, for a stratum that is still without, the group that does least harm. No stratum is taken entirely.
    """
    names, group = np.unique(groups, return_inverse=True)
    strata = task.strata(labels, len(names))
    table = np.zeros((len(names), len(strata)), int)
    for s, members in enumerate(strata):
        np.add.at(table[:, s], group[members], 1)
    total, taken = table.sum(0), np.zeros(table.shape[1], int)
    by_lot = group[np.argsort(lots, kind="stable")]
    order = by_lot[np.sort(np.unique(by_lot, return_index=True)[1])]
    chosen: list[int] = []

    def error(counts: np.ndarray) -> float:
        return float(np.square(counts / total - share).sum()) if (counts < total).all() else math.inf

    for g in order:
        if error(taken + table[g]) < error(taken):
            taken, chosen = taken + table[g], [*chosen, g]
    for c in range(len(total)):
        spare = [g for g in order if table[g, c] and g not in chosen]
        best = min(spare, key=lambda g: error(taken + table[g]), default=None)
        if taken[c] == 0 and best is not None and error(taken + table[best]) < math.inf:
            taken, chosen = taken + table[best], [*chosen, best]
    return np.isin(group, chosen)
