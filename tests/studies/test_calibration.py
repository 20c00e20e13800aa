"""The expected calibration error: of confidences whose truth is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from whymask.studies.calibration import calibration, calibration_error


def by_the_formula(confidence: np.ndarray, right: np.ndarray) -> float:
    """Sum over bins (a, a + 0.1] of their share times |accuracy - confidence|."""
    total = 0.0
    for low in np.arange(10) / 10:
        here = (confidence > low) & (confidence <= low + 0.1)
        if here.any():
            total += here.mean() * abs(right[here].mean() - confidence[here].mean())
    return total


def test_it_is_the_papers_formula() -> None:
    random = np.random.default_rng(0)
    confidence, right = random.uniform(0.1, 1, 500), random.random(500) < 0.6
    assert calibration_error(confidence, right) == pytest.approx(by_the_formula(confidence, right))
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, False])) == 0.5


def test_who_is_as_often_right_as_sure_has_none_and_who_is_surer_has_the_difference() -> None:
    random = np.random.default_rng(1)
    confidence = random.uniform(0.5, 0.9, 100_000)
    assert calibration_error(confidence, random.random(100_000) < confidence) < 0.01
    assert calibration_error(confidence, random.random(100_000) < confidence - 0.2) == pytest.approx(0.2, abs=0.01)


def test_a_study_holds_each_arms_error_at_the_verdicts_labels(finished: Path) -> None:
    study = json.loads((finished / "study.json").read_text())
    assert {row["arm"] for row in study["calibration"]} == {"scratch", "scratch-long", "mae"}
    for row in study["calibration"]:
        cells = [np.load(finished / f"cells/{row['arm']}-2-{seed}/predictions.npz") for seed in (0, 1)]
        errors = [
            by_the_formula(np.exp(c["log_probabilities"]).max(1), c["log_probabilities"].argmax(1) == c["labels"])
            for c in cells
        ]
        assert row["error"] == pytest.approx(np.mean(errors), abs=1e-6)
        assert sum(part["count"] for part in row["bins"]) == row["seeds"] * row["images"] == 120
    assert calibration({}, np.array([0])) is None
