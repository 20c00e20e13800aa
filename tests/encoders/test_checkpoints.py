"""Weights from elsewhere: transformers' and timm's checkpoints load exactly or not at all, and nothing is executed."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTMAEModel,
    ViTModel,
)

from tiny import new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import Encoder, EncoderSettings, save_encoder
from whymask.encoders.checkpoints import NO_LICENCE, load_checkpoint
from whymask.encoders.described import moments_for
from whymask.errors import WhymaskError

PREPROCESSING = Preprocessing((32, 32), (32, 32), 3, mean=(0.5,) * 3, std=(0.2,) * 3)
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
    "encoder_stride": 8,
}
DECODER: dict[str, Any] = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
PEERS: dict[str, tuple[Callable[[], Any], str]] = {
    "ViTModel": (lambda: ViTModel(ViTConfig(**SHAPE)), ", without its pooler"),
    "classifier": (lambda: ViTForImageClassification(ViTConfig(**SHAPE)), ", without its classifier"),
    "masked image": (lambda: ViTForMaskedImageModeling(ViTConfig(**SHAPE)), ", without its decoder, mask_token"),
    "ViTMAEModel": (lambda: ViTMAEModel(ViTMAEConfig(**SHAPE, **DECODER, mask_ratio=0.0)), ""),
    "MAE": (lambda: ViTMAEForPreTraining(ViTMAEConfig(**SHAPE, **DECODER, mask_ratio=0.0)), ", without its decoder"),
}


def vit(width: int = 32, seed: int = 0, heads: int = 2) -> Encoder:
    return new_encoder(EncoderSettings("vit", width=width, depth=2, heads=heads, patch=8), (32, 32), 3, seed).eval()


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in encoder.net.state_dict().items()}


def shuffled(peer: Any) -> Any:
    """The network with every weight moved, so that no bias is zero and no norm is the identity."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return peer.eval()


def refuse(path: Path, match: str, encoder: Encoder | None = None) -> None:
    """The checkpoint is refused, and the encoder stays as it was."""
    encoder = encoder or vit()
    before = weights(encoder)
    with pytest.raises(WhymaskError, match=match):
        load_checkpoint(encoder, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.net.state_dict().items())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A ViTModel of transformers, saved."""
    shuffled(ViTModel(ViTConfig(**SHAPE))).save_pretrained(tmp_path)
    return tmp_path


# transformers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "pickle"])
@pytest.mark.parametrize("kind", PEERS)
def test_a_network_of_transformers_gives_the_same_features(kind: str, form: str, tmp_path: Path) -> None:
    build, said = PEERS[kind]
    peer = shuffled(build())
    path = tmp_path
    if form == "folder":
        peer.save_pretrained(path)
    else:  # the names that transformers uses in memory, not those in its files
        path = tmp_path / "weights.pt"
        torch.save({"model": peer.state_dict()}, path)
    encoder = vit()
    file = path / "model.safetensors" if form == "folder" else path
    assert load_checkpoint(encoder, path) == f"weights from {file}, all 30 tensors{said}; {NO_LICENCE}"
    images = torch.randn(3, 3, 32, 32)
    unshuffled = {"noise": torch.arange(16.0).expand(3, -1)} if "MAE" in kind else {}
    expected = getattr(peer, "vit", peer)(images, **unshuffled).last_hidden_state
    torch.testing.assert_close(encoder(images), expected, atol=1e-5, rtol=1e-4)


def test_the_norms_of_transformers_differ_by_little(tmp_path: Path) -> None:
    peer = ViTModel(ViTConfig(**SHAPE | {"layer_norm_eps": 1e-12})).eval()
    peer.save_pretrained(tmp_path)
    encoder = vit()
    load_checkpoint(encoder, tmp_path)
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(encoder(images), peer(images).last_hidden_state, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("num_attention_heads", 4, "num_heads 4 instead of 2"),  # the weights' shapes are the same
        ("hidden_act", "relu", "act_layer relu instead of gelu"),  # so they are here
        ("num_hidden_layers", 3, "depth 3 instead of 2"),
        ("hidden_size", 64, "embed_dim 64 instead of 32"),
        ("intermediate_size", 64, r"blocks\.0\.mlp\.fc1\.weight \(64, 32\) instead of \(128, 32\)"),
        ("patch_size", 4, r"patch_embed\.proj\.weight \(32, 3, 4, 4\) instead of \(32, 3, 8, 8\)"),
        ("num_channels", 1, "for images of 1 channels, and these have 3; give --channels 1"),
        ("qkv_bias", False, r"2 missing: blocks\.0\.attn\.qkv\.bias, blocks\.1\.attn\.qkv\.bias"),
    ],
)
def test_another_network_of_transformers_is_refused(setting: str, value: Any, named: str, tmp_path: Path) -> None:
    ViTModel(ViTConfig(**SHAPE | {setting: value})).save_pretrained(tmp_path)
    refuse(tmp_path, named)


@pytest.mark.parametrize("broken", ["no query", "short query"])
def test_queries_keys_and_values_must_all_be_there_and_alike(broken: str, saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    name = "encoder.layer.1.attention.attention.{}.weight"
    query, key = state.pop(name.format("query")), state[name.format("key")]
    if broken == "short query":  # of the right height together
        state[name.format("query")], state[name.format("key")] = query[:16], torch.cat([key, key[:16]])
    save_file({key: tensor.clone() for key, tensor in state.items()}, saved / "model.safetensors")
    refuse(saved, r"k \(\d+, 32\).*for blocks\.1\.attn\.qkv\.weight")


# timm and whymask --------------------------------------------------------------------------------------------


def test_a_file_of_timm_loads_without_its_head(tmp_path: Path) -> None:
    encoder = vit()
    other = timm.create_model(encoder.timm_name, **encoder.timm_kwargs | {"num_classes": 10})
    save_file(other.state_dict(), tmp_path / "timm.safetensors")
    assert "timm.safetensors, all 30 tensors, without its head; " in load_checkpoint(
        encoder, tmp_path / "timm.safetensors"
    )
    for key, tensor in encoder.net.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key])


def test_a_file_with_the_names_of_the_mae_paper_loads_without_its_decoder(tmp_path: Path) -> None:
    other = vit(seed=1)
    extra = ("mask_token", "decoder_embed.weight", "decoder_blocks.0.norm1.bias", "decoder_pos_embed", "fc.bias")
    torch.save({"model": other.net.state_dict() | {key: torch.ones(2) for key in extra}}, tmp_path / "mae.pth")
    encoder = vit(seed=2)
    assert "without its decoder, fc, mask_token;" in load_checkpoint(encoder, tmp_path / "mae.pth")
    assert torch.equal(encoder.net.cls_token, other.net.cls_token)


@pytest.mark.parametrize("given", [".", "encoder", "encoder/encoder.safetensors"])
def test_a_run_of_whymask_says_what_it_began_as(given: str, tmp_path: Path) -> None:
    other, encoder = vit(seed=1), vit(seed=2)
    other.origin = "weights from somebody; licence: mit"
    save_encoder(other, PREPROCESSING, tmp_path / "encoder")
    line = load_checkpoint(encoder, tmp_path / given)
    assert line.startswith(f"weights from {tmp_path}") and line.endswith(f"which began as {other.origin}")
    assert all(torch.equal(tensor, other.net.state_dict()[key]) for key, tensor in encoder.net.state_dict().items())


@pytest.mark.parametrize(
    ("config", "size", "named"),
    [
        (EncoderSettings("vit", width=32, depth=2, heads=4, patch=8), (32, 32), "num_heads 4 instead of 2"),
        (EncoderSettings("vit", width=32, depth=3, heads=2, patch=8), (32, 32), "depth 3 instead of 2"),
        (EncoderSettings("cnn"), (32, 32), "network plain_cnn instead of vit_"),
    ],
)
def test_a_run_of_another_architecture_is_refused(
    config: EncoderSettings, size: tuple[int, int], named: str, tmp_path: Path
) -> None:
    save_encoder(new_encoder(config, size, 3, 0), PREPROCESSING, tmp_path)
    refuse(tmp_path, named)


def test_a_cnn_of_other_strides_is_refused(tmp_path: Path) -> None:
    save_encoder(new_encoder(EncoderSettings("cnn"), (8, 8), 3, 0), PREPROCESSING, tmp_path)
    refuse(tmp_path, "strides .* instead of", new_encoder(EncoderSettings("cnn"), (32, 32), 3, 0))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_file(vit(width=64).net.state_dict(), tmp_path / "wide.safetensors")
    refuse(tmp_path / "wide.safetensors", r"another shape.*cls_token \(1, 1, 64\) instead of \(1, 1, 32\)")
    state = weights(vit())
    del state["blocks.1.attn.qkv.bias"]
    save_file(state, tmp_path / "partial.safetensors")
    refuse(tmp_path / "partial.safetensors", r"1 missing: blocks\.1\.attn\.qkv\.bias")
    save_file(weights(vit()) | {"fc_norm.weight": torch.ones(32)}, tmp_path / "more.safetensors")
    refuse(tmp_path / "more.safetensors", r"1 unexpected: fc_norm\.weight")


# licences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("README.md", "---\ntags: [vit]\nlicense: cc-by-nc-4.0\n---\n# A ViT\n", "cc-by-nc-4.0"),
        ("README.md", "---\nlicense: other\nlicense_name: ours\n---\n", "other, ours"),
        ("config.json", json.dumps({"license": "mit"}), "mit"),
        ("config.json", json.dumps({"pretrained_cfg": {"license": "apache-2.0"}}), "apache-2.0"),
    ],
)
def test_the_licence_beside_the_weights_is_told(file: str, text: str, found: str, saved: Path) -> None:
    (saved / file).write_text(text)
    assert load_checkpoint(vit(), saved / "model.safetensors").endswith(
        f"; licence: {found}, which weights trained from them keep"
    )


def test_the_licence_in_the_file_comes_first(saved: Path) -> None:
    (saved / "README.md").write_text("license: mit")
    save_file(load_file(saved / "model.safetensors"), saved / "model.safetensors", metadata={"license": "gpl-3.0"})
    assert "licence: gpl-3.0," in load_checkpoint(vit(), saved)


# what is refused ---------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('executed', 'w')",)


@pytest.mark.parametrize("form", ["plain", "torch"])
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "safetensors", "ckpt"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(
    suffix: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"bad.{suffix}")
    if form == "plain":
        path.write_bytes(pickle.dumps({"model": Bomb()}, protocol=2))
    else:
        torch.save({"model": weights(vit()), "args": Bomb()}, path)
    refuse(path, "nothing in it was executed")
    assert not Path("executed").exists()
    if form == "plain":  # the bomb is one
        pickle.loads(path.read_bytes())
        assert Path("executed").exists()


@pytest.mark.parametrize("name", ["text.safetensors", "text.pth", "empty.pt", "missing.safetensors", "list.pt", "."])
def test_what_is_no_checkpoint_is_said_to_be_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "list.pt":
        torch.save([1, 2], path)
    elif name == "empty.pt":
        path.touch()
    elif name.startswith("text"):
        path.write_text(json.dumps("hello"))
    refuse(path, "model.safetensors: no such file" if name == "." else name)


def test_damaged_files_are_named(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    refuse(saved, r"config\.json is damaged")
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[:-100])
    refuse(saved, r"model\.safetensors is not a whole safetensors file")


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "whymask"])
def test_a_first_layer_of_three_colours_sees_a_grey_image_as_three_equal_ones(name: str, tmp_path: Path) -> None:
    asked = EncoderSettings("cnn", width=4) if name == "whymask" else EncoderSettings(name)
    coloured = new_encoder(asked, (32, 32), 3).eval()
    path = tmp_path / "model.safetensors"
    if name == "whymask":
        save_encoder(coloured, PREPROCESSING, path := tmp_path / "run")
    else:
        save_file(coloured.net.state_dict(), path)
    grey, images = new_encoder(asked, (32, 32), 1, seed=1).eval(), torch.rand(2, 1, 32, 32)
    assert "its first layer summed over three colours for one channel" in load_checkpoint(grey, path)
    assert torch.allclose(grey(images), coloured(images.expand(-1, 3, -1, -1)), atol=1e-5)
    assert moments_for(((0.4, 0.5, 0.6), (0.1, 0.2, 0.3)), 1) == ((pytest.approx(0.5),), (pytest.approx(0.2),))
    five = new_encoder(asked, (32, 32), 5, seed=1).eval()
    assert "repeated for 5 channels" in load_checkpoint(five, path)
    assert five(images.expand(-1, 5, -1, -1)).shape == grey(images).shape
