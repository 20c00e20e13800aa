"""Training in fp16 with a scaled loss, for GPUs without bf16; here on a CPU, which no user is given."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from tiny import GLYPHS, runtime
from whymask.data.batches import Batch
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings, resolve
from whymask.errors import WhymaskError
from whymask.methods import resolve_method
from whymask.methods.settings import MAESettings
from whymask.runs import RunFolder
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretraining
from whymask.training.device import make_fabric
from whymask.training.loop import Interrupted, Training, fit
from whymask.training.optimisation import TrainingConfig

STEPS = 8
TRAINING = TrainingConfig(epochs=2, batch_size=8, beta2=0.95, checkpoint_every=4)
SIZE = (32, 32)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    prepared = prepare(GLYPHS, DataSettings(), multiple_of=4)
    return replace(prepared, pool=prepared.pool[:32])


def in_fp16(scale: float = 65536.0) -> Fabric:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    fabric.launch()
    return fabric


def learn(fabric: Fabric, prepared: Prepared, folder: Path, poison: Any = None) -> tuple[Training, list[float]]:
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    encoder = resolve(EncoderSettings(name="vit", width=16, depth=2), SIZE, 1)
    job = PretrainJob(
        config=encoder,
        method="mae",
        method_config=resolve_method("mae", MAESettings(), encoder, SIZE),
        training=TRAINING,
        augment="none",
        seed=3,
    )
    training = pretraining(Context(fabric, prepared), job)

    def loss_of(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        losses = training.loss_of(model, batch, step)
        return losses if poison is None else {"loss": poison(losses["loss"], step)}

    fit(fabric, replace(training, loss_of=loss_of), TRAINING, seed=0, run=RunFolder(folder), label="test")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return training, [line["loss"] for line in lines]


def test_losses_are_about_those_of_fp32(prepared: Prepared, tmp_path: Path) -> None:
    _, half = learn(in_fp16(), prepared, tmp_path / "half")
    _, full = learn(make_fabric(replace(runtime(), device="cpu")), prepared, tmp_path / "full")
    assert len(half) == STEPS and half == pytest.approx(full, rel=0.02) and half != full


def test_a_scale_that_is_too_large_is_lowered_and_ends_no_run(prepared: Prepared, tmp_path: Path) -> None:
    fabric = in_fp16(2.0**40)
    training, losses = learn(fabric, prepared, tmp_path)
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
    kept = RunFolder(tmp_path).load_checkpoint()
    assert kept is not None and kept.notes["scaler"]["scale"] < 2.0**40
    assert all(parameter.isfinite().all() for parameter in training.model.parameters())


def test_a_run_that_is_stopped_goes_on_with_its_scale_and_the_same_bits(prepared: Prepared, tmp_path: Path) -> None:
    def interrupting(loss: Tensor, step: int) -> Tensor:
        if step == 6:
            raise Interrupted
        return loss

    whole, _ = learn(in_fp16(2.0**30), prepared, tmp_path / "whole")
    with pytest.raises(Interrupted):
        learn(in_fp16(2.0**30), prepared, tmp_path / "stopped", interrupting)
    kept = RunFolder(tmp_path / "stopped").load_checkpoint()
    assert kept is not None and kept.step == 4 and kept.notes["scaler"]["scale"] < 2.0**30
    continued, _ = learn(in_fp16(2.0**30), prepared, tmp_path / "stopped")
    pairs = zip(whole.model.parameters(), continued.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_loss_that_is_not_finite_and_gradients_that_never_are_end_a_run(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nan_at_3(loss: Tensor, step: int) -> Tensor:
        return loss * float("nan") if step == 3 else loss

    def steep(loss: Tensor, step: int) -> Tensor:
        return loss + (loss - loss.detach()).abs().sqrt()  # slope 1/0

    with pytest.raises(WhymaskError, match="not finite at step 3 "):
        learn(in_fp16(), prepared, tmp_path / "loss", nan_at_3)
    monkeypatch.setattr("whymask.training.log.MOST_OVERFLOWS", 5)
    with pytest.raises(WhymaskError, match="not finite at step 5 "):
        learn(in_fp16(), prepared, tmp_path / "gradient", steep)


def test_a_cpu_is_not_given_fp16() -> None:
    with pytest.raises(WhymaskError, match=r"--precision 16-mixed was given for a CPU.*--precision 32-true"):
        make_fabric(replace(runtime(), device="cpu", precision="16-mixed"))
