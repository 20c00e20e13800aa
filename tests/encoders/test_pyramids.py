"""Maps of several strides out of every kind of encoder, and the heads that dense tasks put on them."""

import pytest
import torch
from torchvision.ops import FeaturePyramidNetwork

from whymask.encoders import EncoderSettings, build_encoder, resolve
from whymask.encoders.pyramids import FPN, HEADS, SimplePyramid, at_size, levels_of, map_of, maps_of, usual_head
from whymask.stages.segment import Segmenter

SIZE = (64, 96)
KINDS = {
    "plain": (EncoderSettings("cnn", width=8), "fpn"),
    "resnet": (EncoderSettings("resnet10t"), "fpn"),
    "convnext": (EncoderSettings("convnext_atto"), "fpn"),
    "vit": (EncoderSettings("vit", width=32, depth=2, heads=2, patch=8), "linear"),
    "swin": (EncoderSettings("swin_tiny_patch4_window7_224", width=32), "fpn"),
    "two-layer": (EncoderSettings("two-layer"), "linear"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(kind):
    asked = KINDS[kind][0]
    return build_encoder(resolve(asked, SIZE, 3), SIZE, 3, 0).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def test_maps_have_the_widths_and_strides_of_their_levels_and_end_with_the_features(encoder, images):
    levels = levels_of(encoder.config, SIZE)
    maps = maps_of(encoder, images)
    for (channels, stride), found in zip(levels.values(), maps, strict=True):
        assert found.shape == (2, channels, -(-SIZE[0] // stride), -(-SIZE[1] // stride))
    features = encoder(images)
    assert torch.equal(maps[-1], map_of(encoder, features))
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), encoder.rows(features))
    strides = [stride for _, stride in levels.values()]
    assert strides == sorted({*strides}) and len(strides) <= 4


def test_a_position_of_a_map_sees_its_own_place(encoder, images):
    """What is changed in the lower right corner changes the map there more than in the upper left one."""
    other = images.clone()
    other[:, :, -16:, -16:] += 3
    change = (maps_of(encoder, other)[-1] - maps_of(encoder, images)[-1]).abs().sum(dim=(0, 1))
    assert change[-1, -1] > change[0, 0]


@pytest.mark.parametrize("head", list(HEADS))
def test_a_head_gives_each_pixel_logits_and_teaches_the_whole_encoder(encoder, images, head):
    model = Segmenter(encoder, 5, head, seed=1)
    logits = model(images)
    assert logits.shape == (2, 5, *SIZE)
    again = Segmenter(encoder, 5, head, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.head.parameters(), again.head.parameters(), strict=True))
    model.zero_grad()
    logits.square().mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    unused = {name for name in without if not name.startswith("encoder.net.fc_norm")}
    assert not {name for name in unused if name.startswith("head.")}
    assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_the_usual_head_is_a_pyramid_where_the_last_map_is_coarse(kind, encoder):
    assert usual_head(encoder.config, SIZE) == KINDS[kind][1]


def test_a_frozen_encoder_is_not_trained(encoder, images):
    model = Segmenter(encoder, 3, "linear", frozen=True).train()
    model(images).sum().backward()
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    assert all(p.grad is not None for p in model.head.parameters())
    encoder.requires_grad_(True)


def test_the_pyramid_is_torchvisions():
    levels = [(8, 4), (16, 8), (32, 16)]
    head = FPN(levels, 3)
    maps = [torch.randn(1, channels, 32 // stride, 64 // stride) for channels, stride in levels]
    plain = FeaturePyramidNetwork([8, 16, 32], 32)
    plain.load_state_dict(head.pyramid.state_dict())
    expected = list(plain({str(n): x for n, x in enumerate(maps)}).values())
    branches = [branch(x) for branch, x in zip(head.branches, expected, strict=True)]
    total = branches[0] + at_size(branches[1], (8, 16)) + at_size(branches[2], (8, 16))
    torch.testing.assert_close(head(maps), head.classes(total))


@pytest.mark.parametrize(("stride", "strides"), [(16, [4, 8, 16, 32]), (8, [4, 8, 16]), (4, [4, 8])])
def test_a_simple_pyramid_has_strides_about_4_to_32(stride, strides):
    pyramid = SimplePyramid(12, stride, 8)
    levels = pyramid(torch.randn(1, 12, 96 // stride, 128 // stride))
    assert [x.shape for x in levels] == [(1, 8, 96 // s, 128 // s) for s in strides]


@pytest.mark.parametrize("head", list(HEADS))
def test_heads_fit_features_that_are_narrower_than_what_is_pooled(head, images):
    asked = EncoderSettings("mobilenetv3_small_050")
    encoder = build_encoder(resolve(asked, SIZE, 3), SIZE, 3, 0)
    assert encoder.dim == 1024 and usual_head(encoder.config, SIZE) == "fpn"  # of 2 x 3 positions
    assert Segmenter(encoder, 5, head)(images).shape == (2, 5, *SIZE)


@pytest.mark.parametrize("size", [(1, 2), (3, 5), (4, 6)])
def test_a_single_map_may_be_of_a_position_and_of_odd_sides(size):
    pyramid = SimplePyramid(8, 16, 16)
    sides = [tuple(level.shape[-2:]) for level in pyramid(torch.randn(2, 8, *size))]
    finer = [(side[0], side[1]) for side in ([4 * n for n in size], [2 * n for n in size], size)]
    assert sides == [*finer, (-(-size[0] // 2), -(-size[1] // 2))]
