"""Distances of many features, a block at a time: all N x N of them are never in memory."""

from collections.abc import Iterator

import numpy as np

BLOCK_BYTES = 2**26
"""Of one block of distances."""


def unit(features: np.ndarray) -> np.ndarray:
    """Features (N, D) less their mean, each of length 1, float32: what pretrained networks have in common in all
    images would else make them all alike."""
    centred = features.astype(np.float32) - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(lengths > 0, lengths, 1)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each of (n, D) to each of (m, D): (n, m)."""
    squares = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0))


def blocks(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """`distances` a few rows of `one` at a time, with which rows these are."""
    rows = max(1, BLOCK_BYTES // (4 * max(1, len(other))))
    for start in range(0, len(one), rows):
        here = slice(start, min(start + rows, len(one)))
        yield here, distances(one[here], other)


def mean_to_nearest(features: np.ndarray, neighbours: int) -> np.ndarray:
    """The mean distance of each of (n, D) to its nearest others, as many as `neighbours` or there are: (n,)."""
    found, count = np.zeros(len(features), np.float32), min(neighbours, len(features) - 1)
    if count < 1:
        return found
    for here, far in blocks(features, features):
        far[np.arange(len(far)), np.arange(here.start, here.stop)] = np.inf
        found[here] = np.partition(far, count - 1, axis=1)[:, :count].mean(axis=1)
    return found


def to_nearest_other(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The distance of each of (n, D) to the nearest of another of the `groups` (n,); inf where there is none."""
    found = np.empty(len(features), np.float32)
    for here, far in blocks(features, features):
        found[here] = np.where(groups[here, None] == groups, np.inf, far).min(axis=1)
    return found


def to_nearest(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The distance of each of (n, D) to the nearest of `points` (m, D): (n,); inf without any."""
    found = np.full(len(features), np.inf, np.float32)
    for _, far in blocks(points, features):
        found = np.minimum(found, far.min(axis=0))
    return found
