"""How good a classifier's predictions on the test images are, as plain numbers.

A class without test images takes no part in any mean over classes. What the data do not define (AUROC with one class in
the test set, say) is left out rather than written as NaN, which JSON does not have.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from whymask.errors import WhymaskError


@dataclass(frozen=True)
class Metric:
    """A metric's name for people, and the direction in which it improves."""

    title: str
    higher_is_better: bool = True


METRICS = {
    "accuracy": Metric("accuracy"),
    "balanced_accuracy": Metric("balanced accuracy"),
    "macro_f1": Metric("macro F1"),
    "auroc": Metric("AUROC"),
    "log_loss": Metric("log loss", higher_is_better=False),
}


def describe(name: str) -> Metric:
    """The metric called `name`: one of METRICS, or "accuracy/<tag>", titled like "single-view accuracy".

    Raises WhymaskError for any other name.
    """
    base, _, tag = name.partition("/")
    if tag and base == "accuracy":
        return Metric(f"{tag.replace('_', '-')} accuracy")
    if name not in METRICS:
        known = ", ".join([*METRICS, "accuracy/<tag>"])
        raise WhymaskError(f"metric {name!r} is unknown; expected one of {known}; choose one of these")
    return METRICS[name]


def metrics(log_probabilities: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
    """Every metric of METRICS that the data define, and "accuracy/<tag>" for each non-empty tag.

    `log_probabilities` is (N, k), natural logarithms; `labels` is (N,) in 0..k-1; `tags` is (N,) str or None.
    Balanced accuracy, macro F1 and AUROC (one class against the rest) are means over the classes that have test images.
    Raises WhymaskError when there are no images, shapes disagree, or predictions are NaN.
    """
    from sklearn.metrics import f1_score, recall_score

    _check(log_probabilities, labels)
    predicted = log_probabilities.argmax(axis=1)
    correct = predicted == labels
    present = np.unique(labels)
    values = {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(recall_score(labels, predicted, labels=present, average="macro")),
        "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro")),
    }
    if len(present) > 1:
        values["auroc"] = float(np.mean([_auroc(log_probabilities, labels, int(c)) for c in present]))
    log_loss = float(-log_probabilities[np.arange(len(labels)), labels].astype(np.float64).mean())
    if np.isfinite(log_loss):
        values["log_loss"] = log_loss
    if tags is not None:
        values |= {f"accuracy/{tag}": float(correct[tags == tag].mean()) for tag in np.unique(tags) if tag}
    return values


def per_class_recall(log_probabilities: np.ndarray, labels: np.ndarray) -> list[float | None]:
    """Share of each class's test images that is predicted right, k long; None for a class without test images."""
    counts = confusion(log_probabilities, labels)
    return [float(row[c] / row.sum()) if row.sum() else None for c, row in enumerate(counts)]


def confusion(log_probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (k, k) int64: row = true class, column = predicted class."""
    from sklearn.metrics import confusion_matrix

    _check(log_probabilities, labels)
    classes = np.arange(log_probabilities.shape[1])
    return confusion_matrix(labels, log_probabilities.argmax(axis=1), labels=classes)


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
