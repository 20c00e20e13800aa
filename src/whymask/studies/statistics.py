"""Intervals for means and paired differences: over seeds, and over test images.

Two sources of chance stand apart. The t interval over seeds covers what another pretraining, label subset and data
order would have given on these test images; the bootstrap covers what other test images would have given for these
networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from whymask.intervals import mean_interval
from whymask.tasks.bootstrap import bootstrap_images as bootstrap_images


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
