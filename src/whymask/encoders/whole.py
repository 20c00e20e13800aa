"""Networks of timm that see whole images only: without masked forms they are fine-tuned, probed and applied."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from whymask.encoders.base import Encoder, EncoderConfig, Size
from whymask.encoders.cnn import mask_unit
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.timm_names import sketch, takes
from whymask.errors import WhymaskError
from whymask.masks import hides


@dataclass(frozen=True)
class WholeConfig(EncoderConfig):
    """Of a timm name; squares of `unit` pixels are what an explanation hides of its images."""

    kind = "whole"

    unit: int

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "WholeConfig":
        config = cls(asked.name, mask_unit(asked, size))
        config.layers(size)  # what the network itself refuses is refused now
        return config

    def build(self, size: Size, channels: int) -> "WholeEncoder":
        return WholeEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.unit

    def shapes(self, size: Size) -> "Shapes":
        """Of the network's features."""
        return shapes(self.name, size)

    def layers(self, size: Size) -> list[tuple[int, int]]:
        found = self.shapes(size)
        return [(found.width, -(-max(size) // max(found.grid)))]

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        return {"in_chans": channels, "num_classes": 0, **fitted(self.name, size)}

    def notes(self, size: Size) -> list[str]:
        height, width = shapes(self.name, size).grid
        return [f"{self.name} sees whole images only; its last map has {height}x{width} positions"]


class WholeEncoder(Encoder):
    """Features are what the network's `forward_features` gives: (B, D, h', w'), (B, h', w', D) or (B, P + N, D)."""

    config: WholeConfig

    def __init__(self, config: WholeConfig, size: Size, channels: int) -> None:
        super().__init__(config, size, channels)
        self.shapes = config.shapes(size)
        try:
            groups = group_parameters(self.net, self.net.group_matcher(coarse=False), reverse=True)
            self.group_of: dict[str, int] = dict(groups)
        except Exception:  # not every author of timm's networks has grouped the layers
            self.group_of = dict.fromkeys((name for name, _ in self.net.named_parameters()), 0)
        self.layers = max(self.group_of.values()) + 1

    @property
    def positions(self) -> tuple[int, int]:
        return self.shapes.grid

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        if hidden is not None and hides(hidden):
            raise WhymaskError(f"{self.config.name} cannot be shown a part of an image; 'whymask list' says why")
        return self.net.forward_features(images)

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        return [self(images, hidden, token)]

    def as_map(self, output: Tensor) -> Tensor:
        return self.rows(output).transpose(1, 2).unflatten(2, self.positions)

    def rows(self, features: Tensor) -> Tensor:
        layout, prefix = self.shapes.layout, self.shapes.prefix
        if layout == "tokens":
            return features[:, prefix:]
        return features.flatten(2).transpose(1, 2) if layout == "channels first" else features.flatten(1, 2)

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        features, layout, prefix = self(images), self.shapes.layout, self.shapes.prefix
        if layout == "channels first":
            return point(features)
        if layout == "channels last":
            return point(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        patches = point(features[:, prefix:].transpose(1, 2).unflatten(2, self.shapes.grid))
        return torch.cat([features[:, :prefix], patches.flatten(2).transpose(1, 2)], dim=1)

    def mean_over_positions(self, output: Tensor) -> Tensor:
        return self.rows(output).mean(dim=1)

    def layer_of(self, name: str) -> int:
        return self.group_of[name.removeprefix("net.")]


@dataclass(frozen=True)
class Shapes:
    """Of a network's features: their `layout`, the `grid` (h', w') of positions, how many tokens are none (`prefix`),
    and the `width` of the pooled features."""

    layout: str
    grid: Size
    prefix: int
    width: int


@cache
def shapes(name: str, size: Size) -> Shapes:
    """What the network makes of images of `size`. Raises WhymaskError where it cannot see such images."""
    net = sketch(name, **{key: _plain(value) for key, value in fitted(name, size).items()})
    channels = net.pretrained_cfg["input_size"][0]
    training = net.training
    try:
        with torch.no_grad(), torch.device("meta"):
            features = net.eval().forward_features(torch.zeros(2, channels, *size))
            pooled = net.forward_head(features, pre_logits=True)
        found = _shapes(net, features, pooled)
    except Exception as error:  # whatever networks raise
        raise WhymaskError(
            f"{name} gives no features of images of {size[0]}x{size[1]} pixels ({type(error).__name__}: {error}); "
            f"choose another size or encoder"
        ) from error
    finally:
        net.train(training)
    return found


def _shapes(net: Any, features: Tensor, pooled: Tensor) -> Shapes:
    width = pooled.shape[1]
    if features.ndim == 4:
        first = features.shape[1] == net.num_features
        grid = features.shape[2:] if first else features.shape[1:3]
        return Shapes("channels first" if first else "channels last", (grid[0], grid[1]), 0, width)
    prefix = getattr(net, "num_prefix_tokens", 0)
    count = features.shape[1] - prefix
    height, wide = getattr(getattr(net, "patch_embed", None), "grid_size", None) or (round(count**0.5),) * 2
    if height * wide != count:  # of which no map is known
        height, wide = count, 1
    return Shapes("tokens", (height, wide), prefix, width)


@cache
def fitted(name: str, size: Size) -> dict[str, Any]:
    """What timm is told of the images' size, where the network has a size at all."""
    own = tuple(sketch(name).pretrained_cfg["input_size"][1:])
    return {"img_size": list(size)} if own != size and takes(name, img_size=size) else {}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
