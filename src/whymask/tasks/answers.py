"""What networks say of single images, in the form of labels: how wrong it is, what most say, and it in words."""

from collections.abc import Sequence

import numpy as np
import torch

from whymask.tasks.base import Task


def answers_of(task: Task, predictions: np.ndarray) -> np.ndarray:
    """Predictions (N, k), as they are kept -> the labels that images get: (N,) classes, (N, k) of 0 and 1, or (N, T)
    numbers; of a dense task how good what is said of each image is, (N, 1)."""
    alone = task.of_images(predictions)
    if alone is not None:
        return alone[:, None]
    shown = task.shown(torch.from_numpy(predictions)).numpy()
    decided = task.decided(shown)
    return shown if decided is None else decided


def are_right_or_wrong(task: Task, labels: np.ndarray) -> bool:
    """Whether an answer is one or the other: numbers are only near or far, and maps or boxes are rarely all right."""
    return labels.dtype.kind != "f" and task.image_metric is None


def wrongness(task: Task, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How wrong each answer is, float (N,), 0 where it is right: 1 of a class, else the share of an image's classes; of
    numbers the mean over targets of the absolute error, in standard deviations of `labels`; of maps or boxes what the
    image's own `Task.image_metric` lacks to 1."""
    if task.image_metric is not None:
        return 1 - answers[:, 0]
    if labels.dtype.kind == "f":
        spread = labels.std(axis=0)
        return (np.abs(answers - labels) / np.where(spread > 0, spread, 1)).mean(axis=1)
    return (answers != labels).reshape(len(labels), -1).mean(axis=1)


def most_say(answers: Sequence[np.ndarray]) -> np.ndarray:
    """One answer of several networks: the most frequent class (of equals the first), the classes that more than half
    name, or the mean of numbers."""
    every = np.stack(answers)
    if every.dtype.kind == "f":
        return every.mean(axis=0)
    if every.ndim == 3:
        return (every.mean(axis=0) > 0.5).astype(np.int64)
    return np.array([np.bincount(said).argmax() for said in every.T], np.int64)


def in_words(task: Task, label: int | Sequence[float]) -> str:
    """A label or an answer as `tolist` gives it: "cat", "cat and dog", "none", "weight 3.21", "IoU 0.43"."""
    if isinstance(label, int):
        return task.names[label]
    if task.image_metric is not None and isinstance(label[0], float):
        return f"{task.image_metric.title} {label[0]:.2f}"
    if all(isinstance(value, int) for value in label):
        return " and ".join(name for name, there in zip(task.names, label, strict=True) if there) or "none"
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(task.names, label, strict=True))
