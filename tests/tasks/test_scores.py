"""What is said of a network's metrics: what they rest on, an interval that holds what it promises, and chance."""

import re

import numpy as np
import pytest
from scipy.stats import binom

from tiny import NAMES, labels_of, predictions_of
from whymask.intervals import wilson
from whymask.tasks import TASKS, Classification, Multilabel, Regression
from whymask.tasks.scores import Score, scores_of

EVERY = pytest.mark.parametrize("task", [task(NAMES) for task in TASKS.values()], ids=list(TASKS))
TEN = Classification(tuple("abcdefghij"))


def by_metric(scores: list[Score]) -> dict[str, Score]:
    return {score.metric: score for score in scores}


def guesses(right: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (images, 10), of which the first `right` are those of the labels (images,)."""
    labels = np.arange(images) % 10
    said = np.where(np.arange(images) < right, labels, (labels + 1) % 10)
    return np.log(np.eye(10)[said] * 0.9 + 0.01), labels


def test_an_accuracy_says_its_counts_wilsons_interval_and_chance():
    score = by_metric(scores_of(TEN, *guesses(8, 30), chance={"accuracy": 0.1}))["accuracy"]
    assert score.text() == "accuracy 0.267 (8 of 30 test images; 95 % 0.14 to 0.44; chance 0.10)"
    assert (score.low, score.high) == wilson(8, 30)


def test_an_interval_is_known_where_all_images_are_right_and_none_is():
    assert by_metric(scores_of(TEN, *guesses(30, 30)))["accuracy"].text() == (
        "accuracy 1.000 (30 of 30 test images; 95 % 0.89 to 1.00)"
    )
    assert by_metric(scores_of(TEN, *guesses(0, 30)))["accuracy"].text() == (
        "accuracy 0.000 (0 of 30 test images; 95 % 0.00 to 0.11)"
    )


def test_what_is_the_same_in_every_resample_or_not_resampled_has_no_interval():
    scores = by_metric(scores_of(TEN, *guesses(30, 30), chance={"auroc": 0.5}))
    assert scores["balanced_accuracy"].text() == "balanced accuracy 1.000 (30 test images; no interval)"
    assert scores["auroc"].text() == "AUROC 1.000 (30 test images; no interval; chance 0.50)"


def test_a_narrow_interval_has_a_third_decimal():
    text = by_metric(scores_of(TEN, *guesses(1900, 2000)))["accuracy"].text()
    assert text == "accuracy 0.950 (1,900 of 2,000 test images; 95 % 0.940 to 0.959)"


def test_the_accuracy_of_a_tag_counts_its_own_images():
    tags = np.where(np.arange(30) < 12, "single_view", "")
    text = by_metric(scores_of(TEN, *guesses(8, 30), tags=tags))["accuracy/single_view"].text()
    assert text.startswith("single-view accuracy 0.667 (8 of 12 test images; 95 % ")


def test_images_of_one_group_are_no_independent_images():
    predictions, labels = guesses(8, 30)
    groups = np.arange(30) // 8  # right, and then wrong, by whole groups
    alone, together = (by_metric(scores_of(TEN, predictions, labels, groups=g))["accuracy"] for g in (None, groups))
    assert together.text().startswith("accuracy 0.267 (8 of 30 test images in 4 groups; 95 % ")
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_targets_are_told_in_three_digits_that_count():
    task = Regression(("cells",))
    labels = np.linspace(1000, 2000, 40)[:, None]
    scores = by_metric(scores_of(task, labels + np.linspace(0, 4.5, 40)[:, None], labels))
    assert scores["mean_absolute_error"].text().startswith("mean absolute error 2.25 (40 test images; 95 % ")
    far = by_metric(scores_of(task, labels + 1234.5, labels, chance={"rmse": 290.2}))["rmse"]
    assert "1,234 (" in far.text() and far.text().endswith("chance 290)")


@EVERY
def test_scores_are_the_tasks_metrics_and_lie_within_their_intervals(task):
    labels = labels_of(task, 80, 0)
    predictions = predictions_of(task, labels, 1)
    scores = scores_of(task, predictions, labels)
    assert {score.metric: score.value for score in scores} == task.metrics(predictions, labels)
    assert {score.metric for score in scores if score.low is None} <= {"auroc"}
    assert all(score.low <= score.value <= score.high for score in scores if score.low is not None)


@pytest.mark.parametrize("task", [task for task in EVERY.args[1] if task.name != "detection"], ids=lambda t: t.name)
def test_the_default_metrics_interval_covers_the_truth(task):
    """100 test sets of 100 images for a network whose metric on all images is known; of detection, which takes the
    longest, test_every_task.py asks the same of differences."""
    everything = labels_of(task, 20_000, 0)
    network = predictions_of(task, everything, 1)
    truth = task.metrics(network, everything)[task.default_metric]
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        rows = generator.choice(20_000, 100, replace=False)
        score = by_metric(scores_of(task, network[rows], everything[rows]))[task.default_metric]
        covered += score.low <= truth <= score.high
    assert covered >= 86


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_wilsons_interval_covers_the_share(share):
    covered = sum(
        binom.pmf(hits, 30, share) for hits in range(31) if wilson(hits, 30)[0] <= share <= wilson(hits, 30)[1]
    )
    assert 0.92 <= covered <= 0.98


def test_of_several_classes_every_metric_has_an_interval():
    task = Multilabel(NAMES)
    labels = labels_of(task, 60, 0)
    scores = scores_of(task, predictions_of(task, labels, 1), labels, chance={"mean_average_precision": 0.35})
    text = by_metric(scores)["mean_average_precision"].text()
    assert re.match(r"mean average precision 0\.\d{3} \(60 test images; 95 % 0\.\d\d+ to \d\.\d\d+; ", text)
    assert text.endswith("; chance 0.350)")
