"""Masked forms of a CNN's layers equal loops over visible positions, and their mask is a context of one network."""

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import (
    AvgPool2dSame,
    BatchNormAct2d,
    Conv2dSame,
    GroupNorm1,
    GroupNormAct,
    LayerNorm,
    LayerNorm2d,
    LayerNormAct2d,
    SEModule,
)
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool, FastAdaptiveMaxPool
from timm.layers.grn import GlobalResponseNorm
from timm.layers.pool2d_same import MaxPool2dSame
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from masked_reference import Reference
from tiny import new_encoder
from whymask.encoders import EncoderSettings
from whymask.encoders.catalogue import support_of
from whymask.encoders.masked import hiding, mask_layers
from whymask.encoders.masked_forms import FORMS
from whymask.errors import WhymaskError
from whymask.methods import encoder_for

SIZES = [(8, 8), (7, 9), (5, 6)]
FIRST: dict[str, Any] = {
    "3x3": nn.Conv2d(4, 6, 3, padding=1),
    "3x3 stride 2": nn.Conv2d(4, 6, 3, 2, padding=1, bias=False),
    "1x1 stride 2": nn.Conv2d(4, 6, 1, 2),
    "4x4 stride 4": nn.Conv2d(4, 6, 4, 4),
    "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise 7x7": nn.Conv2d(4, 4, 7, padding=3, groups=4),
    "dilated": nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "same padding": Conv2dSame(4, 6, 3, 2),
    "batch norm": nn.BatchNorm2d(4),
    "batch norm and activation": BatchNormAct2d(4, act_layer=nn.SiLU),
    "layer norm": LayerNorm2d(4),
    "layer norm and activation": LayerNormAct2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "group norm of one": GroupNorm1(4),
    "group norm and activation": GroupNormAct(4, num_groups=2),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "max pool 1x1": nn.MaxPool2d(1, 2),
    "max pool same": MaxPool2dSame(3, 2),
    "mean pool": nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "mean pool with border": nn.AvgPool2d(3, 2, 1),
    "mean pool without border": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "global mean": nn.AdaptiveAvgPool2d(1),
    "global maximum": nn.AdaptiveMaxPool2d(1),
    "global mean, flat": FastAdaptiveAvgPool(flatten=True),
    "squeeze and excitation": SEModule(4, rd_channels=2),
    "squeeze and excitation of EfficientNet": SqueezeExcite(4, 0.5),
    "response norm": GlobalResponseNorm(4, channels_last=False),
}
LAST: dict[str, Any] = {
    "linear": nn.Linear(4, 6),
    "layer norm, last": LayerNorm(4),
    "response norm, last": GlobalResponseNorm(4),
}


def moved(layer: nn.Module) -> nn.Module:
    """A copy with every weight and statistic moved, so that no bias is zero and no norm is the identity."""
    layer = copy.deepcopy(layer).double()
    torch.manual_seed(0)
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.3 * torch.rand_like(tensor))
    return layer


def masked(layer: nn.Module) -> nn.Module:
    net = nn.Sequential(copy.deepcopy(layer))
    mask_layers(net, "test")
    return net


def shown(size: tuple[int, int], channels: int = 4) -> tuple[Tensor, Tensor]:
    """A map that is zero where it is hidden, and what is visible of it (3, 1, H, W)."""
    torch.manual_seed(1)
    visible = torch.rand(3, 1, *size) < 0.4
    visible[:, :, 2, 3] = True
    return torch.randn(3, channels, *size, dtype=torch.double) * visible, visible


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*FIRST, *LAST])
def test_a_masked_layer_equals_loops_over_visible_positions(name: str, size: tuple[int, int], training: bool) -> None:
    layer = moved((FIRST | LAST)[name]).train(training)
    net, plain = masked(layer), copy.deepcopy(layer)
    x, visible = shown(size)
    x = x.movedim(1, -1) if name in LAST else x
    with hiding(net, visible):
        found = net(x)
    Reference(visible[:, 0].numpy()).put_into(plain)
    np.testing.assert_allclose(found.detach(), plain(x).detach(), atol=1e-10)
    if hasattr(plain, "expected"):
        mean, variance = plain.expected
        before = layer.state_dict()
        np.testing.assert_allclose(net[0].running_mean, 0.9 * before["running_mean"] + 0.1 * mean, atol=1e-10)
        np.testing.assert_allclose(net[0].running_var, 0.9 * before["running_var"] + 0.1 * variance, atol=1e-10)


@pytest.mark.parametrize("name", [*FIRST, *LAST])
def test_outside_the_context_the_layer_is_the_dense_one(name: str) -> None:
    layer = moved((FIRST | LAST)[name])
    net = masked(layer)
    x = torch.randn(3, 4, 8, 8, dtype=torch.double)
    x = x.movedim(1, -1) if name in LAST else x
    expected = layer(x.clone())
    assert torch.equal(net(x.clone()), expected)
    assert list(net.state_dict()) == [f"0.{key}" for key in layer.state_dict()]


def test_every_form_is_tested() -> None:
    tested = {type(layer) for layer in (FIRST | LAST).values()}
    alike = {nn.LayerNorm, timm.layers.GroupNorm, AvgPool2dSame, FastAdaptiveMaxPool}
    assert {form for form in FORMS if form.__module__ != "whymask.linear"} <= tested | alike


NETWORKS = {
    "test_resnet": {},
    "resnet10t": {},
    "resnet18d": {"channels": [8, 8, 16, 16]},
    "seresnet50": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "stem_width": 8},
    "resnext50_32x4d": {"layers": [1, 1, 1, 1], "channels": [32, 32, 64, 64], "cardinality": 4, "base_width": 16},
    "test_convnext": {"output_stride": 8},
    "convnext_tiny": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "output_stride": 8},
    "convnextv2_atto": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "output_stride": 16},
    "test_efficientnet": {},
    "test_efficientnet_gn": {},
    "tf_efficientnet_b0": {},
}
"""Each proven family, narrowed where timm lets it be."""


@pytest.mark.parametrize(("training", "gathered"), [(True, ("cpu",)), (True, ()), (False, ())])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_network_equals_its_layers_as_loops(
    name: str, training: bool, gathered: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whymask.encoders.masked_norm.GATHERED", gathered)
    dense = timm.create_model(name, num_classes=5, in_chans=2, drop_path_rate=0.0, **NETWORKS[name])
    dense = moved(dense).train(training)
    net = copy.deepcopy(dense)
    mask_layers(net, name)
    images, visible = shown((31, 23), channels=2)
    reference = Reference(visible[:, 0].numpy())
    reference.put_into(dense)
    with hiding(net, visible), torch.no_grad():
        features = net.forward_features(images)
        logits = net.forward_head(features)
    expected = dense.forward_features(images)
    np.testing.assert_allclose(features, expected.detach(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(logits, dense.forward_head(expected).detach(), atol=1e-5, rtol=1e-5)
    assert features.abs().max() > 1e-3


# The context


def small_net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3, 2, padding=1))
    mask_layers(net, "small")
    return net.eval()


def halves() -> tuple[Tensor, Tensor, Tensor]:
    images = torch.randn(2, 1, 8, 8)
    left = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    left[..., :4] = True
    return images, left, ~left


def under(net: Any, images: Tensor, visible: Tensor | None) -> Tensor:
    with hiding(net, visible):
        return net(images if visible is None else images * visible)


def test_contexts_nest_and_end() -> None:
    net, (images, left, right) = small_net(), halves()
    dense, first, second = net(images), under(net, images, left), under(net, images, right)
    assert not torch.equal(first, second) and not torch.equal(first, dense)
    with hiding(net, left):
        assert torch.equal(net(images * left), first)
        with pytest.raises(RuntimeError, match="inside"), hiding(net, right):
            assert torch.equal(net(images * right), second)
            with hiding(net, None):
                assert torch.equal(net(images), dense)
            raise RuntimeError("inside")
        assert torch.equal(net(images * left), first)
    assert torch.equal(net(images), dense)


def test_two_networks_have_masks_of_their_own() -> None:
    (one, other), (images, left, right) = (small_net(0), small_net(1)), halves()
    expected = under(one, images, left), under(other, images, right), other(images)
    with hiding(one, left):
        assert torch.equal(other(images), expected[2])
        with hiding(other, right):
            assert torch.equal(one(images * left), expected[0])
            assert torch.equal(other(images * right), expected[1])


def test_a_copy_sees_everything_while_its_original_does_not() -> None:
    net, (images, left, _) = small_net(), halves()
    dense = net(images)
    with hiding(net, left):
        teacher = copy.deepcopy(net)
        assert torch.equal(teacher(images), dense)
    with hiding(teacher, left):
        assert torch.equal(net(images), dense) and torch.equal(teacher(images * left), under(net, images, left))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_a_compiled_encoder_follows_the_mask(name: str) -> None:
    encoder = new_encoder(EncoderSettings(name), (32, 32), 1, 0).eval()
    torch.compiler.reset()
    compiled = torch.compile(encoder, backend="aot_eager")
    images = torch.randn(2, 1, 32, 32)
    torch.manual_seed(0)
    for _ in range(2):
        for hidden in (torch.rand(2, 8, 8) < 0.5, None, torch.rand(2, 8, 8) < 0.7):
            torch.testing.assert_close(compiled(images, hidden), encoder(images, hidden), atol=1e-5, rtol=1e-4)


def test_a_compiled_network_follows_a_context_around_it() -> None:
    net, (images, left, right) = small_net(), halves()
    expected = [under(net, images, visible) for visible in (left, None, right)]
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager")
    for visible, wanted in zip((left, None, right), expected, strict=True):
        with hiding(net, visible):
            found = compiled(images if visible is None else images * visible)
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


# What has no masked form


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mixer_b16_224", "layer blocks.0.mlp_tokens of mixer_b16_224, a Mlp, mixes all positions, whose number"),
        ("vit_relpos_small_patch16_224", "a RelPosBlock, weighs attention by how far positions lie apart"),
        ("beit_base_patch16_224", "layer blocks.0.attn of beit_base_patch16_224, a Attention, mixes positions by"),
        ("efficientformer_l1", "layer stages.3.blocks.4.token_mixer of efficientformer_l1, a Attention, mixes"),
    ],
)
def test_a_network_that_mixes_positions_is_refused_for_that_at_any_size(name: str, reason: str) -> None:
    """And not for a size, or for a layer that comes first and could be masked."""
    assert reason in support_of(name).reason
    with pytest.raises(WhymaskError) as refused:
        encoder_for("mae", EncoderSettings(name))
    assert reason in str(refused.value) and "another size" not in str(refused.value)


def test_attention_to_channels_is_no_reason_against_a_network() -> None:
    assert support_of("skresnet18").status == "untested"
    assert "a Conv1d, has no masked form" in support_of("ecaresnet50t").reason


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("ecaresnet50t", r"layer1\.0\.se\.conv of ecaresnet50t, a Conv1d"),
        ("resnetblur50", r"maxpool\.1 of resnetblur50, a BlurPool2d"),
        ("inception_v3", r"Conv2d_2a_3x3\.conv of inception_v3 turns a map of .* which has no masked form"),
        ("mobilevitv2_050", "of mobilevitv2_050"),
        ("beit_base_patch16_224", "of beit_base_patch16_224"),
    ],
)
def test_a_layer_without_masked_form_is_named_with_its_network(name: str, layer: str) -> None:
    with pytest.raises(WhymaskError, match=layer):
        encoder_for("mae", EncoderSettings(name))
