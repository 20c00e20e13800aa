"""Networks of timm as encoders: every proven family, at sizes for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from method_cases import new_method
from small_timm import SMALL_TIMM
from tiny import digits, new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import Encoder, EncoderSettings, load_encoder, resolve, save_encoder
from whymask.encoders.catalogue import support_of
from whymask.errors import WhymaskError
from whymask.masks import to_pixels, uniform
from whymask.methods import METHODS, encoder_for
from whymask.randomness import torch_generator

CNNS = {
    name: EncoderSettings(name)
    for name in (
        "test_resnet",
        "resnet10t",
        "seresnext26t_32x4d",
        "resnet18d",
        "test_convnext",
        "convnext_atto",
        "convnextv2_atto",
        "test_efficientnet",
        "test_efficientnet_gn",
        "test_efficientnet_ln",
        "tf_efficientnet_b0",
    )
}
VITS = {
    name: EncoderSettings(name)
    for name in ("test_vit", "test_vit2", "test_vit3", "test_vit4", "deit_tiny_distilled_patch16_224")
} | {
    "vit": EncoderSettings("vit", width=32, depth=2, heads=2),
    **{name: asked for name, asked in SMALL_TIMM.items() if "beit" not in name},
}
ROTARY = ("small_eva02", "small_dinov3", "small_dinov3_plus", "small_rope_mixed", "small_pe_core", "small_rope_gap")
SWINS = {
    "swin": EncoderSettings("swin_tiny_patch4_window7_224", width=32, unit=4, patch=1),
    "swinv2": EncoderSettings("swinv2_tiny_window8_256", width=32, unit=4, patch=2),
}
ALL = CNNS | VITS | SWINS
SMALL = (
    "test_resnet",
    "test_convnext",
    "convnextv2_atto",
    "test_efficientnet",
    "test_vit",
    "test_vit3",
    "small_dinov3",
    "swin",
)
"""One of each kind, for what is tested with every method."""


def encoder_of(name: str, size: tuple[int, int] = (32, 32), channels: int = 3, seed: int = 0) -> Encoder:
    return new_encoder(ALL[name], size, channels, seed)


def shown(encoder: Encoder, images: Tensor, hidden: Tensor) -> Tensor:
    """Features under a mask: with a mask token where the encoder cannot do without."""
    token = torch.ones_like(encoder.mask_token()) if encoder.kind == "swin" else None
    return encoder(images, hidden, token)


def mask(encoder: Encoder, batch: int, seed: int = 0) -> Tensor:
    """Half of the squares at random, and all of the upper left quarter."""
    hidden = uniform(batch, encoder.grid, 0.5, torch_generator(seed))
    if encoder.kind != "vit":  # which needs equally many in each sample
        hidden[:, : encoder.grid[0] // 2, : encoder.grid[1] // 2] = True
    return hidden


@pytest.mark.parametrize("replacement", ["noise", 1e6, float("nan")])
@pytest.mark.parametrize("name", ALL)
def test_hidden_pixels_change_no_feature_and_no_gradient(name: str, replacement: Any) -> None:
    encoder = encoder_of(name).train()
    images, hidden = torch.randn(4, 3, 32, 32), mask(encoder_of(name), 4)
    other = torch.randn(4, 3, 32, 32) if replacement == "noise" else torch.full_like(images, replacement)
    state = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    results = []
    for pixels in (images, torch.where(to_pixels(hidden, encoder.unit), other, images)):
        encoder.load_state_dict(state)  # the statistics of batch norms move
        encoder.zero_grad()
        torch.manual_seed(0)
        features = shown(encoder, pixels, hidden)
        features.square().mean().backward()
        gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
        statistics = [tensor for tensor in encoder.state_dict().values() if tensor.is_floating_point()]
        results.append([features.detach().clone(), *(g.clone() for g in gradients), *(s.clone() for s in statistics)])
    assert torch.isfinite(results[0][0]).all()
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_with_everything_visible_it_is_the_dense_network_of_timm(name: str) -> None:
    encoder = encoder_of(name).eval()
    images, nothing = torch.randn(2, 3, 32, 32), torch.zeros(2, *encoder_of(name).grid, dtype=torch.bool)
    dense = encoder(images)
    assert torch.equal(shown(encoder, images, nothing), dense) or encoder.kind == "vit"
    torch.testing.assert_close(shown(encoder, images, nothing), dense, atol=1e-5, rtol=1e-5)
    other = timm.create_model(encoder.timm_name, **encoder.timm_kwargs).eval()
    other.load_state_dict(encoder.net.state_dict(), strict=True)
    torch.testing.assert_close(other.forward_features(images), dense, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other(images), encoder.pool(dense), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", ALL)
def test_odd_sizes_and_channels_train_save_and_load(name: str, channels: int, tmp_path: Path) -> None:
    size = (31, 47) if name in CNNS else (24, 40)
    encoder = encoder_of(name, size, channels).train()
    images = torch.randn(2, channels, *size)
    hidden = mask(encoder, 2)
    features = shown(encoder, images, hidden)
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()  # a mean may be constant
    gradients = {key: parameter.grad for key, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    used = sum(bool(gradient.any()) for gradient in gradients.values())
    assert used >= 0.25 * len(list(encoder.parameters()))  # branches that begin at zero pass nothing on
    statistics = Preprocessing(size, size, channels, mean=(0.5,) * channels, std=(0.2,) * channels)
    save_encoder(encoder, statistics, tmp_path)
    again = load_encoder(tmp_path)
    assert torch.equal(again(images), encoder.eval()(images)) and again.config == encoder.config
    assert again.rows(again(images)).shape == (2, again.rows_hidden(hidden).shape[1], again.dim)
    assert again.pool(again(images)).shape == (2, again.dim)


@pytest.mark.parametrize("name", CNNS)
def test_where_all_is_hidden_a_cnns_features_are_zero(name: str) -> None:
    encoder: Any = encoder_of(name).eval()
    hidden = mask(encoder, 3)
    features = encoder(torch.randn(3, 3, 32, 32), hidden)
    outputs = encoder.outputs(torch.randn(3, 3, 32, 32), hidden)
    assert features.abs().sum() > 0 and torch.equal(
        encoder.rows(features)[encoder.rows_hidden(hidden)],
        torch.zeros(int(encoder.rows_hidden(hidden).sum()), encoder.dim),
    )
    assert [x.shape[1] for x in outputs] == encoder.widths
    for layer, x in enumerate(outputs):
        visible = encoder.visible_in(layer, hidden)
        assert visible.shape[2:] == x.shape[2:] and not x.masked_select(~visible).any() and visible.any()


@pytest.mark.parametrize("name", CNNS)
def test_more_hidden_area_changes_nothing_that_is_seen(name: str) -> None:
    """An image, and the same with a hidden border twice as large: no norm and no pool counts the border."""
    # Not at output stride 8, where ResNet-D's mean pools count what is beyond the border as zeros, as in timm.
    config = EncoderSettings(name, output_stride=32)
    encoder, larger = (new_encoder(config, size, 3, 0).train() for size in ((64, 64), (128, 64)))
    larger.load_state_dict(encoder.state_dict())
    images, hidden = torch.randn(4, 3, 64, 64), mask(encoder, 4)
    wide = torch.cat([images, torch.randn(4, 3, 64, 64)], dim=2)
    wide_hidden = torch.cat([hidden, torch.ones_like(hidden)], dim=1)
    torch.manual_seed(0)
    features = encoder(images, hidden)
    torch.manual_seed(0)
    found = larger(wide, wide_hidden)
    rows = features.shape[2]
    torch.testing.assert_close(found[:, :, :rows], features, atol=2e-4, rtol=1e-3)
    pooled: Any = encoder
    torch.testing.assert_close(
        pooled.pool(features, hidden),
        larger.pool(found, wide_hidden),
        atol=2e-4,
        rtol=1e-3,  # type: ignore[call-arg]
    )


@pytest.mark.parametrize("name", sorted(set(VITS) - set(ROTARY)))
def test_a_vits_visible_tokens_are_those_of_the_network_on_them_alone(name: str) -> None:
    encoder: Any = encoder_of(name).eval()
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    images, hidden = torch.randn(3, 3, 32, 32), mask(encoder, 3)
    net = encoder.net
    tokens = net.norm_pre(net._pos_embed(net.patch_embed(images)))  # every token, with its position
    kept = torch.cat([torch.ones(3, encoder.prefix, dtype=torch.bool), ~hidden.flatten(1)], dim=1)
    expected = net.norm(net.blocks(tokens[kept].view(3, -1, encoder.dim)))
    torch.testing.assert_close(encoder(images, hidden), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ROTARY)
def test_visible_patches_are_turned_by_the_angles_of_their_own_places(name: str) -> None:
    """Image by image, by the dense blocks, with each visible patch's own row of the table of angles."""
    encoder: Any = encoder_of(name, (24, 40)).eval()
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    images, hidden = torch.randn(3, 3, 24, 40), mask(encoder, 3)
    net = encoder.net
    tokens, angles = net._pos_embed(net.patch_embed(images))
    outputs = encoder.outputs(images, hidden)
    for image in range(3):
        places = (~hidden[image].flatten()).nonzero().flatten().tolist()
        x = torch.stack([*tokens[image, : encoder.prefix], *(tokens[image, encoder.prefix + at] for at in places)])[
            None
        ]
        x = net.norm_pre(x)
        for layer, block in enumerate(net.blocks):
            table = angles[layer] if net.rope_mixed else angles
            x = block(x, rope=torch.stack([table[..., at, :] for at in places], dim=-2))
            torch.testing.assert_close(outputs[layer][image], x[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(encoder(images, hidden)[image], net.norm(x)[0], atol=1e-5, rtol=1e-4)
    moved = hidden.flip(1)  # as many patches elsewhere, with the same pixels there
    assert not torch.allclose(encoder(images.flip(2), moved)[0, 0], encoder(images, hidden)[0, 0], atol=1e-4)


@pytest.mark.parametrize("name", ROTARY)
def test_angles_are_those_of_timm_at_any_size(name: str) -> None:
    asked = replace(ALL[name], patch=4)
    ours, other = (new_encoder(asked, size, 3, 0).eval().net for size in ((24, 40), (32, 32)))
    other.set_input_size((24, 40))
    images = torch.randn(1, 3, 24, 40)
    (_, found), (_, expected) = (net._pos_embed(net.patch_embed(images)) for net in (ours, other))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("recomputing", [False, True])
def test_a_rotary_network_learns_the_same_by_blocks_that_are_computed_again(recomputing: bool) -> None:
    encoder: Any = encoder_of("small_rope_mixed").train()
    images, hidden = torch.randn(3, 3, 32, 32), mask(encoder, 3)
    gradients = []
    for on in (False, recomputing):
        encoder.zero_grad()
        encoder.use_recomputing(on)
        (encoder(images, hidden).square().mean() + encoder(images).square().mean()).backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)) and encoder.net.rope.freqs.grad.any()


@pytest.mark.parametrize(
    ("name", "pool"), [("small_siglip", "attention"), ("small_eva02", "normed-mean"), ("small_gap", "normed-mean")]
)
def test_a_network_may_pool_by_a_layer_of_its_own(name: str, pool: Any, tmp_path: Path) -> None:
    encoder = new_encoder(replace(ALL[name], pool=pool), (32, 32), 3, 0).eval()
    images = torch.randn(2, 3, 32, 32)
    other = timm.create_model(ALL[name].name, img_size=32, patch_size=encoder.unit, num_classes=0).eval()
    other.load_state_dict(encoder.net.state_dict(), strict=True)
    torch.testing.assert_close(encoder.pool(encoder(images)), other(images), atol=1e-6, rtol=1e-5)
    save_encoder(encoder, Preprocessing((32, 32), (32, 32), 3, mean=(0.5,) * 3, std=(0.2,) * 3), tmp_path)
    again = load_encoder(tmp_path)
    assert again.config == encoder.config and torch.equal(again.pool(again(images)), encoder.pool(encoder(images)))
    with pytest.raises(WhymaskError, match=f"was built to pool by '{pool}', which is part of its weights"):
        encoder.use_pool("mean")
    with pytest.raises(WhymaskError, match="was built to pool by 'mean'"):
        encoder_of(name).use_pool(pool)


@pytest.mark.parametrize("name", VITS)
def test_a_vit_is_pooled_as_asked(name: str) -> None:
    encoder: Any = encoder_of(name).eval()
    features = encoder(torch.randn(2, 3, 32, 32))
    if name.startswith("deit"):
        assert torch.equal(encoder.pool(features), (features[:, 0] + features[:, 1]) / 2)
        with pytest.raises(WhymaskError, match="reads its class and distillation tokens: choose 'token'"):
            encoder.use_pool("mean")
        return
    first = 0 if getattr(encoder.net, "pool_include_prefix", False) else encoder.prefix
    torch.testing.assert_close(encoder.pool(features), features[:, first:].mean(1), atol=1e-6, rtol=1e-5)
    if encoder.net.cls_token is None:
        with pytest.raises(WhymaskError, match="has no class token: choose 'mean'"):
            encoder.use_pool("token")
    else:
        encoder.use_pool("token")
        assert torch.equal(encoder.pool(features), features[:, 0]) and encoder.config.pool == "token"
        assert timm.create_model(encoder.timm_name, **encoder.timm_kwargs).global_pool == "token"


@pytest.mark.parametrize("name", [name for name in ALL if name not in VITS])
def test_only_a_vit_lets_its_pooling_be_chosen(name: str) -> None:
    encoder = encoder_of(name)
    with pytest.raises(WhymaskError, match=f"encoder {encoder.config.name!r} pools in one way; leave 'pool' out"):
        encoder.use_pool("mean")


@pytest.mark.parametrize("name", ALL)
def test_layers_rise_from_the_stem_to_the_head(name: str) -> None:
    encoder = encoder_of(name)
    layers = [encoder.layer_of(key) for key, _ in encoder.named_parameters()]
    stem = encoder.layer_of(
        next(key for key, _ in encoder.named_parameters() if "stem" in key or "embed" in key or "conv1" in key)
    )
    assert stem == 0 and set(layers) >= set(range(max(layers))) and max(layers) <= encoder.layers <= max(layers) + 1


PAIRS = [(method, name) for method, cls in METHODS.items() for name in SMALL if encoder_of(name).kind in cls.encoders]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_every_method_that_fits_trains_it(method: str, name: str) -> None:
    sizes = [(32, 32)] + ([(31, 47)] if name in CNNS and method in ("mae", "spark", "simmim") else [])
    for size in sizes:
        encoder = new_encoder(encoder_for(method, ALL[name]), size, 1, 0)
        model: Any = new_method(method, encoder)
        images = digits(8, size)
        losses = model(images, *model.draw(8, torch_generator(0)))
        losses["loss"].backward()
        gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
        assert torch.isfinite(losses["loss"]) and all(torch.isfinite(g).all() for g in gradients)
        assert sum(bool(g.any()) for g in gradients) >= 0.5 * len(list(encoder.parameters()))
        shape = model.reconstruct(images, model.draw(8, torch_generator(0))[0])
        assert shape is None or shape.shape == images.shape


# How they are fitted to the images


@pytest.mark.parametrize(
    ("config", "size", "said"),
    [
        (EncoderSettings("resnet18"), (32, 32), "resnet18 has output stride 8: its last map has 4x4 positions"),
        (EncoderSettings("convnext_atto"), (60, 32), "output stride 8: its last map has 8x4 positions"),
        (EncoderSettings("resnet18", output_stride=16), (96, 96), "output stride 16: its last map has 6x6 positions"),
        (EncoderSettings("vit_tiny_patch16_224"), (32, 32), "has patches of 4 pixels here, 8x8 of them"),
        (EncoderSettings("swin_tiny_patch4_window7_224"), (64, 64), "patches of 2 pixels here; its last map has 4x4"),
    ],
)
def test_what_is_fitted_to_small_images_is_said(config: EncoderSettings, size: tuple[int, int], said: str) -> None:
    (note,) = resolve(config, size, 3).notes(size)
    assert said in note


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "efficientnet_b0"]
)
def test_at_their_own_size_networks_stay_as_they_are(name: str) -> None:
    config = resolve(EncoderSettings(name), (224, 224), 3)
    assert config.notes((224, 224)) == [] and resolve(config.asked(), (224, 224), 3) == config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (EncoderSettings("resnet18", depth=3), "no setting 'depth'"),
        (EncoderSettings("resnet18", output_stride=4), "output_stride 4 of resnet18; it is 8, 16 or 32"),
        (EncoderSettings("vit_tiny_patch16_224", width=64), "has width 192, 64 was given"),
        (EncoderSettings("vit_tiny_patch16_224", patch=5), "does not divide"),
        (EncoderSettings("swin_tiny_patch4_window7_224", width=40), "multiple of 32"),
        (EncoderSettings("swin_tiny_patch4_window7_224", patch=2, unit=1), "multiple of the patch"),
        (EncoderSettings("resnet19"), "unknown encoder 'resnet19'; nearest: .*resnet1"),
    ],
)
def test_settings_that_do_not_fit_are_named(config: EncoderSettings, said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        new_encoder(config, (32, 32), 3, 0)


@pytest.mark.parametrize("method", ["mae", "spark", "ijepa", "data2vec2", "two-layer"])
def test_what_needs_visible_tokens_alone_does_not_take_a_swin(method: str) -> None:
    with pytest.raises(WhymaskError, match="does not fit encoder 'swin_tiny_patch4_window7_224', a swin"):
        encoder_for(method, EncoderSettings("swin_tiny_patch4_window7_224"))


def test_the_families_of_these_tests_are_what_the_list_calls_proven() -> None:
    assert {support_of(config.name).status for name, config in ALL.items() if name != "vit"} == {"proven"}
    assert support_of("densenet121").status == support_of("mixnet_s").status == "untested"
