"""A contact sheet: some images of each class, small, for a page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from whymask.report.label_maps import palette
from whymask.report.pictures import data_uri
from whymask.tasks import Task

SAMPLES, SAMPLE_SIDE = 60, 64
DENSE_SAMPLES, DENSE_SIDE = 24, 160
"""Where label maps or boxes are to be seen."""


def sample_groups(images: Sequence[np.ndarray] | np.ndarray, labels: np.ndarray, task: Task) -> list[dict[str, Any]]:
    """Images (H, W, C), uint8, by class: [{"name", "images": [data URI, ...]}], at most `SAMPLES` in all; unlabelled
    ones last. Those of a dense task are fewer, larger, and evenly spaced, as neighbours are often of one video.

    Images of several classes stand under all their names, those with numbers in quarters of the first target's order.
    """
    captions = captions_of(labels, task)
    order = {caption: place for place, caption in sorted(set(captions))[:SAMPLES]}
    most, side = (DENSE_SAMPLES, DENSE_SIDE) if task.is_dense else (SAMPLES, SAMPLE_SIDE)
    share = max(1, most // len(order))
    grid = []
    for name, place in order.items():
        rows = [row for row, caption in enumerate(captions) if caption == (place, name)]
        rows = rows[:: max(1, len(rows) // share)][:share] if task.is_dense else rows[:share]
        grid.append({"name": name, "images": [data_uri(images[row], side) for row in rows]})
    return grid


def legend(task: Task) -> list[tuple[str, str]]:
    """Of a dense task each class's name and colour, such as #0a64c8."""
    if not task.is_dense:
        return []
    colours = palette(len(task.names)).tolist()
    return [(name, f"#{r:02x}{g:02x}{b:02x}") for name, (r, g, b) in zip(task.names, colours, strict=True)]


def captions_of(labels: np.ndarray, task: Task) -> list[tuple[int, str]]:
    """Of each image the place of its group, and the group's name."""
    last = 2**31
    if task.is_dense:
        return [(0, "labelled") if there else (last, "unlabelled") for there in task.labelled(labels)]
    if labels.ndim == 1:
        names = dict(enumerate(task.names))
        return [(c, names.get(c, f"class {c}")) if c >= 0 else (last, "unlabelled") for c in labels.tolist()]
    if labels.dtype.kind != "f":
        shown = [" and ".join(n for n, there in zip(task.names, row, strict=False) if there == 1) for row in labels]
        return [
            (row.sum(), text or "none") if row.min() >= 0 else (last, "unlabelled")
            for row, text in zip(labels, shown, strict=True)
        ]
    values = labels[:, 0]
    known = np.isfinite(values)
    edges = np.quantile(values[known], [0, 0.25, 0.5, 0.75, 1]) if known.any() else np.zeros(5)
    quarters = np.searchsorted(edges[1:4], values)
    name = task.names[0] if task.names else "target"
    return [
        (int(q), f"{name} {edges[q]:.4g} to {edges[q + 1]:.4g}") if there else (last, "unlabelled")
        for q, there in zip(quarters, known, strict=True)
    ]
