"""Classification: each image is of one class.

Labels are class numbers, int64 (N,), -1 = unlabelled; predictions are natural log probabilities (N, k). A class without
test images takes no part in any mean over classes. What the data do not define (AUROC with one class in the test set,
say) is left out rather than written as NaN, which JSON does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor, nn

from whymask.errors import WhymaskError
from whymask.randomness import numpy_generator
from whymask.tasks.balance import class_weights
from whymask.tasks.base import LossConfig, Objective, RawLabels, Task, ordered
from whymask.tasks.budgets import Budget
from whymask.tasks.metric import Metric, described
from whymask.tasks.outputs import Outputs
from whymask.tasks.probing import LEAST_SHARE, by_distance
from whymask.tasks.question import Question
from whymask.tasks.reading import one_a_row
from whymask.tasks.resampling import Units, Weighted
from whymask.tasks.weighted import WORST, ClassTotals, views_of

METRICS = {
    "accuracy": Metric("accuracy", counted=True),
    "balanced_accuracy": Metric(
        "balanced accuracy", average="of each class's own test images, then over classes", by_name=True
    ),
    "macro_f1": Metric("macro F1", average="of each class against the rest, then over classes", by_name=True),
    "auroc": Metric("AUROC", average="of each class against the rest, then over classes", by_name=True),
    "log_loss": Metric("log loss", higher_is_better=False, unit="nat", high=None),
}


@dataclass(frozen=True)
class Classification(Task):
    """One class an image. The loss is cross-entropy."""

    name = "classification"
    budget_counts = "labels a class"
    budget_of_one = "label a class"
    every_metric = tuple(METRICS)
    default_metric = "balanced_accuracy"
    kept_as = "log_probabilities"
    outputs = Outputs(
        "classifier", "logits", "The softmax of the logits gives probabilities.", "single_label_classification"
    )
    row_metric = Metric("recall", average="over the test images of the class")
    takes = frozenset({"label_smoothing", "class_weights", "sampler", "mixup", "cutmix"})
    least = "at least two in a class are needed"

    # labels

    @classmethod
    def encode(cls, raw: RawLabels, source: str) -> "tuple[Classification, np.ndarray]":
        """Labels of any type. None, "", NaN and what `raw.nothing` lists mean unlabelled.

        Names are in order of their number where all are numbers, else of the alphabet. Only classes that occur count.
        """
        array = one_a_row(raw.values, source)
        if array.dtype.kind in "iuf":
            known = np.isfinite(array) & ~np.isin(array, raw.nothing)
            whole = not (array[known] % 1).any()  # else each number is a class by its name
            array = np.where(known, array, 0).astype(np.int64 if whole else str)
        else:
            array = np.array(["" if value is None else str(value).strip() for value in array.tolist()], dtype=str)
            known = array != ""
        values = ordered(np.unique(array[known]).tolist())
        if raw.names and (beyond := [value for value in values if not 0 <= int(value) < len(raw.names)]):
            raise WhymaskError(
                f"{source}: the class number {beyond[0]}, of {len(raw.names)} classes with names; numbers from 0 on "
                "were expected; correct the labels"
            )
        numbers = {value: number for number, value in enumerate(values)}
        labels = np.array([numbers[v] if k else -1 for v, k in zip(array.tolist(), known, strict=True)], dtype=np.int64)
        return cls(tuple(raw.names[int(value)] if raw.names else str(value) for value in values)), labels

    def unlabelled(self, count: int) -> np.ndarray:
        return np.full(count, -1, np.int64)

    def labelled(self, labels: np.ndarray) -> np.ndarray:
        return labels >= 0

    def check(self, labels: np.ndarray, source: str) -> None:
        present = np.unique(labels)
        if len(present) < 2:
            raise WhymaskError(
                f"{source} has the single class {self.names[present[0]]!r}; a classifier needs at least two. "
                "Add labelled images of another class."
            )

    def counts(self, labels: np.ndarray) -> list[int]:
        return np.bincount(labels, minlength=len(self.names)).tolist()

    def text(self) -> str:
        return f"classification of {len(self.names)} classes"

    # who gets which labels

    def strata(self, labels: np.ndarray, units: int) -> list[np.ndarray]:
        return [np.flatnonzero(labels == c) for c in np.unique(labels)]

    def stock(self, labels: np.ndarray) -> list[int]:
        return self.counts(labels)

    def draw(self, labels: np.ndarray, rows: np.ndarray, budget: Budget, seed: int) -> np.ndarray:
        """Prefixes of one permutation per class and seed."""
        members = {int(c): np.sort(rows[labels[rows] == c]) for c in np.unique(labels[rows]) if c >= 0}
        if any(budget.count(len(m)) > len(m) for m in members.values()):
            counts = ", ".join(f"{self.names[c] if self.names else f'class {c}'}: {len(m)}" for c, m in members.items())
            raise WhymaskError(
                f"budget {budget.name} is larger than a class; labelled images, less the test images: {counts}. "
                "Choose a smaller budget, or leave small classes out."
            )
        taken = [numpy_generator(seed, "labels", c).permutation(m)[: budget.count(len(m))] for c, m in members.items()]
        return np.sort(np.concatenate([rows[:0], *taken]))

    # training

    def _objective(self, labels: np.ndarray, config: LossConfig) -> "CrossEntropy":
        classes = len(self.names)
        weights = class_weights(labels, classes) if config.class_weights == "balanced" else None
        return CrossEntropy(classes, config.label_smoothing, weights)

    # predictions

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.log_softmax(dim=1)

    def shown(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)

    @property
    def header(self) -> list[str]:
        return ["class", "confidence", *(f"probability of {name}" for name in self.names)]

    def row(self, shown: np.ndarray) -> list[str]:
        """The likeliest class, its probability, and all probabilities."""
        return [self.names[int(shown.argmax())], f"{shown.max():.6f}", *(f"{p:.6f}" for p in shown)]

    def decided(self, shown: np.ndarray) -> np.ndarray:
        return shown.argmax(axis=1)

    def question(self, labels: np.ndarray, test: np.ndarray, label: str | None) -> Question:
        if label is not None:
            raise WhymaskError(
                f"--label {label} was given; each image is of one of {len(self.names)} classes, which are all asked "
                "about; leave it out"
            )
        return Question(self, labels)

    # how good they are

    def describe(self, metric: str) -> Metric:
        """One of METRICS, or "accuracy/<tag>", titled like "single-view accuracy"."""
        base, _, tag = metric.partition("/")
        if tag and base == "accuracy":
            over = "the least over views, of which each has test images" if metric == WORST else "over its test images"
            return Metric(f"{tag.replace('_', '-')} accuracy", average=over, counted=metric != WORST)
        return described(metric, METRICS, "accuracy/<tag>")

    def metrics(self, predictions: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Every metric of METRICS that the data define, and "accuracy/<tag>" for each non-empty tag; where some test
        images show all views of their class and others one alone, "accuracy/worst_view", that of the view which is
        recognised least.

        Balanced accuracy, macro F1 and AUROC (one class against the rest) are means over the classes that have test
        images.
        """
        from sklearn.metrics import f1_score, recall_score

        _check(predictions, labels)
        predicted = predictions.argmax(axis=1)
        correct = predicted == labels
        present = np.unique(labels)
        values = {
            "accuracy": float(correct.mean()),
            "balanced_accuracy": float(recall_score(labels, predicted, labels=present, average="macro")),
            "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro")),
        }
        if len(present) > 1:
            values["auroc"] = float(np.mean([_auroc(predictions, labels, int(c)) for c in present]))
        log_loss = float(-predictions[np.arange(len(labels)), labels].astype(np.float64).mean())
        if np.isfinite(log_loss):
            values["log_loss"] = log_loss
        if tags is not None:
            by_tag = {str(tag): float(correct[tags == tag].mean()) for tag in np.unique(tags) if tag}
            values |= {f"accuracy/{tag}": share for tag, share in by_tag.items()}
            if views := views_of(by_tag):
                values[WORST] = min(by_tag[tag] for tag in views)
        return values

    def differences(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None = None,
    ) -> Weighted:
        """Of all metrics but AUROC: each resample would have to be summed again in the order of every class's scores,
        a hundred times the work of all the others."""
        return ClassTotals(arm, baseline, labels, units, tags).differences

    def per_name(self, predictions: np.ndarray, labels: np.ndarray) -> list[float | None]:
        """Recall: the share of each class's test images that is predicted right."""
        counts = self.confusion(predictions, labels)
        return [float(row[c] / row.sum()) if row.sum() else None for c, row in enumerate(counts)]

    def confusion(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Counts (k, k) int64: row = true class, column = predicted class."""
        from sklearn.metrics import confusion_matrix

        _check(predictions, labels)
        return confusion_matrix(labels, predictions.argmax(axis=1), labels=np.arange(predictions.shape[1]))

    def nearest(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
        from sklearn.neighbors import KNeighborsClassifier

        return self._log_shares(KNeighborsClassifier(**by_distance(neighbours)).fit(train, labels), test)

    def linear(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """By logistic regression."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return self._log_shares(model.fit(train, labels), test)

    def _log_shares(self, fitted: Any, test: np.ndarray) -> np.ndarray:
        shares = np.full((len(test), len(self.names)), LEAST_SHARE)
        shares[:, fitted.classes_] += fitted.predict_proba(test)
        return np.log(shares / shares.sum(axis=1, keepdims=True))

    def guess(self, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """How often each class is, counted as if once more, so that none is impossible."""
        counts = np.array(self.counts(labels)) + 1.0
        return np.tile(np.log(counts / counts.sum()), (len(test), 1))

    def perfect(self, labels: np.ndarray) -> np.ndarray:
        return np.where(labels[:, None] == np.arange(len(self.names)), 0.0, -1e3)


class CrossEntropy(Objective):
    """Cross-entropy of class numbers (B,), or of shares (B, k) where augmentation has mixed images."""

    def __init__(self, classes: int, label_smoothing: float = 0.0, weights: np.ndarray | None = None):
        super().__init__()
        self.width = classes
        given = None if weights is None else torch.from_numpy(weights).float()
        reduction = "mean" if weights is None else "sum"
        self.loss = nn.CrossEntropyLoss(given, label_smoothing=label_smoothing, reduction=reduction)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss.weight is None:
            return self.loss(outputs, targets)
        return self.loss(outputs, targets) / len(outputs)  # and not by the batch's weights, which processes differ in

    def about(self) -> dict[str, Any]:
        return {} if self.loss.weight is None else {"class_weights": self.loss.weight.tolist()}


def _auroc(log_probabilities: np.ndarray, labels: np.ndarray, c: int) -> float:
    from sklearn.metrics import roc_auc_score

    # Ranked by log odds: a confident network's float32 log probabilities are all exactly 0, its log odds still differ.
    log_rest = logsumexp(np.delete(log_probabilities, c, axis=1).astype(np.float64), axis=1)
    log_odds = np.nan_to_num(log_probabilities[:, c] - log_rest)
    return float(roc_auc_score(labels == c, log_odds))


def _check(log_probabilities: np.ndarray, labels: np.ndarray) -> None:
    if log_probabilities.ndim != 2 or labels.shape != (len(log_probabilities),) or not len(labels):
        raise WhymaskError(
            f"predictions have shape {log_probabilities.shape} and labels {labels.shape}; "
            "expected (N, classes) and (N,) with N at least 1; check that the test set is not empty"
        )
    if labels.min() < 0 or labels.max() >= log_probabilities.shape[1]:
        raise WhymaskError(
            f"test labels run from {labels.min()} to {labels.max()}; expected 0 to {log_probabilities.shape[1] - 1}; "
            "check that every test image has a label among the classes"
        )
    if np.isnan(log_probabilities).any():
        raise WhymaskError("predictions are NaN; expected log probabilities; try a smaller learning rate")
