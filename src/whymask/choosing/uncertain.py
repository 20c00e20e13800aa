"""BADGE (arXiv 1906.03671): images whose labels would change a classifier most, and in different ways."""

import numpy as np

from whymask.randomness import numpy_generator


def uncertain(
    features: np.ndarray, probabilities: np.ndarray, free: np.ndarray, count: int, seed: int
) -> list[tuple[int, float]]:
    """`count` of the rows `free`, bool (N,), each with its confidence, in the order in which they were drawn.

    `features` (N, D) are those that the last layer reads, `probabilities` (N, k) its answers. An image is stood for by
    the gradient of the last layer's weights, were its likeliest class its label: residual (k,) times features (D,).
    The first is the longest one; k-means++ draws the others by their squared distance to those that are there. No
    gradient is ever held: <r h, s g> is <r, s> <h, g>.
    """
    rows = np.flatnonzero(free)
    read = features[rows].astype(np.float64)
    residuals = probabilities[rows].astype(np.float64)
    sure = residuals.max(axis=1)
    residuals[np.arange(len(rows)), residuals.argmax(axis=1)] -= 1
    lengths = np.square(residuals).sum(axis=1) * np.square(read).sum(axis=1)
    left, generator = np.full(len(rows), np.inf), numpy_generator(seed, "choose", "uncertain")
    place, taken = int(lengths.argmax()), np.zeros(len(rows), bool)
    chosen: list[tuple[int, float]] = []
    for _ in range(count):
        chosen.append((int(rows[place]), float(sure[place])))
        taken[place] = True
        shared = (residuals @ residuals[place]) * (read @ read[place])
        left = np.where(taken, 0, np.minimum(left, np.maximum(lengths + lengths[place] - 2 * shared, 0)))
        place = _drawn(left, taken, generator)
    return chosen


def _drawn(weights: np.ndarray, taken: np.ndarray, generator: np.random.Generator) -> int:
    """A place with a chance in proportion to its weight; the first that is not taken where there is no weight left."""
    sums = np.cumsum(weights)
    if not sums[-1] > 0:
        return int(taken.argmin())
    place = int(np.searchsorted(sums, generator.random() * sums[-1], side="right"))
    return min(place, int(np.flatnonzero(weights)[-1]))
