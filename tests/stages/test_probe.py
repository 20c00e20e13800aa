"""A probe's numbers are those of scikit-learn's own models on the encoder's features, whatever the task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, mean_absolute_error
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors

from tiny import new_encoder
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.encoders import Encoder, EncoderSettings
from whymask.stages.probe import features_of, probe_encoder

K = 5


def spots(count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 16, 16, 1) of up to two bright corners, and which corners are bright, 0 or 1 (count, 2)."""
    generator = np.random.default_rng(0)
    images = generator.normal(60, 20, (count, 16, 16, 1))
    bright = generator.integers(0, 2, (count, 2))
    images[:, :8, :8, 0] += 100 * bright[:, 0, None, None]
    images[:, 8:, 8:, 0] += 100 * bright[:, 1, None, None]
    return images.clip(0, 255).astype(np.uint8), bright


def opened(labels: np.ndarray, task: str, folder: Path) -> tuple[Encoder, Prepared]:
    images, _ = spots()
    settings = DataSettings(task=task, store=folder)  # type: ignore[arg-type]
    return new_encoder(EncoderSettings(width=4), (16, 16)), prepare((images, labels), settings)


def of_probe(encoder: Encoder, prepared: Prepared) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The result; and the features of training and test images, for the linear model to be standardised."""
    result = probe_encoder(encoder, prepared, prepared.train, K, 0)
    return result, *(features_of(encoder, prepared, rows) for rows in (prepared.train, prepared.test))


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, std = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / std, (test - mean) / std


def test_classes_are_told_by_a_vote_and_by_logistic_regression(tmp_path: Path) -> None:
    encoder, prepared = opened(spots()[1][:, 0], "classification", tmp_path)
    result, train, test = of_probe(encoder, prepared)
    truth, seen = (prepared.images.labels[rows] for rows in (prepared.test, prepared.train))
    knn = KNeighborsClassifier(K, metric="cosine", weights="distance").fit(train, seen)
    assert result["knn"]["accuracy"] == knn.score(test, truth)
    train, test = standardised(train, test)
    assert result["linear"]["accuracy"] == LogisticRegression(max_iter=1000).fit(train, seen).score(test, truth)


def test_several_classes_are_told_each_by_itself(tmp_path: Path) -> None:
    encoder, prepared = opened(spots()[1], "multilabel", tmp_path)
    result, train, test = of_probe(encoder, prepared)
    truth, seen = (prepared.images.labels[rows] for rows in (prepared.test, prepared.train))
    votes, odds = [], []
    for c in range(2):
        knn = KNeighborsClassifier(K, metric="cosine", weights="distance").fit(train, seen[:, c])
        votes.append(average_precision_score(truth[:, c], knn.predict_proba(test)[:, 1]))
        ours, theirs = standardised(train, test)
        model = LogisticRegression(max_iter=1000).fit(ours, seen[:, c])
        odds.append(average_precision_score(truth[:, c], model.decision_function(theirs)))
    assert result["knn"]["mean_average_precision"] == pytest.approx(np.mean(votes))
    assert result["linear"]["mean_average_precision"] == pytest.approx(np.mean(odds))
    assert result["knn"]["mean_average_precision"] > 0.8


def test_shares_of_neighbours_are_weighted_by_their_nearness() -> None:
    from whymask.tasks import Multilabel

    generator = np.random.default_rng(1)
    train, test, labels = generator.normal(size=(30, 4)), generator.normal(size=(6, 4)), np.eye(3, dtype=int)[:, :2]
    found = Multilabel(("a", "b")).nearest(train, np.tile(labels, (10, 1)), test, K)
    distances, places = NearestNeighbors(n_neighbors=K, metric="cosine").fit(train).kneighbors(test)
    weights = 1 / distances / (1 / distances).sum(axis=1, keepdims=True)
    shares = (weights[..., None] * labels[places % 3]).sum(axis=1)
    assert expit(found) == pytest.approx((shares + 1e-3) / (1 + 2e-3))


def test_a_class_that_does_not_vary_is_predicted_as_it_is() -> None:
    from whymask.tasks import Multilabel

    generator = np.random.default_rng(2)
    train, test = generator.normal(size=(20, 4)), generator.normal(size=(6, 4))
    labels = np.stack([np.ones(20, int), np.zeros(20, int), (train[:, 0] > 0).astype(int)], axis=1)
    found = Multilabel(("always", "never", "some")).linear(train, labels, test)
    assert found[:, 0] == pytest.approx(logit(1.001 / 1.002)) and found[:, 1] == pytest.approx(-found[:, 0])
    assert ((found[:, 2] > 0) == (test[:, 0] > 0)).mean() >= 5 / 6


@pytest.mark.parametrize("targets", [1, 2])
def test_numbers_are_told_by_a_mean_and_by_ridge_regression_of_standardised_targets(
    targets: int, tmp_path: Path
) -> None:
    amounts = spots()[1][:, :targets] * [30.0, 2.5][:targets] + np.linspace(0, 1, 80)[:, None]
    encoder, prepared = opened(amounts, "regression", tmp_path)
    result, train, test = of_probe(encoder, prepared)
    truth, seen = (prepared.images.labels[rows] for rows in (prepared.test, prepared.train))
    knn = KNeighborsRegressor(K, metric="cosine", weights="distance").fit(train, seen)
    assert result["knn"]["mean_absolute_error"] == pytest.approx(mean_absolute_error(truth, knn.predict(test)))
    train, test = standardised(train.astype(float), test.astype(float))
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    found = Ridge(alpha=1.0).fit(train, (seen - mean) / std).predict(test).reshape(truth.shape) * std + mean
    assert result["linear"]["mean_absolute_error"] == pytest.approx(mean_absolute_error(truth, found), rel=1e-3)
