"""Metrics of a classification, under the names by which stages know them."""

from whymask.tasks import Classification, Metric
from whymask.tasks.classification import METRICS

__all__ = ["METRICS", "Metric", "confusion", "describe", "metrics", "per_class_recall"]

_TASK = Classification()
describe, metrics, confusion, per_class_recall = _TASK.describe, _TASK.metrics, _TASK.confusion, _TASK.per_name
