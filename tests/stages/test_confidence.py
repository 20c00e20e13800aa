"""A classifier's confidence: calibrated it is a frequency, and what is marked unsure is what was wrong too often."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

import whymask
from tiny import bars, runtime
from whymask import FinetuneSettings, WhymaskError
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings
from whymask.stages.confidence import ENOUGH, Confidence, confidence_of, measured, temperature_of
from whymask.stages.network import load_classifier
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.tasks import Classification, Regression

CLASSES = 4


def drawn(images: int, seed: int, boldness: float, clearness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities (n, 4) of a network that is `boldness` times as bold as it should be, and labels (n,)."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, CLASSES)) * clearness
    labels = np.array([random.choice(CLASSES, p=p) for p in softmax(logits, axis=1)])
    return log_softmax(boldness * logits, axis=1).astype(np.float32), labels


@pytest.mark.parametrize("boldness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_how_bold_a_network_is(boldness: float) -> None:
    assert temperature_of(*drawn(4000, 0, boldness)) == pytest.approx(boldness, rel=0.08)


def test_calibrated_confidence_is_the_share_that_is_right() -> None:
    predictions, labels = drawn(4000, 1, 3.0)
    temperature = measured(predictions, labels, 0.9).temperature
    fresh, truth = drawn(8000, 2, 3.0)
    confidence = softmax(fresh / temperature, axis=1).max(axis=1)
    right = fresh.argmax(axis=1) == truth
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0)):
        here = (confidence > low) & (confidence <= high)
        assert abs(confidence[here].mean() - right[here].mean()) < 0.05
    raw = softmax(fresh, axis=1).max(axis=1)
    assert raw.mean() - right.mean() > 0.1 > abs(confidence.mean() - right.mean())


@pytest.mark.parametrize("images", [60, 300])
@pytest.mark.parametrize("asked", [0.8, 0.9])
def test_new_images_that_are_not_marked_are_right_as_often_as_asked(images: int, asked: float) -> None:
    """On average over 100 test sets, where there is a threshold."""
    fresh, truth = drawn(4000, 999, 2.0)
    right = fresh.argmax(axis=1) == truth
    shares = []
    for seed in range(100):
        known = measured(*drawn(images, seed, 2.0), asked)
        sure = softmax(fresh / known.temperature, axis=1).max(axis=1) >= (known.threshold or np.inf)
        if sure.any():
            shares.append(right[sure].mean())
    assert len(shares) > 80 and np.mean(shares) > asked - 0.01


def test_what_it_rests_on_is_counted_and_said() -> None:
    predictions, labels = drawn(200, 3, 2.0)
    known = measured(predictions, labels, 0.9)
    assert known.threshold is not None and 0 < known.right <= known.above <= known.images == 200
    assert known.above - known.right + 1 <= 0.1 * (known.above + 1)
    text = known.text()
    assert "calibrated on the 200 test images" in text and f"{known.right} of {known.above} were right" in text
    assert "95 % " in text and "no interval" in known.text(grouped=True)
    assert known.is_unsure(known.threshold - 1e-6) and not known.is_unsure(known.threshold)


def test_of_a_network_that_guesses_every_image_is_marked_and_of_a_perfect_one_few() -> None:
    labels = np.random.default_rng(0).integers(CLASSES, size=400)
    guesses = log_softmax(np.random.default_rng(1).normal(size=(400, CLASSES)), axis=1)
    known = measured(guesses, labels, 0.9)
    assert (
        known.threshold is None
        and known.is_unsure(1.0)
        and known.text().endswith(
            "there is no confidence above which 0.9 of them were right, so every image is marked unsure"
        )
    )
    perfect = log_softmax(5.0 * np.eye(CLASSES)[labels] + np.random.default_rng(2).normal(size=(400, CLASSES)), axis=1)
    known = measured(perfect, labels, 0.9)
    assert known.above >= 390 and 0.05 < known.temperature < 2


def test_classes_that_are_all_equally_likely_have_no_threshold_within_a_tie() -> None:
    labels = np.repeat([0, 1], 50)
    known = measured(np.log(np.full((100, 2), 0.5)), labels, 0.9)
    assert known.threshold is None


@pytest.mark.parametrize("images", [0, ENOUGH - 1, ENOUGH])
def test_few_test_images_calibrate_nothing_and_that_is_said(images: int, tmp_path: Path) -> None:
    predictions, labels = drawn(max(images, 1), 4, 2.0)
    if images:
        np.savez(tmp_path / "predictions.npz", log_probabilities=predictions, labels=labels)
    found = confidence_of(tmp_path, Classification(tuple("abcd")), 0.9)
    if images >= ENOUGH:
        assert isinstance(found, Confidence)
    else:
        assert isinstance(found, str) and f"needs {ENOUGH} test images, and it has {images}" in found


def test_numbers_have_no_confidence_and_a_share_is_one(tmp_path: Path) -> None:
    assert confidence_of(tmp_path, Regression(("age",)), 0.9) is None
    for asked in (0.0, 1.0, 90.0):
        with pytest.raises(WhymaskError, match="share of right images between 0 and 1"):
            confidence_of(tmp_path, Classification(("a", "b")), asked)


def test_predict_writes_calibrated_probabilities_and_marks_what_is_unsure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = bars("classification"), tmp_path / "run"
    training = FinetuneTrainingSettings(epochs=6, batch_size=16, learning_rate=3e-3)
    settings = FinetuneSettings(
        encoder=EncoderSettings("cnn", width=8), data=DataSettings(test_share=0.4), training=training, runtime=runtime()
    )
    whymask.finetune(data, out=run, settings=settings)
    model, task = load_classifier(run)
    images = torch.stack([model.encoder.transform(image) for image in data["images"][:60]])
    with torch.inference_mode():
        logits = model(images)
    for asked in (0.6, 0.9):
        capsys.readouterr()
        out, photos = tmp_path / "p.csv", {"images": data["images"][:60]}
        whymask.predict(run, photos, out=out, confidence=asked, runtime=runtime())
        said = capsys.readouterr().err
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        known = confidence_of(run, task, asked)
        assert isinstance(known, Confidence) and known.images == 72 and known.text() in said
        assert list(rows[0])[:4] == ["path", "class", "confidence", "unsure"]
        expected = (logits / known.temperature).softmax(dim=1).numpy()
        shares = np.array([[float(row[f"probability of {name}"]) for name in task.names] for row in rows])
        np.testing.assert_allclose(shares, expected, atol=1e-5)
        marked = [known.is_unsure(float(row.max())) for row in expected]
        assert [row["unsure"] for row in rows] == ["yes" if mark else "" for mark in marked]
        assert f"{sum(marked)} of 60 images are marked unsure" in said
        assert asked == 0.9 or not all(marked)
