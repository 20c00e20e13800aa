import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from whymask.tasks.balance import balanced_order, class_weights

labellings = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(labels=labellings)
def test_weights_equal_scikit_learn(labels):
    weights = class_weights(labels, 5)
    present = np.unique(labels)
    assert weights[present] == pytest.approx(compute_class_weight("balanced", classes=present, y=labels))
    assert weights[labels].sum() == pytest.approx(len(labels))
    assert not np.delete(weights, present).any()


@given(labels=labellings, seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_an_epoch_has_each_class_equally_often(labels, seed, epoch):
    rows = np.arange(len(labels))[::-1]
    order = balanced_order(labels, rows, seed, epoch)
    assert len(order) == len(rows) and np.isin(order, rows).all()
    counts = np.bincount(labels[order], minlength=5)[np.unique(labels)]
    assert np.ptp(counts) <= 1
    for c in np.unique(labels):
        times = np.bincount(order, minlength=len(labels))[labels == c]
        assert np.ptp(times) <= 1, "an image came again before another of its class"
    assert np.array_equal(order, balanced_order(labels, rows, seed, epoch))


def test_epochs_and_seeds_differ():
    labels = np.repeat([0, 1], [90, 10])
    rows = np.arange(100)
    first = balanced_order(labels, rows, 0, 0)
    assert not np.array_equal(first, balanced_order(labels, rows, 0, 1))
    assert not np.array_equal(first, balanced_order(labels, rows, 1, 0))
    seen = {row for epoch in range(20) for row in balanced_order(labels, rows, 0, epoch)}
    assert len(seen) == 100
