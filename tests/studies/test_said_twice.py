"""Numbers that are said in two places are the same number."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import facts_of, table_of, words_of
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.store import ImageSet
from whymask.report.text import count, number, signed


@pytest.fixture(scope="module")
def study(finished: Path) -> dict[str, Any]:
    return json.loads((finished / "study.json").read_text())


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return (finished / "report.html").read_text()


def repeated() -> tuple[Prepared, list[str]]:
    """Images of two classes, some unlabelled, of which three equal test images; and what was said of them."""
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    labels = np.where(np.arange(60) % 6 > 3, -1, np.arange(60) % 2)
    images[:3] = images[50:53]
    labels[50:] = np.arange(10) % 2
    arrays = {"x_train": images[:50], "y_train": labels[:50], "x_test": images[50:], "y_test": labels[50:]}
    said: list[str] = []
    return prepare(arrays, DataSettings(), say=said.append), said


def used(images: ImageSet, rows: np.ndarray) -> int:
    return int(images.labelled[rows].sum())


def test_every_image_is_in_one_place() -> None:
    prepared, said = repeated()
    about = prepared.describe()
    assert about["duplicates"] == 3
    assert about["images"] == about["pool"] + about["test"] + about["duplicates"]
    assert about["train"] == used(prepared.images, prepared.pool)  # what is labelled in the pool
    assert about["labelled"] > about["train"] + about["test"]  # copies of test images are labelled too
    assert about["train"] == sum(about["train_counts"]) and about["test"] == sum(about["test_counts"])
    assert said[1].startswith(f"{about['labelled']} of them labelled")
    assert f"{about['train']} labelled images to train on, {about['test']} to test on" in said
    assert any(line.startswith(f"{about['duplicates']} images equal a test image") for line in said)


def test_labelled_images_for_training_are_those_of_the_table_beside_it(study: dict[str, Any], page: str) -> None:
    facts, rows = facts_of(page), table_of(page, "Images of each class")
    train, test = (sum(int(row[column].split(">")[-1].replace(",", "")) for row in rows) for column in (1, 2))
    assert facts["labelled images for training"] == count(train)
    assert facts["test images"] == count(test)
    assert facts["classes"] == count(len(rows))
    assert train < study["data"]["labelled"]


def test_the_page_and_study_json_say_the_same_of_the_data(study: dict[str, Any], page: str) -> None:
    facts, data = facts_of(page), study["data"]
    assert facts["images that could be used"] == count(data["images"])
    assert facts["images in pretraining"] == count(data["pool"])
    assert facts["images left out: they equal a test image"] == count(data["duplicates"])


def test_a_confusion_counts_the_test_images(study: dict[str, Any]) -> None:
    for row in study["confusion"]:
        assert np.sum(row["counts"], axis=1) == pytest.approx(study["data"]["test_counts"], abs=0.05)


def test_levels_and_recalls_are_the_means_of_the_cells(study: dict[str, Any]) -> None:
    assert study["levels"]
    for row in study["levels"]:
        here = [c for c in study["cells"] if all(c[key] == row[key] for key in ("arm", "labels_per_class"))]
        assert len(here) == row["seeds"]
        assert row["mean"] == pytest.approx(np.mean([cell["metrics"][row["metric"]] for cell in here]))
        recalls = [r["recall"] for r in study["per_class"] if all(r[k] == row[k] for k in ("arm", "labels_per_class"))]
        if row["metric"] == "balanced_accuracy" and recalls:
            assert row["mean"] == pytest.approx(np.mean(recalls))


def test_differences_are_those_of_the_levels(study: dict[str, Any]) -> None:
    levels = {(row["arm"], row["labels_per_class"], row["metric"]): row["mean"] for row in study["levels"]}
    assert study["pairs"]
    for row in study["pairs"]:
        ours, theirs = (levels[arm, row["labels_per_class"], row["metric"]] for arm in (row["arm"], row["baseline"]))
        assert row["difference"] == pytest.approx(ours - theirs)


def test_tiles_table_and_verdict_say_the_same_numbers(study: dict[str, Any], page: str) -> None:
    metric, labels = study["verdict"]["metric"], study["verdict"]["labels_per_class"]
    here = [row for row in study["levels"] if (row["metric"], row["labels_per_class"]) == (metric, labels)]
    tiles = [words_of(tile) for tile in page.split('<div class="tile">')[1:]]
    table = [" ".join(row) for row in table_of(page, "Mean and interval of every arm")]
    for row in here:
        assert any(f"{row['arm']} {number(row['mean'])}" in tile for tile in tiles), row
        assert any(row["arm"] in line and number(row["mean"]) in line for line in table), row
    for row in study["pairs"]:
        if (row["metric"], row["labels_per_class"]) == (metric, labels):
            assert any(signed(row["difference"]) in tile for tile in tiles), row
    for text in re.findall(r"\d\.\d{3}(?= from scratch)", study["verdict"]["text"]):
        assert text in {number(row["mean"]) for row in here}


def test_every_interval_of_a_share_lies_where_shares_do(study: dict[str, Any]) -> None:
    levels = [row for row in study["levels"] if row["metric"] != "log_loss"]
    for row, value in [*((row, row["mean"]) for row in levels), *((r, r["recall"]) for r in study["per_class"])]:
        if row["low"] is not None:
            assert 0 <= row["low"] <= value <= row["high"] <= 1, row
    assert any(row["low"] is not None for row in study["levels"])
    loss = [row for row in study["levels"] if row["metric"] == "log_loss" and row["low"] is not None]
    assert all(row["low"] >= 0 for row in loss)


def test_the_axis_of_recalls_is_that_of_shares(finished: Path) -> None:
    for figure in (finished / "figures").glob("recall-*.svg"):
        marks = [mark.replace("\N{MINUS SIGN}", "-") for mark in re.findall(r">([−-]?\d\.\d+)<", figure.read_text())]
        assert marks and all(0 <= float(mark) <= 1 for mark in marks), figure
