"""timm's Swin transformers: hidden squares hold a mask token, as in SimMIM (arXiv 2111.09886).

Their windows and merged patches need every place of the grid, so they cannot leave hidden patches out.
"""

from dataclasses import replace
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from whymask.encoders.base import Encoder, EncoderConfig, check_divides, reject_unused
from whymask.encoders.masked_forms import coarsen
from whymask.encoders.timm_names import sketch
from whymask.errors import WhymaskError
from whymask.linear import speed_up
from whymask.masks import to_pixels

HEAD = 32
"""Width of an attention head."""

FEWEST = 3
"""Positions a side that the last map must have; else patches are made smaller."""


class SwinEncoder(Encoder):
    """A Swin transformer, version 1 or 2. Features (B, h', w', D), normalised. `width` is that of the first stage."""

    kind = "swin"
    layer_decay = 0.75

    @classmethod
    def resolve(cls, config: EncoderConfig, size: tuple[int, int]) -> EncoderConfig:
        reject_unused(config, ("width", "patch", "unit"))
        net = sketch(config.name)
        width = config.width or net.patch_embed.proj.out_channels
        if width < 1 or (config.width and width % HEAD):
            raise WhymaskError(f"{config.name} of width {width}; choose a multiple of {HEAD}, the width of a head")
        merged = 2 ** (len(net.layers) - 1)
        patch = config.patch or fitting_patch(net.patch_embed.patch_size[0], merged, size)
        check_divides("patch", patch, size)
        unit = config.unit or next(
            patch * n for n in range(merged, 0, -1) if all(side % (patch * n) == 0 for side in size)
        )
        check_divides("mask unit", unit, size)
        if unit % patch:
            raise WhymaskError(f"mask unit of {unit} pixels; choose a multiple of the patch, {patch} pixels")
        return replace(config, width=width, patch=patch, unit=unit)

    @classmethod
    def network(cls, config: EncoderConfig, size: tuple[int, int], channels: int) -> tuple[str, dict[str, Any]]:
        assert config.width
        kwargs: dict[str, Any] = {"img_size": list(size), "patch_size": config.patch, "in_chans": channels}
        kwargs |= {"num_classes": 0, "drop_path_rate": 0.0}
        net = sketch(config.name)
        if config.width != net.patch_embed.proj.out_channels:
            heads = [config.width // HEAD * 2**i for i in range(len(net.layers))]
            kwargs |= {"embed_dim": config.width, "num_heads": heads}
        return config.name, kwargs

    @classmethod
    def notes(cls, config: EncoderConfig, size: tuple[int, int]) -> list[str]:
        if sketch(config.name).patch_embed.patch_size[0] == config.patch:
            return []
        height, width = (-(-side // cls.stride_of(config, size)) for side in size)
        return [f"{config.name} has patches of {config.patch} pixels here; its last map has {height}x{width} positions"]

    @classmethod
    def layers_of(cls, config: EncoderConfig, size: tuple[int, int]) -> list[tuple[int, int]]:
        assert config.patch and config.width
        return [(config.width * 2**i, config.patch * 2**i) for i in range(len(sketch(config.name).layers))]

    @classmethod
    def stride_of(cls, config: EncoderConfig, size: tuple[int, int]) -> int:
        return cls.layers_of(config, size)[-1][1]

    def __init__(self, config: EncoderConfig, size: tuple[int, int], channels: int) -> None:
        assert config.unit
        super().__init__(config, size, channels, unit=config.unit, dim=self.layers_of(config, size)[-1][0])
        speed_up(self.net)
        groups = group_parameters(self.net, self.net.group_matcher(coarse=False), reverse=True)
        self.group_of: dict[str, int] = dict(groups)
        self.layers = max(self.group_of.values()) + 1

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        return self.net.norm(self.outputs(images, hidden, token)[-1])

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        if hidden is None:
            x = self.net.patch_embed(images)  # (B, h / patch, w / patch, D)
        elif token is None:
            raise WhymaskError("a Swin transformer cannot leave hidden patches out; give it a mask token")
        else:
            x = self.net.patch_embed(images.masked_fill(to_pixels(hidden, self.unit), 0))
            times = self.unit // (self.config.patch or 1)
            places = hidden.repeat_interleave(times, 1).repeat_interleave(times, 2).unsqueeze(3)
            x = torch.where(places, token.to(x.dtype), x)
        return [x := layer(x) for layer in self.net.layers]

    def mask_token(self) -> nn.Parameter:
        """(1, 1, 1, D of the first stage), put in the place of a hidden patch's embedding."""
        return nn.Parameter(torch.randn(1, 1, 1, self.net.patch_embed.proj.out_channels) * 0.02)

    def rows(self, features: Tensor) -> Tensor:
        return features.flatten(1, 2)

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return ~coarsen(~to_pixels(hidden, self.unit), self.stride).flatten(1)

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        return point(self(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def mean_over_positions(self, output: Tensor) -> Tensor:
        return output.mean(dim=(1, 2))

    def layer_of(self, name: str) -> int:
        return self.group_of[name.removeprefix("net.")]


def fitting_patch(own: int, merged: int, size: tuple[int, int]) -> int:
    """The patch's side: the network's own, halved until the last map has `FEWEST` positions a side."""
    patch = own
    while patch > 1 and patch % 2 == 0 and (min(size) < FEWEST * merged * patch or any(side % patch for side in size)):
        patch //= 2
    return patch
