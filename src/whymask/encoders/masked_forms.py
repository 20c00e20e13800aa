"""The masked form of each layer, and the maps of what is visible that they share; `masked` puts them into a network."""

from typing import Any, cast

import timm.layers
import torch
import torch.nn.functional as F
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool, FastAdaptiveMaxPool
from timm.layers.grn import GlobalResponseNorm
from timm.layers.pool2d_same import MaxPool2dSame
from timm.models import _efficientnet_blocks
from torch import Tensor, nn

from whymask.encoders.masked_norm import OverRanks, norm_visible, shown
from whymask.errors import WhymaskError
from whymask.linear import Linear

Size = tuple[int, int]


def coarsen(visible: Tensor, stride: int, size: Size | None = None) -> Tensor:
    """Visibility after a layer of this stride: a position is visible if any position under it is.

    Args:
        visible: BoolTensor (B, 1, H, W), True = visible.
        size: of the layer's output: H / stride and W / stride, rounded up (the default) or down.

    Returns:
        BoolTensor (B, 1, *size).
    """
    if stride > 1:
        visible = F.max_pool2d(visible.float(), stride, ceil_mode=True).bool()
    return visible if size is None else visible[..., : size[0], : size[1]]


class Visibility:
    """What is visible in maps of every size that a network's layers make from one batch.

    Attributes:
        maps: size (H, W) -> BoolTensor (B, 1, H, W), True = visible.
        origins: size -> (the size that it was made from, by which stride).
    """

    def __init__(self, visible: Tensor) -> None:
        self.maps: dict[Size, Tensor] = {
            _size(visible): visible,
            (1, 1): visible.flatten(1).any(dim=1)[:, None, None, None],
        }
        self.origins: dict[Size, tuple[Size, int]] = {}

    def after(self, before: Size, after: Size, stride: int, where: str) -> Tensor:
        """BoolTensor (B, 1, *after): of the output of a layer of `stride` that turned a map of `before` into it."""
        if before not in self.maps:
            raise WhymaskError(
                f"layer {where} was given {before[0]}x{before[1]} positions, which are no map of the image, so it has "
                f"no masked form; choose another encoder"
            )
        if after not in self.maps:
            if any(
                there not in (here // stride, -(-here // stride)) for here, there in zip(before, after, strict=True)
            ):
                raise WhymaskError(
                    f"layer {where} turns a map of {before[0]}x{before[1]} into {after[0]}x{after[1]} at stride "
                    f"{stride}, which has no masked form: positions must keep their places; choose another encoder"
                )
            self.maps[after] = coarsen(self.maps[before], stride, after)
            self.origins[after] = before, stride
        return self.maps[after]


class Masking:
    """What the layers of one network may see at present: the last of `stack`, or everything where it is empty."""

    def __init__(self) -> None:
        self.stack: list[Visibility | None] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Masking":
        memo[id(self)] = copied = Masking()  # a copied network has contexts of its own
        return copied


class Masked:
    """Mixed into a layer's class: the dense layer while everything is visible, else `seen`."""

    masking: Masking
    where: str

    def forward(self, x: Tensor) -> Tensor:
        stack = self.masking.stack
        if not stack or stack[-1] is None:
            return super().forward(x)  # type: ignore[misc]
        return self.seen(x, stack[-1])

    def dense(self, x: Tensor) -> Tensor:
        return super().forward(x)  # type: ignore[misc]

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        raise NotImplementedError

    def among(self, x: Tensor, visibility: Visibility) -> Tensor:
        """What is visible in maps of x's size. Raises WhymaskError where no layer has made such maps."""
        if x.ndim != 4 or _size(x) not in visibility.maps:
            raise WhymaskError(
                f"layer {self.where} was given {tuple(x.shape)}, which is no map of the image, so it has no masked "
                f"form; choose another encoder"
            )
        return visibility.maps[_size(x)]


class Convolution(Masked):
    """Hidden inputs are zero, as behind a border; hidden outputs become zero."""

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        y = self.dense(x)
        visible = visibility.after(_size(x), _size(y), _stride(self), self.where)
        return shown(y, visible)


class ByPosition(Masked):
    """A layer in which no position sees another, such as a layer norm over channels."""

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        return shown(self.dense(x), self.among(x, visibility))


class ChannelsLast(ByPosition):
    """The same on (B, H, W, C); features of whole images, (B, C), are left as they are."""

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        if x.ndim == 2:
            return self.dense(x)
        visible = self.among(x.movedim(-1, 1), visibility).movedim(1, -1)
        return shown(self.dense(x), visible)


class BatchNorm(Masked, OverRanks):
    """The batch's statistics are those of visible positions."""

    training: bool

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        visible, norm = self.among(x, visibility), cast(nn.BatchNorm2d, self)
        return norm_visible(x, visible, norm, self.dense) if self.training else shown(self.dense(x), visible)


class GroupNorm(Masked):
    """A sample's statistics are those of its visible positions."""

    num_groups: int
    eps: float
    weight: Tensor | None
    bias: Tensor | None

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        visible = self.among(x, visibility)
        grouped = x.unflatten(1, (self.num_groups, -1))  # (B, G, C / G, H, W)
        seen = visible.unsqueeze(1).expand_as(grouped).to(x.dtype)
        count = seen.sum(dim=(2, 3, 4), keepdim=True)
        centred = (grouped - grouped.sum(dim=(2, 3, 4), keepdim=True) / count) * seen
        variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / count
        y = (centred * (variance + self.eps).rsqrt()).flatten(1, 2)
        if self.weight is not None:
            y = y * self.weight[:, None, None]
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        for following in ("drop", "act"):  # of timm's norms with an activation
            y = getattr(self, following, nn.Identity())(y)
        return shown(y, visible)


class MaxPool(Masked):
    """The largest of a window's visible positions."""

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        y = self.dense(x.masked_fill(~self.among(x, visibility), -torch.inf))
        visible = visibility.after(_size(x), _size(y), _stride(self), self.where)
        return y.masked_fill(~visible | y.isneginf(), 0)


class AveragePool(Masked):
    """The mean of a window's visible positions."""

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        visible = self.among(x, visibility).to(x.dtype)
        share = self.dense(visible) / self.dense(torch.ones_like(visible[:1]))  # seen in a window, of what exists there
        y = self.dense(x) / share.clamp(min=torch.finfo(x.dtype).tiny)
        return y.masked_fill(~visibility.after(_size(x), _size(y), _stride(self), self.where) | (share == 0), 0)


class GlobalPool(Masked):
    """The mean, or the largest, of a sample's visible positions."""

    flatten: bool

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        visible = self.among(x, visibility)
        if getattr(self, "output_size", 1) not in (1, (1, 1)):
            raise WhymaskError(f"layer {self.where} pools to more than one position, which has no masked form")
        if isinstance(self, nn.AdaptiveMaxPool2d | FastAdaptiveMaxPool):
            return self.dense(x.masked_fill(~visible, -torch.inf))
        mean = masked_mean(x, visible)
        return mean.flatten(1) if getattr(self, "flatten", False) else mean


class SqueezeExcite(Masked):
    """The gate reads the mean over visible positions."""

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        layer: Any = self
        mean = masked_mean(x, self.among(x, visibility))
        if isinstance(self, timm.layers.SEModule):
            if layer.add_maxpool:
                raise WhymaskError(f"layer {self.where} also reads the maximum, which has no masked form here")
            return x * layer.gate(layer.fc2(layer.act(layer.bn(layer.fc1(mean)))))
        return x * layer.gate(layer.conv_expand(layer.act1(layer.conv_reduce(mean))))


class ResponseNorm(Masked):
    """Global response normalisation: hidden positions are zero, so they add nothing to a channel's norm."""

    channel_dim: int

    def seen(self, x: Tensor, visibility: Visibility) -> Tensor:
        visible = self.among(x.movedim(self.channel_dim, 1), visibility).movedim(1, self.channel_dim)
        return shown(self.dense(x), visible)


def masked_mean(x: Tensor, visible: Tensor) -> Tensor:
    """Mean over visible positions, (B, C, H, W) -> (B, C, 1, 1), of an x that is zero where `visible` is False."""
    return x.sum(dim=(2, 3), keepdim=True) / visible.sum(dim=(2, 3), keepdim=True)


def _stride(layer: Any) -> int:
    stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride, layer.stride)
    if stride[0] != stride[1]:
        raise WhymaskError(f"layer {layer.where} has stride {stride}; masked forms have one stride for both axes")
    return stride[0]


FORMS: dict[type, type[Masked]] = {
    nn.Conv2d: Convolution,
    timm.layers.Conv2dSame: Convolution,
    nn.BatchNorm2d: BatchNorm,
    timm.layers.BatchNormAct2d: BatchNorm,
    timm.layers.LayerNorm2d: ByPosition,
    timm.layers.LayerNormAct2d: ByPosition,
    nn.LayerNorm: ChannelsLast,
    timm.layers.LayerNorm: ChannelsLast,
    nn.Linear: ChannelsLast,
    Linear: ChannelsLast,
    nn.GroupNorm: GroupNorm,
    timm.layers.GroupNorm: GroupNorm,
    timm.layers.GroupNorm1: GroupNorm,
    timm.layers.GroupNormAct: GroupNorm,
    nn.MaxPool2d: MaxPool,
    MaxPool2dSame: MaxPool,
    nn.AvgPool2d: AveragePool,
    timm.layers.AvgPool2dSame: AveragePool,
    nn.AdaptiveAvgPool2d: GlobalPool,
    nn.AdaptiveMaxPool2d: GlobalPool,
    FastAdaptiveAvgPool: GlobalPool,
    FastAdaptiveMaxPool: GlobalPool,
    timm.layers.SEModule: SqueezeExcite,
    _efficientnet_blocks.SqueezeExcite: SqueezeExcite,
    GlobalResponseNorm: ResponseNorm,
}


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]
