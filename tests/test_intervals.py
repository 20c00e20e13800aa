"""Intervals of shares: within their range, Wilson's where that is known, and true as often as they say."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from whymask.intervals import ANYTHING, Interval, kept_within, level_interval, mean_interval, wilson

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(shares)
def test_the_interval_of_shares_lies_between_0_and_1_and_holds_their_mean(values):
    interval = level_interval(values)
    if len(values) == 1 or np.ptp(values) < 1e-12:
        assert interval.low is None and interval.high is None
    else:
        assert 0 <= interval.low <= interval.mean + 1e-12 and interval.mean - 1e-12 <= interval.high <= 1


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_interval_moves_with_the_range(values, scale, shift):
    unit = level_interval(values, (-1.0, 1.0))
    moved = level_interval([scale * value + shift for value in values], (shift - scale, shift + scale))
    if unit.low is not None and moved.low is not None:
        assert moved.low == pytest.approx(scale * unit.low + shift, abs=1e-6)
        assert moved.high == pytest.approx(scale * unit.high + shift, abs=1e-6)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (8, 30), (30, 30), (1, 1), (970, 1000)])
def test_a_counts_interval_is_wilsons(hits, count):
    expected = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high))


def test_more_hits_than_trials_are_no_share():
    with pytest.raises(ValueError, match="not 4 of 3"):
        wilson(4, 3)


@pytest.mark.parametrize(("hits", "count"), [(1, 10), (9, 10), (45, 50), (500, 1000)])
def test_with_the_standard_error_of_a_count_it_is_wilsons_interval(hits, count):
    share, z = hits / count, scipy.stats.norm.ppf(0.975)
    expected = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    found = kept_within(share, z * math.sqrt(share * (1 - share) / count))
    assert found == pytest.approx((expected.low, expected.high))


def test_far_from_the_ends_it_is_the_t_interval():
    values = [0.501, 0.499, 0.502, 0.498]
    t, score = mean_interval(values), level_interval(values)
    assert (score.low, score.high) == pytest.approx((t.low, t.high), abs=1e-5)
    free = level_interval(values, ANYTHING)
    assert (free.low, free.high) == pytest.approx((t.low, t.high), abs=1e-12)


def test_a_range_with_one_end_cuts_the_t_interval():
    values = [0.01, 0.5, 0.02]
    t = mean_interval(values)
    assert t.low < 0
    assert level_interval(values, (0.0, None)) == Interval(t.mean, 0.0, t.high, 3)
    assert level_interval([-2.0, 0.9, 0.95], (None, 1.0)).high == 1.0


def test_an_estimate_at_an_end_is_cut_there():
    assert kept_within(1.0, 0.25) == (0.75, 1.0)
    assert kept_within(0.0, 0.25) == (0.0, 0.25)


def test_equal_values_have_no_interval():
    assert level_interval([1.0, 1.0, 1.0]) == Interval(1.0, None, None, 3)
    assert level_interval([0.1 + 0.2, 0.3]) == Interval(pytest.approx(0.3), None, None, 2)
    with pytest.raises(ValueError, match="at least one"):
        level_interval([])


def covered(values: np.ndarray, truth: float) -> tuple[float, float]:
    """How often the interval of a row of `values` (studies, seeds) holds the truth, and how often t, cut at 0 and 1."""
    hits = []
    for row in values:
        own, t = level_interval(row), mean_interval(row)
        if own.low is not None:
            hits.append((own.low <= truth <= own.high, max(t.low, 0) <= truth <= min(t.high, 1)))
    return tuple(np.mean(hits, axis=0))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("a", "b"), [(90, 10), (30, 3), (5, 5), (19, 1), (1, 9)])
def test_the_interval_of_shares_over_seeds_holds_the_truth_95_times_in_100(seeds, a, b):
    """1,500 studies; the last two are skewed, with much weight near an end, where t misses more than it may."""
    values = np.random.default_rng([seeds, a, b]).beta(a, b, size=(1500, seeds))
    own, t = covered(values, a / (a + b))
    assert 0.92 <= own <= 0.97
    assert own >= t - 0.01
    if (a, b) == (19, 1) and seeds < 10:
        assert t < 0.92


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("images", [3, 10, 100])
def test_the_interval_of_a_recall_of_few_images_holds_the_truth_where_it_is_given(seeds, images):
    generator = np.random.default_rng([seeds, images])
    recall = generator.binomial(images, generator.beta(18, 2, size=(1500, seeds))) / images
    own, _ = covered(recall, 0.9)
    assert own >= 0.93
