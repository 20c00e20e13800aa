import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from whymask import intervals
from whymask.intervals import Interval, mean_interval, resampled_weights
from whymask.studies.statistics import bootstrap_images, paired_difference
from whymask.tasks import Classification

CLASSES = 4
TASK = Classification(tuple("abcd"))
metrics = TASK.metrics


def predictions(labels: np.ndarray, skill: float, *key: int) -> np.ndarray:
    """Log probabilities (N, CLASSES) of a made-up network: the larger `skill`, the more often it is right."""
    noise = np.random.default_rng(key).normal(size=(len(labels), CLASSES))
    return log_softmax(noise + skill * np.eye(CLASSES)[labels], axis=1)


def unbalanced(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a rare class, and tags."""
    generator = np.random.default_rng(7)
    labels = generator.choice(CLASSES, size=images, p=[0.55, 0.3, 0.1, 0.05])
    return labels, generator.choice(["multi_view", "single_view"], size=images)


def test_mean_interval_equals_scipy():
    values = [0.91, 0.95, 0.87, 0.93, 0.9]
    for confidence in (0.5, 0.95):
        interval = mean_interval(values, confidence)
        expected = scipy.stats.t.interval(confidence, 4, np.mean(values), scipy.stats.sem(values))
        assert (interval.low, interval.high) == pytest.approx(expected)
    assert (interval.mean, interval.seeds) == (pytest.approx(np.mean(values)), 5)


def test_one_value_has_no_interval_and_none_no_mean():
    assert mean_interval([0.5]) == Interval(0.5, None, None, 1)
    assert mean_interval([0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 2)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_paired_difference_equals_the_paired_t_test():
    arm, baseline = {0: 0.9, 1: 0.95, 2: 0.85}, {0: 0.8, 1: 0.9, 2: 0.81}
    expected = scipy.stats.ttest_rel(list(arm.values()), list(baseline.values())).confidence_interval(0.95)
    pair = paired_difference(arm, baseline)
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high))
    assert pair.difference == pytest.approx(0.19 / 3)


def test_only_common_seeds_are_compared_and_the_others_counted():
    pair = paired_difference({0: 1.0, 2: 3.0, 5: 9.0}, {2: 1.0, 0: 1.0, 1: 9.0, 3: 9.0})
    assert (pair.difference, pair.seeds, pair.dropped) == (1.0, 2, 3)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_interval_over_seeds_covers_no_effect_in_95_percent_of_studies():
    """2,000 studies of 5 seeds in which neither arm is better; seeds share a part, as a label subset does."""
    generator = np.random.default_rng(0)
    shared = generator.normal(0.8, 0.05, size=(2000, 1, 5))
    values = shared + generator.normal(0, 0.02, size=(2000, 2, 5))
    covered = 0
    for arm, baseline in values:
        pair = paired_difference(dict(enumerate(arm)), dict(enumerate(baseline)))
        covered += pair.low <= 0 <= pair.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_bootstrap_equals_scikit_learn_on_resampled_images():
    """Every metric of every resample, by drawing the same images and computing on them what metrics() gives."""
    labels, tags = unbalanced(60)
    arm = {seed: predictions(labels, 1.5, 0, seed) for seed in range(2)}
    baseline = {seed: predictions(labels, 1.0, 1, seed) for seed in range(3)}  # seed 2 has no counterpart
    expected: dict[str, list[float]] = {}
    (all_weights,) = resampled_weights(60, 40)
    assert (all_weights.sum(axis=0) == 60).all()
    for weights in all_weights.T:
        rows = np.repeat(np.arange(60), weights.astype(int))
        ours, theirs = (
            [metrics(side[seed][rows], labels[rows], tags[rows]) for seed in range(2)] for side in (arm, baseline)
        )
        for metric in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "accuracy/single_view"):
            gains = [a[metric] - b[metric] for a, b in zip(ours, theirs, strict=True)]
            expected.setdefault(metric, []).append(float(np.mean(gains)))
    intervals = bootstrap_images(TASK, arm, baseline, labels, tags=tags, resamples=40)
    for metric, differences in expected.items():
        assert intervals[metric] == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975]))), metric


def test_bootstrap_of_accuracy_is_near_the_normal_interval():
    labels, _ = unbalanced(4000)
    arm, baseline = {0: predictions(labels, 2.0, 0)}, {0: predictions(labels, 1.5, 1)}
    low, high = bootstrap_images(TASK, arm, baseline, labels)["accuracy"]
    gain = (arm[0].argmax(1) == labels) - (baseline[0].argmax(1) == labels).astype(float)
    half = 1.96 * gain.std() / np.sqrt(len(labels))
    assert (low, high) == pytest.approx((gain.mean() - half, gain.mean() + half), abs=0.1 * half)


def test_bootstrap_of_balanced_accuracy_weighs_classes_alike():
    """The variance of a mean of class recalls: sum over classes of var / n_class / k^2, far above plain accuracy's."""
    labels = np.repeat([0, 1, 2, 3], [3600, 200, 100, 100])
    arm, baseline = {0: predictions(labels, 2.0, 0)}, {0: predictions(labels, 1.5, 1)}
    low, high = bootstrap_images(TASK, arm, baseline, labels)["balanced_accuracy"]
    gain = (arm[0].argmax(1) == labels) - (baseline[0].argmax(1) == labels).astype(float)
    by_class = [gain[labels == c] for c in range(CLASSES)]
    centre = np.mean([part.mean() for part in by_class])
    half = 1.96 * np.sqrt(sum(part.var() / len(part) for part in by_class)) / CLASSES
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=0.1 * half)


def test_interval_over_images_covers_the_true_difference():
    """400 test sets of 100 images for two fixed networks, whose true difference of accuracy is known."""
    generator = np.random.default_rng(1)
    right, wrong = np.log([0.9, 0.1]), np.log([0.1, 0.9])
    labels = np.zeros(100, dtype=int)
    covered = 0
    for _ in range(400):
        arm, baseline = (np.where(generator.random((100, 1)) < p, right, wrong) for p in (0.8, 0.7))
        low, high = bootstrap_images(TASK, {0: arm}, {0: baseline}, labels, resamples=400)["accuracy"]
        covered += low <= 0.1 <= high
    assert 0.91 <= covered / 400 <= 0.98


def test_groups_are_resampled_whole():
    """Each image photographed five times says no more than once: with groups the interval is that of single images."""
    labels, tags = unbalanced(80)
    arm, baseline = {0: predictions(labels, 1.5, 0)}, {0: predictions(labels, 1.0, 1)}
    single = bootstrap_images(TASK, arm, baseline, labels, tags=tags)
    many = {"labels": np.repeat(labels, 5), "tags": np.repeat(tags, 5)}
    arm, baseline = ({0: np.repeat(side[0], 5, axis=0)} for side in (arm, baseline))
    patients = np.repeat([f"patient {i:02}" for i in range(80)], 5)
    grouped = bootstrap_images(TASK, arm, baseline, **many, groups=patients)
    for metric, interval in single.items():
        assert grouped[metric] == pytest.approx(interval), metric
    ungrouped = bootstrap_images(TASK, arm, baseline, **many)["accuracy"]
    assert np.ptp(ungrouped) < 0.6 * np.ptp(grouped["accuracy"])


def test_bootstrap_is_reproducible_and_independent_of_chunks(monkeypatch):
    labels, tags = unbalanced(50)
    arm, baseline = {0: predictions(labels, 1.5, 0)}, {0: predictions(labels, 1.0, 1)}
    whole = bootstrap_images(TASK, arm, baseline, labels, tags=tags)
    assert bootstrap_images(TASK, arm, baseline, labels, tags=tags) == whole
    monkeypatch.setattr(intervals, "CHUNK_BYTES", 8 * 50 * 7)
    assert bootstrap_images(TASK, arm, baseline, labels, tags=tags) == whole


def test_bootstrap_leaves_out_what_it_cannot_say():
    labels, _ = unbalanced(30)
    arm, baseline = predictions(labels, 1.5, 0), predictions(labels, 1.0, 1)
    assert bootstrap_images(TASK, {0: arm}, {1: baseline}, labels) == {}
    arm[0, labels[0]] = -np.inf
    assert set(bootstrap_images(TASK, {0: arm}, {0: baseline}, labels)) == {"accuracy", "balanced_accuracy", "macro_f1"}


def test_a_tag_missing_from_some_resamples_still_has_an_interval():
    labels, _ = unbalanced(30)
    arm, baseline = {0: predictions(labels, 3.0, 0)}, {0: predictions(labels, 0.0, 1)}
    tags = np.array(["rare"] + [""] * 29)
    low, high = bootstrap_images(TASK, arm, baseline, labels, tags=tags)["accuracy/rare"]
    assert low == high == metrics(arm[0][:1], labels[:1])["accuracy"] - metrics(baseline[0][:1], labels[:1])["accuracy"]


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 60), st.integers(0, 1000), st.integers(1, 3))
def test_swapping_the_arms_mirrors_every_interval(images, key, seeds):
    labels = np.random.default_rng(key).integers(CLASSES, size=images)
    arm = {seed: predictions(labels, 1.5, key, 0, seed) for seed in range(seeds)}
    baseline = {seed: predictions(labels, 1.0, key, 1, seed) for seed in range(seeds)}
    forward = bootstrap_images(TASK, arm, baseline, labels, resamples=100)
    backward = bootstrap_images(TASK, baseline, arm, labels, resamples=100)
    for metric, (low, high) in forward.items():
        assert (-high, -low) == pytest.approx(backward[metric], abs=1e-12)
    assert set(bootstrap_images(TASK, arm, arm, labels, resamples=100).values()) == {(0.0, 0.0)}


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-5, 5))
def test_interval_moves_with_the_values(values, shift):
    interval, moved = mean_interval(values), mean_interval([value + shift for value in values])
    assert interval.low <= interval.mean <= interval.high
    assert (moved.low, moved.high) == pytest.approx((interval.low + shift, interval.high + shift), abs=1e-9)
