"""Intervals for means and paired differences: over seeds, and over test images.

Two sources of chance stand apart. The t interval over seeds covers what another pretraining, label subset and data
order would have given on these test images; the bootstrap covers what other test images would have given for these
networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from whymask.intervals import mean_interval, resampled_weights
from whymask.tasks import Task
from whymask.tasks.resampling import Units


@dataclass(frozen=True)
class PairedDifference:
    """Mean of arm minus baseline over the `seeds` that both have; `dropped` counts the seeds that only one has."""

    difference: float
    low: float | None
    high: float | None
    seeds: int
    dropped: int


def paired_difference(
    arm: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> PairedDifference | None:
    """The t interval of arm - baseline over common seeds, each a mapping seed -> value; None without a common seed."""
    seeds = sorted(arm.keys() & baseline.keys())
    if not seeds:
        return None
    interval = mean_interval([arm[seed] - baseline[seed] for seed in seeds], confidence)
    dropped = len(arm.keys() ^ baseline.keys())
    return PairedDifference(interval.mean, interval.low, interval.high, len(seeds), dropped)


def bootstrap_images(
    task: Task,
    arm: Mapping[int, np.ndarray],
    baseline: Mapping[int, np.ndarray],
    labels: np.ndarray,
    *,
    tags: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of arm - baseline over resampled test images, the networks fixed (Efron, 1979).

    `arm` and `baseline` map seed -> the task's predictions (N, k) of the same test images; seeds that only one has are
    ignored. `labels` (N, ...) are the task's, `tags` (N,) str or None. With `groups` (N,), such as patients, whole
    groups are resampled, because images of one group are not independent. Both arms see the same resamples, and every
    call with as many images (or groups) draws the same ones.

    Returns metric -> (low, high) of the metrics that the task has intervals of; empty without a common seed.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    if not seeds:
        return {}
    units = Units.of(len(labels), groups)
    differences = task.differences([arm[s] for s in seeds], [baseline[s] for s in seeds], labels, units, tags)
    chunks: dict[str, list[np.ndarray]] = {}
    for weights in resampled_weights(units.count, resamples):
        for metric, values in differences(weights).items():
            chunks.setdefault(metric, []).append(values)
    tail = (1 - confidence) / 2
    # A rare tag or class may be missing from a resample, which then says nothing about it.
    drawn = {metric: np.concatenate(parts) for metric, parts in chunks.items()}
    known = {metric: values for metric, values in drawn.items() if not np.isnan(values).all()}
    bounds = {metric: np.nanquantile(values, [tail, 1 - tail]) for metric, values in known.items()}
    # Rounded, so that a bound of 0 is not put above 0 by the last bits of a sum: the verdict asks for its sign.
    return {metric: (round(float(low), 12), round(float(high), 12)) for metric, (low, high) in bounds.items()}
