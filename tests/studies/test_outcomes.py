"""Which test images are repaired, broken and hardest: of predictions whose rights and wrongs are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from tiny import NAMES, labels_of, predictions_of
from whymask.intervals import mean_interval
from whymask.studies.outcomes import MOST_CLASSES, SHOWN, class_gains, outcomes
from whymask.tasks import TASKS, Classification, Regression, Task
from whymask.tasks.answers import answers_of, in_words, most_say, wrongness

EVERY = pytest.mark.parametrize("task", [task(NAMES) for task in TASKS.values()], ids=list(TASKS))
KEYS = [f"{image}.png" for image in range(200)]


def saying(*classes: int) -> np.ndarray:
    """Log probabilities of networks that are sure."""
    return np.log(np.where(np.eye(3)[list(classes)] == 1, 0.98, 0.01)).astype(np.float32)


@EVERY
def test_who_knows_the_labels_is_never_wrong(task: Task) -> None:
    labels = labels_of(task, 200, 0)
    perfect = answers_of(task, task.perfect(labels).astype(np.float32))
    assert wrongness(task, perfect, labels) == pytest.approx(np.zeros(200), abs=1e-6)
    expected = f"{task.image_metric.title} 1.00" if task.image_metric else in_words(task, labels[0].tolist())
    assert in_words(task, most_say([perfect] * 3)[0].tolist()) == expected


@EVERY
def test_the_other_way_round_what_was_repaired_is_broken(task: Task) -> None:
    labels = labels_of(task, 200, 0)
    good = {seed: predictions_of(task, labels, seed) for seed in range(3)}
    noise = 1.1 if task.is_dense else 2.0
    bad = {seed: predictions_of(task, labels, 50 + seed, noise) for seed in range(3)}
    there, back = outcomes(task, good, bad, labels, KEYS), outcomes(task, bad, good, labels, KEYS)
    assert there is not None and back is not None
    assert there["counts"]["repaired"] == back["counts"]["broken"] > back["counts"]["repaired"] > 0
    same = [[row["image"] for row in found["shown"][kind]] for found, kind in ((there, "repaired"), (back, "broken"))]
    assert same[0] == same[1] and len(same[0]) == SHOWN
    gains, losses = there["classes"], back["classes"][::-1]
    assert [row["class"] for row in gains] == [row["class"] for row in losses] and len(gains) == 3
    assert [row["gain"] for row in gains] == pytest.approx([-row["gain"] for row in losses])
    assert all(row["low"] <= row["gain"] <= row["high"] for row in gains) and gains[0]["gain"] > 0
    nothing = outcomes(task, good, good, labels, KEYS)
    assert nothing is not None and nothing["counts"]["repaired"] == nothing["counts"]["broken"] == 0
    assert json.loads(json.dumps(there, allow_nan=False)) == there


def test_counts_and_rows_are_those_of_the_seeds() -> None:
    labels = np.array([0, 1, 2, 2])
    scratch = {0: saying(1, 1, 0, 2), 1: saying(1, 1, 0, 2), 2: saying(0, 1, 1, 2), 9: saying(2, 2, 2, 2)}
    mae = {seed: saying(0, 1, 1, 0) for seed in (0, 1, 2)}
    found = outcomes(Classification(NAMES), mae, scratch, labels, KEYS[:4])
    assert found is not None and (found["seeds"], found["images"]) == (3, 4), "seed 9 has no pretrained network"
    assert found["counts"] == {"repaired": 1, "broken": 1, "hardest": 1}
    assert found["shown"]["repaired"] == [
        {"image": 0, "key": "0.png", "true": 0, "arm": 0, "arm_right": 3, "baseline": 1, "baseline_right": 1}
    ]
    assert [found["shown"][kind][0]["image"] for kind in ("broken", "hardest")] == [3, 2]
    assert [row["class"] for row in found["classes"]] == [0, 1, 2], "the class that gains most is first"
    assert [row["gain"] for row in found["classes"]] == pytest.approx([2 / 3, 0, -1 / 2])
    expected = mean_interval([1, 1, 0])
    assert (found["classes"][0]["low"], found["classes"][0]["high"]) == (expected.low, expected.high)
    assert outcomes(Classification(NAMES), mae, {7: scratch[0]}, labels, KEYS[:4]) is None


def test_each_class_is_shown_in_turn() -> None:
    labels = np.repeat([0, 1, 2], 10)
    found = outcomes(Classification(NAMES), {0: saying(*labels)}, {0: saying(*(labels + 1) % 3)}, labels, KEYS[:30])
    assert found is not None and [row["true"] for row in found["shown"]["repaired"]] == [0, 1, 2, 0, 1, 2]


def test_of_numbers_the_nearest_and_furthest_are_shown() -> None:
    labels = np.array([[0.0], [10.0], [20.0]])
    found = outcomes(Regression(("age",)), {0: labels + np.array([[0], [1], [9]])}, {0: labels + 5}, labels, KEYS[:3])
    assert found is not None and found["counts"] == {"repaired": 2, "broken": 1, "hardest": None}
    assert [row["image"] for row in found["shown"]["repaired"]] == [0, 1]
    assert found["shown"]["hardest"][0]["image"] == 2
    assert in_words(Regression(("age",)), found["shown"]["broken"][0]["arm"]) == "age 29"


def test_a_study_keeps_the_pixels_of_what_it_shows(finished: Path) -> None:
    told = json.loads((finished / "study.json").read_text())
    found, pixels = told["outcomes"], np.load(finished / "outcomes.npz")
    cells = [
        np.load(finished / f"cells/{arm}-2-{seed}/predictions.npz") for arm in ("mae", "scratch") for seed in (0, 1)
    ]
    labels, wrong = cells[0]["labels"], [cell["log_probabilities"].argmax(1) != cell["labels"] for cell in cells]
    assert found["counts"]["hardest"] == np.all(wrong, axis=0).sum() and found["images"] == len(labels)
    for kind, rows in found["shown"].items():
        assert pixels[kind].dtype == np.uint8 and pixels[kind].shape == (len(rows), 32, 32, 1)
        assert all(row["true"] == labels[row["image"]] for row in rows)
    page = (finished / "report.html").read_text()
    assert page.count('alt="test image"') == sum(map(len, found["shown"].values()))


def test_of_many_classes_those_that_gain_and_lose_most_are_told() -> None:
    labels = np.repeat(np.arange(12), 2)
    task, sure = Classification(tuple("abcdefghijkl")), np.log(np.where(np.eye(12) == 1, 0.9, 0.01))
    arm, baseline = labels.copy(), labels.copy()
    arm[[0, 2]] = 5  # wrong once on classes 0 and 1
    baseline[[22, 20, 21]] = 5  # and on class 11 once, on class 10 twice
    found = class_gains(task, [sure[arm]], [sure[baseline]], labels)
    assert len(found) == 2 * MOST_CLASSES and [row["class"] for row in found[:2]] == [10, 11]
    assert {row["class"] for row in found[-2:]} == {0, 1} and found[0]["gain"] == 1 and found[-1]["gain"] == -0.5
    assert found[0]["low"] is None  # of one seed
