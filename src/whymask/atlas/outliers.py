"""Images unlike all others: the further the tenth nearest one, the less alike (arXiv 2204.06507).

How often that is right is measured on the images at hand, where they have classes: all images of a class but LEFT are
left out, and it is asked whether these are in the list.
"""

from dataclasses import dataclass

import numpy as np

from whymask.atlas.neighbours import Neighbours, neighbours_of

NEAREST = 10
"""Which neighbour's distance is taken: a group of fewer images is unlike all others too."""
RARE = 0.01
"""Share of images that the list holds."""
LEFT = 5
"""Images that are left of a class."""
MOST_IMAGES, MOST_CLASSES = 5_000, 10
"""That are looked at to measure."""


@dataclass(frozen=True)
class Withheld:
    """Of so many `classes`, one after the other, so many images were `left` in all, of which the lists held so many:
    `found`."""

    classes: int
    left: int
    found: int

    @property
    def found_share(self) -> float:
        return self.found / self.left


def unlikeness(neighbours: Neighbours) -> np.ndarray:
    """Distance of each image to its NEAREST-th nearest, or the last that there is, float (n,)."""
    return neighbours.distances[:, : min(NEAREST, neighbours.distances.shape[1])][:, -1]


def withheld(features: np.ndarray, labels: np.ndarray) -> Withheld | None:
    """What is found of classes that are rare, by features (n, D) and known class numbers (n,); None of so few images
    that a hundredth of them are fewer than LEFT."""
    rows = np.unique(np.linspace(0, len(labels) - 1, min(MOST_IMAGES, len(labels))).round().astype(int))
    features, labels = features[rows], labels[rows]
    counts = np.bincount(labels)
    left = found = classes = 0
    for of_class in np.argsort(-counts, kind="stable")[:MOST_CLASSES]:
        others, own = np.flatnonzero(labels != of_class), np.flatnonzero(labels == of_class)
        if len(own) < LEFT or len(others) * RARE < LEFT:
            continue
        together = np.concatenate([own[:LEFT], others])
        far = unlikeness(neighbours_of(features[together], NEAREST))
        listed = np.argsort(-far, kind="stable")[: round(RARE * len(together))]
        found += int((listed < LEFT).sum())
        left += LEFT
        classes += 1
    return Withheld(classes, left, found) if left else None
