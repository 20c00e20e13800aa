"""What other test images would have given: intervals over resampled test images, the networks fixed."""

from collections.abc import Mapping

import numpy as np

from whymask.intervals import resampled_weights
from whymask.tasks.base import Task
from whymask.tasks.resampling import Units


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
    """Percentile intervals of arm - baseline over resampled test images (Efron, 1979), see `resampled_differences`.

    Returns metric -> (low, high) of the metrics that the task has intervals of; empty without a common seed.
    """
    drawn = resampled_differences(task, arm, baseline, labels, tags=tags, groups=groups, resamples=resamples)
    tail = (1 - confidence) / 2
    bounds = {metric: np.nanquantile(values, [tail, 1 - tail]) for metric, values in drawn.items()}
    # Rounded, so that a bound of 0 is not put above 0 by the last bits of a sum: the verdict asks for its sign.
    return {metric: (round(float(low), 12), round(float(high), 12)) for metric, (low, high) in bounds.items()}


def resampled_differences(
    task: Task,
    arm: Mapping[int, np.ndarray],
    baseline: Mapping[int, np.ndarray],
    labels: np.ndarray,
    *,
    tags: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    resamples: int = 2000,
) -> dict[str, np.ndarray]:
    """What arm - baseline would be in resamples of the test images, the networks fixed.

    `arm` and `baseline` map seed -> the task's predictions (N, k) of the same test images; seeds that only one has are
    ignored. `labels` (N, ...) are the task's, `tags` (N,) str or None. With `groups` (N,), such as patients, whole
    groups are resampled, because images of one group are not independent. Both arms see the same resamples, and every
    call with as many images (or groups) draws the same ones.

    Returns metric -> (resamples,), NaN where a resample does not define it; empty without a common seed.
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
    # A rare tag or class may be missing from a resample, which then says nothing about it.
    drawn = {metric: np.concatenate(parts) for metric, parts in chunks.items()}
    return {metric: values for metric, values in drawn.items() if not np.isnan(values).all()}
