"""Training of detection networks: to the same bits after a kill, on whatever images, and however it is computed."""

import copy
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_map
from torchvision.models.detection.anchor_utils import AnchorGenerator

from children import exit_code_of, signal_itself
from tiny import bars, new_encoder, runtime
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings
from whymask.stages.classify import ClassifierJob, classifier_training, predict, train_classifier
from whymask.stages.context import Context
from whymask.stages.recipes import resolve_finetuning
from whymask.stages.settings import FinetuneTrainingSettings, HeadName
from whymask.tasks.coco_matches import taken_apart
from whymask.training import compiling, device
from whymask.training.device import make_fabric, placed

HEADS: tuple[HeadName, ...] = ("fcos", "faster-rcnn")


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(bars("detection"), DataSettings())


def job_of(
    prepared: Prepared, head: HeadName, rows: np.ndarray | None = None, width: int = 4, **asked: Any
) -> ClassifierJob:
    """16 images, 8 a step."""
    prep = prepared.images.preprocessing
    encoder = new_encoder(EncoderSettings("cnn", width=width), prep.size, prep.channels)
    rows = prepared.train[:16] if rows is None else rows
    settings = FinetuneTrainingSettings(**{"epochs": 2, "batch_size": 8, "head": head} | asked)
    return ClassifierJob(
        arm="scratch",
        seed=0,
        budget="all",
        rows=rows,
        test=prepared.test[:8],
        config=encoder.config,
        build=lambda: copy.deepcopy(encoder),
        training=resolve_finetuning(settings, len(rows), prepared, encoder.config),
        augment="none",
    )


def context_of(prepared: Prepared, **asked: Any) -> Context:
    return Context(make_fabric(replace(runtime(), **asked)), prepared, asked.get("compile", "auto"))


def trained(folder: Path, prepared: Prepared, head: HeadName, **asked: Any) -> dict[str, Any]:
    return train_classifier(context_of(prepared), job_of(prepared, head, **asked), folder, "test")


def first_loss(prepared: Prepared, job: ClassifierJob) -> float:
    """Of the first batch, with finite gradients of all weights."""
    training = classifier_training(context_of(prepared), job)
    loss = training.loss_of(training.model.train(), training.batches(0), 0)["loss"]
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in training.model.parameters())
    return float(loss.detach())


def killed(folder: Path, prepared: Prepared, head: HeadName) -> None:
    signal_itself(signal.SIGKILL, 2)
    trained(folder, prepared, head, checkpoint_every=1)


@pytest.mark.parametrize("head", HEADS)
def test_a_run_that_is_killed_ends_with_the_same_bits(head: HeadName, prepared: Prepared, tmp_path: Path) -> None:
    """Also where regions are drawn at random."""
    whole = trained(tmp_path / "whole", prepared, head, checkpoint_every=1)
    assert exit_code_of(killed, tmp_path / "killed", prepared, head) == -signal.SIGKILL
    assert (tmp_path / "killed/checkpoints").exists() and not (tmp_path / "killed/result.json").exists()
    continued = trained(tmp_path / "killed", prepared, head, checkpoint_every=1)
    for name in ("encoder/encoder.safetensors", "head.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for key in ("metrics", "loss", "operations", "images_seen"):
        assert continued[key] == whole[key]


@pytest.mark.parametrize(
    ("head", "asked", "precision"),
    [
        ("fcos", {"accumulate": 2}, "auto"),
        ("faster-rcnn", {"accumulate": 2, "ema": 0.9}, "auto"),
        ("faster-rcnn", {"train": "head"}, "bf16-mixed"),
        ("fcos", {}, "bf16-mixed"),
    ],
)
def test_it_is_trained_however_it_is_computed(
    head: HeadName, asked: dict[str, Any], precision: str, prepared: Prepared, tmp_path: Path
) -> None:
    """In parts, averaged, in 16 bits, and the head alone."""
    job = job_of(prepared, head, epochs=1, **asked)
    result = train_classifier(context_of(prepared, precision=precision), job, tmp_path / "run", "test")
    assert np.isfinite(result["loss"]) and result["steps"] == 2 and result["operations"] > 0


@pytest.mark.parametrize("head", HEADS)
def test_in_16_bits_boxes_keep_their_24(head: HeadName, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are learnt, those that are looked for, and the regions between."""
    context, seen = context_of(prepared, precision="bf16-mixed"), list[torch.dtype]()

    def watched(module: nn.Module, *calls: Any) -> None:
        tree_map(lambda x: seen.append(x.dtype) if isinstance(x, Tensor) and x.is_floating_point() else None, calls)

    training = classifier_training(context, job_of(prepared, head))
    model: Any = training.model
    target = model.target
    monkeypatch.setattr(model, "target", lambda rows: seen.append(rows.dtype) or target(rows))
    generators = [part for part in model.modules() if isinstance(part, AnchorGenerator)]
    generators[0].register_forward_hook(lambda module, given, made: watched(module, made))
    if head == "faster-rcnn":
        model.head.roi_heads.register_forward_pre_hook(lambda module, given: watched(module, given[1:]))
    maps = list[torch.dtype]()
    model.head.backbone.register_forward_hook(lambda module, given, made: maps.append(made["0"].dtype))
    losses = training.loss_of(context.fabric.setup_module(model.train()), training.batches(0), 0)
    assert losses["loss"].isfinite() and maps == [torch.bfloat16]
    assert len(seen) >= 16 and set(seen) == {torch.float32}


def test_a_compiled_network_learns_what_one_does_that_is_not(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either head the same part is compiled."""
    made = list[GraphModule]()
    monkeypatch.setattr(compiling, "BACKEND", lambda graph, inputs: made.append(graph) or graph.forward)
    on, off = (
        train_classifier(
            context_of(prepared, compile=asked), job_of(prepared, "fcos", epochs=1), tmp_path / asked, "test"
        )
        for asked in ("on", "off")
    )
    assert on["compiled"] == "compiled: --compile on" and "compiled" not in off
    assert on["loss"] == pytest.approx(off["loss"], rel=1e-4)
    assert len(made) <= 4  # of the encoder and the pyramid, in all steps


@pytest.mark.parametrize("head", HEADS)
def test_in_the_memory_format_of_a_gpu_it_learns_the_same(
    head: HeadName, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = classifier_training(context_of(prepared), job_of(prepared, head))
    monkeypatch.setattr(device, "CHANNELS_LAST", ("cpu",))
    model = placed(copy.deepcopy(training.model), torch.device("cpu"))
    convolutions = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert convolutions and all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
    losses = []
    for network in (training.model, model):
        torch.manual_seed(0)
        losses.append(training.loss_of(network.train(), training.batches(0), 0)["loss"])
    torch.testing.assert_close(losses[1], losses[0])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("broken", ["encoder", "head"])
def test_weights_that_are_no_numbers_find_nothing(broken: str, head: HeadName, prepared: Prepared) -> None:
    context, job = context_of(prepared), job_of(prepared, head)
    model: Any = classifier_training(context, job).model
    with torch.no_grad():
        for parameter in getattr(model, broken).parameters():
            parameter.fill_(torch.nan)
    task = prepared.task
    found = predict(model, task, task.objective(prepared.images.labels, job.training.loss), prepared, job.test)
    assert len(taken_apart(found, len(task.names)).scores) == 0
    assert task.metrics(found, prepared.images.labels[job.test])["ap"] == 0


@pytest.mark.parametrize("head", HEADS)
def test_images_without_objects_are_learnt_from(head: HeadName, prepared: Prepared) -> None:
    """Alone, too: what is everywhere is background."""
    labels = prepared.images.labels
    empty = prepared.train[labels[prepared.train].sum(axis=1) == 0][:8]
    assert len(empty) == 8
    assert first_loss(prepared, job_of(prepared, head, rows=empty)) > 0


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (5, np.uint8), (1, np.uint16)])
def test_images_of_any_channels_and_bits_are_learnt_from(channels: int, dtype: Any) -> None:
    source, scale = bars("detection"), 257 if dtype == np.uint16 else 1

    def read(row: int) -> np.ndarray:
        pixels = np.asarray(source.read(row)).astype(dtype) * dtype(scale)
        return pixels if channels == 1 else np.stack([pixels] * channels, axis=-1)

    stamp = f"{source.stamp}{channels}{np.dtype(dtype)}"
    seen = prepare(replace(source, read=read, stamp=stamp), DataSettings())
    prep = seen.images.preprocessing
    assert (prep.channels, prep.dtype) == (channels, dtype)
    assert first_loss(seen, job_of(seen, "faster-rcnn")) > 0
