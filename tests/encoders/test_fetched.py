"""Weights by name: those of the hub's cache, and what is said where they are not there and nobody answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import save_file

from tiny import GLYPHS
from whymask.disk import read_json
from whymask.encoders.fetched import fetched
from whymask.errors import WhymaskError
from whymask.stages.record import read_record


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, on a machine without a network."""

    def unreached(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(HfApi, "model_info", unreached)
    return tmp_path / "hub"


def lay_out(hub: Path, repository: str, weights: bool = True) -> Path:
    """A repository in the cache, as huggingface_hub leaves it."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
    cfg = {"input_size": [1, 32, 32], "mean": [0.25], "std": [0.5], "license": "apache-2.0"}
    args = {"img_size": 32, "patch_size": 8}
    config = {"architecture": "test_vit", "pretrained_cfg": cfg, "model_args": args}
    (snapshot / "config.json").write_text(json.dumps(config))
    if weights:
        torch.manual_seed(0)
        net = timm.create_model("test_vit", num_classes=0, in_chans=1, **args)
        save_file(net.state_dict(), snapshot / "model.safetensors")
    return snapshot


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("test_vit.r160_in1k", "timm/test_vit.r160_in1k"),
        ("test_vit", "timm/test_vit.r160_in1k"),
        ("hf-hub:someone/their-vit", "someone/their-vit"),
    ],
)
def test_what_the_cache_holds_is_taken_and_nobody_is_asked(name: str, repository: str, hub: Path) -> None:
    snapshot = lay_out(hub, repository)
    assert fetched(name) == str(snapshot)


@pytest.mark.parametrize("partly", [False, True])
def test_without_a_network_one_sentence_says_what_to_fetch_where(partly: bool, hub: Path) -> None:
    if partly:
        lay_out(hub, "timm/test_vit.r160_in1k", weights=False)
    said = r"not on this machine, .* cannot be reached .*'hf download timm/test_vit\.r160_in1k' where it can, copy"
    with pytest.raises(WhymaskError, match=said):
        fetched("test_vit.r160_in1k")


def test_a_name_that_nobody_knows_is_told_with_what_there_is(hub: Path) -> None:
    with pytest.raises(WhymaskError, match=r"test_vit\.in22k: .* no name of timm's weights; timm has test_vit\.r160"):
        fetched("test_vit.in22k")
    with pytest.raises(WhymaskError, match=r"no name of timm's weights.*hf-hub:ORG/MODEL"):
        fetched("no_such_network99")


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert fetched(str(tmp_path)) == str(tmp_path)


def test_stages_take_names(hub: Path, tmp_path: Path, whymask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = lay_out(hub, "timm/test_vit.r160_in1k")
    small = ("--epochs", 1, "--device", "cpu", "--threads", 1, "--budget", 2)
    out = tmp_path / "run"
    assert whymask("finetune", GLYPHS, "--from", "test_vit.r160_in1k", *small, "--out", out) == 0
    assert "licence: apache-2.0" in capsys.readouterr().err
    assert read_record(out).origin == str(snapshot)
    prep = read_json(out / "encoder" / "encoder.json")["preprocessing"]
    assert (prep["mean"], prep["std"]) == ([0.25], [0.5])
    shutil.rmtree(hub)
    assert whymask("probe", GLYPHS, "--from", "test_vit.r160_in1k", "--out", tmp_path / "probe") != 0
    assert "hf download timm/test_vit.r160_in1k" in capsys.readouterr().err
