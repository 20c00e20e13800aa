import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whymask.studies.worth import Worth, label_worth, labels_needed, may_be_said
from whymask.tasks import Classification

BUDGETS = (5, 10, 20, 50, 100, 500)


def known(labels: float) -> float:
    """Accuracy of a made-up learner, linear in log labels, so that interpolation is exact."""
    return 0.3 + 0.1 * np.log(labels)


@pytest.mark.parametrize("true_worth", [5, 7, 33.3, 100, 499, 500])
def test_a_known_curve_is_recovered(true_worth):
    curve = {b: known(b) for b in BUDGETS}
    worth = labels_needed(curve, known(true_worth))
    assert worth.kind == "exact"
    assert worth.labels == pytest.approx(true_worth)


def test_a_known_curve_is_recovered_through_noise():
    """9 seeds, each with noise of 0.01 on every point: worth 40 comes back within a fifth."""
    generator = np.random.default_rng(0)
    curves = {seed: {b: known(b) + generator.normal(0, 0.01) for b in BUDGETS} for seed in range(9)}
    values = {seed: known(40) + generator.normal(0, 0.01) for seed in range(9)}
    row = label_worth("mae", 10, values, curves)
    assert row["kind"] == "exact"
    assert row["worth"] == pytest.approx(40, rel=0.2)
    assert row["low"] < row["worth"] < row["high"]


def test_beyond_the_ends_the_worth_is_a_bound():
    curve = {b: known(b) for b in BUDGETS}
    assert labels_needed(curve, known(501)) == Worth(500, "at least")
    assert labels_needed(curve, known(4.9)) == Worth(5, "at most")
    assert labels_needed({10: 0.5}, 0.5) == Worth(10, "exact")


def test_flat_parts_count_from_their_start():
    assert labels_needed({10: 0.5, 20: 0.7, 50: 0.7, 100: 0.7, 200: 0.9}, 0.7) == Worth(20, "exact")
    assert labels_needed({10: 0.7, 20: 0.7}, 0.7) == Worth(10, "exact")


def test_a_dip_is_pooled_with_its_neighbour():
    """Isotonic regression joins 0.6 and 0.5 into a flat part at 0.55, which begins at 20 labels."""
    assert labels_needed({10: 0.4, 20: 0.6, 50: 0.5, 100: 0.8}, 0.55) == Worth(20, "exact")
    assert labels_needed({10: 0.4, 20: 0.6, 50: 0.5, 100: 0.8}, 0.475).labels == pytest.approx(200**0.5)


def test_the_order_of_the_curve_does_not_matter():
    assert labels_needed({100: 0.9, 10: 0.5}, 0.7).labels == pytest.approx(1000**0.5)


def test_lower_is_better_is_the_mirror_image():
    curve = {b: -known(b) for b in BUDGETS}
    assert labels_needed(curve, -known(33), higher_is_better=False).labels == pytest.approx(33)
    assert labels_needed(curve, -known(900), higher_is_better=False) == Worth(500, "at least")
    assert labels_needed(curve, -known(1), higher_is_better=False) == Worth(5, "at most")


@pytest.mark.parametrize(
    ("worths", "expected"),
    [
        ([20, 40, 80], (20, "exact", 40, "exact", 80, "exact")),
        ([20, 40, 900], (20, "exact", 40, "exact", 500, "at least")),
        ([1, 40, 900], (5, "at most", 40, "exact", 500, "at least")),
        ([20, 800, 900], (20, "exact", 500, "at least", 500, "at least")),
        ([1, 2, 40], (5, "at most", 5, "at most", 40, "exact")),
        ([5, 1, 5], (5, "at most", 5, "exact", 5, "exact")),
        ([500, 900, 500], (500, "exact", 500, "exact", 500, "at least")),
        ([20, 40, 80, 900], (20, "exact", 40, "exact", 500, "at least")),  # the lower of the two middle ones
        ([1, 900], (5, "at most", 5, "at most", 500, "at least")),
        ([30], (30, "exact", 30, "exact", 30, "exact")),
    ],
)
def test_median_and_range_over_seeds(worths, expected):
    curve = {b: known(b) for b in BUDGETS}
    values = {seed: known(worth) for seed, worth in enumerate(worths)}
    row = label_worth("mae", 10, values, dict.fromkeys(values, curve))
    found = [row[key] for key in ("low", "low_kind", "worth", "kind", "high", "high_kind")]
    assert found[::2] == pytest.approx(expected[::2])
    assert found[1::2] == list(expected[1::2])
    assert (row["arm"], row["labels_per_class"], row["seeds"]) == ("mae", 10, len(worths))


def test_seeds_without_a_whole_curve_are_left_out():
    curve = {b: known(b) for b in BUDGETS}
    without_middle = {b: known(b) for b in BUDGETS if b != 50}
    without_last = {b: known(b) for b in BUDGETS if b != 500}
    curves = {0: curve, 1: without_middle, 2: without_last, 3: {}, 4: curve}
    values = {0: known(30), 1: known(30), 2: known(400), 3: known(30)}
    row = label_worth("mae", 10, values, curves)
    assert (row["seeds"], row["kind"]) == (2, "exact")
    assert row["high"] == pytest.approx(30)


def test_no_common_seed_no_row():
    curve = {b: known(b) for b in BUDGETS}
    assert label_worth("mae", 10, {0: 0.5}, {1: curve}) is None
    assert label_worth("mae", 10, {0: 0.5}, {0: {}}) is None
    assert label_worth("mae", 10, {0: 0.5, 1: 0.5}, {0: {5: 0.4, 10: 0.6}, 1: {10: 0.4, 20: 0.6}}) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_a_better_value_is_never_worth_less(heights, first, second):
    curve = dict(zip(BUDGETS, heights, strict=False))
    order = {"at most": 0, "exact": 1, "at least": 2}
    low, high = (labels_needed(curve, value) for value in sorted((first, second)))
    assert BUDGETS[0] <= low.labels <= high.labels * (1 + 1e-12)
    assert high.labels <= BUDGETS[len(heights) - 1] * (1 + 1e-12)
    assert order[low.kind] <= order[high.kind]


def said(scratch: dict[float, float], reached: float, worth: Worth, kind: str = "helps", low: float = 0.02) -> bool:
    """Of 10 labels with mae, by curves of means, where every seed has this worth."""
    here = {"metric": "accuracy", "seeds": 5}
    levels = [here | {"arm": "scratch", "labels_per_class": labels, "mean": mean} for labels, mean in scratch.items()]
    levels.append(here | {"arm": "mae", "labels_per_class": 10, "mean": reached})
    pair = here | {"arm": "mae", "baseline": "scratch", "labels_per_class": 10, "low": low, "high": 0.1}
    ends = {"low": worth.labels, "high": worth.labels, "low_kind": worth.kind, "high_kind": worth.kind}
    row = {"arm": "mae", "labels_per_class": 10, "worth": worth.labels, "kind": worth.kind} | ends
    verdict = {"kind": kind, "metric": "accuracy"}
    images = {"low_images": None, "high_images": None}
    return may_be_said(row, levels, [pair | images], verdict, "mae", Classification())


def test_worth_is_said_where_pretraining_helps_alone():
    curve = {10: 0.5, 20: 0.6, 40: 0.7}
    assert said(curve, 0.6, Worth(20, "exact"))
    assert not said(curve, 0.6, Worth(20, "exact"), kind="cannot tell")
    assert not said(curve, 0.6, Worth(20, "exact"), low=-0.01), "no better than scratch at this budget"
    assert said(curve, 0.6, Worth(20, "exact"), kind="helps", low=0.001)


def test_worth_is_not_said_against_the_curve_of_means():
    """Scratch with 4 labels had mae's very value, and yet no seed was said to have caught up."""
    assert not said({4: 0.6, 10: 0.61, 40: 0.62}, 0.6, Worth(40, "at least"))
    assert said({4: 0.4, 10: 0.5, 40: 0.55}, 0.6, Worth(40, "at least"))


def test_at_least_what_one_had_is_nothing_to_say():
    assert not said({4: 0.4, 10: 0.5}, 0.6, Worth(10, "at least"))
