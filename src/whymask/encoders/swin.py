"""timm's Swin transformers: hidden squares hold a mask token, as in SimMIM (arXiv 2111.09886).

Their windows and merged patches need every place of the grid, so they cannot leave hidden patches out.
"""

from dataclasses import dataclass
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from whymask.encoders.base import Encoder, EncoderConfig, Size, check_divides
from whymask.encoders.masked_forms import coarsen
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.timm_names import sketch
from whymask.errors import WhymaskError
from whymask.linear import speed_up
from whymask.masks import to_pixels

HEAD = 32
"""Width of an attention head."""

FEWEST = 3
"""Positions a side that the last map must have; else patches are made smaller."""


@dataclass(frozen=True)
class SwinConfig(EncoderConfig):
    """`width` is that of the first stage, `unit` the side of a mask square in pixels, a multiple of the patch."""

    kind = "swin"
    layer_decay = 0.75

    width: int
    patch: int
    unit: int

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "SwinConfig":
        net = sketch(asked.name)
        width = asked.width or net.patch_embed.proj.out_channels
        if width < 1 or (asked.width and width % HEAD):
            raise WhymaskError(f"{asked.name} of width {width}; choose a multiple of {HEAD}, the width of a head")
        merged = 2 ** (len(net.layers) - 1)
        patch = asked.patch or fitting_patch(net.patch_embed.patch_size[0], merged, size)
        check_divides("patch", patch, size)
        unit = asked.unit or next(
            patch * n for n in range(merged, 0, -1) if all(side % (patch * n) == 0 for side in size)
        )
        check_divides("mask unit", unit, size)
        if unit % patch:
            raise WhymaskError(f"mask unit of {unit} pixels; choose a multiple of the patch, {patch} pixels")
        return cls(asked.name, width, patch, unit)

    def build(self, size: Size, channels: int) -> "SwinEncoder":
        return SwinEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.unit

    def layers(self, size: Size) -> list[tuple[int, int]]:
        return [(self.width * 2**i, self.patch * 2**i) for i in range(len(sketch(self.name).layers))]

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        kwargs: dict[str, Any] = {"img_size": list(size), "patch_size": self.patch, "in_chans": channels}
        kwargs |= {"num_classes": 0, "drop_path_rate": 0.0}
        net = sketch(self.name)
        if self.width != net.patch_embed.proj.out_channels:
            heads = [self.width // HEAD * 2**i for i in range(len(net.layers))]
            kwargs |= {"embed_dim": self.width, "num_heads": heads}
        return kwargs

    def notes(self, size: Size) -> list[str]:
        if sketch(self.name).patch_embed.patch_size[0] == self.patch:
            return []
        height, width = (-(-side // self.stride(size)) for side in size)
        return [f"{self.name} has patches of {self.patch} pixels here; its last map has {height}x{width} positions"]


class SwinEncoder(Encoder):
    """A Swin transformer, version 1 or 2. Features (B, h', w', D), normalised."""

    config: SwinConfig

    def __init__(self, config: SwinConfig, size: Size, channels: int) -> None:
        super().__init__(config, size, channels)
        speed_up(self.net)
        groups = group_parameters(self.net, self.net.group_matcher(coarse=False), reverse=True)
        self.group_of: dict[str, int] = dict(groups)
        self.layers = max(self.group_of.values()) + 1

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        return self.final(self.outputs(images, hidden, token)[-1])

    def final(self, output: Tensor) -> Tensor:
        return self.net.norm(output)

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        if hidden is None:
            x = self.net.patch_embed(images)  # (B, h / patch, w / patch, D)
        elif token is None:
            raise WhymaskError("a Swin transformer cannot leave hidden patches out; give it a mask token")
        else:
            x = self.net.patch_embed(images.masked_fill(to_pixels(hidden, self.unit), 0))
            times = self.unit // self.config.patch
            places = hidden.repeat_interleave(times, 1).repeat_interleave(times, 2).unsqueeze(3)
            x = torch.where(places, token.to(x.dtype), x)
        return [x := layer(x) for layer in self.net.layers]

    def as_map(self, output: Tensor) -> Tensor:
        return output.permute(0, 3, 1, 2)

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


def fitting_patch(own: int, merged: int, size: Size) -> int:
    """The patch's side: the network's own, halved until the last map has `FEWEST` positions a side."""
    patch = own
    while patch > 1 and patch % 2 == 0 and (min(size) < FEWEST * merged * patch or any(side % patch for side in size)):
        patch //= 2
    return patch
