"""How far a network's confidence can be believed: the expected calibration error (Guo et al., arXiv 1706.04599)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from whymask.intervals import SHARE, level_interval

BINS = 10
"""Of confidence, equally wide."""

Row = dict[str, Any]


def calibration(predictions: Mapping[int, np.ndarray], labels: np.ndarray) -> Row | None:
    """Of one arm's log probabilities (n, k) by seed and the classes (n,) of the n test images; None without a seed.

    Returns {"error", "low", "high": mean over seeds and its 95 % interval, "seeds", "images", "bins": [{"confidence",
    "accuracy": means over the images of all seeds in the bin, "count"}]}, bins without an image left out.
    """
    if not predictions:
        return None
    sure = np.stack([np.exp(each.max(axis=1).astype(np.float64)) for each in predictions.values()])
    right = np.stack([each.argmax(axis=1) == labels for each in predictions.values()])
    errors = level_interval([calibration_error(*seed) for seed in zip(sure, right, strict=True)], SHARE)
    place = _bins_of(sure)
    bins = [
        {"confidence": float(sure[here].mean()), "accuracy": float(right[here].mean()), "count": int(here.sum())}
        for here in (place == number for number in range(BINS))
        if here.any()
    ]
    about = {"error": errors.mean, "low": errors.low, "high": errors.high, "seeds": len(sure), "images": len(labels)}
    return about | {"bins": bins}


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The mean over images (n,) of their bin's distance between mean confidence and accuracy."""
    excess = np.bincount(_bins_of(confidence), weights=confidence - right, minlength=BINS)
    return float(np.abs(excess).sum() / len(confidence))


def _bins_of(confidence: np.ndarray) -> np.ndarray:
    """Bins hold their upper end, as in the paper."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
