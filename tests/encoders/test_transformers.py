"""Networks of transformers, by their files and by their names in memory, give the same features as encoders here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import small_timm
from tiny import new_encoder
from whymask.disk import read_json
from whymask.encoders import Encoder, EncoderSettings
from whymask.encoders.checkpoints import load_checkpoint
from whymask.encoders.described import NETWORKS, described, network_of
from whymask.errors import WhymaskError

VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
CONV: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "layer_norm_eps": 1e-6}
WINDOWS: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 32,
    "depths": [1, 2],
    "num_heads": [1, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
}
RELATIVE: dict[str, Any] = {"use_relative_position_bias": True, "layer_norm_eps": 1e-6, "drop_path_rate": 0.0}


class Peer(NamedTuple):
    """A network of transformers, and the encoder that it becomes."""

    build: Callable[[], Any]
    encoder: EncoderSettings


def vit(name: str, pool: Any) -> EncoderSettings:
    return EncoderSettings(name, patch=8, pool=pool)


PEERS = {
    "dinov2": Peer(lambda: tf.Dinov2Model(tf.Dinov2Config(**VIT)), vit("small_dinov2", "token")),
    "dinov2_with_registers": Peer(
        lambda: tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**VIT)), vit("small_dinov2_reg4", "token")
    ),
    "dinov3_vit": Peer(
        lambda: tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**VIT, num_register_tokens=4)), vit("small_dinov3", "token")
    ),
    "dinov3_vit plus": Peer(
        lambda: tf.DINOv3ViTModel(
            tf.DINOv3ViTConfig(**VIT, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu")
        ),
        vit("small_dinov3_plus", "token"),
    ),
    "siglip_vision_model": Peer(
        lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig(**VIT, hidden_act="gelu")), vit("small_siglip", "attention")
    ),
    "clip_vision_model": Peer(
        lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig(**VIT)),
        vit("small_clip", "token"),
    ),
    "beit": Peer(lambda: tf.BeitModel(tf.BeitConfig(**VIT, **RELATIVE)), EncoderSettings("small_beit8")),
    "data2vec-vision": Peer(
        lambda: tf.Data2VecVisionModel(tf.Data2VecVisionConfig(**VIT, **RELATIVE), add_pooling_layer=True),
        EncoderSettings("small_beit8"),
    ),
    "resnet": Peer(
        lambda: tf.ResNetModel(
            tf.ResNetConfig(
                embedding_size=64, hidden_sizes=[16, 32, 48, 64], depths=[1, 2, 1, 1], layer_type="bottleneck"
            )
        ),
        EncoderSettings("small_resnet", output_stride=32),
    ),
    "resnet basic": Peer(
        lambda: tf.ResNetModel(
            tf.ResNetConfig(embedding_size=64, hidden_sizes=[64, 8, 12, 16], depths=[1, 2, 1, 1], layer_type="basic")
        ),
        EncoderSettings("small_resnet_basic", output_stride=32),
    ),
    "convnext": Peer(
        lambda: tf.ConvNextModel(tf.ConvNextConfig(**CONV)), EncoderSettings("small_convnext", output_stride=32)
    ),
    "convnextv2": Peer(
        lambda: tf.ConvNextV2Model(tf.ConvNextV2Config(**CONV)), EncoderSettings("small_convnextv2", output_stride=32)
    ),
    "convnextv2 conv": Peer(
        lambda: tf.ConvNextV2Model(tf.ConvNextV2Config(**CONV)),
        EncoderSettings("small_convnextv2_conv", output_stride=32),
    ),
    "dinov3_convnext": Peer(
        lambda: tf.DINOv3ConvNextModel(tf.DINOv3ConvNextConfig(**CONV)),
        EncoderSettings("small_convnext", output_stride=32),
    ),
    "swin": Peer(lambda: tf.SwinModel(tf.SwinConfig(**WINDOWS)), EncoderSettings("small_swin", patch=2)),
    "swinv2": Peer(lambda: tf.Swinv2Model(tf.Swinv2Config(**WINDOWS)), EncoderSettings("small_swinv2", patch=2)),
}


def shuffled(peer: Any) -> Any:
    """The network with every weight moved, so that no bias is zero and no norm is the identity."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in peer.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.1 * (torch.rand_like(tensor) if "running_var" in name else torch.randn_like(tensor)))
    return peer.eval()


def fresh(asked: EncoderSettings) -> Encoder:
    return new_encoder(asked, (32, 32), 3, seed=1).eval()


@pytest.mark.parametrize("name", PEERS)
def test_features_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """From its folder, and by the names that it uses in memory."""
    peer = PEERS[name]
    network = shuffled(peer.build())
    network.save_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        out = network(images)
    for path in (tmp_path, tmp_path / "weights.pt"):
        encoder = fresh(peer.encoder)
        assert f"all {len(encoder.net.state_dict())} tensors" in load_checkpoint(encoder, path)
        with torch.no_grad():
            features = encoder(images)
            pooled = encoder.pool(features)
        torch.testing.assert_close(pooled, out.pooler_output.flatten(1), atol=2e-5, rtol=1e-4)
        if name.startswith(("dino", "siglip", "resnet")) and "convnext" not in name:  # whose norm is on every position
            torch.testing.assert_close(features, out.last_hidden_state, atol=2e-5, rtol=1e-4)


def test_the_vision_half_of_a_network_of_two_is_taken(tmp_path: Path) -> None:
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = tf.SiglipConfig(vision_config=VIT | {"hidden_act": "gelu"}, text_config=text | {"vocab_size": 50})
    both = shuffled(tf.SiglipModel(config))
    both.save_pretrained(tmp_path)
    encoder = fresh(PEERS["siglip_vision_model"].encoder)
    assert "without its logit_bias, logit_scale, text_model" in load_checkpoint(encoder, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    expected = both.vision_model(images).pooler_output
    torch.testing.assert_close(encoder.pool(encoder(images)), expected, atol=2e-5, rtol=1e-4)
    mean = fresh(EncoderSettings("small_siglip", patch=8))
    assert "without its attn_pool, " in load_checkpoint(mean, tmp_path)


@pytest.mark.parametrize("name", PEERS)
def test_a_folder_says_which_network_of_timm_it_is(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    peer = PEERS[name]
    kind = name.partition(" ")[0]
    others = [name for name in (*small_timm.OF, *small_timm.CNNS, *small_timm.SWINS) if name != peer.encoder.name]
    monkeypatch.setitem(NETWORKS, kind, (others[0], peer.encoder.name))
    monkeypatch.setattr("whymask.encoders.described._may_be", lambda *given: True)
    peer.build().save_pretrained(tmp_path)
    processor = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        "resample": 2,
        "size": {"height": 32, "width": 32},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    about = described(tmp_path)
    assert (about.encoder.name, about.encoder.pool) == (peer.encoder.name, peer.encoder.pool)
    assert about.moments == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)) and about.interpolation == "bilinear"
    if "swin" in kind or "hidden_size" in read_json(tmp_path / "config.json"):
        assert about.size == (32, 32)
    encoder = fresh(about.merged(EncoderSettings()))
    assert "all" in load_checkpoint(encoder, tmp_path)


WIDE: dict[str, tuple[Callable[[], Any], str]] = {
    "dinov2": (
        lambda: tf.Dinov2Model(tf.Dinov2Config(hidden_size=384, num_attention_heads=6, patch_size=14, image_size=518)),
        "vit_small_patch14_dinov2",
    ),
    "dinov3_vit": (
        lambda: tf.DINOv3ViTModel(tf.DINOv3ViTConfig(num_register_tokens=4)),
        "vit_small_patch16_dinov3_qkvb",
    ),
    "siglip_vision_model": (lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig()), "vit_base_patch16_siglip_224"),
    "clip_vision_model": (lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig()), "vit_base_patch32_clip_quickgelu_224"),
    "resnet": (lambda: tf.ResNetModel(tf.ResNetConfig()), "resnet50"),
    "convnextv2": (lambda: tf.ConvNextV2Model(tf.ConvNextV2Config()), "convnextv2_tiny"),
    "swinv2": (lambda: tf.Swinv2Model(tf.Swinv2Config(window_size=8, image_size=256)), "swinv2_tiny_window8_256"),
}


@pytest.mark.parametrize("kind", WIDE)
def test_networks_of_public_sizes_are_told_by_their_shapes(kind: str) -> None:
    """As their files' headers hold them: no weights are made."""
    build, expected = WIDE[kind]
    with torch.device("meta"):
        network = build()
    assert network_of(network.state_dict(), kind, network.config.to_dict()) == expected


def test_another_activation_and_half_a_network_are_not_taken_for_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(NETWORKS, "clip_vision_model", ("small_clip",))
    tf.CLIPVisionModel(tf.CLIPVisionConfig(**VIT, hidden_act="gelu")).save_pretrained(tmp_path)
    with pytest.raises(WhymaskError, match="act_layer gelu instead of quick_gelu"):
        load_checkpoint(fresh(PEERS["clip_vision_model"].encoder), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({key: state[key] for key in list(state)[1:]}, tmp_path / "model.safetensors")
    about = described(tmp_path)
    assert about.encoder.name == "auto" and "no clip_vision_model among small_clip has weights of such" in about.unknown


def test_a_kind_that_is_not_known_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert (
        "config.json says 'bert'; networks of transformers are known of vit, vit_mae, resnet"
        in described(tmp_path).unknown
    )
