"""Classes of unequal size given the same say: by weights in the loss, or by how often their images come."""

import numpy as np

from whymask.randomness import numpy_generator


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """n / (k n_c), (classes,), of n labels of which n_c are of class c, where k classes occur; 0 for one that does not.

    All images together weigh n, and each class the same.
    """
    counts = np.bincount(labels, minlength=classes)
    occurs = counts > 0
    return np.divide(len(labels) / occurs.sum(), counts, out=np.zeros(classes), where=occurs)


def balanced_order(labels: np.ndarray, rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows of an epoch, as many as `rows`, in which each class comes equally often, to one image.

    `labels` (N,) are of all images. A function of (seed, epoch). An image comes again only when the others of its class
    have come as often; of a class with more images than its share, other ones are left out each epoch.
    """
    generator = numpy_generator(seed, "balanced order", epoch)
    classes = generator.permutation(np.unique(labels[rows]))
    quotas = np.full(len(classes), len(rows) // len(classes))
    quotas[: len(rows) % len(classes)] += 1
    drawn = []
    for c, quota in zip(classes, quotas.tolist(), strict=True):
        members = rows[labels[rows] == c]
        rounds = [generator.permutation(members) for _ in range(-(-quota // len(members)))]
        drawn.append(np.concatenate([rows[:0], *rounds])[:quota])
    return generator.permutation(np.concatenate(drawn))
