"""A network trained on labels of every task: what it learns, what is kept of it, and what its settings may be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import bars, runtime
from whymask import FinetuneSettings, finetune
from whymask.data.batches import Batches, in_order
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, resolve
from whymask.errors import WhymaskError
from whymask.later import recorded
from whymask.stages.classify import FEWEST_VALIDATED, loss_of
from whymask.stages.network import load_classifier, load_network
from whymask.stages.recipes import RECIPES, resolve_finetuning
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.tasks import TASKS
from whymask.tasks.multilabel import BinaryCrossEntropy
from whymask.training.loop import VALIDATIONS

CNN = EncoderSettings("cnn", width=8)
EVERY = pytest.mark.parametrize("task", [task for task in TASKS if task != "detection"])


def trained(task: str, out: Path, **asked: Any) -> dict[str, Any]:
    training = FinetuneTrainingSettings(**{"epochs": 3, "batch_size": 8} | asked)
    return finetune(bars(task), out=out, settings=FinetuneSettings(encoder=CNN, training=training, runtime=runtime()))


def prepared_of(task: str) -> Prepared:
    return prepare(bars(task), DataSettings())


@EVERY
@pytest.mark.parametrize("train", ["all", "head"])
def test_what_is_kept_is_what_was_tested(task: str, train: Any, tmp_path: Path) -> None:
    """The network that is read back gives the predictions that were tested, and beats one that looks at no image."""
    result = trained(task, tmp_path / "run", train=train, epochs=12, learning_rate=3e-3)
    prepared = prepared_of(task)
    model, read = load_network(tmp_path / "run")
    assert read == prepared.task and read_json(tmp_path / "run/head.json")["task"] == task
    stored = np.load(tmp_path / "run/predictions.npz")
    batch = next(in_order(prepared.images, stored["rows"], 1000, targets=read.targets))
    with torch.inference_mode():
        outputs = read.kept(model(batch.images), batch.labels)
    np.testing.assert_allclose(outputs.numpy(), stored[read.kept_as], rtol=1e-3, atol=1e-3)
    assert result["metrics"] == read.metrics(stored[read.kept_as], stored["labels"])
    labels = prepared.images.labels
    metric = read.default_metric
    gain = result["metrics"][metric] - read.chance(labels[prepared.train], stored["labels"])[metric]
    assert gain > 0 if read.describe(metric).higher_is_better else gain < 0


def test_bins_stand_beside_the_squared_error_and_are_no_output_of_the_kept_head(tmp_path: Path) -> None:
    trained("regression", tmp_path / "run", bins=5)
    model, task = load_classifier(tmp_path / "run")
    assert model.head.out_features == len(task.names) == 2
    assert read_json(tmp_path / "run/head.json")["bins"] == 5
    assert read_json(tmp_path / "run/config.json")["config"]["training"]["bins"] == 5


def test_balanced_class_weights_and_a_balanced_sampler_are_told_and_change_what_is_learnt(tmp_path: Path) -> None:
    trained("classification", tmp_path / "plain")
    weighted = trained("classification", tmp_path / "weighted", class_weights="balanced")
    sampled = trained("classification", tmp_path / "sampled", sampler="balanced")
    assert weighted["training"]["class_weights"] == sampled["training"]["sampler"] == "balanced"
    labels = prepared_of("classification").images.labels
    counts = np.bincount(labels[labels >= 0])
    weights = read_json(tmp_path / "weighted/head.json")["class_weights"]
    assert (weights[0] > 1 > weights[1]) == bool(counts[0] < counts[1])
    heads = {(tmp_path / name / "head.safetensors").read_bytes() for name in ("plain", "weighted", "sampled")}
    assert len(heads) == 3


def test_batches_follow_another_order_where_one_is_given() -> None:
    prepared = prepared_of("classification")
    rows = prepared.train[:6]
    batches = Batches(
        prepared.images, rows, batch_size=3, seed=0, augment=None, order=lambda epoch: np.repeat(rows[epoch], 6)
    )
    assert [batches(step).rows.tolist() for step in (0, 1, 2)] == [[rows[0]] * 3, [rows[0]] * 3, [rows[1]] * 3]


def test_mixing_mixes_the_labels_of_several_classes() -> None:
    prepared = prepared_of("multilabel")
    batch = Batches(prepared.images, prepared.train, batch_size=8, seed=0, augment=None)(0)
    seen: list[torch.Tensor] = []

    class Spy(BinaryCrossEntropy):
        def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            seen.append(targets)
            return super().forward(outputs, targets)

    loss = loss_of(FinetuneTrainingSettings(mixup=1.0), Spy(3))  # type: ignore[arg-type]
    torch.manual_seed(0)
    value = loss(lambda images: images.mean((2, 3)).expand(-1, 3), batch, 0)["loss"]  # type: ignore[arg-type]
    (mixed,) = seen
    assert torch.isfinite(value) and ((mixed > 0) & (mixed < 1)).any()
    labels = batch.labels.float()
    assert ((mixed - labels) * (mixed - labels.roll(1, 0)) <= 0).all()  # MixUp pairs an image with the one before it


@pytest.mark.parametrize(
    ("task", "setting"),
    [
        ("multilabel", {"class_weights": "balanced"}),
        ("multilabel", {"sampler": "balanced"}),
        ("multilabel", {"label_smoothing": 0.1}),
        ("regression", {"mixup": 0.8}),
        ("regression", {"cutmix": 1.0}),
        ("classification", {"bins": 4}),
    ],
)
def test_what_a_task_does_not_take_is_refused(task: str, setting: dict[str, Any]) -> None:
    prepared = prepared_of(task)
    with pytest.raises(WhymaskError, match=f"{next(iter(setting))} .* was given; {task} has no such setting"):
        resolve_finetuning(FinetuneTrainingSettings(**setting), 50, prepared, resolve(CNN, (16, 16), 1))


@EVERY
def test_a_recipe_leaves_out_what_the_task_does_not_take(task: str) -> None:
    prepared = prepared_of(task)
    asked = FinetuneTrainingSettings(recipe="many", mixup=None if "mixup" in TASKS[task].takes else 0.0)
    resolved = resolve_finetuning(asked, 50, prepared, resolve(CNN, (16, 16), 1))
    for name in ("label_smoothing", "mixup", "cutmix"):
        assert getattr(resolved, name) == (RECIPES["many"][name] if name in TASKS[task].takes else 0)


@pytest.mark.parametrize(
    "setting", [{"class_weights": "balanced", "sampler": "balanced"}, {"bins": 1}, {"bins": -1}], ids=str
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(WhymaskError, match="given"):
        FinetuneTrainingSettings(**setting)


def test_a_setting_of_a_later_version_is_told_once_it_is_set() -> None:
    assert {"class_weights", "sampler", "bins"}.isdisjoint(recorded(FinetuneTrainingSettings()))
    assert recorded(FinetuneTrainingSettings(bins=4))["bins"] == 4
    assert {"task", "label_columns", "label_separator"}.isdisjoint(recorded(DataSettings()))
    assert recorded(DataSettings(task="multilabel"))["task"] == "multilabel"


def test_validation_along_the_way_changes_no_bit_and_ends_at_what_the_network_then_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("classification", tmp_path / "watched", epochs=40)
    lines = [json.loads(line) for line in (tmp_path / "watched/metrics.jsonl").read_text().splitlines()]
    validated = [line for line in lines if "validation" in line]
    steps = max(line["step"] for line in lines)
    assert [line["step"] for line in validated] == [-(-steps * part // VALIDATIONS) for part in range(1, 11)]
    assert all(line["validation"]["images"] >= FEWEST_VALIDATED for line in validated)
    last = read_json(tmp_path / "watched/result.json")
    tested = len(np.load(tmp_path / "watched/predictions.npz")["labels"])
    assert validated[-1]["validation"] == last["metrics"] | {"images": tested}

    monkeypatch.setattr("whymask.stages.classify.FEWEST_VALIDATED", 10**9)
    trained("classification", tmp_path / "unwatched", epochs=40)
    assert "validation" not in (tmp_path / "unwatched/metrics.jsonl").read_text()
    for name in ("encoder/encoder.safetensors", "head.safetensors"):
        assert (tmp_path / "watched" / name).read_bytes() == (tmp_path / "unwatched" / name).read_bytes()
