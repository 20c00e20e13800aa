"""Which images to label, by features (N, D) of length 1 (see `distances.unit`): rules that need no label.

Each takes which of the N are labelled already, `known`, bool (N,), and which may be chosen, `free`; and gives `count`
of these, the most useful first. All are functions of what they are given: equal features give equal choices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from whymask.choosing.clusters import clusters_of
from whymask.choosing.distances import blocks, distances, mean_to_nearest, to_nearest, to_nearest_other
from whymask.choosing.settings import BLIND
from whymask.randomness import numpy_generator

NEIGHBOURS = 20
"""That say how typical an image is; TypiClust's."""
MOST_CLUSTERS, FEWEST_MEMBERS = 500, 5
"""TypiClust's."""
PURE = 0.95
"""Share of images around which, within ProbCover's radius, all are of one cluster."""
ROUNDING = 1e-4
"""By which the radius is less, so that no rounding decides about the image that bounds it."""


@dataclass(frozen=True)
class Choice:
    """An image by its row, and why it was chosen, for people."""

    row: int
    why: str


@dataclass(frozen=True)
class Images:
    """What there is to choose from. `classes`: how many there are thought to be, or None."""

    features: np.ndarray
    known: np.ndarray
    free: np.ndarray
    classes: int | None = None


def typical(images: Images, count: int, seed: int) -> list[Choice]:
    """TypiClust (arXiv 2202.02794): of as many clusters as there will be labels, at most `MOST_CLUSTERS`, the image
    with the nearest neighbours in it.

    In turn the largest cluster with the fewest labels; those of fewer than `FEWEST_MEMBERS` images come last. Where a
    cluster has its turn again, the neighbours of what is labelled there are passed over, as they may be near copies;
    where none are left but these, the cluster comes behind all others, with the one farthest from its labels.
    """
    features = images.features
    clusters = clusters_of(features, min(int(images.known.sum()) + count, MOST_CLUSTERS, len(features)), seed)
    turns = {number: _Cluster(images, np.flatnonzero(clusters == number)) for number in np.unique(clusters).tolist()}
    chosen: list[Choice] = []
    for _ in range(count):
        number = min((n for n in turns if turns[n].left), key=lambda n: (*turns[n].place, n))
        row = turns[number].take()
        chosen.append(Choice(row, f"typical of {len(turns[number].rows):,} alike"))
    return chosen


class _Cluster:
    """The images of one cluster, of which the most typical is taken first."""

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self.rows, self.features, self.free = rows, images.features[rows], images.free[rows].copy()
        self.labels, self.near = 0, np.zeros(len(rows), bool)
        self.far = np.full(len(rows), np.inf, np.float32)  # from the nearest label
        self.looseness: np.ndarray | None = None  # computed where the cluster has a turn
        for place in np.flatnonzero(images.known[rows]):
            self._label(int(place))

    @property
    def left(self) -> bool:
        return bool(self.free.any())

    @property
    def place(self) -> tuple[bool, bool, int, int]:
        """Among all clusters; the lowest has the next turn."""
        is_small = len(self.rows) < FEWEST_MEMBERS
        return not (self.free & ~self.near).any(), is_small, self.labels, -len(self.rows)

    def take(self) -> int:
        """The row of the next image."""
        open_to = self.free & ~self.near
        if open_to.any():
            if self.looseness is None:
                self.looseness = mean_to_nearest(self.features, NEIGHBOURS)
            place = int(np.where(open_to, self.looseness, np.inf).argmin())
        else:
            place = int(np.where(self.free, self.far, -1).argmax())
        self.free[place] = False
        self._label(place)
        return int(self.rows[place])

    def _label(self, place: int) -> None:
        self.labels += 1
        far = distances(self.features[place : place + 1], self.features)[0]
        self.far = np.minimum(self.far, far)
        self.near[np.argsort(far, kind="stable")[: NEIGHBOURS + 1]] = True


def covering(images: Images, count: int, seed: int) -> list[Choice]:
    """ProbCover (arXiv 2205.11320): in turn the image within whose radius most others are that no label's covers yet.

    The radius is the largest within which `PURE` of all images have no image of another cluster, of as many clusters as
    there are classes, or labels where that is not known. Once all are covered, `spread` goes on.
    """
    features, free = images.features, images.free.copy()
    groups = clusters_of(features, max(2, images.classes or count + int(images.known.sum())), seed)
    radius = radius_of(features, groups)
    covered = to_nearest(features, features[images.known]) < radius
    gains = np.zeros(len(features), np.int64)
    for here, far in blocks(features, features[~covered]):
        gains[here] = (far < radius).sum(axis=1)
    chosen: list[Choice] = []
    while len(chosen) < count:
        row = int(np.where(free, gains, -1).argmax())
        if gains[row] < 1:
            break
        chosen.append(Choice(row, f"covers {gains[row]:,} that no other does"))
        free[row] = False
        new = np.flatnonzero((distances(features[row : row + 1], features)[0] < radius) & ~covered)
        covered[new] = True
        for _, far in blocks(features[new], features):
            gains -= (far < radius).sum(axis=0)
    known = images.known.copy()
    known[[each.row for each in chosen]] = True
    rest = Images(features, known, free, images.classes)
    return chosen + (spread(rest, count - len(chosen), seed) if len(chosen) < count else [])


def radius_of(features: np.ndarray, groups: np.ndarray) -> float:
    """The largest radius within which at least `PURE` of the images have no image of another group."""
    nearest = np.sort(to_nearest_other(features, groups))
    return float(nearest[int((1 - PURE) * len(nearest) + 1e-9)]) * (1 - ROUNDING)


def spread(images: Images, count: int, seed: int) -> list[Choice]:
    """k-centre greedy (arXiv 1708.00489): in turn the image that is farthest from all that are labelled or chosen;
    without any, the first is the one nearest to the mean."""
    features, free = images.features, images.free.copy()
    far = to_nearest(features, features[images.known])
    chosen: list[Choice] = []
    for _ in range(count):
        if np.isinf(far).all():
            middle = distances(features.mean(axis=0, keepdims=True), features)[0]
            row, why = int(np.where(free, middle, np.inf).argmin()), "nearest to the mean"
        else:
            row = int(np.where(free, far, -1).argmax())
            why = f"{far[row]:.2f} from the nearest other"
        chosen.append(Choice(row, why))
        free[row] = False
        far = np.minimum(far, distances(features[row : row + 1], features)[0])
    return chosen


def blind(images: Images, count: int, seed: int) -> list[Choice]:
    """As many at random."""
    rows = numpy_generator(seed, "choose", BLIND).permutation(np.flatnonzero(images.free))[:count]
    return [Choice(int(row), "at random") for row in rows]


RULES: Mapping[str, Callable[[Images, int, int], list[Choice]]] = {
    "typical": typical,
    "covering": covering,
    "spread": spread,
    BLIND: blind,
}
