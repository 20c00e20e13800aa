"""What `predict` writes of every task, and that neither it nor `embed` asks what the labels of new images are."""

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import whymask
from tiny import GLYPHS, bars, runtime
from whymask import FinetuneSettings, WhymaskError
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.stages.network import load_classifier
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.stages.taken import network_of

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
    assert list(rows[0]) == ["path", "classes", "confidences", *(f"probability of {c}" for c in "012")]
    shares = np.array([[float(row[f"probability of {c}"]) for c in "012"] for row in rows])
    np.testing.assert_allclose(shares, outputs.sigmoid().numpy(), atol=1e-5)
    likely = ["|".join(c for c, share in zip("012", row, strict=True) if share > 0.5) for row in shares]
    assert [row["classes"] for row in rows] == likely and len(set(likely)) > 1
    listed = ["|".join(f"{share:.6f}" for share in row if share > 0.5) for row in shares]
    assert [row["confidences"] for row in rows] == listed


def test_the_confidence_of_a_class_is_its_probability(tuned: dict[str, Path], tmp_path: Path) -> None:
    rows, _ = predicted(tuned["classification"], tuned["photos"], tmp_path / "p.csv")
    assert list(rows[0]) == ["path", "class", "confidence", "probability of 0", "probability of 1"]
    assert all(row["confidence"] == row[f"probability of {row['class']}"] for row in rows)


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
    whymask.embed(tuned[task], tuned["photos"], out=tmp_path / "f.parquet", runtime=RUNTIME)
    assert (tmp_path / "f.parquet").exists()
    with pytest.raises(WhymaskError, match=r"f\.csv: it is written as parquet"):
        whymask.embed(tuned[task], tuned["photos"], out=tmp_path / "f.csv", runtime=RUNTIME)
    with pytest.raises(WhymaskError, match=r"p\.parquet: it is written as csv"):
        whymask.predict(tuned[task], tuned["photos"], out=tmp_path / "p.parquet", runtime=RUNTIME)


def test_a_network_of_tiles_answers_for_each_file_with_their_mean(tuned: dict[str, Path], tmp_path: Path) -> None:
    photos = tuned["photos"].parent
    training = FinetuneTrainingSettings(epochs=1, batch_size=16)
    settings = FinetuneSettings(encoder=EncoderSettings("cnn", width=8), training=training, runtime=RUNTIME)
    whymask.finetune(bars("classification"), out=tmp_path / "r", settings=settings, tile=8, size=8)
    rows, _of_wholes = predicted(tmp_path / "r", photos, tmp_path / "p.csv")
    model, task = load_classifier(tmp_path / "r")
    pixels = np.asarray(Image.open(rows[0]["path"]))
    tiles = [pixels[t : t + 8, u : u + 8] for t in range(0, len(pixels), 8) for u in range(0, len(pixels), 8)]
    with torch.inference_mode():
        mean = task.shown(model(torch.stack([model.encoder.transform(tile) for tile in tiles]))).mean(0)
    assert len(rows) == 10 and "unsure" not in rows[0] and len(tiles) > 1
    columns = [name for name in rows[0] if name.startswith("probability")]
    assert np.allclose([float(rows[0][name]) for name in columns], mean, atol=1e-4)
    features = whymask.embed(tmp_path / "r", photos, out=tmp_path / "e.parquet", runtime=RUNTIME)
    assert len(features) == 10 * len(tiles)


def test_files_and_patterns_are_predicted_and_embedded_as_a_folder_is(
    tuned: dict[str, Path], tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    photos, run = tuned["photos"].parent, tuned["classification"]

    def paths(*given: Any) -> list[str]:
        out = tmp_path / "p.csv"
        assert whymask("predict", run, *given, "--out", out, "--device", "cpu") == 0
        with out.open(newline="") as file:
            return [Path(row["path"]).name for row in csv.DictReader(file)]

    assert paths(photos / "3.png") == ["3.png"]
    assert (
        paths(photos / "[3-5].png") == paths(*(photos / f"{n}.png" for n in (3, 4, 5))) == ["3.png", "4.png", "5.png"]
    )
    assert paths(photos) == paths(photos / "*.png") == [f"{n}.png" for n in range(10)]
    assert whymask("embed", run, photos / "3.png", photos / "[45].png", "--out", tmp_path / "f.parquet") == 0
    assert pq.read_table(tmp_path / "f.parquet").num_rows == 3
    capsys.readouterr()
    for given, message in (
        ([photos / "*.tif"], "matches no file"),
        ([photos / "3.png", photos / "gone.png"], "gone.png: no such file"),
        ([], "DATA was not given"),
    ):
        for command in ("predict", "embed"):
            assert whymask(command, run, *given, "--out", tmp_path / "none") == 2
            assert message in " ".join(capsys.readouterr().err.split())
            assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("task", TASKS)
def test_what_the_network_is_worth_is_said_from_its_runs_records(
    task: str, tuned: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    predicted(tuned[task], tuned["photos"], tmp_path / "p.csv")
    said = capsys.readouterr().err
    result = read_json(tuned[task] / "result.json")
    assert f"trained on {result['labelled_images']} labelled images; on its own test images:\n" in said
    metric, title = {
        "classification": ("balanced_accuracy", "balanced accuracy"),
        "multilabel": ("mean_average_precision", "mean average precision"),
        "regression": ("mean_absolute_error", "mean absolute error"),
    }[task]
    interval = r"(no interval|95 % [\d.]+ to [\d.]+)"
    found = re.search(rf"  {title} ([\d.]+) \((\d+) test images; {interval}; chance ([\d.]+)\)\n", said)
    assert found is not None and float(found[4]) == pytest.approx(result["chance"][metric], abs=0.0051, rel=0.005)
    assert float(found[1]) == pytest.approx(result["metrics"][metric], rel=5e-3)
    assert int(found[2]) == len(np.load(tuned[task] / "predictions.npz")["rows"])
    assert ("\n  accuracy " in said) == (task == "classification")


@pytest.mark.parametrize("task", TASKS)
def test_images_are_counted_by_predicted_class(task: str, tuned: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    rows, _ = predicted(tuned[task], tuned["photos"], tmp_path / "p.csv")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("images by predicted class: ")]
    if task == "regression":
        assert not lines
        return
    written = Counter(
        name for row in rows for name in (row.get("class") or row.get("classes") or "").split("|") if name
    )
    (line,) = lines
    listed = [part.split(": ") for part in line.removeprefix("images by predicted class: ").split(", ")]
    assert {name: int(count) for name, count in listed} == {
        name: written[name] for name in ("01" if task == "classification" else "012")
    }
    counts = [int(count) for _, count in listed]
    assert counts == sorted(counts, reverse=True)


def test_a_network_without_records_is_used_and_that_they_lack_is_said(
    tuned: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(tuned["regression"], tmp_path / "bare")
    (tmp_path / "bare" / "result.json").unlink()
    predicted(tmp_path / "bare", tuned["photos"], tmp_path / "p.csv")
    assert "what it is worth is not known" in capsys.readouterr().err


def test_where_images_come_in_groups_the_records_give_no_interval(
    tuned: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    photos = tuned["photos"].parent
    rows = [f"{photos / f'{n}.png'},{'ab'[n % 2]},{n // 2}" for n in range(10)]
    (tmp_path / "labelled.csv").write_text("\n".join(["path,label,patient", *rows]))
    data, training = DataSettings(group_by="patient"), FinetuneTrainingSettings(epochs=1)
    settings = FinetuneSettings(encoder=EncoderSettings("cnn", width=4), data=data, training=training, runtime=RUNTIME)
    whymask.finetune(tmp_path / "labelled.csv", out=tmp_path / "run", settings=settings)
    capsys.readouterr()
    predicted(tmp_path / "run", tuned["photos"], tmp_path / "p.csv")
    said = capsys.readouterr().err
    assert re.search(r"  accuracy \d.\d{3} \(\d of \d test images in \d groups; no interval; chance \d.\d\d\)\n", said)
    assert "95 %" not in said


def test_swapped_arguments_are_asked_about(tuned: dict[str, Path], tmp_path: Path) -> None:
    for run in (tuned["classification"], str(tuned["classification"])):
        for command in (whymask.predict, whymask.embed, whymask.map_images, partial(whymask.choose, labels=2)):
            with pytest.raises(WhymaskError, match=r"is no run, and the images are one: .*; did you swap them\?"):
                command(tuned["photos"].parent, run)


def test_whymasks_own_runs_are_no_images(tuned: dict[str, Path], finished: Path, tmp_path: Path) -> None:
    for folder in (finished, finished / "cells" / "mae-5-0", tuned["regression"]):
        with pytest.raises(WhymaskError, match=r"whymask's own runs .* give the images that the network is to see"):
            whymask.predict(tuned["classification"], folder, out=tmp_path / "p.csv", runtime=RUNTIME)
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("kind", ["helps", "hurts", "cannot tell"])
@pytest.mark.parametrize("arm", ["mae", "scratch"])
def test_of_a_study_the_arm_with_the_best_mean_is_taken_and_that_is_said(
    arm: str, kind: str, finished: Path, tmp_path: Path, capsys: Any
) -> None:
    study = read_json(finished / "study.json") | {"advice": []}
    study["verdict"]["kind"] = kind
    for row in study["levels"]:
        row |= {"mean": 0.9 if row["arm"] == arm else 0.8, "low": 0.7, "high": 0.95}
    (tmp_path / "study.json").write_text(json.dumps(study))
    for name in (f"{arm}-5-0", "scratch-2-1"):
        shutil.copytree(finished / "cells" / name, tmp_path / "cells" / name)
    assert network_of(tmp_path, None) == tmp_path / "cells" / f"{arm}-5-0"
    said, other = capsys.readouterr().err, {"mae": "scratch", "scratch": "mae"}[arm]
    assert said.startswith(f"the study's verdict is {kind!r}, and it left no final network; {arm}-5-0 is taken, ")
    grounds = f"{arm} single-view accuracy 0.900 (over 2 seeds, 95 % interval 0.700 to 0.950), {other} 0.800"
    assert (
        f"best mean at 5 labels a class: {grounds}; --cell names another, and study --final trains one on all labels\n"
        in said
    )
    assert network_of(tmp_path, "scratch-2-1").name == "scratch-2-1" and not capsys.readouterr().err


@pytest.mark.parametrize(("cell", "says"), [("scratch-long-2-0", True), ("mae-5-0", False), (None, False)])
def test_where_the_study_advises_another_network_that_is_said(
    cell: str | None, says: bool, finished: Path, tmp_path: Path, capsys: Any
) -> None:
    command = "whymask predict 'my runs' IMAGES" + f" --cell {cell}" * (cell is not None)
    study = read_json(finished / "study.json") | {"advice": [{"text": "Do not pretrain.", "command": command}]}
    study["verdict"]["kind"] = "not worth its compute"
    for row in study["levels"]:
        row["mean"] = 0.9 if row["arm"] == "mae" else 0.8
    (tmp_path / "study.json").write_text(json.dumps(study))
    shutil.copytree(finished / "cells" / "mae-5-0", tmp_path / "cells" / "mae-5-0")
    assert network_of(tmp_path).name == "mae-5-0"
    advised = f"the study advises another one: Do not pretrain. --cell {cell}"
    assert (advised in capsys.readouterr().err) == says


def test_a_studys_network_is_said_with_the_studys_metric_and_chance(
    finished: Path, tmp_path: Path, capsys: Any
) -> None:
    whymask.predict(finished, GLYPHS, out=tmp_path / "p.csv", runtime=RUNTIME)
    said = capsys.readouterr().err
    study = read_json(finished / "study.json")
    assert study["verdict"]["metric"] == "accuracy/single_view"
    metrics = read_json(finished / "cells" / "mae-5-0" / "result.json")["metrics"]
    lines = said.partition("trained on 50 labelled images; on its own test images:\n")[2].splitlines()
    assert lines[0] == f"  single-view accuracy {metrics['accuracy/single_view']:.3f} (no interval)"
    share = metrics["accuracy"]
    assert re.fullmatch(rf"  accuracy {share:.3f} \({round(60 * share)} of 60 .*; chance 0.10\)", lines[1])
