"""A small plain CNN, known to timm as "plain_cnn", that can be shown only a part of an image."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from whymask.encoders.base import Encoder, EncoderConfig, check_divides, reject_unused, square_side
from whymask.encoders.masked import at_visible, coarsen, visible_after
from whymask.errors import WhymaskError
from whymask.masks import to_pixels

COARSEST = 6
"""Strides are added until the shorter side of the last layer's grid has at most this many positions."""


class ConvLayer(nn.Module):
    """3x3 convolution, batch norm, ReLU. (B, C, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.stride = stride

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """`visible` (B, 1, H', W') is at the resolution of the output; where it is False the output is zero."""
        x = self.conv(x)
        return self.normalise(x) if visible is None else at_visible(x, visible, self.normalise)

    def normalise(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x), inplace=True)


class PlainCNN(nn.Module):
    """A chain of `ConvLayer`, the mean over positions, and a linear head; the interface is that of timm's models."""

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        widths: Sequence[int] = (32, 64, 128, 128),
        strides: Sequence[int] = (2, 2, 2, 1),
    ) -> None:
        super().__init__()
        inputs = (in_chans, *widths[:-1])
        self.layers = nn.Sequential(*map(ConvLayer, inputs, widths, strides))
        self.num_features = self.head_hidden_size = widths[-1]
        self.reset_classifier(num_classes)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.conv.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[union-attr, arg-type]

    def forward_features(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W'). Hidden pixels, where `visible` (B, 1, H, W) is False, are not seen."""
        return self.forward_layers(x, visible)[-1]

    def forward_layers(self, x: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """As `forward_features`, every layer's output."""
        if visible is None:
            return [x := layer(x) for layer in self.layers]
        x = x.masked_fill(~visible, 0)  # not a product: NaN * 0 is NaN
        outputs = []
        for layer in self.layers:
            visible = coarsen(visible, layer.stride)  # type: ignore[arg-type]
            outputs.append(x := layer(x, visible))
        return outputs

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        if global_pool != "avg":
            raise ValueError(f"global_pool {global_pool!r}; this network has 'avg' only")
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^layers\.0", "blocks": r"^layers\.(\d+)"}


@register_model
def plain_cnn(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> PlainCNN:
    """For `timm.create_model("plain_cnn", in_chans=..., num_classes=..., widths=..., strides=...)`."""
    if pretrained:
        raise ValueError("plain_cnn has no public weights; use pretrained=False")
    return PlainCNN(**kwargs)


class CNNEncoder(Encoder):
    """`PlainCNN`, by masked convolution where a mask is given. Features (B, D, h', w'), zero at hidden positions."""

    kind = "cnn"
    fields_used = ("width", "unit")
    timm_name = "plain_cnn"

    @classmethod
    def resolve(cls, config: EncoderConfig, size: tuple[int, int]) -> EncoderConfig:
        reject_unused(config, cls.fields_used)
        width = config.width if config.width is not None else 32
        if width < 1:
            raise WhymaskError(f"CNN of width {width}; the first layer needs at least 1 channel, such as 32")
        unit = config.unit if config.unit is not None else mask_unit(size)
        check_divides("mask unit", unit, size)
        return replace(config, name=cls.kind, width=width, unit=unit)

    @classmethod
    def network(cls, config: EncoderConfig, size: tuple[int, int], channels: int) -> dict[str, Any]:
        assert config.width
        halvings = max(0, math.ceil(math.log2(min(size) / COARSEST)))
        layers = max(4, halvings + 1)
        return {
            "in_chans": channels,
            "num_classes": 0,
            "widths": [config.width * min(2**i, 4) for i in range(layers)],
            "strides": [2 if i < halvings else 1 for i in range(layers)],
        }

    @classmethod
    def stride_of(cls, config: EncoderConfig, size: tuple[int, int]) -> int:
        return math.prod(cls.network(config, size, 1)["strides"])

    def __init__(self, config: EncoderConfig, size: tuple[int, int], channels: int) -> None:
        assert config.unit
        widths = self.network(config, size, channels)["widths"]
        super().__init__(config, size, channels, unit=config.unit, dim=widths[-1])
        self.layers = len(widths)
        self.widths, self.strides = widths, self.timm_kwargs["strides"]

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        return self.outputs(images, hidden, token)[-1]

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        visible = None if hidden is None else ~to_pixels(hidden, self.unit)
        if visible is None or token is None:
            return self.net.forward_layers(images, visible)
        tokens = token.to(images.dtype).repeat(1, 1, *self.grid)
        return self.net.forward_layers(torch.where(visible, images, tokens))

    def mask_token(self) -> nn.Parameter:
        """(1, C, unit, unit), put in the place of a hidden square's pixels."""
        return nn.Parameter(torch.randn(1, self.channels, self.unit, self.unit) * 0.02)

    def visible_in(self, layer: int, hidden: Tensor) -> Tensor:
        """Under which positions of a layer's output some pixel is visible: BoolTensor (B, 1, h', w')."""
        return visible_after(hidden, self.unit, self.strides[: range(self.layers)[layer] + 1])

    def rows(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2)

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return ~self.visible_in(-1, hidden).flatten(1)

    def layer_of(self, name: str) -> int:
        parts = name.removeprefix("net.").split(".")
        return int(parts[1]) if parts[0] == "layers" else self.layers


def mask_unit(size: tuple[int, int]) -> int:
    """Side of a mask square in pixels: 4 where that divides images of 16 to 64 pixels, else 8 to 16 squares a side."""
    if 16 <= min(size) <= 64 and size[0] % 4 == 0 and size[1] % 4 == 0:
        return 4
    return square_side(size)
