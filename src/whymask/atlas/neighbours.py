"""Which images are nearest to each in a network's features."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Neighbours:
    """Of N images the k nearest others, nearest first: their places int64 (N, k), and the distances float32 (N, k),
    1 less the cosine of their features."""

    places: np.ndarray
    distances: np.ndarray


def unit(features: np.ndarray) -> np.ndarray:
    """Features (N, D), each brought to length 1; of zeros zeros."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def neighbours_of(features: np.ndarray, count: int) -> Neighbours:
    """The `count` nearest others of each of the images with these features (N, D), or all where there are fewer. Every
    pair is compared, a few images at a time."""
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(features) - 1)
    distances, places = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(unit(features)).kneighbors()
    return Neighbours(places, (np.square(distances) / 2).astype(np.float32))
