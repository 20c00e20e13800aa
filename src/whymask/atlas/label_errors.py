"""Labels that are likely wrong: a linear model of the features, which has not seen the image, gives them little.

This is the plain rule of confidence. `python -m experiments.label_errors` compares it with what the nearest neighbours
are labelled, alone and together with it, and with confident learning (arXiv 1911.00068): none found more. How often it
is right is measured on the images at hand: a twentieth of the labels is changed on purpose, and looked for.
"""

from dataclasses import dataclass

import numpy as np

from whymask.atlas.neighbours import Neighbours
from whymask.randomness import numpy_generator

ASKED = 30
"""Neighbours whose labels are shown beside an image's own."""
FOLDS, FITTED = 5, 10_000
"""Each fold is judged by a model of the others, which is fitted on so many of their images at most."""
PENALTY = 0.1
"""scikit-learn's C, of features of deviation 1."""
LEAST = 1e-6
"""Probability that no class goes below."""
FEWEST = 10
"""Labelled images a class, in the mean, below which nothing is said of labels."""
CHANGED = 0.05
"""Share of labels that is changed on purpose."""
FIRST = 20
"""Images at the head of a list, that a page shows."""


@dataclass(frozen=True)
class Planted:
    """Labels that were `changed` on purpose, how many of the `first` FIRST of the list are such, and how many of them
    are `found` among as many as were changed."""

    changed: int
    first: int
    found: int

    @property
    def found_share(self) -> float:
        """Precision and recall of a list as long as there are wrong labels."""
        return self.found / self.changed


def can_be_told(labels: np.ndarray) -> bool:
    """Whether there are enough of these class numbers (n,), all known, to doubt any."""
    classes = len(np.unique(labels))
    return classes > 1 and len(labels) >= FEWEST * classes


def doubts_of(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How doubtful each label is, float (n,), of images with features (n, D) and class numbers (n,)."""
    return -np.log(linear_shares(features, labels)[np.arange(len(labels)), labels])


def linear_shares(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of each class (n, k) by logistic regression on other images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shares = np.full((len(labels), labels.max() + 1), LEAST)
    order = numpy_generator(0, "folds").permutation(len(labels))
    for fold in np.array_split(order, FOLDS):
        rest = order[~np.isin(order, fold)][:FITTED]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=1000))
        model.fit(features[rest], labels[rest])
        shares[np.ix_(fold, model.classes_)] += model.predict_proba(features[fold])
    return shares / shares.sum(axis=1, keepdims=True)


def neighbour_shares(labels: np.ndarray, neighbours: Neighbours) -> np.ndarray:
    """Share of each class (n, k) among the neighbours, each of which weighs 1 / its distance."""
    shares = np.zeros((len(labels), labels.max() + 1))
    weights = 1 / np.maximum(neighbours.distances, 1e-6)
    np.add.at(shares, (np.arange(len(labels))[:, None], labels[neighbours.places]), weights)
    shares /= shares.sum(axis=1, keepdims=True)
    return (shares + LEAST) / (1 + LEAST * shares.shape[1])


def changed_labels(labels: np.ndarray, seed: int, share: float = CHANGED) -> tuple[np.ndarray, np.ndarray]:
    """The class numbers (n,), of which at least one, about `share`, is another class that is there, each as likely as
    any; and which, bool (n,)."""
    classes, own = np.unique(labels, return_inverse=True)
    generator = numpy_generator(seed, "changed")
    rows = generator.permutation(len(labels))[: max(1, round(share * len(labels)))]
    other = own.copy()
    other[rows] = (own[rows] + generator.integers(1, len(classes), len(rows))) % len(classes)
    return classes[other], np.isin(np.arange(len(labels)), rows)


def planted(features: np.ndarray, labels: np.ndarray) -> Planted:
    """Change labels on purpose, and look for them."""
    changed, wrong = changed_labels(labels, 0)
    order = np.argsort(-doubts_of(features, changed), kind="stable")
    count = int(wrong.sum())
    return Planted(count, int(wrong[order[:FIRST]].sum()), int(wrong[order[:count]].sum()))
