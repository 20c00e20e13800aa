"""Weights by name: those of the hub's cache, and what is said where they are not there and nobody answers."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import save_file

from tiny import GLYPHS, new_encoder
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.encoders.checkpoints import load_checkpoint
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
    cfg = {
        "input_size": [1, 32, 32],
        "mean": [0.25],
        "std": [0.5],
        "license": "apache-2.0",
        "interpolation": "bilinear",
    }
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
        ("hf-hub:someone/their-vit@main", "someone/their-vit"),
        ("hf-hub:someone/their-vit@0123456789abcdef0123456789abcdef01234567", "someone/their-vit"),
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
    with pytest.raises(WhymaskError, match=r"not on the hub, but at https://.*together with --encoder gcvit_base"):
        fetched("gcvit_base.in1k")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (GatedRepoError, "asks for its terms to be accepted; accept them there, and log in by 'hf auth login'"),
        (RepositoryNotFoundError, "org/model of the Hugging Face hub is not there; check the name"),
    ],
)
def test_what_the_hub_refuses_is_told(kind: Any, said: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    response: Any = SimpleNamespace(headers={}, request=None, status_code=401)

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise kind("no", response=response)

    monkeypatch.setattr(HfApi, "model_info", refused)
    with pytest.raises(WhymaskError, match=said):
        fetched("hf-hub:org/model")


SHARDED = ["model.safetensors.index.json", "model-*.safetensors"]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (["pytorch_model.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors"], SHARDED),
    ],
)
def test_weights_are_fetched_once_at_the_revision_that_the_hub_names(
    files: list[str], wanted: list[str], hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = [SimpleNamespace(rfilename=name) for name in files]
    monkeypatch.setattr(HfApi, "model_info", lambda *args, **kwargs: SimpleNamespace(sha="abc", siblings=siblings))
    asked: list[Any] = []

    def snapshot_download(repository: str, **settings: Any) -> str:
        asked.append((repository, settings["revision"], settings["allow_patterns"][3:]))
        hub.mkdir()
        (hub / wanted[0]).touch()
        return str(hub)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert fetched("hf-hub:org/model@v2") == str(hub) and asked == [("org/model", "abc", wanted)]


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    encoder, other = (new_encoder(EncoderSettings("test_vit"), (32, 32), 3, seed) for seed in (0, 1))
    state = other.net.state_dict()
    halves = {f"model-0000{i}-of-00002.safetensors": dict(list(state.items())[i - 1 :: 2]) for i in (1, 2)}
    for name, half in halves.items():
        save_file(half, tmp_path / name)
    index = {"weight_map": {key: name for name, half in halves.items() for key in half}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"all {len(state)} tensors" in load_checkpoint(encoder, tmp_path)
    assert all(torch.equal(tensor, state[key]) for key, tensor in encoder.net.state_dict().items())


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert fetched(str(tmp_path)) == str(tmp_path)


def test_stages_take_names(hub: Path, tmp_path: Path, whymask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = lay_out(hub, "timm/test_vit.r160_in1k")
    small = ("--epochs", 1, "--device", "cpu", "--threads", 1, "--budget", 2)
    out = tmp_path / "run"
    assert whymask("finetune", GLYPHS, "--from", "test_vit.r160_in1k", *small, "--out", out) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "images are resized bilinear, as the weights were trained to see them" in said
    assert f"weights from hf-hub:timm/test_vit.r160_in1k@{snapshot.name}, all" in said and "licence: apache-2.0" in said
    assert read_record(out).origin == str(snapshot)
    prep = read_json(out / "encoder" / "encoder.json")["preprocessing"]
    assert (prep["mean"], prep["std"], prep["interpolation"]) == ([0.25], [0.5], "bilinear")
    shutil.rmtree(hub)
    assert whymask("probe", GLYPHS, "--from", "test_vit.r160_in1k", "--out", tmp_path / "probe") != 0
    assert "hf download timm/test_vit.r160_in1k" in capsys.readouterr().err
