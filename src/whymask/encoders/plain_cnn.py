"""A small plain CNN, known to timm as "plain_cnn"."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from timm.models import register_model
from torch import Tensor, nn

COARSEST = 6
"""Strides are added until the shorter side of the last layer's grid has at most this many positions."""


class ConvLayer(nn.Module):
    """3x3 convolution, batch norm, ReLU. (B, C, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)), channels_last,
    in which a CPU is faster."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = BatchNormAct2d(outputs, act_layer=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x).contiguous(memory_format=torch.channels_last))


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
        self.feature_info = [
            {"num_chs": width, "reduction": math.prod(strides[: i + 1]), "module": f"layers.{i}"}
            for i, width in enumerate(widths)
        ]
        self.global_pool = FastAdaptiveAvgPool(flatten=True)
        self.reset_classifier(num_classes)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.conv.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[union-attr, arg-type]

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W')."""
        return self.layers(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.global_pool(x)
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


def plain_network(width: int, size: tuple[int, int]) -> dict[str, Any]:
    """Widths and strides for images of `size`: `width` channels at first, at most four times as many at last."""
    halvings = max(0, math.ceil(math.log2(min(size) / COARSEST)))
    layers = max(4, halvings + 1)
    return {
        "widths": [width * min(2**i, 4) for i in range(layers)],
        "strides": [2 if i < halvings else 1 for i in range(layers)],
    }
