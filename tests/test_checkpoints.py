"""Weights from elsewhere: transformers' and timm's checkpoints load exactly or not at all, and nothing is executed."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining

from whymask.data.preprocessing import Preprocessing
from whymask.encoders import Encoder, EncoderConfig, build_encoder, save_encoder
from whymask.encoders.checkpoints import load_checkpoint
from whymask.errors import WhymaskError

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
}
DECODER = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}


def vit(width: int = 32, seed: int = 0) -> Encoder:
    return build_encoder(EncoderConfig("vit", width=width, depth=2, heads=2, patch=8), (32, 32), 3, seed).eval()


@pytest.mark.parametrize("as_pickle", [False, True])
def test_a_classifier_of_transformers_gives_the_same_features(as_pickle: bool, tmp_path: Path) -> None:
    peer = ViTForImageClassification(ViTConfig(**SHAPE)).eval()
    peer.save_pretrained(tmp_path)
    path = tmp_path
    if as_pickle:
        path = tmp_path / "weights.pt"
        torch.save({"model": peer.state_dict()}, path)
    encoder = vit()
    said = load_checkpoint(encoder, path)
    assert "without its classifier" in said and "licence" in said
    images = torch.randn(3, 3, 32, 32)
    expected = peer.vit(images).last_hidden_state
    torch.testing.assert_close(encoder(images), expected, atol=1e-5, rtol=1e-4)


def test_the_encoder_of_a_masked_autoencoder_is_taken_without_its_decoder(tmp_path: Path) -> None:
    peer = ViTMAEForPreTraining(ViTMAEConfig(**SHAPE, **DECODER)).eval()
    peer.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    encoder = vit()
    said = load_checkpoint(encoder, tmp_path)
    assert "decoder" in said and "cc-by-nc-4.0" in said
    expected = load_file(tmp_path / "model.safetensors")["vit.encoder.layer.1.output.dense.weight"]
    assert torch.equal(encoder.net.blocks[1].mlp.fc2.weight, expected)


def test_a_file_of_timm_loads_by_name(tmp_path: Path) -> None:
    other, encoder = vit(seed=1), vit(seed=2)
    save_file(other.net.state_dict() | {"head.weight": torch.ones(10, 32)}, tmp_path / "timm.safetensors")
    assert "without its head" in load_checkpoint(encoder, tmp_path / "timm.safetensors")
    for key, tensor in encoder.net.state_dict().items():
        assert torch.equal(tensor, other.net.state_dict()[key])


def test_a_run_of_whymask_brings_its_origin(tmp_path: Path) -> None:
    other, encoder = vit(seed=1), vit(seed=2)
    other.origin = "weights from somebody; licence mit"
    save_encoder(other, Preprocessing((32, 32), (32, 32), 3, mean=(0.5,) * 3, std=(0.2,) * 3), tmp_path / "encoder")
    assert load_checkpoint(encoder, tmp_path) == other.origin
    assert torch.equal(encoder.net.cls_token, other.net.cls_token)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    save_file(vit(width=64).net.state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(WhymaskError, match=r"another shape.*cls_token \(1, 1, 64\) instead of \(1, 1, 32\)"):
        load_checkpoint(vit(), tmp_path / "wide.safetensors")
    state = vit().net.state_dict()
    del state["blocks.1.attn.qkv.bias"]
    save_file(state, tmp_path / "partial.safetensors")
    with pytest.raises(WhymaskError, match=r"1 missing: blocks\.1\.attn\.qkv\.bias"):
        load_checkpoint(vit(), tmp_path / "partial.safetensors")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('executed', 'w')",)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.pt").write_bytes(pickle.dumps({"model": Bomb()}, protocol=2))
    with pytest.raises(WhymaskError, match="nothing in it was executed"):
        load_checkpoint(vit(), Path("bad.pt"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["text.safetensors", "text.pth", "missing.safetensors", "list.pt"])
def test_what_is_no_checkpoint_is_said_to_be_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "list.pt":
        torch.save([1, 2], path)
    elif not name.startswith("missing"):
        path.write_text(json.dumps("hello"))
    with pytest.raises(WhymaskError, match=name):
        load_checkpoint(vit(), path)
