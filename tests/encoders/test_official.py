"""The files of DINOv2, DINOv3, EVA-02, BEiT and data2vec, as their authors named the weights: the same features."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from small_timm import SMALL_TIMM
from tiny import new_encoder
from whymask.encoders import Encoder, EncoderSettings
from whymask.encoders.checkpoints import load_checkpoint
from whymask.errors import WhymaskError

State = dict[str, Tensor]
assert SMALL_TIMM


def moved(asked: EncoderSettings, seed: int) -> Encoder:
    """A small encoder whose every weight is moved away from where it begins."""
    encoder = new_encoder(asked, (32, 32), 3, seed).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def dinov2(state: State) -> Any:
    return state | {"mask_token": torch.ones(1, 32)}


def dinov2_registers(state: State) -> Any:
    """The class token has a place, which timm has added to it."""
    place = torch.randn(1, 1, 32)
    named = {"register_tokens" if key == "reg_token" else key: tensor for key, tensor in state.items()}
    changed = {"cls_token": state["cls_token"] - place, "pos_embed": torch.cat([place, state["pos_embed"]], dim=1)}
    return named | changed | {"mask_token": torch.ones(1, 32)}


def dinov3(state: State) -> Any:
    """Biases of queries, keys (none) and values are one; angles are kept."""
    named: State = {"rope_embed.periods": torch.ones(4), "mask_token": torch.ones(1, 32)}
    for key, tensor in state.items():
        if key.endswith("v_bias"):
            continue
        if key.endswith("q_bias"):
            where = key.removesuffix("q_bias")
            values = state[f"{where}v_bias"]
            named[f"{where}qkv.bias"] = torch.cat([tensor, torch.zeros_like(tensor), values])
            named[f"{where}qkv.bias_mask"] = torch.ones(96)
            continue
        named[re.sub(r"gamma_([12])", r"ls\1.gamma", key.replace("reg_token", "storage_tokens"))] = tensor
    return named


def eva02(state: State) -> Any:
    names = {"mlp.norm": "mlp.ffn_ln", "mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3"}
    named = {}
    for key, tensor in state.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        named[key] = tensor
    extra = {"rope.freqs_cos": torch.ones(2), "mask_token": torch.ones(2), "lm_head.bias": torch.ones(2)}
    return {"module": named | extra}


def beit(state: State) -> Any:
    """Of data2vec, too, whose authors used BEiT's code."""
    index = {"blocks.0.attn.relative_position_index": torch.ones(2), "head.weight": torch.ones(3, 32)}
    return {"model": state | index | {"mask_token": torch.ones(1, 1, 32), "lm_head.weight": torch.ones(2)}}


FILES: dict[str, tuple[EncoderSettings, Callable[[State], Any]]] = {
    "dinov2": (EncoderSettings("small_dinov2", patch=8, pool="token"), dinov2),
    "dinov2 with registers": (EncoderSettings("small_dinov2_reg4", patch=8, pool="token"), dinov2_registers),
    "dinov3": (EncoderSettings("small_dinov3", patch=8), dinov3),
    "eva02": (EncoderSettings("small_eva02", patch=8), eva02),
    "beit and data2vec": (EncoderSettings("small_beit8"), beit),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_its_authors_gives_the_same_features(name: str, tmp_path: Path) -> None:
    asked, named = FILES[name]
    source, encoder = moved(asked, 1), moved(asked, 2)
    torch.save(named(dict(source.net.state_dict())), tmp_path / "official.pth")
    assert f"all {len(encoder.net.state_dict())} tensors" in load_checkpoint(encoder, tmp_path / "official.pth")
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(encoder(images), source(images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.pool(encoder(images)), source.pool(source(images)), atol=1e-5, rtol=1e-4)


def test_relative_positions_of_another_grid_are_interpolated_and_that_is_said(tmp_path: Path) -> None:
    source = new_encoder(EncoderSettings("small_beit8"), (64, 64), 3, 1)
    torch.save(beit(dict(source.net.state_dict())), tmp_path / "beit.pth")
    encoder = new_encoder(EncoderSettings("small_beit8"), (32, 32), 3, 2)
    assert "position tables interpolated" in load_checkpoint(encoder, tmp_path / "beit.pth")


def test_an_encoder_of_data2vec_2_is_refused_for_what_it_is(tmp_path: Path) -> None:
    state = {"modality_encoders.IMAGE.extra_tokens": torch.ones(1, 1, 32), "blocks.0.norm1.weight": torch.ones(32)}
    torch.save({"model": state}, tmp_path / "base_imagenet.pt")
    with pytest.raises(WhymaskError, match=r"data2vec 2\.0, whose blocks normalise behind each sum.*data2vec 1\.0"):
        load_checkpoint(moved(EncoderSettings("vit", width=32, depth=1, heads=2), 0), tmp_path / "base_imagenet.pt")
