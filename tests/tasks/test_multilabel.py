import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torchvision.transforms import v2

from whymask.errors import WhymaskError
from whymask.tasks import LossConfig, Multilabel, RawLabels
from whymask.tasks.budgets import Budget

TASK = Multilabel(("cat", "dog", "eel"))


def made_up(images: int, classes: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Log odds (N, L) of a middling network, float32, and labels in which classes are of unequal size."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((images, classes)) < generator.uniform(0, 0.7, classes)).astype(np.int64)
    scores = generator.normal(size=(images, classes)) + labels - 0.5
    return (scores.round(0) if ties else scores).astype(np.float32), labels


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 10**6), st.booleans())
def test_equal_to_scikit_learn_over_the_classes_that_define_them(images, classes, seed, ties):
    scores, labels = made_up(images, classes, seed, ties)
    positive, negative = labels.any(axis=0), (labels == 0).any(axis=0)
    expected = {}
    if positive.any():
        columns = np.flatnonzero(positive)
        expected["mean_average_precision"] = np.mean(
            [average_precision_score(labels[:, c], scores[:, c]) for c in columns]
        )
        # with a single column scikit-learn would also average over "not of the class"
        expected["macro_f1"] = np.mean([f1_score(labels[:, c], scores[:, c] > 0, zero_division=0) for c in columns])
        if len(columns) == classes:
            assert expected["macro_f1"] == pytest.approx(f1_score(labels, scores > 0, average="macro", zero_division=0))
    if (positive & negative).any():
        columns = np.flatnonzero(positive & negative)
        expected["macro_auroc"] = np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in columns])
    if labels.any() or (scores > 0).any():
        expected["micro_f1"] = f1_score(labels, scores > 0, average="micro", zero_division=0)
    assert TASK.metrics(scores, labels) == pytest.approx(expected)
    each = TASK.per_name(scores, labels)
    assert [value is not None for value in each] == positive.tolist()
    known = [value for value in each if value is not None]
    if known:
        assert np.mean(known) == pytest.approx(expected["mean_average_precision"])


def test_a_guess_has_the_metrics_of_chance():
    _, labels = made_up(4000, 3, 1)
    chance = TASK.chance(labels[:2000], labels[2000:])
    assert chance["macro_auroc"] == pytest.approx(0.5)
    assert chance["mean_average_precision"] == pytest.approx(labels[2000:].mean())


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2), int), "test set is not empty"),
        (np.zeros((2, 2)), np.zeros((2, 3), int), "shape"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), int), "NaN"),
    ],
)
def test_bad_input_is_refused(scores, labels, message):
    with pytest.raises(WhymaskError, match=message):
        TASK.metrics(scores, labels)


def test_metrics_have_titles_and_are_all_better_when_higher():
    scores, labels = made_up(50, 3, 0)
    for metric in TASK.metrics(scores, labels):
        assert TASK.describe(metric).higher_is_better and TASK.describe(metric).title
    with pytest.raises(WhymaskError, match="mean_average_precision"):
        TASK.describe("accuracy")


# labels


@pytest.mark.parametrize(
    "values",
    [
        ["cat|eel", "", " dog ", "|"],
        [["cat", "eel"], None, ["dog"], []],
        [("eel", "cat", "cat"), None, ("dog",), ()],
    ],
)
def test_texts_and_lists(values):
    task, labels = Multilabel.encode(RawLabels(values), "x")
    assert task == TASK
    assert labels.tolist() == [[1, 0, 1], [-1, -1, -1], [0, 1, 0], [0, 0, 0]]
    assert task.labelled(labels).tolist() == [True, False, True, True]
    assert task.counts(labels[[0, 2, 3]]) == [1, 1, 1]


def test_numbers_are_named_and_in_their_order():
    task, labels = Multilabel.encode(RawLabels([[10, 2], [2], [-1]]), "x")
    assert task.names == ("2", "10") and labels.tolist() == [[1, 1], [1, 0], [-1, -1]]
    named, same = Multilabel.encode(RawLabels([[2, 0], [0]], names=("a", "b", "c")), "x")
    assert named.names == ("a", "c") and same.tolist() == [[1, 1], [1, 0]]
    assert Multilabel.encode(RawLabels(["3;20", "3"], separator=";"), "x")[0].names == ("3", "20")


def test_a_matrix_has_its_columns_names_and_keeps_classes_that_do_not_occur():
    values = np.array([[1, 0, 0], [np.nan] * 3, [0, 0, 1], [-1, -1, -1]])
    task, labels = Multilabel.encode(RawLabels(values, names=("cat", "dog", "eel")), "x")
    assert task == TASK and labels.tolist() == [[1, 0, 0], [-1] * 3, [0, 0, 1], [-1] * 3]
    assert Multilabel.encode(RawLabels(values), "x")[0].names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, 2.0]]), "labels hold 2; 0 or 1"),
        (np.array([[0.0, 1.0], [1.0, np.nan]]), "1 images, number 1 for one, have labels for some classes only"),
        ([[0.5, 1.0]], "--task regression"),
    ],
)
def test_what_are_no_classes(values, message):
    with pytest.raises(WhymaskError, match=message):
        Multilabel.encode(RawLabels(values), "x")


def test_there_is_something_to_learn_where_one_class_varies():
    TASK.check(np.array([[1, 1, 0], [1, 0, 0]]), "x")
    with pytest.raises(WhymaskError, match="no class that some labelled images show and others do not: cat, dog, eel"):
        TASK.check(np.array([[1, 1, 0], [1, 1, 0]]), "x")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6))
def test_a_budget_of_as_many_images_as_classes_shows_each_class(images, classes, seed):
    _, labels = made_up(images, classes, seed)
    task = Multilabel(tuple("abcdef"[:classes]))
    drawn = task.draw(labels, np.arange(images), Budget("count", min(classes, images)), seed)
    assert (labels[drawn].any(axis=0) == labels.any(axis=0)).all() or images < classes
    assert len(drawn) == min(classes, images)


def test_a_budget_is_a_random_sample_where_that_shows_each_class():
    """Over many seeds, images with a rarer class are drawn as often as others."""
    labels = np.tile([[1, 0], [1, 1]], (50, 1))
    task = Multilabel(("common", "rarer"))
    drawn = [task.draw(labels, np.arange(100), Budget("count", 50), seed) for seed in range(200)]
    assert np.mean([labels[rows, 1].mean() for rows in drawn]) == pytest.approx(0.5, abs=0.012)


# training


def test_the_loss_is_binary_cross_entropy_also_of_mixed_labels():
    outputs = torch.randn(4, 3, generator=torch.manual_seed(0))
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    objective = TASK.objective(labels.numpy(), LossConfig())
    assert objective(outputs, labels) == F.binary_cross_entropy_with_logits(outputs, labels.float())
    _, mixed = v2.MixUp(alpha=1.0, num_classes=3)(torch.zeros(4, 1, 2, 2), labels)
    assert objective(outputs, mixed) == F.binary_cross_entropy_with_logits(outputs, mixed)


def test_what_predict_writes():
    assert TASK.header == ["classes", "confidences", *(f"probability of {name}" for name in ("cat", "dog", "eel"))]
    shown = TASK.shown(torch.tensor([[1.0, -1.0, 3.0], [-1.0, -1.0, -1.0]])).numpy()
    assert TASK.row(shown[0]) == ["cat|eel", "0.731059|0.952574", "0.731059", "0.268941", "0.952574"]
    assert TASK.row(shown[1])[:2] == ["", ""]
