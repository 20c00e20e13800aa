"""Multilabel: each image shows any number of classes, or none.

Labels are 0 or 1 for each class, int64 (N, L), a row of -1 = unlabelled; predictions are log odds (N, L). A class
without positive test images takes no part in any mean over classes, nor, in AUROC, does one without negative ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.tasks.base import LossConfig, Objective, RawLabels, Task, ordered, permuted
from whymask.tasks.budgets import Budget
from whymask.tasks.classification import Classification
from whymask.tasks.metric import Metric, checked, described, known
from whymask.tasks.outputs import Outputs
from whymask.tasks.probing import LEAST_SHARE, by_distance
from whymask.tasks.question import Question
from whymask.tasks.reading import several_of
from whymask.tasks.resampling import Units, Weighted, difference, mean_known, mean_of, mean_ratio
from whymask.tasks.weighted import Ranking

OVER_CLASSES = "of each class over all test images, then over classes"
METRICS = {
    "mean_average_precision": Metric("mean average precision", average=OVER_CLASSES, by_name=True),
    "macro_auroc": Metric("macro AUROC", average=OVER_CLASSES, by_name=True),
    "macro_f1": Metric("macro F1", average=OVER_CLASSES, by_name=True),
    "micro_f1": Metric("micro F1", average="over all pairs of a test image and a class alike"),
}


@dataclass(frozen=True)
class Multilabel(Task):
    """Several classes an image. The loss is binary cross-entropy, the mean over images and classes."""

    name = "multilabel"
    budget_counts = "labelled images"
    budget_of_one = "labelled image"
    every_metric = tuple(METRICS)
    default_metric = "mean_average_precision"
    kept_as = "log_odds"
    outputs = Outputs(
        "multilabel classifier",
        "logits",
        "The sigmoid of a logit gives the probability that an image shows the class.",
        "multi_label_classification",
    )
    row_metric = Metric("average precision")
    takes = frozenset({"mixup", "cutmix"})
    least = "at least two that show a class are needed"

    # labels

    @classmethod
    def encode(cls, raw: RawLabels, source: str) -> "tuple[Multilabel, np.ndarray]":
        """Lists of names or numbers, texts such as "cat|dog", or 0 and 1 for each class (N, L).

        None, "" and NaN, and rows of -1, mean unlabelled. An image that shows none of the classes is an empty list, a
        text that is nothing but separators, or a row of 0. Of lists and texts, only classes that occur count.
        """
        if isinstance(raw.values, np.ndarray) and raw.values.ndim == 2:
            return _of_matrix(cls, raw, source)
        shown = [several_of(value, raw.separator, source) for value in raw.values]
        values = ordered(value for listed in shown if listed is not None for value in listed)
        numbers = {value: number for number, value in enumerate(values)}
        task = cls(tuple(raw.names[int(value)] if raw.names else str(value) for value in values))
        labels = task.unlabelled(len(shown))
        for row, listed in enumerate(shown):
            if listed is not None:
                labels[row] = 0
                labels[row, [numbers[value] for value in listed]] = 1
        return task, labels

    def unlabelled(self, count: int) -> np.ndarray:
        return np.full((count, max(1, len(self.names))), -1, np.int64)

    def labelled(self, labels: np.ndarray) -> np.ndarray:
        return labels[:, 0] >= 0

    def check(self, labels: np.ndarray, source: str) -> None:
        varies = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
        if not varies.any():
            raise WhymaskError(
                f"{source} has no class that some labelled images show and others do not: "
                f"{', '.join(self.names) or 'no class at all'}. Add labelled images."
            )

    def counts(self, labels: np.ndarray) -> list[int]:
        return labels.sum(axis=0).tolist()

    def text(self) -> str:
        return f"multilabel, {len(self.names)} classes of which an image may show several"

    # who gets which labels

    def strata(self, labels: np.ndarray, units: int) -> list[np.ndarray]:
        """The images of each class, and those of none."""
        members = [np.flatnonzero(column) for column in labels.T]
        return [rows for rows in [*members, np.flatnonzero(labels.sum(axis=1) == 0)] if len(rows)]

    def stock(self, labels: np.ndarray) -> list[int]:
        return [len(labels)]

    def draw(self, labels: np.ndarray, rows: np.ndarray, budget: Budget, seed: int) -> np.ndarray:
        """Prefixes of one order for each seed, in which each class has an image early, the rarest class first.

        For each class, from the rarest to the most common, that no image in the order shows yet, the order has the
        first image of a permutation that shows it; then the others as the permutation has them. A budget of as many
        images as there are classes thus shows all of them, and what comes after is a random sample.
        """
        rows, count = permuted(rows[self.labelled(labels[rows])], budget, seed)
        shows = labels[rows] == 1
        first: list[int] = []
        for c in np.argsort(shows.sum(axis=0), kind="stable"):
            if shows[:, c].any() and not shows[first, c].any():
                first.append(int(shows[:, c].argmax()))
        order = np.concatenate([np.array(first, np.int64), np.delete(np.arange(len(rows)), first)])
        return np.sort(rows[order[:count]])

    # training

    def _objective(self, labels: np.ndarray, config: LossConfig) -> "BinaryCrossEntropy":
        return BinaryCrossEntropy(len(self.names))

    # predictions

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs

    def shown(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    @property
    def header(self) -> list[str]:
        return ["classes", "confidences", *(f"probability of {name}" for name in self.names)]

    def row(self, shown: np.ndarray) -> list[str]:
        """The classes above 0.5, as "cat|dog", their probabilities in the same form, and all probabilities."""
        likely = [(name, f"{p:.6f}") for name, p in zip(self.names, shown, strict=True) if p > 0.5]
        classes, confidences = ("|".join(column) for column in zip(*likely, strict=True)) if likely else ("", "")
        return [classes, confidences, *(f"{p:.6f}" for p in shown)]

    def decided(self, shown: np.ndarray) -> np.ndarray:
        return (shown > 0.5).astype(np.int64)

    def question(self, labels: np.ndarray, test: np.ndarray, label: str | None) -> Question:
        """Whether an image shows the class `label`, as one of two classes, with the log odds that the network gives.

        By default the class that the number of test images which show it comes nearest to half of them: of it most can
        be told. To take the one that pretraining gains most in would be to choose what the answer is.
        """
        shown = (labels[test] == 1).mean(axis=0)
        if label is not None and label not in self.names:
            raise WhymaskError(f"--label {label} was given; the classes are {', '.join(self.names)}; choose one")
        c = int(np.abs(shown - 0.5).argmin()) if label is None else self.names.index(label)
        name = self.names[c]
        if shown[c] in (0, 1):
            raise WhymaskError(
                f"{'all' if shown[c] else 'none'} of the {len(test)} test images show {name}, so that nothing can be "
                "told of it; choose another class with --label"
            )
        note = (
            f"Of {len(self.names)} classes, {name} was asked about: {shown[c]:.3f} of the test images show it, which "
        )
        note += "is nearest to half. --label asks about another."
        mixing = np.zeros((2, len(self.names)), np.float32)
        mixing[:, c] = -0.5, 0.5  # whose difference is the log odds, so that both have a gradient
        return Question(Classification((f"no {name}", name)), labels[:, c], mixing, name, "" if label else note)

    # how good they are

    def describe(self, metric: str) -> Metric:
        return described(metric, METRICS)

    def metrics(self, predictions: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Every metric of METRICS that the data define. A class is predicted above a probability of 0.5."""
        checked(predictions, labels, predictions.shape)
        return known(_Scores(predictions, labels, Units.of(len(labels))).of(np.ones((len(labels), 1))))

    def differences(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None = None,
    ) -> Weighted:
        """Of all metrics; a class that a resample has no positive image of takes no part in its means."""
        sides = ([_Scores(network, labels, units).of for network in side] for side in (arm, baseline))
        return difference(*map(mean_of, sides))

    def per_name(self, predictions: np.ndarray, labels: np.ndarray) -> list[float | None]:
        """Average precision."""
        checked(predictions, labels, predictions.shape)
        units, one = Units.of(len(labels)), np.ones((len(labels), 1))
        values = [Ranking(p, y, units).of(one)[0][0] for p, y in zip(predictions.T, labels.T, strict=True)]
        return [float(value) if np.isfinite(value) else None for value in values]

    def nearest(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
        """By the share of the neighbours that show each class."""
        from sklearn.neighbors import KNeighborsRegressor

        shares = KNeighborsRegressor(**by_distance(neighbours)).fit(train, labels).predict(test)
        return _log_odds(shares)

    def linear(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """By a logistic regression a class; a class that all training images show, or none, is predicted for all."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
        log_odds = np.tile(_log_odds(labels.mean(axis=0)), (len(test), 1))
        for c in np.flatnonzero(np.ptp(labels, axis=0)):
            log_odds[:, c] = LogisticRegression(max_iter=1000).fit(train, labels[:, c]).decision_function(test)
        return log_odds

    def guess(self, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The log odds of how often each class is, counted as if once more in both ways."""
        positive = labels.sum(axis=0) + 1.0
        return np.tile(np.log(positive / (len(labels) + 2.0 - positive)), (len(test), 1))

    def perfect(self, labels: np.ndarray) -> np.ndarray:
        return 2.0 * labels - 1


class BinaryCrossEntropy(Objective):
    """Binary cross-entropy of log odds (B, L) and labels (B, L) of 0 and 1, or between where images were mixed."""

    def __init__(self, classes: int):
        super().__init__()
        self.width = classes

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.float(), targets.float())


class _Scores:
    """All metrics of one network's predictions, as functions of weights (units, r)."""

    def __init__(self, predictions: np.ndarray, labels: np.ndarray, units: Units):
        pairs = list(zip(predictions.T, labels.T, strict=True))
        self.rankings = [Ranking(scores, positive, units) for scores, positive in pairs]

        def per_class(values: np.ndarray) -> Any:
            row, column = np.nonzero(values)
            return units.taken(row).sums_by(column, values[row, column].astype(np.float64), labels.shape[1])

        predicted = predictions > 0
        self.positive = per_class(labels)
        self.hits, self.sizes = per_class(2 * (predicted & (labels == 1))), per_class(predicted + labels)

    def of(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric, (r,)."""
        ranked = [ranking.of(weights) for ranking in self.rankings]
        hits, sizes = self.hits @ weights, self.sizes @ weights
        total = sizes.sum(axis=0, keepdims=True)
        return {
            "mean_average_precision": mean_known([precision for precision, _ in ranked]),
            "macro_auroc": mean_known([area for _, area in ranked]),
            "macro_f1": mean_ratio(hits, sizes, self.positive @ weights > 0),
            "micro_f1": mean_ratio(hits.sum(axis=0, keepdims=True), total, total > 0),
        }


def _log_odds(shares: np.ndarray) -> np.ndarray:
    return np.log((shares + LEAST_SHARE) / (1 - shares + LEAST_SHARE))


def _of_matrix(cls: type[Multilabel], raw: RawLabels, source: str) -> tuple[Multilabel, np.ndarray]:
    values = np.asarray(raw.values, np.float64)
    missing = np.isnan(values) | (values == -1)
    if not np.isin(values[~missing], (0, 1)).all():
        odd = values[~missing & ~np.isin(values, (0, 1))][0]
        raise WhymaskError(f"{source}: labels hold {odd:g}; 0 or 1 for each class was expected; see --task")
    partly = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    if len(partly):
        raise WhymaskError(
            f"{source}: {len(partly)} images, number {partly[0]} for one, have labels for some classes only; 0 or 1 "
            "for each class, or none at all, was expected; fill them in"
        )
    names = raw.names or tuple(str(number) for number in range(values.shape[1]))
    return cls(names), np.where(missing, -1, values).astype(np.int64)
