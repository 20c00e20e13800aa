"""Which test images pretraining repaired and which it broke, and which no network gets right: of study.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from whymask.intervals import mean_interval
from whymask.tasks import Task
from whymask.tasks.answers import answers_of, are_right_or_wrong, most_say, wrongness

SHOWN = 6
"""Images of each kind that are kept for the page."""
MOST_CLASSES = 5
"""That gain, and that lose, of which is told."""
KINDS = ("repaired", "broken", "hardest")

Row = dict[str, Any]
Predictions = Mapping[int, np.ndarray]


def outcomes(
    task: Task, arm: Predictions, baseline: Predictions, labels: np.ndarray, keys: Sequence[str]
) -> Row | None:
    """How two arms do on each test image, over the seeds that both have; None where there is none.

    `arm`, `baseline`: seed -> predictions (n, k) of the n test images, whose labels and keys these are.

    Returns {"seeds", "first_seed", "images", "counts", "classes", "shown"}. An image counts as repaired where the arm
    is less wrong than the baseline in the mean over seeds (a class: right in more seeds), as broken where it is more
    wrong, and as hardest where all networks are wrong; of numbers and maps, which are only near or far, none is counted
    as hardest. `classes`: see `class_gains`. `shown` holds up to `SHOWN` rows of each kind, the clearest first and in
    turn of each class: {"image": its place in the test set, "key", "true", "arm", "baseline": what most seeds say,
    "arm_right", "baseline_right": in how many seeds}.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    if not seeds:
        return None
    said = {name: [answers_of(task, side[s]) for s in seeds] for name, side in (("arm", arm), ("baseline", baseline))}
    wrong = {name: np.array([wrongness(task, answers, labels) for answers in each]) for name, each in said.items()}
    gain = (wrong["baseline"] - wrong["arm"]).mean(axis=0).round(9)
    hardness = (wrong["baseline"] + wrong["arm"]).mean(axis=0).round(9)
    discrete = are_right_or_wrong(task, labels)
    always_wrong = (np.vstack([wrong["arm"], wrong["baseline"]]) > 0).all(axis=0)
    members = {
        "repaired": (gain > 0, gain),
        "broken": (gain < 0, -gain),
        "hardest": (always_wrong if discrete else np.ones(len(labels), bool), hardness),
    }
    counts = {kind: int(rows.sum()) for kind, (rows, _) in members.items()}
    answers = {name: most_say(each).tolist() for name, each in said.items()}
    rights = {name: (each == 0).sum(axis=0).tolist() for name, each in wrong.items()}

    def row(image: int) -> Row:
        told: Row = {"image": image, "key": keys[image], "true": labels[image].tolist()}
        for name in ("arm", "baseline"):
            told |= {name: answers[name][image], f"{name}_right": rights[name][image] if discrete else None}
        return told

    return {
        "seeds": len(seeds),
        "first_seed": seeds[0],
        "images": len(labels),
        "counts": counts if discrete else counts | {"hardest": None},
        "classes": class_gains(task, [arm[seed] for seed in seeds], [baseline[seed] for seed in seeds], labels),
        "shown": {kind: [row(image) for image in _clearest(*members[kind], labels)] for kind in KINDS},
    }


def class_gains(task: Task, arm: Sequence[np.ndarray], baseline: Sequence[np.ndarray], labels: np.ndarray) -> list[Row]:
    """By how much the arm is better at each class, or target, of which there are two at least: [{"class": its number,
    "gain", "low", "high"}], in the task's row metric, such as recall, the mean over seeds, which are paired, and its
    interval; of the MOST_CLASSES that gain most, most first, and those that lose most, most last."""
    sign = 1 if task.row_metric.higher_is_better else -1
    pairs = [
        (task.per_name(own, labels), task.per_name(other, labels)) for own, other in zip(arm, baseline, strict=True)
    ]
    found: list[Row] = []
    for number in range(len(task.names)) if len(task.names) > 1 else ():
        of_class = [(ours[number], theirs[number]) for ours, theirs in pairs]
        gains = [sign * (own - other) for own, other in of_class if own is not None and other is not None]
        if len(gains) == len(pairs):
            over = mean_interval(gains)
            found.append({"class": number, "gain": over.mean, "low": over.low, "high": over.high})
    found.sort(key=lambda row: -row["gain"])
    return found if len(found) <= 2 * MOST_CLASSES else [*found[:MOST_CLASSES], *found[-MOST_CLASSES:]]


def _clearest(rows: np.ndarray, size: np.ndarray, labels: np.ndarray) -> list[int]:
    """Up to `SHOWN` of `rows` (bool), largest `size` first; of equal ones each label in turn."""
    order = sorted(np.flatnonzero(rows).tolist(), key=lambda image: (-size[image], image))
    met: Counter[tuple[float, str]] = Counter()
    turns = []
    for image in order:
        alike = (float(size[image]), str(labels[image].tolist()))
        turns.append((-size[image], met[alike], image))
        met[alike] += 1
    return [image for *_, image in sorted(turns)[:SHOWN]]
