"""From an encoder to maps of several strides, as dense tasks need them, and what is usually put on them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from whymask.encoders.base import Encoder, EncoderConfig, Size

MOST_LEVELS = 4
"""The coarsest maps of a network, that are looked at."""
COARSEST = 16
"""Stride of a map, pixels, up to which a linear head is usual."""
WIDEST = 128
"""Channels of a pyramid, or as many as the widest map has."""
GROUPS = 32
"""Of a group normalisation, where so many divide the channels."""


def levels_of(config: EncoderConfig, size: Size) -> dict[int, tuple[int, int]]:
    """Of the last output of each stride, the finest first: its number among the encoder's outputs, and (channels,
    stride in pixels)."""
    layers = config.layers(size)
    last = {stride: number for number, (_, stride) in enumerate(layers)}
    return {number: layers[number] for number in sorted(last.values())[-MOST_LEVELS:]}


def maps_of(encoder: Encoder, images: Tensor) -> list[Tensor]:
    """Of whole images (B, C, h, w) a map (B, D, h', w') of each of `levels_of`, the last one of the features."""
    *finer, _ = levels_of(encoder.config, encoder.size)
    if not finer:
        return [map_of(encoder, encoder(images))]
    outputs = encoder.outputs(images)
    return [*(encoder.as_map(outputs[number]) for number in finer), map_of(encoder, encoder.final(outputs[-1]))]


@torch.no_grad()
def levels_seen(encoder: Encoder) -> list[tuple[int, int]]:
    """(channels, stride) of `maps_of`, as they come: of a few networks features are narrower than what is pooled."""
    training = encoder.training
    images = torch.zeros(1, encoder.channels, *encoder.size, device=next(encoder.parameters()).device)
    maps = maps_of(encoder.eval(), images)
    encoder.train(training)
    strides = [stride for _, stride in levels_of(encoder.config, encoder.size).values()]
    return [(each.shape[1], stride) for each, stride in zip(maps, strides, strict=True)]


def map_of(encoder: Encoder, features: Tensor) -> Tensor:
    """Features of whole images as a map (B, D, h', w')."""
    return encoder.rows(features).transpose(1, 2).unflatten(2, encoder.positions)


class Linear(nn.Module):
    """A class for each position of the coarsest map, behind a batch norm without parameters: (B, k, h', w')."""

    def __init__(self, levels: Sequence[tuple[int, int]], outputs: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(levels[-1][0], affine=False, eps=1e-6)
        self.classes = nn.Conv2d(levels[-1][0], outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classes(self.norm(maps[-1]))


def strides_of(levels: Sequence[tuple[int, int]]) -> list[int]:
    """Pixels, of the maps of a `Pyramid`."""
    if len(levels) > 1:
        return [stride for _, stride in levels]
    ((_, stride),) = levels
    return [*[stride // 4] * (stride >= 16), *[stride // 2] * (stride >= 8), stride, 2 * stride]


class Pyramid(nn.Module):
    """Maps of one width, the finest first, of `strides` pixels: of a network whose maps have several strides
    torchvision's pyramid of them (arXiv 1612.03144), else `SimplePyramid`."""

    def __init__(self, levels: Sequence[tuple[int, int]], width: int):
        super().__init__()
        self.simple = SimplePyramid(*levels[0], width) if len(levels) == 1 else None
        self.pyramid = None if self.simple else FeaturePyramidNetwork([channels for channels, _ in levels], width)
        self.strides = strides_of(levels)

    def pyramid_of(self, maps: Sequence[Tensor]) -> list[Tensor]:
        if self.pyramid is not None:
            return list(self.pyramid({str(number): x for number, x in enumerate(maps)}).values())
        assert self.simple is not None
        return self.simple(maps[0])


class FPN(Pyramid):
    """A pyramid, a convolution on each of its maps, their sum at the finest one's size, and of that a class for each
    position: (B, k, h', w'). The semantic branch of arXiv 1901.02446, with one convolution a level."""

    def __init__(self, levels: Sequence[tuple[int, int]], outputs: int):
        width = min(WIDEST, max(channels for channels, _ in levels))
        super().__init__(levels, width)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), group_norm(width), nn.ReLU())
            for _ in self.strides
        )
        self.classes = nn.Conv2d(width, outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = self.pyramid_of(maps)
        size = levels[0].shape[-2:]
        branches = [branch(x) for branch, x in zip(self.branches, levels, strict=True)]
        return self.classes(sum(F.interpolate(x, size=size, mode="bilinear") for x in branches))


class SimplePyramid(nn.Module):
    """Maps of one width from a single one, of its stride and of twice it, and where it is coarse also of a half (from 8
    pixels on) and a quarter of it (from 16 on): by transposed convolutions and a maximum, without a way from coarse to
    fine (ViTDet, arXiv 2203.16527)."""

    def __init__(self, channels: int, stride: int, width: int):
        super().__init__()

        def up(inner: int, outer: int) -> nn.Module:
            return nn.ConvTranspose2d(inner, outer, 2, stride=2)

        finest = [nn.Sequential(up(channels, channels), group_norm(channels), nn.GELU(), up(channels, width))]
        finer = [up(channels, width)]
        same = nn.Conv2d(channels, width, 1)
        coarser = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(channels, width, 1))
        ways = [*finest * (stride >= 16), *finer * (stride >= 8), same, coarser]
        self.levels = nn.ModuleList(
            nn.Sequential(way, group_norm(width), nn.Conv2d(width, width, 3, padding=1, bias=False), group_norm(width))
            for way in ways
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [level(x) for level in self.levels]


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(next(n for n in range(min(GROUPS, channels), 0, -1) if channels % n == 0), channels)


HEADS: dict[str, type[Linear] | type[FPN]] = {"linear": Linear, "fpn": FPN}


def usual_head(config: EncoderConfig, size: Size) -> str:
    """linear on the one map of a ViT; fpn where there are several, or the only one is too coarse to tell pixels
    apart."""
    levels = list(levels_of(config, size).values())
    return "fpn" if len(levels) > 1 or levels[0][1] > COARSEST else "linear"


def at_size(logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Logits (B, k, h', w') at the pixels of the images, (B, k, h, w)."""
    return F.interpolate(logits, size=size, mode="bilinear")
