"""What holds for every task, whatever its labels are."""

import json
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import NAMES, labels_of, predictions_of
from whymask.data.settings import LabelSettings
from whymask.errors import WhymaskError
from whymask.intervals import resampled_weights
from whymask.studies.statistics import bootstrap_images
from whymask.tasks import TASKS, Classification, Detection, LossConfig, Multilabel, RawLabels, task_from
from whymask.tasks.budgets import Budget, auto_budgets
from whymask.tasks.resampling import Units

EVERY = pytest.mark.parametrize("task", [task(NAMES) for task in TASKS.values()], ids=list(TASKS))
WHOLE = pytest.mark.parametrize(
    "task", [task(NAMES) for task in TASKS.values() if not task.is_dense], ids=lambda task: task.name
)
"""Of images, not of their pixels."""
NESTED = [(Budget("count", 1), Budget("count", 2)), (Budget("fraction", 0.3), Budget("all"))]


def test_settings_name_every_task():
    assert get_args(get_type_hints(LabelSettings)["task"]) == ("auto", *TASKS)
    assert all(task.name == name for name, task in TASKS.items())


@EVERY
def test_a_task_is_kept_and_read_back(task):
    assert task_from(json.loads(json.dumps(task.to_dict()))) == task


def test_heads_of_before_there_were_tasks_are_classifiers():
    assert task_from({"classes": ["a", "b"]}) == Classification(("a", "b"))


@EVERY
def test_images_without_labels_are_known_as_such(task):
    labels = np.concatenate([task.unlabelled(2), labels_of(task, 3, 0), task.unlabelled(1)])
    assert task.labelled(labels).tolist() == [False, False, True, True, True, False]
    assert type(task)().labelled(type(task)().unlabelled(4)).tolist() == [False] * 4
    assert labels.dtype == task.unlabelled(1).dtype


@EVERY
@pytest.mark.parametrize(
    "setting", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"bins": 5}, {"dice": 0.5}]
)
def test_a_task_takes_its_own_settings_and_refuses_others(task, setting):
    labels = labels_of(task, 20, 0)
    if set(setting) <= task.takes:
        task.objective(labels, LossConfig(**setting))
    else:
        with pytest.raises(WhymaskError, match=f"{next(iter(setting))} .* {task.name} has no such setting"):
            task.objective(labels, LossConfig(**setting))


@WHOLE
def test_a_head_learns_and_its_kept_form_predicts(task):
    """A linear head on features that hold the labels: the loss falls, and folding changes no prediction."""
    labels = labels_of(task, 200, 0)
    signal = np.eye(3)[labels] if labels.ndim == 1 else labels / labels.std(axis=0)
    features = torch.from_numpy(signal).float() + 0.1
    objective = task.objective(labels, LossConfig())
    head = torch.nn.Linear(3, objective.width)
    targets = torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))
    losses = []
    for _ in range(300):
        loss = objective(head(features), targets)
        head.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.3 * parameter.grad
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    outputs = objective.read(head(features)).detach()
    folded = F.linear(features, *objective.fold(head.weight.detach(), head.bias.detach()))
    torch.testing.assert_close(folded, outputs, rtol=1e-4, atol=1e-3)
    metric = task.default_metric
    reached = task.metrics(task.kept(outputs, torch.from_numpy(labels)).numpy(), labels)
    value, chance = (metrics[metric] for metrics in (reached, task.chance(labels, labels)))
    assert value > chance if task.describe(metric).higher_is_better else value < chance
    shown = task.shown(outputs).numpy()
    assert shown.shape == outputs.shape and len(task.row(shown[0])) == len(task.header)


# budgets and splits


@EVERY
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_budgets_are_nested_and_take_labelled_rows_alone(task, seed):
    labels = np.concatenate([task.unlabelled(20), labels_of(task, 400, seed)])
    rows = np.arange(0, 420, 2)
    stock = task.stock(labels[rows[rows >= 20]])
    for small, large in NESTED:
        drawn = [set(task.draw(labels, rows, budget, seed).tolist()) for budget in (small, large)]
        assert drawn[0] <= drawn[1] <= set(rows[rows >= 20].tolist())
        assert [len(subset) for subset in drawn] == [sum(b.count(n) for n in stock) for b in (small, large)]


@EVERY
def test_a_draw_is_a_function_of_the_seed_and_not_of_the_order_of_rows(task):
    labels, rows = labels_of(task, 100, 0), np.arange(100)
    drawn = task.draw(labels, rows, Budget("count", 5), 3)
    assert (np.diff(drawn) > 0).all()
    assert np.array_equal(drawn, task.draw(labels, rows[::-1], Budget("count", 5), 3))
    assert not np.array_equal(drawn, task.draw(labels, rows, Budget("count", 5), 4))


@EVERY
def test_a_budget_larger_than_the_stock_is_refused_and_derived_ones_fit(task):
    labels = labels_of(task, 60, 0)
    for budget in auto_budgets(task.stock(labels)):
        task.draw(labels, np.arange(60), budget, 0)
    with pytest.raises(WhymaskError, match="budget 61 is larger than"):
        task.draw(labels, np.arange(60), Budget("count", 61), 0)


# metrics


@EVERY
def test_metrics_are_json_described_and_within_their_bounds(task):
    labels = labels_of(task, 80, 0)
    values = task.metrics(predictions_of(task, labels, 1), labels)
    json.dumps(values, allow_nan=False)
    assert task.default_metric in values
    for name, value in values.items():
        about = task.describe(name)
        assert about.title and about.average
        assert about.low is None or value >= about.low
        assert about.high is None or value <= about.high
    assert len(task.per_name(predictions_of(task, labels, 1), labels)) == 3


@EVERY
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), grouped=st.booleans(), ties=st.booleans())
def test_differences_are_those_of_metrics_on_resampled_images(task, seed, grouped, ties):
    """Every metric of every resample, by drawing the same images and computing on them what metrics() gives."""
    labels = labels_of(task, 40, seed)
    if ties and labels.dtype.kind == "f":
        labels = labels.round(0)
    arm, baseline = ([predictions_of(task, labels, seed + i + 10 * side) for i in range(2)] for side in range(2))
    if ties and not isinstance(task, Classification | Detection):  # of detection see test_detection.py
        arm = [network.round(0) for network in arm]
    groups = np.random.default_rng(seed).integers(12, size=40).astype(str) if grouped else None
    units = Units.of(40, groups)
    (weights,) = resampled_weights(units.count, 8)
    found = task.differences(arm, baseline, labels, units)(weights)
    for r, times in enumerate(weights.T):
        rows = np.repeat(np.arange(40), times[units.of_image].astype(int))
        ours, theirs = ([task.metrics(p[rows], labels[rows]) for p in side] for side in (arm, baseline))
        for metric, differences in found.items():
            if all(metric in values for values in ours + theirs):
                expected = np.mean([v[metric] for v in ours]) - np.mean([v[metric] for v in theirs])
                assert differences[r] == pytest.approx(expected, abs=1e-9), metric
            else:
                assert np.isnan(differences[r]), metric


@EVERY
def test_the_default_metric_has_an_interval_and_covers_the_true_difference(task):
    """200 test sets of 100 images for two networks whose difference on all images is known."""
    everything = labels_of(task, 20_000, 0)
    arm, baseline = (predictions_of(task, everything, seed, noise) for seed, noise in ((1, 0.8), (2, 1.0)))
    metric = task.default_metric
    truth = task.metrics(arm, everything)[metric] - task.metrics(baseline, everything)[metric]
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        rows = generator.choice(20_000, 100, replace=False)
        difference = task.differences([arm[rows]], [baseline[rows]], everything[rows], Units.of(100))
        values = np.concatenate([difference(weights)[metric] for weights in resampled_weights(100, 300)])
        low, high = np.nanquantile(values, [0.025, 0.975])
        covered += low <= truth <= high
    assert 0.88 <= covered / 200 <= 0.985


def test_classification_s_differences_are_those_of_the_study():
    task = Classification(NAMES)
    labels = labels_of(task, 60, 0)
    tags = np.where(np.arange(60) % 2, "odd", "")
    arm, baseline = ({i: predictions_of(task, labels, 10 * side + i) for i in range(3)} for side in range(2))
    expected = bootstrap_images(task, arm, baseline, labels, tags=tags, resamples=50)
    sides = (list(side.values()) for side in (arm, baseline))
    (weights,) = resampled_weights(60, 50)
    found = task.differences(*sides, labels, Units.of(60), tags)(weights)
    assert expected == {
        metric: tuple(round(float(bound), 12) for bound in np.nanquantile(values, [0.025, 0.975]))
        for metric, values in found.items()
    }


@EVERY
def test_who_knows_the_labels_has_the_best_of_every_metric(task):
    labels = labels_of(task, 60, 0)
    found = task.metrics(task.perfect(labels), labels)
    assert {task.describe(metric).best for metric in found} <= {0.0, 1.0} and set(task.every_metric) <= set(found)
    for metric, value in found.items():
        assert value == pytest.approx(task.describe(metric).best), metric


@EVERY
def test_equal_networks_differ_by_nothing(task):
    labels = labels_of(task, 30, 0)
    network = predictions_of(task, labels, 1)
    (weights,) = resampled_weights(30, 20)
    found: dict[str, Any] = task.differences([network], [network], labels, Units.of(30))(weights)
    assert all(not np.nan_to_num(values).any() for values in found.values())


def test_what_is_one_class_an_image_may_be_read_as_several():
    single, _ = Classification.encode(RawLabels(["a", "b", ""]), "x")
    several, labels = Multilabel.encode(RawLabels(["a", "b", ""]), "x")
    assert single.names == several.names and labels.tolist() == [[1, 0], [0, 1], [-1, -1]]
