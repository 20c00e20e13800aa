"""Which road to take: of all starts of a study the best at each budget, and which differences are not chance.

Every two starts are compared at a budget, so chance has many occasions: their p-values are corrected together, by Holm
(1979). A pair's p-value is the larger of two: of Student's t over seeds, and of the bootstrap over test images, so that
a difference counts only where neither other seeds nor other test images would explain it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import stdtr

from whymask.intervals import SAME
from whymask.studies.settling import MINIMUM_SEEDS
from whymask.studies.statistics import paired_difference
from whymask.tasks import Metric, Task

Row = dict[str, Any]
LEVEL = 0.05
"""Of all comparisons at a budget together: how often chance alone may make one of them count."""


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being so many, in their order: step by step the smallest times how many are left."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, largest = [0.0] * len(values), 0.0
    for step, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - step) * values[place]))
        corrected[place] = largest
    return corrected


def p_over_seeds(arm: Mapping[int, float], baseline: Mapping[int, float]) -> float:
    """Of Student's paired t test over the seeds that both have, two-sided; 1 with fewer than `MINIMUM_SEEDS`."""
    differences = np.array([arm[seed] - baseline[seed] for seed in sorted(arm.keys() & baseline.keys())])
    if len(differences) < MINIMUM_SEEDS:
        return 1.0
    if np.ptp(differences) < SAME:
        return 1.0 if abs(differences[0]) < SAME else 0.0
    statistic = differences.mean() / (differences.std(ddof=1) / np.sqrt(len(differences)))
    return float(2 * stdtr(len(differences) - 1, -abs(statistic)))


def p_over_images(drawn: np.ndarray | None) -> float:
    """Of the bootstrap over test images, two-sided, from the differences (resamples,) of resampled test images: how
    often they lie on the other side of 0. 0 without any, where the metric has no such resamples."""
    if drawn is None:
        return 0.0
    known = drawn[~np.isnan(drawn)]
    other = min((known <= SAME).sum(), (known >= -SAME).sum())
    return float(min(1.0, 2 * (other + 1) / (len(known) + 1)))


def roads(
    arms: Mapping[str, Mapping[int, float]],
    about: Metric,
    resampled: Mapping[tuple[str, str], np.ndarray | None],
) -> Row:
    """{"best": the start with the best mean, None without one; "comparisons": of every two of them}.

    `arms` maps each start to seed -> the metric `about`; `resampled` holds of every two, in this order, the differences
    over resampled test images. A comparison: {"arm", "baseline", "difference", "low", "high", "seeds", "p",
    "p_corrected", "counts"}; the interval is that over seeds, of 95 % by itself.
    """
    known = {arm: values for arm, values in arms.items() if values}
    means = {arm: float(np.mean(list(values.values()))) for arm, values in known.items()}
    best = max(means, key=lambda arm: means[arm] if about.higher_is_better else -means[arm], default=None)
    rows: list[Row] = []
    for one, other in combinations(known, 2):
        pair = paired_difference(known[one], known[other])
        if pair is None:
            continue
        p = max(p_over_seeds(known[one], known[other]), p_over_images(resampled[one, other]))
        interval = {"difference": pair.difference, "low": pair.low, "high": pair.high, "seeds": pair.seeds}
        rows.append({"arm": one, "baseline": other, **interval, "p": p})
    corrected = holm([row["p"] for row in rows])
    compared = [row | {"p_corrected": p, "counts": p < LEVEL} for row, p in zip(rows, corrected, strict=True)]
    return {"best": best, "means": means, "comparisons": compared}


def road_text(road: Row, about: Metric, task: Task) -> str:
    """The road in a sentence: the best start, what it is shown to be better than, and what it is not."""
    best, labels = road["best"], road["labels_per_class"]
    if best is None:
        return ""
    beaten, even = _beaten(road)
    said = f"At {labels:g} {task.bought(labels)} {best} has the best mean, {road['means'][best]:.3g} {about.title}"
    if beaten:
        said += f"; it is better than {_listed(beaten, road)}"
    if even:
        said += f"; that it is better than {_listed(even, road)} may be chance"
    pairs = len(road["comparisons"])
    corrected = f", corrected by Holm for {pairs} comparisons" if pairs > 1 else ""
    return f"{said} (p below {LEVEL:g} over seeds and over test images{corrected})."


def _beaten(road: Row) -> tuple[list[str], list[str]]:
    """The starts that the best one is shown to be better than, and those that it is not."""
    beaten: list[str] = []
    even: list[str] = []
    for row in road["comparisons"]:
        if road["best"] in (row["arm"], row["baseline"]):
            other = row["baseline"] if row["arm"] == road["best"] else row["arm"]
            (beaten if row["counts"] else even).append(other)
    return beaten, even


def _listed(arms: Iterable[str], road: Row) -> str:
    shown = [f"{arm} ({road['means'][arm]:.3g})" for arm in arms]
    return " and ".join(", ".join(shown).rsplit(", ", 1))
