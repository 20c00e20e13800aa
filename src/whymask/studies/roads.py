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
from whymask.report.text import plural
from whymask.studies.settling import MINIMUM_SEEDS
from whymask.studies.statistics import paired_difference
from whymask.studies.verdict import difference_text, number_of
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
    """The road in sentences: the best start, what it is shown to be better than, and what it is not."""
    best, labels = road["best"], road["labels_per_class"]
    if best is None:
        return ""
    mean = number_of(about)(road["means"][best])
    said = f"At {labels:g} {task.bought(labels)} {best} has the best mean, {mean} {about.title}."
    rows = [row if row["arm"] == best else _turned(row) for row in road["comparisons"] if best in _sides(row)]
    few = [row for row in rows if row["seeds"] < MINIMUM_SEEDS]
    beaten = [row for row in rows if row["counts"]]
    open_ = [row for row in rows if row not in few and row not in beaten]
    if few and all(row["seeds"] < MINIMUM_SEEDS for row in road["comparisons"]):
        seeds = max(row["seeds"] for row in road["comparisons"])
        return f"{said} With {plural(seeds, 'seed')} nothing is compared; {MINIMUM_SEEDS} or more are needed."
    pairs = len(road["comparisons"])
    corrected = f", corrected by Holm for {pairs} comparisons," if pairs > 1 else ""
    tested = f"p over seeds and over test images{corrected} is"
    if beaten:
        said += f" It is better than {_listed(beaten, about, 'and')}: {tested} below {LEVEL:g}."
    if open_:
        shown = "there p is" if beaten else tested
        said += f" It is not shown to be better than {_listed(open_, about, 'or')}: {shown} not below {LEVEL:g}."
    if few:
        names = " and ".join(row["baseline"] for row in few)
        said += f" It is not compared with {names}, for fewer than {MINIMUM_SEEDS} seeds are shared."
    return said


def _sides(row: Row) -> tuple[str, str]:
    return row["arm"], row["baseline"]


def _turned(row: Row) -> Row:
    """A comparison with its sides exchanged."""
    low, high = (None if row[end] is None else -row[end] for end in ("high", "low"))
    sides = {"arm": row["baseline"], "baseline": row["arm"]}
    return row | sides | {"difference": -row["difference"], "low": low, "high": high}


def _listed(rows: Iterable[Row], about: Metric, last: str) -> str:
    """ "scratch (+0.107, 95 % interval 0.080 to 0.134 over 5 seeds) and mae (...)"."""
    *most, final = (f"{row['baseline']} ({difference_text(row, about)})" for row in rows)
    return f"{', '.join(most)} {last} {final}" if most else final
