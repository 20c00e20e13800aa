"""--batch-size auto: the largest batch that fits is found by trial, said, recorded and kept."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ranks import on_ranks
from tiny import DEVICE, GLYPHS
from whymask import finetune, pretrain
from whymask.disk import read_json
from whymask.encoders.cnn import CNNEncoder
from whymask.errors import WhymaskError
from whymask.training import memory
from whymask.training.settings import TrainingSettings

SMALL: dict[str, Any] = {"encoder": {"width": 4}, "runtime": {"device": DEVICE, "threads": 1}}
MANY = "glyphs:unlabelled=6000,train=100,test=60"


@contextmanager
def fitting(most: int, monkeypatch: Any) -> Iterator[list[int]]:
    """A stand-in for a GPU on which `most` images at a time fit; the numbers that were tried."""
    tried: list[int] = []
    forward = CNNEncoder.forward

    def limited(self: CNNEncoder, images: torch.Tensor, *others: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            tried.append(len(images))
            if len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(self, images, *others)

    with monkeypatch.context() as patch:
        patch.setattr(memory, "ASKED", ("cpu",))
        patch.setattr("whymask.stages.sizing.ASKED", ("cpu",))
        patch.setattr(memory, "free_memory", lambda fabric: 2**20)
        patch.setattr(CNNEncoder, "forward", limited)
        yield tried


@pytest.mark.parametrize(
    ("most", "options", "found", "tries"),
    [
        (70, {}, 64, [128, 64]),
        (10**6, {}, 256, [128, 256]),  # 512 would be more than a twentieth of the images
        (200, {"accumulate": 2}, 256, [64, 128]),
        (40, {"accumulate": 3}, 96, [32, 64]),
    ],
)
def test_what_fits_is_found_said_recorded_and_kept(
    most: int, options: Any, found: int, tries: list[int], monkeypatch: Any, tmp_path: Path, capsys: Any
) -> None:
    asked = {"batch_size": "auto", "epochs": 1, **options}
    with fitting(most, monkeypatch) as tried, monkeypatch.context() as patch:
        patch.setattr("whymask.stages.alone.pretrain_encoder", lambda *given, **more: {"loss": 0.0, "steps": given[1]})
        job = pretrain(MANY, out=tmp_path, training=asked, **SMALL)["steps"]
    assert tried == tries
    assert job.training.batch_size == found and job.training.learning_rate == 1e-3 * math.sqrt(found / 128)
    assert f"batch size {found}, by trial on this device" in capsys.readouterr().err


def test_a_run_goes_on_with_the_batch_that_it_was_begun_with(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    asked = {"batch_size": "auto", "epochs": 1}
    with fitting(20, monkeypatch):
        pretrain(GLYPHS, out=tmp_path / "run", training=asked, **SMALL)
        finetune(GLYPHS, out=tmp_path / "tuned", training=asked, **SMALL)
    plain = pretrain(GLYPHS, out=tmp_path / "plain", training={"batch_size": 16, "epochs": 1}, **SMALL)
    training = read_json(tmp_path / "run" / "config.json")["config"]["training"]
    assert training == read_json(tmp_path / "plain" / "config.json")["config"]["training"]
    weights = "encoder/encoder.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tmp_path / "plain" / weights).read_bytes()
    assert read_json(tmp_path / "tuned" / "config.json")["config"]["training"]["batch_size"] == 16
    capsys.readouterr()
    with fitting(10**6, monkeypatch) as tried:
        assert pretrain(GLYPHS, out=tmp_path / "run", training=asked, **SMALL)["loss"] == plain["loss"]
    assert not tried and f"batch size 16, as in {tmp_path / 'run'}; learning rate 0.000354" in capsys.readouterr().err


def test_the_trial_leaves_weights_as_they_were(monkeypatch: Any, tmp_path: Path) -> None:
    """Statistics of batch norms too: a trial's network is another one."""
    with fitting(40, monkeypatch):
        finetune(GLYPHS, out=tmp_path / "auto", training={"batch_size": "auto", "epochs": 1}, **SMALL)
    finetune(GLYPHS, out=tmp_path / "plain", training={"batch_size": 32, "epochs": 1}, **SMALL)
    for file in ("encoder/encoder.safetensors", "head.safetensors"):
        assert (tmp_path / "auto" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def try_on_a_rank(out: Path) -> None:
    """Of two, whose GPUs hold 100 and 20 images: what each one takes is written."""
    rank = os.environ["RANK"]
    with pytest.MonkeyPatch.context() as patch, fitting({"0": 100, "1": 20}[rank], patch) as tried:
        patch.setattr("whymask.stages.alone.pretrain_encoder", lambda *given, **more: {"loss": 0.0, "steps": given[1]})
        job = pretrain(MANY, out=out / "run", training={"batch_size": "auto"}, **SMALL)["steps"]
    (out / rank).write_text(f"{tried} {job.training.batch_size}")


def test_processes_agree_on_the_smallest(own_store: Any, tmp_path: Path) -> None:
    """Each tries as if alone: the network's batch norms count over all processes, of which some may try no more."""
    assert on_ranks(2, try_on_a_rank, tmp_path) == [0, 0]
    assert (tmp_path / "0").read_text() == "[64, 128] 32" and (tmp_path / "1").read_text() == "[64, 32, 16] 32"


def test_nothing_that_fits_is_an_error_before_a_folder_is_made(monkeypatch: Any, tmp_path: Path) -> None:
    with fitting(0, monkeypatch) as tried, pytest.raises(WhymaskError, match="not one image fits the memory of this"):
        pretrain(GLYPHS, out=tmp_path / "run", training={"batch_size": "auto"}, **SMALL)
    assert tried == [128, 64, 32, 16, 8, 4, 2, 1] and not (tmp_path / "run").exists()


def test_a_cpu_takes_the_default_and_says_so(tmp_path: Path, whymask: Any, capsys: Any) -> None:
    flags = ("--width", 4, "--epochs", 1, "--batch-size", "auto", "--device", "cpu", "--threads", 1)
    assert whymask("pretrain", GLYPHS, *flags, "--out", tmp_path / "run") == 0
    assert "batch size 128, the default: the memory of a cpu is not asked" in capsys.readouterr().err
    assert whymask("study", GLYPHS, "--pretrain.batch-size", "auto") == 2
    assert "'whymask pretrain ... --batch-size auto' says what fits: give that number" in capsys.readouterr().err
    assert whymask("pretrain", GLYPHS, "--batch-size", "lots") == 2
    assert "batch-size lots: expected a whole number, such as 128, or auto; change it" in " ".join(
        capsys.readouterr().err.split()
    )
    assert TrainingSettings(batch_size="auto", accumulate=3).batch_size == "auto"
