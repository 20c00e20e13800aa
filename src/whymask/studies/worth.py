"""Label worth: how many labels training from scratch needs to reach what a pretrained arm reached.

Labels are counted as the task's budgets are: of each class, or of all images.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np

from whymask.studies.settings import SCRATCH
from whymask.studies.verdict import state_of
from whymask.tasks import Task

Kind = Literal["exact", "at least", "at most"]
TOLERANCE = 1e-9  # isotonic regression averages flat parts and so moves them by rounding


class Worth(NamedTuple):
    """A number of labels, and on which side of it the true worth lies."""

    labels: float
    kind: Kind


class LabelWorth(TypedDict):
    """A row of study.json: the median over seeds, and the range (`low` to `high`) with the kind of each end."""

    arm: str
    labels_per_class: float
    worth: float
    low: float
    high: float
    kind: Kind
    low_kind: Kind
    high_kind: Kind
    seeds: int


ORDER: dict[Kind, int] = {"at most": 0, "exact": 1, "at least": 2}


def labels_needed(curve: Mapping[float, float], value: float, higher_is_better: bool = True) -> Worth:
    """Labels at which `curve` (labels -> metric of scratch, one seed) first reaches `value`.

    The curve is made monotone (isotonic regression: more labels never hurt) and interpolated linearly in log labels. A
    value it never reaches is worth "at least" its last budget; one below its first point "at most" its first budget.
    """
    from sklearn.isotonic import isotonic_regression

    budgets = sorted(curve)
    sign = 1.0 if higher_is_better else -1.0
    heights = isotonic_regression([sign * curve[b] for b in budgets])
    target = sign * value
    if target < heights[0] - TOLERANCE:
        return Worth(float(budgets[0]), "at most")
    if target > heights[-1] + TOLERANCE:
        return Worth(float(budgets[-1]), "at least")
    right = int(np.searchsorted(heights, target - TOLERANCE))  # the first point that reaches it: a flat part's start
    if heights[right] <= target + TOLERANCE:
        return Worth(float(budgets[right]), "exact")
    left = right - 1
    share = (target - heights[left]) / (heights[right] - heights[left])
    return Worth(float(budgets[left] * (budgets[right] / budgets[left]) ** share), "exact")


def label_worth(
    arm: str,
    labels_per_class: float,
    values: Mapping[int, float],
    curves: Mapping[int, Mapping[float, float]],
    *,
    higher_is_better: bool = True,
) -> LabelWorth | None:
    """Median and range over seeds of what `arm` is worth; None without a common seed.

    `values` maps seed -> the arm's metric at `labels_per_class`; `curves` maps seed -> (labels -> metric) of
    scratch. Seeds are ordered by number, "at most" before and "at least" after an exact worth of the same number. The
    median is the middle seed, the lower of two middle ones, so that a worth is never overstated; its kind is that
    seed's. The ends of the range are the first and the last seed and may be censored too: `low_kind`, `high_kind`.
    A seed whose curve lacks the first or last budget that others have (a failed cell) is left out: its "at least" or
    "at most" could not be put in order with theirs.
    """
    common = {seed: curves[seed] for seed in values if curves.get(seed)}
    if not common:
        return None
    ends = (min(map(min, common.values())), max(map(max, common.values())))
    seeds = [seed for seed, curve in common.items() if (min(curve), max(curve)) == ends]
    if not seeds:
        return None
    worths = sorted((labels_needed(curves[seed], values[seed], higher_is_better) for seed in seeds), key=_place)
    low, median, high = worths[0], worths[(len(worths) - 1) // 2], worths[-1]
    return {
        "arm": arm,
        "labels_per_class": labels_per_class,
        "worth": median.labels,
        "low": low.labels,
        "high": high.labels,
        "kind": median.kind,
        "low_kind": low.kind,
        "high_kind": high.kind,
        "seeds": len(seeds),
    }


def may_be_said(
    row: Mapping[str, Any],
    levels: Iterable[Mapping[str, Any]],
    pairs: Iterable[Mapping[str, Any]],
    verdict: Mapping[str, Any],
    method: str,
    task: Task,
) -> bool:
    """Whether a row of label_worth is a statement for people.

    It is where the arm is better than scratch at its budget, and of the verdict's own arm, the `method`, only if the
    verdict is that it helps; where it says more than "at least what it had"; and where the curve of means, which the
    page draws, tells the same: read from it, the worth lies between those of the seeds. `levels`, `pairs` and `verdict`
    are those of study.json.
    """
    metric, about = verdict["metric"], task.describe(verdict["metric"])
    here = {"arm": row["arm"], "labels_per_class": row["labels_per_class"], "metric": metric}
    pair = next((pair for pair in pairs if (here | {"baseline": SCRATCH}).items() <= pair.items()), None)
    if state_of(pair, about) != "better" or (row["arm"] == method and verdict["kind"] != "helps"):
        return False
    if row["kind"] == "at least" and row["worth"] <= row["labels_per_class"]:
        return False
    means = [level for level in levels if level["metric"] == metric]
    reached = next(level["mean"] for level in means if here.items() <= level.items())
    curve = {level["labels_per_class"]: level["mean"] for level in means if level["arm"] == SCRATCH}
    of_means = labels_needed(curve, reached, about.higher_is_better)
    low, high = Worth(row["low"], row["low_kind"]), Worth(row["high"], row["high_kind"])
    return _place(low) <= _place(of_means) <= _place(high)


def _place(worth: Worth) -> tuple[float, int]:
    return worth.labels, ORDER[worth.kind]
