"""Intervals for means and paired differences: over seeds, and over test images.

Two sources of chance stand apart. The t interval over seeds covers what another pretraining, label subset and data
order would have given on these test images; the bootstrap covers what other test images would have given for these
networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from whymask.intervals import mean_interval, resampled_weights, units_of


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

    `arm` and `baseline` map seed -> log probabilities (N, k) on the same test images; seeds that only one has are
    ignored. `labels` is (N,) in 0..k-1, `tags` (N,) str or None. With `groups` (N,), such as patients, whole groups
    are resampled, because images of one group are not independent. Both arms see the same resamples, and every call
    with as many images (or groups) draws the same ones.

    Returns metric -> (low, high) for accuracy, "accuracy/<tag>", balanced accuracy, macro F1 (of each seed, then
    averaged) and log loss; empty without a common seed. AUROC is not among them: each resample would have to be summed
    again in the order of every class's scores, a hundred times the work of all the others.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    if not seeds:
        return {}
    units, unit = units_of(len(labels), groups)
    totals = _Totals([arm[s] for s in seeds], [baseline[s] for s in seeds], labels, tags, unit, units)
    chunks: dict[str, list[np.ndarray]] = {}
    for weights in resampled_weights(units, resamples):
        for metric, differences in totals.differences(weights).items():
            chunks.setdefault(metric, []).append(differences)
    tail = (1 - confidence) / 2
    # A rare tag may be missing from a resample, which then says nothing about it.
    bounds = {m: np.nanquantile(np.concatenate(parts), [tail, 1 - tail]) for m, parts in chunks.items()}
    # Rounded, so that a bound of 0 is not put above 0 by the last bits of a sum: the verdict asks for its sign.
    return {metric: (round(float(low), 12), round(float(high), 12)) for metric, (low, high) in bounds.items()}


class _Totals:
    """Per-image numbers summed within each unit; every metric of a resample is made of their weighted sums.

    A matrix here is sparse (rows, units): one row, or one a class. Its product with the weights (units, r) holds the
    sums of r resamples, and costs the same however many classes there are.
    """

    def __init__(
        self,
        arm: list[np.ndarray],
        baseline: list[np.ndarray],
        labels: np.ndarray,
        tags: np.ndarray | None,
        unit: np.ndarray,
        units: int,
    ) -> None:
        self.unit, self.units, self.classes = unit, units, arm[0].shape[1]
        one = np.ones(len(labels))
        gain = _mean_right(arm, labels) - _mean_right(baseline, labels)
        loss = _mean_loss(arm, labels) - _mean_loss(baseline, labels)
        self.support = self._per_class(labels, one)
        self.ratios = {
            "accuracy": (self._row(gain), self._row(one)),
            "balanced_accuracy": (self._per_class(labels, gain), self.support),
        }
        if np.isfinite(loss).all():
            self.ratios["log_loss"] = (self._row(loss), self._row(one))
        for tag in np.unique(tags) if tags is not None else ():
            if tag:
                self.ratios[f"accuracy/{tag}"] = (self._row(gain * (tags == tag)), self._row(one * (tags == tag)))
        self.arm_f1 = [self._f1_parts(network, labels) for network in arm]
        self.baseline_f1 = [self._f1_parts(network, labels) for network in baseline]

    def differences(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Arm minus baseline, (r,) a metric, for `weights` (units, r); NaN where a resample has no image of a tag."""
        result = {}
        for metric, (numerator, denominator) in self.ratios.items():
            total = denominator @ weights
            result[metric] = _mean_ratio(numerator @ weights, total, total > 0)
        present = self.support @ weights > 0
        arm, baseline = (
            np.stack([_mean_ratio(hits @ weights, size @ weights, present) for hits, size in networks]).mean(axis=0)
            for networks in (self.arm_f1, self.baseline_f1)
        )
        result["macro_f1"] = arm - baseline
        return result

    def _row(self, values: np.ndarray) -> sparse.csr_matrix:
        rows = np.zeros(len(values), dtype=np.int64)
        return sparse.csr_matrix((values, (rows, self.unit)), shape=(1, self.units))

    def _per_class(self, classes: np.ndarray, values: np.ndarray) -> sparse.csr_matrix:
        return sparse.csr_matrix((values, (classes, self.unit)), shape=(self.classes, self.units))

    def _f1_parts(self, network: np.ndarray, labels: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Numerator and denominator of F1 = 2 hits / (images of the class + predictions of the class)."""
        predicted = network.argmax(axis=1)
        hits = self._per_class(labels, 2.0 * (predicted == labels))
        return hits, self.support + self._per_class(predicted, np.ones(len(labels)))


def _mean_right(networks: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.stack([network.argmax(axis=1) == labels for network in networks]).mean(axis=0)


def _mean_loss(networks: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    return -np.stack([network[rows, labels] for network in networks]).mean(axis=0, dtype=np.float64)


def _mean_ratio(numerator: np.ndarray, denominator: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean over the `counted` rows of numerator / denominator, (rows, r) -> (r,); NaN where no row counts."""
    ratios = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=counted)
    rows = counted.sum(axis=0)
    return np.divide(ratios.sum(axis=0), rows, out=np.full(len(rows), np.nan), where=rows > 0)
