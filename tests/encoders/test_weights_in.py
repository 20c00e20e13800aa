"""Weights under other projects' names, on other grids, in part; and stages that start from them."""

import json
import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor

import whymask
from tiny import DEVICE, GLYPHS, new_encoder, runtime
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import Encoder, EncoderSettings, load_encoder, save_encoder
from whymask.encoders.checkpoints import load_checkpoint
from whymask.encoders.described import described
from whymask.errors import WhymaskError
from whymask.methods.files import load_method
from whymask.methods.settings import MAESettings
from whymask.randomness import torch_generator
from whymask.stages.alone import FinetuneSettings, PretrainSettings
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings

State = dict[str, Tensor]
RUNTIME = runtime()
VIT = EncoderSettings("vit", width=32, depth=2, heads=2, patch=8)
SWIN = EncoderSettings("swin_tiny_patch4_window7_224", width=32, patch=1)


def encoder_of(config: EncoderSettings, size: tuple[int, int] = (32, 32), seed: int = 0) -> Encoder:
    """A small encoder whose every weight is moved away from where it begins."""
    encoder = new_encoder(config, size, 3, seed).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


# The names of other projects, backwards from timm's


def mae(state: State) -> Any:
    extra = ("mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_pred.weight", "decoder_norm.bias")
    return {"model": state | {key: torch.ones(2) for key in extra}}


def spark(state: State) -> Any:
    extra = {"dense_decoder.dec.0.up_sample.weight", "densify_norms.0.weight", "mask_tokens.0", "imn_m", "norm_black"}
    inner = {f"sparse_encoder.sp_cnn.{key}": tensor for key, tensor in state.items()}
    return {"module": inner | {key: torch.ones(2) for key in extra} | {"config": {}}, "cur_ep": 3}


CONVNEXT = {
    "stem.": "downsample_layers.0.",
    ".blocks.": ".",
    "conv_dw": "dwconv",
    "mlp.fc": "pwconv",
    "mlp.grn.weight": "grn.gamma",
    "mlp.grn.bias": "grn.beta",
    "head.norm": "norm",
}


def convnext(state: State) -> Any:
    """ConvNeXt's own names; those of version 2 differ by the response norm's shape."""
    renamed = {}
    for key, tensor in state.items():
        key = re.sub(
            r"stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key.replace("stem.", "downsample_layers.0.")
        )
        key = key.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        key = (
            key.replace("mlp.grn.weight", "grn.gamma").replace("mlp.grn.bias", "grn.beta").replace("head.norm", "norm")
        )
        renamed[key] = tensor.view(1, 1, 1, -1) if "grn" in key else tensor
        if "pwconv" in key and tensor.ndim == 4:  # linear layers there
            renamed[key] = tensor[:, :, 0, 0]
    return {"model": renamed | {"head.weight": torch.ones(3, 2), "head.bias": torch.ones(3)}}


def fcmae(state: State) -> Any:
    """The pretraining's: sparse convolutions hold (places, [in,] out), places column by column; layers are wrapped."""
    renamed = {}
    for key, tensor in convnext(state)["model"].items():
        if key.startswith(("head", "norm")):
            continue
        sparse = "stages" in key or re.match(r"downsample_layers\.[123]\.", key)
        if not sparse:
            renamed[key] = tensor
        elif key.endswith("dwconv.weight"):
            renamed[key.replace("weight", "kernel")] = tensor[:, 0].permute(2, 1, 0).flatten(0, 1)
        elif tensor.ndim == 4 and "grn" not in key:
            renamed[key.replace("weight", "kernel")] = tensor.permute(3, 2, 1, 0).flatten(0, 1)
        elif "pwconv" in key:
            renamed[re.sub(r"\.(weight|bias)$", r".linear.\1", key)] = tensor
        elif "norm" in key or re.match(r"downsample_layers\.\d\.0", key):
            renamed[re.sub(r"\.(weight|bias)$", r".ln.\1", key)] = tensor
        else:
            renamed[key] = tensor.view(1, -1) if key.endswith("bias") else tensor
    extra = {"mask_token": torch.ones(2), "proj.weight": torch.ones(2), "pred.bias": torch.ones(2)}
    return {
        "model": {f"encoder.{key}": t for key, t in renamed.items()} | extra | {"decoder.0.norm.weight": torch.ones(2)}
    }


def swin(state: State) -> Any:
    """Swin's own: patches are merged at the end of a stage, and windows' constants are kept."""
    renamed = {}
    for key, tensor in state.items():
        if match := re.match(r"layers\.(\d)\.downsample\.(.*)", key):
            key = f"layers.{int(match[1]) - 1}.downsample.{match[2]}"
        renamed[key] = tensor
    extra = {
        "layers.0.blocks.1.attn_mask": torch.ones(2),
        "layers.0.blocks.0.attn.relative_position_index": torch.ones(2),
    }
    return {"model": renamed | extra | {"head.weight": torch.ones(3)}}


def plain(state: State) -> Any:
    return state


def wrapped(state: State) -> Any:
    return {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}, "epoch": 3}


def timm_wrapper(state: State) -> Any:
    return {f"timm_model.{key}": tensor for key, tensor in state.items()} | {"timm_model.fc.weight": torch.ones(3)}


SOURCES: dict[str, tuple[Callable[[State], Any], EncoderSettings, str]] = {
    "timm-vit": (plain, EncoderSettings("test_vit"), "not stated"),
    "timm-resnet": (plain, EncoderSettings("test_resnet"), "not stated"),
    "wrapped": (wrapped, EncoderSettings("test_efficientnet"), "not stated"),
    "transformers-wrapper": (timm_wrapper, EncoderSettings("test_resnet"), "not stated"),
    "mae": (mae, VIT, "CC-BY-NC 4.0, as its key names are those of MAE"),
    "spark": (spark, EncoderSettings("test_resnet"), "MIT, as its key names are those of SparK"),
    "convnext": (convnext, EncoderSettings("test_convnext"), "not stated"),
    "convnextv2": (convnext, EncoderSettings("convnextv2_atto"), "4.0, as its key names are those of ConvNeXt V2"),
    "swin": (swin, SWIN, "not stated"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_checkpoint_under_its_projects_names_gives_the_same_features(name: str, tmp_path: Path) -> None:
    forwards, config, licence = SOURCES[name]
    source, encoder = encoder_of(config, seed=1), encoder_of(config, seed=2)
    torch.save(forwards(source.net.state_dict()), tmp_path / "weights.pth")
    said = load_checkpoint(encoder, tmp_path / "weights.pth")
    assert licence in said and f"all {len(source.net.state_dict())} tensors" in said
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(images), source(images), atol=1e-6, rtol=1e-5)


def test_a_sparse_pretraining_of_fcmae_lacks_the_last_norm_alone(tmp_path: Path) -> None:
    source, encoder = (encoder_of(EncoderSettings("convnextv2_atto"), seed=seed) for seed in (1, 2))
    torch.save(fcmae(source.net.state_dict()), tmp_path / "fcmae.pt")
    with pytest.raises(WhymaskError, match=r"2 missing: head\.norm\.weight, head\.norm\.bias.*--partial"):
        load_checkpoint(encoder, tmp_path / "fcmae.pt")
    said = load_checkpoint(encoder, tmp_path / "fcmae.pt", partial=True)
    count = len(source.net.state_dict())
    assert f"{count - 2} of {count} tensors" in said and "(fresh: head.norm.weight, head.norm.bias)" in said
    assert "CC-BY-NC 4.0" in said
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(images), source(images), atol=1e-6, rtol=1e-5)  # maps are before that norm


# Grids, and what does not match


@pytest.mark.parametrize("config", [VIT, EncoderSettings("test_vit", patch=8), EncoderSettings("test_vit3", patch=8)])
def test_positions_of_another_grid_are_interpolated_and_that_is_said(config: EncoderSettings, tmp_path: Path) -> None:
    source, encoder = encoder_of(config, (64, 64), seed=1), encoder_of(config, (32, 48), seed=2)
    save_file(source.net.state_dict(), tmp_path / "large.safetensors")
    assert "positions interpolated from 8x8 to 4x6" in load_checkpoint(encoder, tmp_path / "large.safetensors")
    prefix = source.net.pos_embed.shape[1] - 64
    expected = resample_abs_pos_embed(source.net.pos_embed, [4, 6], [8, 8], num_prefix_tokens=prefix)
    assert torch.equal(encoder.net.pos_embed, expected)
    assert torch.equal(encoder.net.patch_embed.proj.weight, source.net.patch_embed.proj.weight)


def test_positions_of_as_many_places_in_another_grid_are_interpolated_too(tmp_path: Path) -> None:
    source, encoder = encoder_of(VIT, (16, 64), seed=1), encoder_of(VIT, (32, 32), seed=2)
    assert "positions interpolated from 2x8 to 4x4" in load_checkpoint(encoder, hub_folder(tmp_path / "hub", source))
    expected = resample_abs_pos_embed(source.net.pos_embed, [4, 4], [2, 8], num_prefix_tokens=1)
    assert torch.equal(encoder.net.pos_embed, expected)


def test_a_run_of_another_size_is_loaded_with_interpolated_positions(pictures: Path, tmp_path: Path) -> None:
    source, encoder = encoder_of(VIT, (64, 64), seed=1), encoder_of(VIT, (32, 32), seed=2)
    save_encoder(source, Preprocessing((64, 64), (64, 64), 3, mean=(0.5,) * 3, std=(0.2,) * 3), tmp_path / "encoder")
    assert "positions interpolated from 8x8 to 4x4" in load_checkpoint(encoder, tmp_path)
    assert torch.equal(encoder.net.cls_token, source.net.cls_token)


def test_tables_of_a_swins_other_windows_are_interpolated_and_that_is_said(tmp_path: Path) -> None:
    source, encoder = encoder_of(SWIN, (64, 64), seed=1), encoder_of(SWIN, (32, 32), seed=2)
    save_file(source.net.state_dict(), tmp_path / "swin.safetensors")
    assert "position tables interpolated" in load_checkpoint(encoder, tmp_path / "swin.safetensors")


def test_a_partial_load_says_what_stays_new_and_what_is_not_used(tmp_path: Path) -> None:
    source, encoder = encoder_of(VIT, seed=1), encoder_of(VIT, seed=2)
    state = dict(source.net.state_dict())
    del state["norm.bias"]
    save_file(state | {"blocks.7.norm1.bias": torch.ones(32)}, tmp_path / "some.safetensors")
    before = encoder.net.norm.bias.clone()
    with pytest.raises(WhymaskError, match=r"1 missing: norm\.bias; 1 unexpected: blocks\.7\.norm1\.bias.*--partial"):
        load_checkpoint(encoder, tmp_path / "some.safetensors")
    said = load_checkpoint(encoder, tmp_path / "some.safetensors", partial=True)
    assert "29 of 30 tensors, 99.9% of the weights (fresh: norm.bias) (ignored: blocks.7.norm1.bias)" in said
    assert torch.equal(encoder.net.norm.bias, before) and torch.equal(encoder.net.cls_token, source.net.cls_token)


@pytest.mark.parametrize("partial", [False, True])
def test_nothing_that_matches_is_an_error_however_asked(partial: bool, tmp_path: Path) -> None:
    save_file({"weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WhymaskError, match="30 missing"):
        load_checkpoint(encoder_of(VIT), tmp_path / "other.safetensors", partial)


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (EncoderSettings("vit", width=32, depth=2, heads=2, patch=4), r"\(32, 3, 4, 4\) instead of \(32, 3, 8, 8\)"),
        (
            EncoderSettings("vit", width=64, depth=2, heads=2, patch=8),
            r"cls_token \(1, 1, 64\) instead of \(1, 1, 32\)",
        ),
        (EncoderSettings("test_resnet"), "30 missing: cls_token, pos_embed"),
    ],
)
def test_another_width_patch_or_network_is_refused(there: EncoderSettings, named: str, tmp_path: Path) -> None:
    encoder = encoder_of(VIT)
    before = {key: tensor.clone() for key, tensor in encoder.net.state_dict().items()}
    save_file(encoder_of(there, seed=1).net.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WhymaskError, match=named):
        load_checkpoint(encoder, tmp_path / "other.safetensors")
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.net.state_dict().items())


def test_a_swin_of_other_patches_is_refused(tmp_path: Path) -> None:
    coarse = EncoderSettings(SWIN.name, width=32, patch=2)
    save_file(encoder_of(coarse, (64, 64)).net.state_dict(), tmp_path / "swin.safetensors")
    with pytest.raises(WhymaskError, match=r"patch_embed\.proj\.weight \(32, 3, 2, 2\) instead of \(32, 3, 1, 1\)"):
        load_checkpoint(encoder_of(SWIN), tmp_path / "swin.safetensors")


@pytest.mark.parametrize("heads", [1, 4])
def test_other_heads_than_those_described_beside_the_weights_are_refused(heads: int, tmp_path: Path) -> None:
    hub = hub_folder(tmp_path / "hub", encoder_of(VIT))
    other = EncoderSettings("vit", width=32, depth=2, heads=heads, patch=8)
    with pytest.raises(WhymaskError, match=f"num_heads 2 instead of {heads}"):
        load_checkpoint(encoder_of(other), hub)


def test_settings_beside_the_weights_in_a_pickle_are_read_as_nothing_else(tmp_path: Path) -> None:
    source, encoder = encoder_of(VIT, seed=1), encoder_of(VIT, seed=2)
    torch.save(mae(source.net.state_dict()) | {"args": Namespace(epochs=800), "epoch": 3}, tmp_path / "mae.pth")
    assert "all 30 tensors" in load_checkpoint(encoder, tmp_path / "mae.pth")


def test_a_start_that_fails_leaves_no_folder_in_the_way(pictures: Path, tmp_path: Path) -> None:
    state = dict(encoder_of(VIT, (24, 24)).net.state_dict())
    del state["norm.bias"]
    save_file(state, tmp_path / "some.safetensors")
    settings = small(origin=str(tmp_path / "some.safetensors"), encoder=VIT)
    with pytest.raises(WhymaskError, match=r"1 missing: norm\.bias"):
        whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()
    whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=replace(settings, partial=True))


# What lies beside them


@pytest.mark.parametrize(
    "about", [{"architecture": 5}, {"architecture": "test_vit", "pretrained_cfg": "x"}, {"model_type": "vit", "x": 1}]
)
def test_a_description_that_is_none_is_named(about: dict[str, Any], tmp_path: Path) -> None:
    save_file(encoder_of(VIT).net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(about))
    if "model_type" in about:
        assert described(tmp_path).size is None
        return
    with pytest.raises(WhymaskError, match=r"config\.json describes no network"):
        described(tmp_path)


def hub_folder(folder: Path, encoder: Encoder) -> Path:
    """As timm saves for the hub."""
    folder.mkdir()
    save_file(encoder.net.state_dict(), folder / "model.safetensors")
    args = {key: value for key, value in encoder.timm_kwargs.items() if key not in ("in_chans", "num_classes")}
    cfg = {"input_size": [3, *encoder.size], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "license": "mit"}
    about = {"architecture": encoder.timm_name, "num_classes": 0, "model_args": args, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("config", [VIT, EncoderSettings("test_vit"), EncoderSettings("test_resnet"), SWIN])
def test_a_hub_folder_says_which_encoder_it_is(config: EncoderSettings, tmp_path: Path) -> None:
    source = encoder_of(config, seed=1)
    about = described(hub_folder(tmp_path / "hub", source))
    assert (about.size, about.channels) == ((32, 32), 3)
    encoder = new_encoder(about.merged(EncoderSettings()), (32, 32), 3, seed=2).eval()
    assert "licence: mit" in load_checkpoint(encoder, tmp_path / "hub")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(encoder.pool(encoder(images)), source.pool(source(images)))


def small(method: str = "mae", **changes: Any) -> PretrainSettings:
    settings: dict[str, Any] = {
        "method": method,
        "training": PretrainTrainingSettings(epochs=1, batch_size=8),
        "runtime": RUNTIME,
    }
    return PretrainSettings(**settings | changes)


@pytest.mark.parametrize("config", [VIT, EncoderSettings("test_resnet")], ids=lambda config: config.name)
def test_pretraining_goes_on_from_a_hub_folder_with_its_statistics(
    config: EncoderSettings, pictures: Path, tmp_path: Path
) -> None:
    source = encoder_of(config, seed=1)
    hub = hub_folder(tmp_path / "hub", source)
    training = PretrainTrainingSettings(epochs=1, batch_size=8, learning_rate=1e-12)
    whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=small(origin=str(hub), training=training))
    encoder = load_encoder(tmp_path / "run")
    assert (encoder.transform.mean, encoder.transform.size) == ((0.5, 0.4, 0.3), (32, 32))
    assert encoder.origin is not None and "licence: mit" in encoder.origin
    for key, parameter in encoder.net.named_parameters():
        torch.testing.assert_close(parameter, source.net.get_parameter(key), atol=1e-6, rtol=0)
    assert read_json(tmp_path / "run" / "config.json")["config"]["origin"] == str(hub)


def test_pretraining_goes_on_with_its_decoder_where_the_method_is_the_same(
    pictures: Path, tmp_path: Path, capsys: Any
) -> None:
    photos, first = pictures / "photos", tmp_path / "first"
    whymask.pretrain(photos, out=first, settings=small(encoder=VIT))
    kept = load_method(first)
    still = PretrainTrainingSettings(epochs=1, batch_size=8, learning_rate=1e-12)
    whymask.pretrain(photos, out=tmp_path / "next", settings=small(origin=str(first), training=still))
    assert "decoder and the like) are those of" in " ".join(capsys.readouterr().err.split())
    after = load_method(tmp_path / "next").state_dict()
    assert all(torch.allclose(tensor, after[key], atol=1e-6) for key, tensor in kept.state_dict().items())
    whymask.pretrain(photos, out=tmp_path / "inner", settings=small(origin=str(first / "encoder")))
    assert "decoder and the like) are those of" in " ".join(capsys.readouterr().err.split())
    narrow = small(origin=str(first), mae=MAESettings(decoder_width=32))
    whymask.pretrain(photos, out=tmp_path / "narrow", settings=narrow)
    assert "start anew: those of" in " ".join(capsys.readouterr().err.split())
    whymask.pretrain(photos, out=tmp_path / "other", settings=small("simmim", origin=str(first)))
    assert "(decoder and the like) start anew" in " ".join(capsys.readouterr().err.split())


def test_a_run_that_goes_on_remembers_every_image_that_was_seen(pictures: Path, tmp_path: Path) -> None:
    whymask.pretrain(pictures / "labelled", out=tmp_path / "first", settings=small(encoder=VIT))
    whymask.pretrain(pictures / "photos", out=tmp_path / "next", settings=small(origin=str(tmp_path / "first")))
    first, both = (set(np.load(tmp_path / run / "pool.npz")["hashes"].tolist()) for run in ("first", "next"))
    assert first < both
    whymask.finetune(
        pictures / "labelled",
        out=tmp_path / "tuned",
        settings=FinetuneSettings(
            origin=str(tmp_path / "next" / "encoder"),
            training=FinetuneTrainingSettings(epochs=1, batch_size=8),
            runtime=RUNTIME,
        ),
    )
    assert set(np.load(tmp_path / "tuned" / "pool.npz")["hashes"].tolist()) == both


@pytest.mark.parametrize("file", ["decoder.json", "decoder.safetensors"])
def test_a_half_written_decoder_is_named(file: str, pictures: Path, tmp_path: Path) -> None:
    whymask.pretrain(pictures / "photos", out=tmp_path / "first", settings=small(encoder=VIT))
    whole = (tmp_path / "first" / file).read_bytes()
    (tmp_path / "first" / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WhymaskError, match=rf"{file} is damaged"):
        whymask.pretrain(pictures / "photos", out=tmp_path / "next", settings=small(origin=str(tmp_path / "first")))


def test_the_size_of_a_run_cannot_be_changed(pictures: Path, tmp_path: Path) -> None:
    whymask.pretrain(pictures / "photos", out=tmp_path / "first", settings=small(encoder=VIT))
    settings = small(origin=str(tmp_path / "first"), data=DataSettings(size=16))
    with pytest.raises(WhymaskError, match="sees images of 24x24 pixels and 3 channels; leave --size"):
        whymask.pretrain(pictures / "photos", out=tmp_path / "next", settings=settings)


def test_a_method_is_kept_with_what_it_predicts(pictures: Path, tmp_path: Path) -> None:
    settings = small(encoder=VIT, mae=MAESettings(mask_ratio=0.5, decoder_width=32))
    whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=settings)
    model: Any = load_method(tmp_path / "run")
    images = torch.randn(3, 3, *model.encoder.size)
    (hidden,) = model.draw(3, torch_generator(0))
    again: Any = load_method(tmp_path / "run")
    assert torch.equal(model.reconstruct(images, hidden), again.reconstruct(images, hidden))
    assert model.config.mask_ratio == 0.5 and not any(key.startswith("teacher") for key in model.state_dict())
    with pytest.raises(WhymaskError, match="keeps no method"):
        load_method(tmp_path)


def test_fine_tuning_takes_a_bare_file_only_with_its_networks_name(
    pictures: Path, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    file = tmp_path / "resnet.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), file)
    small = ("--epochs", 1, "--batch-size", 8, "--device", DEVICE, "--threads", 1)
    command = ("finetune", pictures / "labelled", "--from", file, "--out", tmp_path / "run")
    assert whymask(*command, *small) == 2
    assert "name it with --encoder" in " ".join(capsys.readouterr().err.split())
    assert whymask(*command, "--encoder", "test_resnet", *small) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "without its fc" in said and "output stride 8" in said
    assert whymask("finetune", pictures / "labelled", "--from", tmp_path / "no.pt", "--out", tmp_path / "x") == 2
    probing = ("probe", pictures / "labelled", "--from", file, "--encoder", "test_resnet", "--out", tmp_path / "probe")
    assert whymask(*probing, "--neighbours", 3) == 0


def test_fine_tuning_may_read_the_class_token_of_a_run_that_was_pooled(pictures: Path, tmp_path: Path) -> None:
    whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=small(encoder=VIT))
    settings = FinetuneSettings(
        origin=str(tmp_path / "run"),
        encoder=EncoderSettings(pool="token"),
        training=FinetuneTrainingSettings(epochs=1, batch_size=8),
        runtime=RUNTIME,
    )
    whymask.finetune(pictures / "labelled", out=tmp_path / "tuned", settings=settings)
    encoder = load_encoder(tmp_path / "tuned")
    features = encoder(torch.randn(2, 3, *encoder.size))
    assert encoder.config.pool == "token" and torch.equal(encoder.pool(features), features[:, 0])


def test_a_study_has_an_arm_from_a_file_of_timm(tmp_path: Path) -> None:
    from tiny import tiny_settings

    encoder = new_encoder(EncoderSettings("cnn", width=4), (32, 32), 1, 5)
    save_file(encoder.net.state_dict(), tmp_path / "init.safetensors")
    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), init=tmp_path / "init.safetensors")
    table = whymask.study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    assert "init" in {cell["arm"] for cell in table["cells"]}
