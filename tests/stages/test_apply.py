"""What `predict` writes of every task, and that neither it nor `embed` asks what the labels of new images are."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whymask
from tiny import bars, runtime
from whymask import FinetuneSettings
from whymask.encoders import EncoderSettings
from whymask.stages.classify import load_classifier
from whymask.stages.settings import FinetuneTrainingSettings

RUNTIME = runtime()
TASKS = ("classification", "multilabel", "regression")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each task; and photos/, a folder of ten images with a CSV of labels that could be two things."""
    root = tmp_path_factory.mktemp("tuned")
    training = FinetuneTrainingSettings(epochs=6, batch_size=16, learning_rate=3e-3)
    settings = FinetuneSettings(encoder=EncoderSettings("cnn", width=8), training=training, runtime=RUNTIME)
    for task in TASKS:
        whymask.finetune(bars(task), out=root / task, settings=settings)
    (root / "photos").mkdir()
    names = [f"{number}.png" for number in range(10)]
    for name, pixels in zip(names, bars("regression")["images"], strict=False):
        Image.fromarray(pixels).save(root / "photos" / name)
    rows = [f"{name},{0.5 + number}" for number, name in enumerate(names)]
    (root / "photos" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return {task: root / task for task in TASKS} | {"photos": root / "photos" / "labels.csv"}


def predicted(run: Path, photos: Path, out: Path) -> tuple[list[dict[str, str]], torch.Tensor]:
    """The rows of the CSV file, and the head's outputs for the same images."""
    whymask.predict(run, photos, out=out, runtime=RUNTIME)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    model, _ = load_classifier(run)
    images = torch.stack([model.encoder.transform(Image.open(row["path"])) for row in rows])
    with torch.inference_mode():
        return rows, model(images)


def test_of_several_classes_each_has_its_probability_and_those_above_half_are_listed(
    tuned: dict[str, Path], tmp_path: Path
) -> None:
    rows, outputs = predicted(tuned["multilabel"], tuned["photos"], tmp_path / "p.csv")
    assert list(rows[0]) == ["path", "classes", *(f"probability of {c}" for c in "012")]
    shares = np.array([[float(row[f"probability of {c}"]) for c in "012"] for row in rows])
    np.testing.assert_allclose(shares, outputs.sigmoid().numpy(), atol=1e-5)
    likely = ["|".join(c for c, share in zip("012", row, strict=True) if share > 0.5) for row in shares]
    assert [row["classes"] for row in rows] == likely and len(set(likely)) > 1


def test_of_numbers_each_target_has_a_column_in_its_unit(tuned: dict[str, Path], tmp_path: Path) -> None:
    rows, outputs = predicted(tuned["regression"], tuned["photos"], tmp_path / "p.csv")
    assert list(rows[0]) == ["path", "target 0", "target 1"]
    values = np.array([[float(row[f"target {number}"]) for number in range(2)] for row in rows])
    np.testing.assert_allclose(values, outputs.numpy(), rtol=1e-4, atol=1e-4)
    data = bars("regression")
    brightness = np.nanmean(data["targets"][:, 0])
    assert abs(values[:, 0].mean() - brightness) < 0.3 * brightness


@pytest.mark.parametrize("task", TASKS)
def test_labels_of_new_images_do_not_matter(task: str, tuned: dict[str, Path], tmp_path: Path) -> None:
    """A CSV of decimals could be classes or amounts, which only training must know."""
    assert len(predicted(tuned[task], tuned["photos"], tmp_path / "p.csv")[0]) == 10
    assert whymask.embed(tuned[task], tuned["photos"], out=tmp_path / "f.parquet", runtime=RUNTIME).exists()
