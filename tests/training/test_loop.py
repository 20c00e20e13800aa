"""The loop: killed, stopped or damaged runs end with the same bits; a non-finite loss stops a run with its cause."""

import copy
import json
import math
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from children import exit_code_of, signal_itself
from tiny import DEVICE, GLYPHS, new_encoder, runtime, tiny_settings
from whymask import cli
from whymask.data.batches import Batches
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, resolve
from whymask.encoders.cnn import CNNEncoder
from whymask.errors import DeviceLostError, WhymaskError
from whymask.methods import resolve_method
from whymask.methods.settings import MAESettings
from whymask.progress import console
from whymask.runs import RunFolder
from whymask.stages.classify import ClassifierJob, classifier_training, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder
from whymask.stages.recipes import resolve_finetuning, resolve_pretraining
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.studies.config import resolve_study
from whymask.training.device import make_fabric
from whymask.training.loop import Interrupted, Training, fit
from whymask.training.optimisation import TrainingConfig, ema_at, make_optimiser, rate_at

STEPS = 8
TRAINING = TrainingConfig(epochs=STEPS // 4, batch_size=32, beta2=0.95, checkpoint_every=2)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(GLYPHS, DataSettings(), multiple_of=4)


def pretraining(
    folder: Path,
    prepared: Prepared,
    training: TrainingConfig = TRAINING,
    name: str = "cnn",
    keep_checkpoints: bool = True,
    alone: bool = False,
) -> dict[str, Any]:
    """A pretraining of STEPS steps on 128 images, as a stage runs it."""
    torch.set_num_threads(1)
    size = {"width": 4} if name == "cnn" else {"width": 16, "depth": 2}
    encoder = resolve(EncoderSettings(name=name, **size), (32, 32), 1)
    job = PretrainJob(
        config=encoder,
        method="mae",
        method_config=resolve_method("mae", MAESettings(), encoder, (32, 32)),
        training=training,
        augment="none",
        seed=3,
    )
    small = replace(prepared, pool=prepared.pool[:128])
    context = Context(make_fabric(runtime(threads=None)), small)
    return pretrain_encoder(context, job, folder, "test", keep_checkpoints=keep_checkpoints, alone=alone)


def weights(folder: Path) -> dict[str, bytes]:
    """Every file that holds weights of the finished run: encoder, and the last checkpoint with decoder and moments."""
    last = f"checkpoints/step-{STEPS:08d}.safetensors"
    return {name: (folder / name).read_bytes() for name in ("encoder/encoder.safetensors", last)}


@pytest.fixture(scope="module", params=["cnn", "vit"])
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, prepared: Prepared) -> Any:
    folder = tmp_path_factory.mktemp("unbroken")
    pretraining(folder, prepared, name=request.param)
    return request.param, folder


def killed_pretraining(at_step: int, folder: Path, prepared: Prepared, name: str) -> None:
    signal_itself(signal.SIGKILL, at_step)
    pretraining(folder, prepared, name=name)


@pytest.mark.parametrize("at_step", [1, 3, 6])
def test_a_run_killed_at_any_step_ends_with_the_same_bits(
    at_step: int, unbroken: tuple[str, Path], prepared: Prepared, tmp_path: Path
) -> None:
    name, whole = unbroken
    assert exit_code_of(killed_pretraining, at_step, tmp_path, prepared, name) == -signal.SIGKILL
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == at_step
    assert not (tmp_path / "result.json").exists()
    pretraining(tmp_path, prepared, name=name)
    assert weights(tmp_path) == weights(whole)
    steps = [line.split(",")[0] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {step}' for step in range(1, STEPS + 1)]


def test_checkpoints_of_a_finished_pretraining_stay_only_where_they_are_to_be_kept(
    unbroken: tuple[str, Path], prepared: Prepared, tmp_path: Path
) -> None:
    name, whole = unbroken
    assert len(list((whole / "checkpoints").glob("*.json"))) == 2
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    pretraining(out, prepared, name=name, keep_checkpoints=False)
    assert not (out / "checkpoints").exists() and (out / "encoder" / "encoder.safetensors").exists()


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Ctrl-C while the batch of this step is asked for."""
    original = Batches.__call__

    def interrupting(self: Batches, at: int) -> Any:
        if at == step:
            signal.raise_signal(signal.SIGINT)
        return original(self, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "__call__", interrupting)
        yield


def test_ctrl_c_saves_a_checkpoint_and_the_run_continues(prepared: Prepared, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    training = replace(TRAINING, checkpoint_every=100)
    pretraining(whole, prepared, training)
    with interrupted_at(5), pytest.raises(Interrupted, match="after step 6 of 8"):
        pretraining(stopped, prepared, training)
    assert (stopped / "checkpoints/step-00000006.json").exists()
    pretraining(stopped, prepared, training)
    assert weights(stopped) == weights(whole)


@pytest.mark.parametrize(("second", "told"), [(3.0, 5.0), (None, None)])
def test_energy_is_counted_over_all_sessions_and_untold_where_one_is(
    second: float | None, told: float | None, prepared: Prepared, tmp_path: Path, monkeypatch: Any
) -> None:
    training = replace(TRAINING, checkpoint_every=100)
    monkeypatch.setattr("whymask.training.loop.Meter", lambda device: SimpleNamespace(since=lambda: 2.0))
    with interrupted_at(5), pytest.raises(Interrupted):
        pretraining(tmp_path, prepared, training)
    monkeypatch.setattr("whymask.training.loop.Meter", lambda device: SimpleNamespace(since=lambda: second))
    assert pretraining(tmp_path, prepared, training).get("joules") == told


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    unbroken: tuple[str, Path], prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, whole = unbroken
    pretraining(tmp_path, prepared, name=name)
    (tmp_path / "result.json").unlink()
    newest = tmp_path / f"checkpoints/step-{STEPS:08d}.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    pretraining(tmp_path, prepared, name=name)
    assert "damaged checkpoint step-00000008" in capsys.readouterr().err
    assert weights(tmp_path) == weights(whole)


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without times."""
    timed = ("images_per_second", "data_wait", "seconds")
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in read]


@pytest.mark.parametrize("step", [2, 5, STEPS - 1])
def test_a_stop_within_a_line_of_means_leaves_the_same_lines_and_result(
    step: int, prepared: Prepared, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("whymask.training.log.LINES_PER_RUN", 3)  # of 8 steps: a line is a mean over 2
    whole = pretraining(tmp_path / "whole", prepared)
    with interrupted_at(step), pytest.raises(Interrupted, match=f"after step {step + 1} of {STEPS}"):
        pretraining(tmp_path / "stopped", prepared)
    continued = pretraining(tmp_path / "stopped", prepared)
    assert [line["step"] for line in lines(tmp_path / "whole")] == [2, 4, 6, 8]
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    assert (continued["loss"], continued["images_seen"]) == (whole["loss"], whole["images_seen"])


KEPT = ("encoder/encoder.safetensors", "head.safetensors")


def averaged(folder: Path, prepared: Prepared) -> dict[str, Any]:
    """A classifier of 15 steps, with an average of its weights, kept at the start, after 8 steps and at the end."""
    asked = FinetuneTrainingSettings(epochs=3, batch_size=8, ema=0.9, checkpoint_every=3)
    job = replace(classifier_job(prepared, asked), kept=(0.0, 0.5, 1.0))
    return train_classifier(on_cpu(prepared), job, folder, "test")


def killed_averaged(folder: Path, prepared: Prepared) -> None:
    signal_itself(signal.SIGKILL, 7)
    averaged(folder, prepared)


def test_a_classifier_with_an_average_that_is_killed_ends_with_the_same_bits(
    prepared: Prepared, tmp_path: Path
) -> None:
    whole = averaged(tmp_path / "whole", prepared)
    killed = tmp_path / "killed"
    assert exit_code_of(killed_averaged, killed, prepared) == -signal.SIGKILL
    assert sorted(path.name for path in (killed / "checkpoints").glob("*.json"))[-1] == "step-00000006.json"
    continued = averaged(killed, prepared)
    kept = {place: [f"{place}/{name}" for name in KEPT] for place in ("kept/after-0", "kept/after-8", "kept/after-15")}
    for name in (*KEPT, *chain.from_iterable(kept.values())):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (killed / "kept").iterdir()) == ["after-0", "after-15", "after-8"]
    last = [(killed / name).read_bytes() for name in KEPT]
    assert [(killed / name).read_bytes() for name in kept["kept/after-15"]] == last  # the average, too
    assert [(killed / name).read_bytes() for name in kept["kept/after-8"]] != last
    assert lines(killed) == lines(tmp_path / "whole")
    assert continued["metrics"] == whole["metrics"]
    assert not (killed / "checkpoints").exists()


def stopped_command(stderr: Path, *arguments: object) -> None:
    console.file = stderr.open("w")
    signal_itself(signal.SIGINT, 3)
    sys.argv = ["whymask", *map(str, arguments)]
    cli.main()


def test_ctrl_c_on_the_command_line_is_one_line_and_exit_code_130(tmp_path: Path, whymask: Callable[..., int]) -> None:
    size = ("--width", 4, "--epochs", 2, "--batch-size", 32, "--device", DEVICE, "--threads", 1)
    run = tmp_path / "stopped"
    command = ("pretrain", GLYPHS, "--out", run, *size)
    assert exit_code_of(stopped_command, tmp_path / "stderr", *command) == 130
    last = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert last == f"stopped after step 4 of 14; the same command continues {run}"
    assert len(list((run / "checkpoints").glob("*.json"))) == 1
    for out in (run, tmp_path / "whole"):
        assert whymask("pretrain", GLYPHS, "--out", out, *size) == 0
    encoder = "encoder/encoder.safetensors"
    assert (run / encoder).read_bytes() == (tmp_path / "whole" / encoder).read_bytes()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup", 1.5),
        ("clip", 0.0),
        ("layer_decay", 0.0),
        ("ema", 1.0),
        ("checkpoint_every", 0),
    ],
)
def test_a_setting_out_of_its_range_is_refused_before_anything_runs(setting: str, value: float) -> None:
    with pytest.raises(WhymaskError, match=rf"{setting} {value} was given; .* was expected"):
        FinetuneTrainingSettings(**{setting: value})  # type: ignore[arg-type]


def test_a_finished_run_is_kept(unbroken: tuple[str, Path], prepared: Prepared, monkeypatch: Any) -> None:
    name, whole = unbroken
    monkeypatch.setattr("whymask.stages.pretrain.fit", None)
    assert pretraining(whole, prepared, name=name) == read_json(whole / "result.json")


def test_the_moving_average_of_a_short_run_forgets_its_first_weights() -> None:
    decays = [ema_at(step, TrainingConfig(epochs=1, ema=0.999)) or 0 for step in range(600)]
    assert math.prod(decays) < 1e-9 and 0.999**600 > 0.5
    assert ema_at(10**6, TrainingConfig(epochs=1, ema=0.999)) == 0.999 and ema_at(0, TrainingConfig(epochs=1)) is None


def test_the_moving_average_survives_a_stop(prepared: Prepared, tmp_path: Path, monkeypatch: Any) -> None:
    whole, stopped, plain = (tmp_path / name / "encoder/encoder.safetensors" for name in ("whole", "stopped", "plain"))
    averaged = replace(TRAINING, ema=0.5)
    pretraining(tmp_path / "plain", prepared)
    pretraining(tmp_path / "whole", prepared, averaged)
    assert whole.read_bytes() != plain.read_bytes()
    monkeypatch.setattr("whymask.stages.pretrain.save_encoder", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretraining(tmp_path / "stopped", prepared, averaged)
    monkeypatch.undo()
    (tmp_path / "stopped" / f"checkpoints/step-{STEPS:08d}.json").unlink()  # what is left is the one before
    pretraining(tmp_path / "stopped", prepared, averaged)
    assert stopped.read_bytes() == whole.read_bytes()


def test_a_run_that_died_between_its_last_step_and_its_result_is_finished(
    prepared: Prepared, tmp_path: Path, monkeypatch: Any
) -> None:
    whole = pretraining(tmp_path / "whole", prepared)
    monkeypatch.setattr("whymask.stages.pretrain.save_encoder", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretraining(tmp_path / "died", prepared)
    monkeypatch.undo()
    assert pretraining(tmp_path / "died", prepared)["loss"] == whole["loss"]
    assert weights(tmp_path / "died") == weights(tmp_path / "whole")


def on_cpu(prepared: Prepared) -> Context:
    return Context(make_fabric(runtime()), prepared)


def classifier_job(prepared: Prepared, asked: FinetuneTrainingSettings) -> ClassifierJob:
    encoder = new_encoder(EncoderSettings(width=4), (32, 32), 1, seed=0)
    return ClassifierJob(
        arm="scratch",
        seed=0,
        budget="4",
        rows=prepared.train[:40],
        test=prepared.test,
        config=encoder.config,
        build=lambda: copy.deepcopy(encoder),
        training=resolve_finetuning(asked, 40, prepared, encoder.config),
        augment="none",
    )


def classification(prepared: Prepared) -> Training:
    asked = FinetuneTrainingSettings(epochs=2, batch_size=8)
    return classifier_training(on_cpu(prepared), classifier_job(prepared, asked))


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_non_finite_step_stops_the_run_and_names_its_images(poison: str, prepared: Prepared, tmp_path: Path) -> None:
    task = classification(prepared)

    def poisoned(model: nn.Module, batch: Any, step: int) -> Any:
        losses = dict(task.loss_of(model, batch, step))
        if step == 5 and poison == "loss":
            losses["loss"] = losses["loss"] * float("nan")
        if step == 5 and poison == "gradient":
            weight: Any = task.model.head.weight  # type: ignore[union-attr]
            losses["loss"] = losses["loss"] + (weight - weight.detach()).abs().sum().sqrt()  # slope 1/0 at 0
        return losses

    run = RunFolder(tmp_path)
    fabric = make_fabric(runtime(threads=None))
    training = TrainingConfig(epochs=2, batch_size=8, checkpoint_every=2)
    with pytest.raises(WhymaskError, match="not finite at step 5"):
        fit(fabric, replace(task, loss_of=poisoned), training, seed=0, run=run, label="test")
    described = read_json(tmp_path / "nonfinite.json")
    assert described["step"] == 5
    assert described["rows"] == task.batches(5).rows.tolist()
    good = run.load_checkpoint()
    assert good is not None and good.step == 4
    assert all(torch.isfinite(tensor).all() for tensor in good.tensors.values())


def test_a_network_in_channels_last_is_stopped_saved_and_continued_with_the_same_bits(
    prepared: Prepared, tmp_path: Path, monkeypatch: Any
) -> None:
    """The memory format of a CNN on a GPU: files hold plain tensors, and moments come back in the format of weights."""
    pretraining(tmp_path / "plain", prepared)
    monkeypatch.setattr("whymask.training.device.CHANNELS_LAST", ("cpu",))
    pretraining(tmp_path / "whole", prepared)
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole", stopped)
    for gone in ("result.json", f"checkpoints/step-{STEPS:08d}.json"):
        (stopped / gone).unlink()
    pretraining(stopped, prepared)
    assert weights(stopped) == weights(tmp_path / "whole")
    plain, other = (load_file(tmp_path / run / "encoder/encoder.safetensors") for run in ("plain", "whole"))
    assert all(torch.allclose(plain[name], other[name], atol=1e-4) for name in plain)


@pytest.mark.parametrize("parts", [2, 8])
def test_a_batch_in_parts_is_the_same_step(parts: int, prepared: Prepared, tmp_path: Path) -> None:
    """Of a ViT, in which nothing is counted over a batch."""
    whole, accumulated = (replace(TRAINING, accumulate=n) for n in (1, parts))
    results = [pretraining(tmp_path / f"{t.accumulate}", prepared, t, name="vit") for t in (whole, accumulated)]
    assert results[0]["images_seen"] == results[1]["images_seen"] == STEPS * 32
    assert results[0]["operations"] == results[1]["operations"]
    losses = [[line["loss"] for line in lines(tmp_path / str(n))] for n in (1, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    states = [load_file(tmp_path / f"{n}/encoder/encoder.safetensors") for n in (1, parts)]
    for name in states[0]:
        one, other = (state[name] for state in states)
        if name.endswith("qkv.bias"):  # keys' have a gradient of zero but for rounding, which AdamW makes steps of
            one, other = (bias.unflatten(0, (3, -1))[[0, 2]] for bias in (one, other))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    recorded = [read_json(tmp_path / f"{n}/config.json")["config"]["training"].get("accumulate") for n in (1, parts)]
    assert recorded == [None, parts]


def test_a_run_in_parts_that_is_stopped_ends_with_the_same_bits(prepared: Prepared, tmp_path: Path) -> None:
    training, stopped = replace(TRAINING, accumulate=4), tmp_path / "stopped"
    pretraining(tmp_path / "whole", prepared, training)
    shutil.copytree(tmp_path / "whole", stopped)
    for gone in ("result.json", f"checkpoints/step-{STEPS:08d}.json"):
        (stopped / gone).unlink()
    pretraining(stopped, prepared, training)
    assert weights(stopped) == weights(tmp_path / "whole")


def test_a_number_of_parts_that_does_not_divide_the_batch_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match=r"--accumulate 5 parts of a batch of 32 images; .* such as 4"):
        pretraining(tmp_path, prepared, replace(TRAINING, accumulate=5))
    with pytest.raises(WhymaskError, match="accumulate 0 was given; at least 1 part was expected"):
        FinetuneTrainingSettings(accumulate=0)


@pytest.mark.parametrize(("most", "advice"), [(5, "4 at a time fit: give --accumulate 2"), (0, "not one image fits")])
def test_a_step_that_does_not_fit_is_told_with_what_fits(
    most: int, advice: str, prepared: Prepared, tmp_path: Path
) -> None:
    task = classification(prepared)

    def limited(model: nn.Module, batch: Any, step: int) -> Any:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return task.loss_of(model, batch, step)

    training = TrainingConfig(epochs=2, batch_size=8)
    with pytest.raises(WhymaskError, match=f"a step with 8 images of 32x32 does not fit .*{advice}"):
        fabric = make_fabric(runtime(threads=None))
        fit(fabric, replace(task, loss_of=limited), training, seed=0, run=RunFolder(tmp_path), label="test")


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder_to_mended_settings(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit, where operations are counted; a loss that is not finite."""
    full, forward = tmp_path / "full", CNNEncoder.forward

    def limited(self: CNNEncoder, images: torch.Tensor, *others: Any) -> torch.Tensor:
        if len(images) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(self, images, *others)

    monkeypatch.setattr(CNNEncoder, "forward", limited)
    with pytest.raises(WhymaskError, match="16 at a time fit: give --accumulate 2"):
        pretraining(full, prepared, alone=True)
    pretraining(full, prepared, replace(TRAINING, accumulate=2), alone=True)
    monkeypatch.undo()

    wild = tmp_path / "wild"
    with pytest.raises(WhymaskError, match="not finite at step"):
        pretraining(wild, prepared, replace(TRAINING, learning_rate=1e30, clip=1e30, checkpoint_every=100), alone=True)
    assert [path.name for path in wild.iterdir() if path.name[0] != "."] == ["nonfinite.json"]
    pretraining(wild, prepared, alone=True)
    with pytest.raises(WhymaskError, match="holds a run with other settings"):
        pretraining(wild, prepared, replace(TRAINING, learning_rate=1e-4), alone=True)
    assert (wild / "result.json").exists()


def test_a_gpu_that_is_lost_is_told_with_what_is_kept_and_the_same_command_goes_on(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyTorch tells it, in the sixth step; another error stays what it is."""
    original, said = Batches.__call__, "CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"

    def losing(self: Batches, step: int) -> Any:
        if step == 5:
            raise RuntimeError(said)
        return original(self, step)

    pretraining(tmp_path / "whole", prepared)
    monkeypatch.setattr(Batches, "__call__", losing)
    expected = (
        r"GPU was lost .*\(CUDA error: unspecified launch failure\); the checkpoint after step 4 is kept in .*lost"
    )
    with pytest.raises(DeviceLostError, match=expected):
        pretraining(tmp_path / "lost", prepared)
    said = "mat1 and mat2 shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        pretraining(tmp_path / "lost", prepared)
    monkeypatch.undo()
    pretraining(tmp_path / "lost", prepared)
    assert weights(tmp_path / "lost") == weights(tmp_path / "whole")


def test_an_error_while_the_next_batch_is_made_comes_after_the_steps_before_it(
    prepared: Prepared, tmp_path: Path, monkeypatch: Any
) -> None:
    original = Batches.made

    def failing(self: Batches, step: int, moves: Any) -> Any:
        if step == 5:
            raise OSError("the disk is gone")
        return original(self, step, moves)

    monkeypatch.setattr(Batches, "made", failing)
    threads = {*threading.enumerate()}
    with pytest.raises(OSError, match="the disk is gone"):
        pretraining(tmp_path, prepared)
    assert {*threading.enumerate()} <= threads
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    good = RunFolder(tmp_path).load_checkpoint()
    assert good is not None and good.step == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_loop_waits_for_a_batch_stops_after_its_step(
    number: int, prepared: Prepared, tmp_path: Path, monkeypatch: Any
) -> None:
    asked, taken, made = threading.Event(), Batches.__call__, Batches.made

    def asking(self: Batches, step: int) -> Any:
        if step == 5:
            asked.set()
        return taken(self, step)

    def slow(self: Batches, step: int, moves: Any) -> Any:
        if step == 5:
            asked.wait()
            signal.raise_signal(number)
        return made(self, step, moves)

    monkeypatch.setattr(Batches, "__call__", asking)
    monkeypatch.setattr(Batches, "made", slow)
    with pytest.raises(Interrupted, match="after step 6 of 8"):
        pretraining(tmp_path, prepared)


def test_operations_are_counted_per_image_and_leave_the_model_alone(prepared: Prepared) -> None:
    task = classification(prepared)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    head = 16 * 10 * 2  # multiplications and additions of the linear head's forward pass
    assert task.operations_per_image() > 3 * head
    larger = replace(task, batches=Batches(prepared.images, prepared.train[:40], batch_size=16, seed=0, augment=None))
    assert larger.operations_per_image() == pytest.approx(task.operations_per_image())
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    optimisation = TrainingConfig(epochs=1, learning_rate=1.0, warmup=0.1)
    rates = [rate_at(step, 100, optimisation) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert np.argmax(rates) == 9 and rates[-1] < 1e-3
    assert all(np.diff(rates[:10]) > 0) and all(np.diff(rates[10:]) < 0)


@pytest.mark.parametrize(("kind", "usual"), [(PretrainTrainingSettings, 128), (FinetuneTrainingSettings, 32)])
def test_the_learning_rate_follows_the_batch_by_its_square_root_unless_it_is_given(kind: Any, usual: int) -> None:
    assert kind().peak == 1e-3 and kind(batch_size=usual).peak == 1e-3
    assert kind(batch_size=4 * usual).peak == pytest.approx(2e-3) and kind(batch_size=usual // 4).peak == 5e-4
    assert kind(batch_size=4 * usual, learning_rate=3e-4).peak == 3e-4


def test_what_is_trained_has_the_rate_of_its_batch(prepared: Prepared) -> None:
    encoder = resolve(EncoderSettings(width=4), (32, 32), 1)
    for batch, factor in ((32, 1), (128, 2)):
        asked = FinetuneTrainingSettings(batch_size=batch)
        assert resolve_finetuning(asked, 40, prepared, encoder).learning_rate == pytest.approx(1e-3 * factor)
        pretrain = PretrainTrainingSettings(batch_size=4 * batch)
        assert resolve_pretraining(pretrain, 1000).learning_rate == pytest.approx(1e-3 * factor)
        study = resolve_study(tiny_settings(finetune=replace(asked, epochs=2), search=False), prepared)
        assert study.to_dict()["finetune"]["learning_rate"] == pytest.approx(1e-3 * factor)


def test_layer_decay_slows_lower_layers_and_norms_are_not_decayed(prepared: Prepared) -> None:
    model = classification(prepared).model
    groups = make_optimiser(model, TrainingConfig(epochs=1, layer_decay=0.5, weight_decay=0.1)).param_groups
    scale = {id(p): (g["scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert scale[id(named["head.weight"])] == (1.0, 0.1)
    assert scale[id(named["head.bias"])] == (1.0, 0.0)
    encoder = [scale[id(p)][0] for name, p in named.items() if name.startswith("encoder.")]
    assert encoder == sorted(encoder) and encoder[0] < encoder[-1] <= 1.0
