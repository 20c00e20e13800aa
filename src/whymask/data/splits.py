"""Who is tested on, what leaks, and which labels a budget buys.

The test images depend on the data alone: their pixels and labels, not where the files lie nor the study's seed.
Label subsets are prefixes of one permutation per class and seed, so that every budget contains the smaller ones.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whymask.data.store import ImageSet
from whymask.errors import WhymaskError
from whymask.randomness import numpy_generator


def test_rows(images: ImageSet, groups: np.ndarray | None, share: float = 0.2) -> np.ndarray:
    """Which images are tested on, bool (N,); all of them are labelled.

    The source's test split if it has labelled images. Else a stratified `share`, drawn by ranking the images by a
    hash of the data's fingerprint and their pixels: `share` of each class, rounded, at least one of two. With
    `groups` (N,), whole groups, their classes as near to the share as they allow.
    """
    labelled = images.labels >= 0
    if images.splits is not None:
        test = labelled & (images.splits == "test")
        if test.any():
            return test
    rows = np.flatnonzero(labelled)
    lots = np.array([_lot(images.fingerprint, bytes(pixels)) for pixels in images.hashes[rows]])
    drawn = _draw_share(images.labels[rows], None if groups is None else groups[rows], lots, share)
    test = np.zeros(len(labelled), bool)
    test[rows[drawn]] = True
    return test


def _lot(fingerprint: str, pixels: bytes) -> str:
    return hashlib.blake2b(fingerprint.encode() + b" " + pixels, digest_size=16).hexdigest()


def leaking_rows(images: ImageSet, test: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Images that training must not see, bool (N,): not in `test` (N,), but equal to a test image or of its group."""
    leaking = np.isin(images.hashes, images.hashes[test])
    if groups is not None:
        leaking |= np.isin(groups, groups[test])
    return leaking & ~test


def groups_of(images: ImageSet, group_by: str | None) -> np.ndarray | None:
    """The group of each image, str (N,).

    `group_by` names a column, or is a regular expression searched in the keys, whose first capture group that takes
    part is the image's group (the whole match if none does). An unlabelled image without a value in the column is a
    group of its own. WhymaskError where a labelled image has no value, or a key does not match.
    """
    if group_by is None:
        return None
    if group_by in images.columns:
        return _column_groups(images, group_by)
    columns = f"the columns are {', '.join(images.columns)}" if images.columns else "there are no columns"
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise WhymaskError(
            f"group-by {group_by!r} is no column ({columns}) and no regular expression ({error})"
        ) from None
    matches = [pattern.search(key) for key in images.keys]
    unmatched = [key for key, match in zip(images.keys, matches, strict=True) if match is None]
    if unmatched:
        raise WhymaskError(
            f"group-by {group_by!r} is no column ({columns}), and as a regular expression it does not match "
            f"{len(unmatched)} of {len(images.keys)} images, such as {unmatched[0]}; "
            "give one that matches every image"
        )
    return np.array([next(filter(None, match.groups()), match[0]) for match in matches if match])


def _column_groups(images: ImageSet, column: str) -> np.ndarray:
    values = images.columns[column].tolist()
    missing = np.array([value is None or value == "" or value != value for value in values])
    wanting = np.flatnonzero(missing & (images.labels >= 0))
    if len(wanting):
        raise WhymaskError(
            f"column {column!r} has no value for {len(wanting)} labelled images, such as {images.keys[wanting[0]]}; "
            "without it they may be on both sides of a split; fill it in"
        )
    return np.array(
        [f"key {k}" if lone else f"value {v}" for k, v, lone in zip(images.keys, values, missing, strict=True)]
    )


@dataclass(frozen=True)
class Budget:
    """How many labels of each class: a `count`, a `fraction` of the class, or `all`."""

    kind: Literal["count", "fraction", "all"]
    value: float = 1.0

    @property
    def name(self) -> str:
        """As the user writes it: "10", "1%", "all"."""
        return {"count": f"{self.value:.0f}", "fraction": f"{100 * self.value:.10g}%", "all": "all"}[self.kind]

    def count(self, n: int) -> int:
        """Labels taken from a class of `n` images; more than `n` if the class is too small."""
        return int(self.value) if self.kind == "count" else math.ceil(round(self.value * n, 9))


def parse_budget(given: str | int) -> Budget:
    """10 or "10" labels a class, "1%" of each class, or "all"; WhymaskError for anything else."""
    text = str(given).strip()
    if text == "all":
        return Budget("all")
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return Budget("count", int(text))
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text) and 0 < float(text[:-1]) <= 100:
        return Budget("fraction", float(text[:-1]) / 100)
    raise WhymaskError(f"budget {given!r}; expected labels a class such as 10, a percentage such as 1%, or all")


def auto_budgets(class_counts: Sequence[int]) -> list[Budget]:
    """Two budgets for classes of these sizes: of 1, 2, 5, 10, ... the largest within a fifth of the smallest class
    that is not empty, and within all of it; one budget where they agree."""
    counts = [int(n) for n in class_counts if n > 0]
    if not counts:
        raise WhymaskError("there are no labelled images to derive a budget from; give labels")
    smallest = min(counts)
    return [Budget("count", n) for n in sorted({_nice(max(1, smallest // 5)), _nice(smallest)})]


def _nice(limit: int) -> int:
    """The largest of 1, 2, 5, 10, 20, 50, ... that is at most `limit`."""
    power = 10 ** (len(str(limit)) - 1)
    return max(step * power for step in (1, 2, 5) if step * power <= limit)


def labelled_subset(
    labels: np.ndarray, rows: np.ndarray, budget: Budget, seed: int, classes: Sequence[str] = ()
) -> np.ndarray:
    """The rows whose labels `budget` buys, ascending, out of `rows`.

    Stratified; for one seed nested over all kinds of budget. `labels` int64 (N,); `rows` with label -1 are never taken.
    WhymaskError if the budget is larger than a class, with the counts; `classes` are their names.
    """
    members = {int(c): np.sort(rows[labels[rows] == c]) for c in np.unique(labels[rows]) if c >= 0}
    if any(budget.count(len(m)) > len(m) for m in members.values()):
        counts = ", ".join(f"{classes[c] if classes else f'class {c}'}: {len(m)}" for c, m in members.items())
        raise WhymaskError(
            f"budget {budget.name} is larger than a class; labelled images, less the test images: {counts}. "
            "Choose a smaller budget, or leave small classes out."
        )
    taken = [numpy_generator(seed, "labels", c).permutation(m)[: budget.count(len(m))] for c, m in members.items()]
    return np.sort(np.concatenate([rows[:0], *taken]))


def hold_out(
    labels: np.ndarray, rows: np.ndarray, groups: np.ndarray | None, seed: int, share: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Divide labelled `rows` into those to train on and a stratified `share` to validate on; groups stay whole.

    `labels` and `groups` are of all images (N,). Of two or more images of a class at least one is held out.
    """
    lots = numpy_generator(seed, "hold out").permutation(len(rows))
    held = _draw_share(labels[rows], None if groups is None else groups[rows], lots, share)
    return rows[~held], rows[held]


def _draw_share(labels: np.ndarray, groups: np.ndarray | None, lots: np.ndarray, share: float) -> np.ndarray:
    """A stratified `share` of labelled images, bool (n,): those with the smallest `lots` (n,) of each class."""
    if groups is not None:
        return _draw_groups(labels, groups, lots, share)
    drawn = np.zeros(len(labels), bool)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        count = min(max(1, math.floor(share * len(members) + 0.5)), len(members) - 1)
        drawn[members[np.argsort(lots[members], kind="stable")[:count]]] = True
    return drawn


def _draw_groups(labels: np.ndarray, groups: np.ndarray, lots: np.ndarray, share: float) -> np.ndarray:
    """Whole groups, bool (n,): in the order of their smallest lot, those that bring the classes nearer to the share.

    Then, for a class that is still without, the group that does least harm. No class is taken entirely.
    """
    _, label = np.unique(labels, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    table = np.zeros((group.max(initial=-1) + 1, label.max(initial=-1) + 1), int)
    np.add.at(table, (group, label), 1)
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
