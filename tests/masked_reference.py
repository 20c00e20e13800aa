"""What a CNN's layers compute when they count visible positions only, written as loops over positions, in float64."""

from typing import Any

import numpy as np
import timm.layers
import torch
from torch import Tensor, nn

Map = np.ndarray


class Reference:
    """The layers of one network under one mask. `seen` has, by size, which positions (B, H, W) are visible."""

    def __init__(self, visible: Map) -> None:
        self.seen: dict[tuple[int, int], Map] = {visible.shape[1:]: visible}
        self.seen[1, 1] = visible.any(axis=(1, 2))[:, None, None]

    def put_into(self, net: nn.Module) -> None:
        """Replaces the forward of every layer by the one that is written here."""
        for layer in net.modules():
            for kind, form in FORMS.items():
                if type(layer) in kind:
                    layer.forward = lambda x, layer=layer, form=form: self.call(form, layer, x)  # type: ignore[method-assign]

    def call(self, form: Any, layer: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(form(self, layer, x.detach().double().numpy()))

    def after(self, before: tuple[int, int], after: tuple[int, int], stride: int) -> Map:
        """A position is visible if any is among the stride x stride ones that it stands for."""
        if after not in self.seen:
            old = self.seen[before]
            new = np.zeros((len(old), *after), bool)
            for r in range(after[0]):
                for c in range(after[1]):
                    new[:, r, c] = old[:, r * stride : (r + 1) * stride, c * stride : (c + 1) * stride].any(axis=(1, 2))
            self.seen[after] = new
        return self.seen[after]


def windows(layer: Any, size: tuple[int, int]) -> tuple[list[list[int]], list[list[int]]]:
    """Which rows, and which columns, each output position reads; -1 is beyond the border."""
    kernel, stride, dilation = (pair(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "dilation"))
    result = []
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        if "Same" in type(layer).__name__:  # as TensorFlow pads: the smaller half first
            out = -(-size[axis] // stride[axis])
            before = max((out - 1) * stride[axis] + reach - size[axis], 0) // 2
        else:
            before = pair(layer.padding)[axis]
            room = size[axis] + 2 * before - reach
            out = (-(-room // stride[axis]) if getattr(layer, "ceil_mode", False) else room // stride[axis]) + 1
            if getattr(layer, "ceil_mode", False) and (out - 1) * stride[axis] >= size[axis] + before:
                out -= 1
        starts = [o * stride[axis] - before for o in range(out)]
        places = [[start + k * dilation[axis] for k in range(kernel[axis])] for start in starts]
        result.append([[p if 0 <= p < size[axis] else -1 for p in window] for window in places])
    return result[0], result[1]


def convolution(reference: Reference, layer: Any, x: Map) -> Map:
    rows, columns = windows(layer, x.shape[2:])
    weight = layer.weight.detach().double().numpy()
    groups, each = layer.groups, weight.shape[0] // layer.groups
    inputs = weight.shape[1]
    out = np.zeros((len(x), len(weight), len(rows), len(columns)))
    visible = reference.after(x.shape[2:], out.shape[2:], pair(layer.stride)[0])
    here = reference.seen[x.shape[2:]]
    for r, window_rows in enumerate(rows):
        for c, window_columns in enumerate(columns):
            for i, y in enumerate(window_rows):
                for j, z in enumerate(window_columns):
                    if y >= 0 and z >= 0:
                        pixel = x[:, :, y, z] * here[:, y, z, None]
                        taps = weight[:, :, i, j].reshape(groups, each, inputs)
                        parts = np.einsum("bgi,goi->bgo", pixel.reshape(len(x), groups, inputs), taps)
                        out[:, :, r, c] += parts.reshape(len(x), -1)
    if layer.bias is not None:
        out += layer.bias.detach().double().numpy()[:, None, None]
    return out * visible[:, None]


def pool(reference: Reference, layer: Any, x: Map) -> Map:
    """Mean or maximum of a window's visible positions."""
    rows, columns = windows(layer, x.shape[2:])
    out = np.zeros((*x.shape[:2], len(rows), len(columns)))
    visible = reference.after(x.shape[2:], out.shape[2:], pair(layer.stride)[0])
    here = reference.seen[x.shape[2:]]
    for b in range(len(x)):
        for r, window_rows in enumerate(rows):
            for c, window_columns in enumerate(columns):
                places = [(y, z) for y in window_rows for z in window_columns if y >= 0 and z >= 0]
                values = [x[b, :, y, z] for y, z in places if here[b, y, z]]
                if values and visible[b, r, c]:
                    if isinstance(layer, nn.MaxPool2d):
                        out[b, :, r, c] = np.max(values, axis=0)
                    else:  # of a window that reaches beyond the border, the dense layer's share of what exists
                        dense = len(places) / (len(window_rows) * len(window_columns))
                        out[b, :, r, c] = np.mean(values, axis=0) * (dense if layer.count_include_pad else 1)
    return out


def batch_norm(reference: Reference, layer: Any, x: Map) -> Map:
    here = reference.seen[x.shape[2:]]
    values = x.transpose(0, 2, 3, 1)[here]  # (n, C)
    mean, variance = values.mean(axis=0), values.var(axis=0)
    if layer.training:
        layer.expected = mean, values.var(axis=0, ddof=1)
    else:
        mean, variance = (t.double().numpy() for t in (layer.running_mean, layer.running_var))
    normal = (x - mean[:, None, None]) / np.sqrt(variance + layer.eps)[:, None, None]
    return finish(layer, normal, here)


def group_norm(reference: Reference, layer: Any, x: Map) -> Map:
    here = reference.seen[x.shape[2:]]
    normal, width = np.zeros_like(x), x.shape[1] // layer.num_groups
    for b in range(len(x)):
        for g in range(layer.num_groups):
            part = slice(g * width, (g + 1) * width)
            values = x[b, part][:, here[b]]
            normal[b, part] = (x[b, part] - values.mean()) / np.sqrt(values.var() + layer.eps)
    return finish(layer, normal, here)


def layer_norm(reference: Reference, layer: Any, x: Map) -> Map:
    normal = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + layer.eps)
    return finish(layer, normal, reference.seen[x.shape[2:]])


def layer_norm_last(reference: Reference, layer: Any, x: Map) -> Map:
    if x.ndim == 2:
        return layer_norm_last(Reference(np.ones((len(x), 1, 1), bool)), layer, x[:, None, None])[:, 0, 0]
    return layer_norm(reference, layer, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)


def linear(reference: Reference, layer: Any, x: Map) -> Map:
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return (x @ weight.T + bias) * (1 if x.ndim == 2 else reference.seen[x.shape[1:3]][..., None])


def global_pool(reference: Reference, layer: Any, x: Map) -> Map:
    here = reference.seen[x.shape[2:]]
    largest = "Max" in type(layer).__name__
    means = np.stack([(np.max if largest else np.mean)(x[b][:, here[b]], axis=1) for b in range(len(x))])
    return means if getattr(layer, "flatten", False) else means[:, :, None, None]


def squeeze_excite(reference: Reference, layer: Any, x: Map) -> Map:
    here = reference.seen[x.shape[2:]]
    value = torch.from_numpy(np.stack([x[b][:, here[b]].mean(axis=1) for b in range(len(x))]))[:, :, None, None]
    names = (
        ("fc1", "bn", "act", "fc2", "gate") if hasattr(layer, "fc1") else ("conv_reduce", "act1", "conv_expand", "gate")
    )
    for name in names:
        part = getattr(layer, name)
        value = type(part).forward(part, value)  # its convolutions see the mean, not a map
    return x * value.detach().numpy()


def response_norm(reference: Reference, layer: Any, x: Map) -> Map:
    last = layer.channel_dim == -1
    y = x.transpose(0, 3, 1, 2) if last else x
    here = reference.seen[y.shape[2:]]
    length = np.stack([np.sqrt((y[b][:, here[b]] ** 2).sum(axis=1)) for b in range(len(y))])
    ratio = (length / (length.mean(axis=1, keepdims=True) + layer.eps))[:, :, None, None]
    weight, bias = (t.detach().double().numpy().reshape(-1, 1, 1) for t in (layer.weight, layer.bias))
    out = (y + bias + weight * y * ratio) * here[:, None]
    return out.transpose(0, 2, 3, 1) if last else out


def finish(layer: Any, normal: Map, here: Map) -> Map:
    """Scale, shift and the norm's own activation; hidden positions are zero."""
    if layer.weight is not None:
        weight, bias = (t.detach().double().numpy()[:, None, None] for t in (layer.weight, layer.bias))
        normal = normal * weight + bias
    active = getattr(layer, "act", nn.Identity())(torch.from_numpy(normal.copy())).numpy()
    return active * here[:, None]


def pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


_L = timm.layers
FORMS: dict[tuple[type, ...], Any] = {
    (nn.Conv2d, _L.Conv2dSame): convolution,
    (nn.BatchNorm2d, _L.BatchNormAct2d): batch_norm,
    (nn.GroupNorm, _L.GroupNorm, _L.GroupNorm1, _L.GroupNormAct): group_norm,
    (_L.LayerNorm2d, _L.LayerNormAct2d): layer_norm,
    (nn.LayerNorm, _L.LayerNorm): layer_norm_last,
    (nn.Linear,): linear,
    (nn.MaxPool2d, nn.AvgPool2d, _L.AvgPool2dSame, _L.pool2d_same.MaxPool2dSame): pool,
    (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, _L.adaptive_avgmax_pool.FastAdaptiveAvgPool): global_pool,
    (_L.SEModule, timm.models._efficientnet_blocks.SqueezeExcite): squeeze_excite,
    (_L.grn.GlobalResponseNorm,): response_norm,
}
