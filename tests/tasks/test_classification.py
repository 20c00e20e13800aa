import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from whymask.errors import WhymaskError
from whymask.tasks import Classification, LossConfig, RawLabels
from whymask.tasks.classification import METRICS

TASK = Classification()
describe, metrics, confusion, per_class_recall = TASK.describe, TASK.metrics, TASK.confusion, TASK.per_name


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities of a poor classifier of the digits, and the true labels; classes are unbalanced."""
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(images[:60], labels[:60])
    keep = (labels > 2) | (np.arange(len(labels)) % 3 == 0)
    return model.predict_log_proba(images[keep]), labels[keep]


def test_equal_to_scikit_learn(predictions):
    log_probabilities, labels = predictions
    probabilities, predicted = np.exp(log_probabilities), log_probabilities.argmax(axis=1)
    assert metrics(log_probabilities, labels) == pytest.approx(
        {
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, average="macro"),
            "auroc": roc_auc_score(labels, probabilities, multi_class="ovr"),
            "log_loss": log_loss(labels, probabilities),
        }
    )


def test_binary_auroc_is_the_usual_one():
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=200)
    logits = generator.normal(size=(200, 2)) + 0.5 * np.eye(2)[labels]
    values = metrics(log_softmax(logits, axis=1), labels)
    assert values["auroc"] == pytest.approx(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))


def test_auroc_ranks_confident_float32_predictions():
    """With these logits float32 gives a log probability of exactly 0 to every image's own class."""
    logits = np.array([[40.0, 0], [30.0, 0], [20.0, 0]], dtype=np.float32)
    log_probabilities = log_softmax(logits, axis=1)
    assert (log_probabilities[:, 0] == 0).all()
    assert metrics(log_probabilities, np.array([0, 0, 1]))["auroc"] == 1.0


def test_each_tag_has_its_accuracy(predictions):
    log_probabilities, labels = predictions
    tags = np.where(np.arange(len(labels)) % 2, "multi_view", "single_view")
    tags[:10] = ""
    values = metrics(log_probabilities, labels, tags)
    correct = log_probabilities.argmax(axis=1) == labels
    assert {name for name in values if "/" in name} == {"accuracy/multi_view", "accuracy/single_view"}
    assert values["accuracy/single_view"] == correct[10:][tags[10:] == "single_view"].mean()


def test_classes_without_test_images_take_no_part():
    log_probabilities = np.log(np.array([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7], [0.2, 0.5, 0.3]]))
    labels = np.array([0, 2, 0])  # class 1 has no image, but is predicted once
    values = metrics(log_probabilities, labels)
    assert values["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert per_class_recall(log_probabilities, labels) == [0.5, None, 1.0]
    assert confusion(log_probabilities, labels).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_what_is_undefined_is_left_out():
    with np.errstate(divide="ignore"):
        values = metrics(np.log(np.array([[1.0, 0.0], [0.3, 0.7]])), np.array([1, 1]))
    assert set(values) == {"accuracy", "balanced_accuracy", "macro_f1"}  # one class: no AUROC; log 0: no log loss


def test_infinite_log_odds_do_not_end_auroc():
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(np.array([[1.0, 0.0], [0.3, 0.7]]))
    assert metrics(log_probabilities, np.array([0, 1]))["auroc"] == 1.0


@pytest.mark.parametrize(
    ("log_probabilities", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "test set is not empty"),
        (np.zeros((2, 2)), np.zeros(3, dtype=int), "shape"),
        (np.zeros((2, 2)), np.array([0, -1]), "labels run from -1"),
        (np.zeros((2, 2)), np.array([0, 2]), "labels run from 0 to 2"),
        (np.full((2, 2), np.nan), np.array([0, 1]), "NaN"),
    ],
)
def test_bad_input_is_refused(log_probabilities, labels, message):
    with pytest.raises(WhymaskError, match=message):
        metrics(log_probabilities, labels)


def test_titles_and_directions():
    assert describe("accuracy/single_view").title == "single-view accuracy"
    assert {name for name in METRICS if not describe(name).higher_is_better} == {"log_loss"}
    for unknown in ("acuracy", "accuracy/", "auroc/single_view"):
        with pytest.raises(WhymaskError, match="balanced_accuracy"):
            describe(unknown)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_predictions_give_json_and_stay_in_range(classes, images, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    log_probabilities = log_softmax(10 * generator.normal(size=(images, classes)).astype(np.float32), axis=1)
    values = metrics(log_probabilities, labels)
    json.dumps(values, allow_nan=False)
    assert all(0 <= value <= 1 for name, value in values.items() if name != "log_loss")
    assert values["log_loss"] >= 0
    recalls = [recall for recall in per_class_recall(log_probabilities, labels) if recall is not None]
    assert np.mean(recalls) == pytest.approx(values["balanced_accuracy"])
    assert confusion(log_probabilities, labels).trace() / images == pytest.approx(values["accuracy"])


def test_labels_are_numbered_in_order_of_their_names():
    def encoded(values, nothing=()):
        task, labels = Classification.encode(RawLabels(values, nothing=nothing), "x")
        return task.names, labels.tolist()

    assert encoded(["dog", "", "ant", None, "dog"]) == (("ant", "dog"), [1, -1, 0, -1, 1])
    assert encoded(["10", "9", "-1", ""]) == (("-1", "9", "10"), [2, 1, 0, -1])
    assert encoded(np.array([3.0, np.nan, 7.0, -1.0])) == (("-1", "3", "7"), [1, -1, 2, 0])
    assert encoded(np.array([3.0, np.nan, 7.0, -1.0]), nothing=(-1,)) == (("3", "7"), [0, -1, 1, -1])
    assert encoded(np.array([0.5, np.nan, 1.25])) == (("0.5", "1.25"), [0, -1, 1])  # asked for, or it would not be here


def test_the_loss_is_cross_entropy_of_smoothed_weighted_and_mixed_labels():
    outputs, labels = torch.randn(4, 2, generator=torch.manual_seed(0)), torch.tensor([0, 1, 1, 1])
    plain = Classification(("a", "b")).objective(labels.numpy(), LossConfig(label_smoothing=0.1))
    assert plain(outputs, labels) == F.cross_entropy(outputs, labels, label_smoothing=0.1)
    assert plain.width == 2 and plain.about() == {} and plain.read(outputs) is outputs
    weighted = Classification(("a", "b")).objective(labels.numpy(), LossConfig(class_weights="balanced"))
    weights = torch.tensor([2.0, 2 / 3])
    assert weighted(outputs, labels) == pytest.approx(F.cross_entropy(outputs, labels, weights).item())
    mixed = 0.7 * F.one_hot(labels, 2) + 0.3 * F.one_hot(labels.roll(1), 2)
    assert weighted(outputs, mixed) == pytest.approx(F.cross_entropy(outputs, mixed, weights).item())
    assert weighted.about()["class_weights"] == pytest.approx([2.0, 2 / 3])


def test_what_predict_writes():
    task = Classification(("cat", "dog"))
    assert task.header == ["class", "confidence", "probability of cat", "probability of dog"]
    shown = task.shown(torch.tensor([[0.0, 1.0]]))[0].numpy()
    assert task.row(shown) == ["dog", "0.731059", "0.268941", "0.731059"]
