"""Batch norms over visible positions: their statistics are those of visible positions alone.

On a CPU visible positions are gathered, so that half of them cost half. On a GPU gathering is what costs, and its size
must be asked for: there the same statistics are sums over all positions, in which hidden ones are zero.

Where processes share a batch, a batch norm's statistics are those of all of it: `OverRanks`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whymask.ranks import gathered, total, world

GATHERED = ("cpu",)
"""Types of devices on which visible positions are gathered."""
PLACES = (0, 2, 3)


def shown(x: Tensor, visible: Tensor) -> Tensor:
    """x where `visible` is True, else zero: as a product, 4 times as fast as `masked_fill` here. (x is finite.)"""
    return x * visible.to(x.dtype)


def norm_visible(x: Tensor, visible: Tensor, norm: nn.BatchNorm2d, dense: Callable[[Tensor], Tensor]) -> Tensor:
    """A batch norm whose statistics are those of visible positions; hidden ones become zero.

    Args:
        x: (B, C, H, W), finite; fastest in channels_last.
        visible: BoolTensor (B, 1, H, W), at least one True.
        norm: its weights, running statistics and mode; with timm's norms also what follows it.
        dense: the norm's own forward.

    Returns:
        (B, C, H, W), in x's memory format.
    """
    if x.device.type in GATHERED:
        return at_visible(x, visible, dense)
    return by_sums(x, visible, norm) if norm.training else shown(dense(x), visible)


def at_visible(x: Tensor, visible: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """A layer that mixes no positions (norm, activation), applied at visible positions; hidden ones become zero.

    The visible positions are laid out as one image of n x 1 pixels, so that a batch norm's batch and running
    statistics, its momentum and its eval mode are exactly its own, over visible positions only.

    Args:
        x: (B, C, H, W); fastest in channels_last.
        visible: BoolTensor (B, 1, H, W).
        layer: (1, C, n, 1) -> (1, C, n, 1).

    Returns:
        (B, C, H, W), in x's memory format.
    """
    batch, channels, height, width = x.shape
    rows = visible.flatten().nonzero().squeeze(1)
    positions = x.permute(0, 2, 3, 1).reshape(-1, channels)
    seen = layer(positions.index_select(0, rows).view(1, -1, 1, channels).permute(0, 3, 1, 2))
    seen = seen.permute(0, 2, 3, 1).reshape(-1, channels)
    filled = torch.zeros(positions.shape, dtype=seen.dtype, device=x.device).index_copy(0, rows, seen)
    filled = filled.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return filled.contiguous() if x.is_contiguous() else filled


def by_sums(x: Tensor, visible: Tensor, norm: Any) -> Tensor:
    """`at_visible` of a batch norm in train mode, without gathering: the device is asked nothing. Statistics are in
    float32, or in float64 of such an x."""
    y = _normalised(x, visible, norm)
    following = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # of timm's norms
    for layer in following:
        y = layer(y)
    return shown(y, visible) if following else y


class OverRanks:
    """Mixed into a batch norm: in train mode its statistics are those of all ranks' batch."""

    training: bool

    def forward(self, x: Tensor) -> Tensor:
        if world() == 1 or not self.training:
            return super().forward(x)  # type: ignore[misc]
        y = _normalised(x.reshape(*x.shape, *[1] * (4 - x.ndim)), None, self).view_as(x)
        for name in ("drop", "act"):
            y = getattr(self, name, nn.Identity())(y)
        return y


class BatchNorm1d(OverRanks, nn.BatchNorm1d):
    """(B, D)."""


class BatchNorm2d(OverRanks, nn.BatchNorm2d):
    """(B, C, H, W)."""


def count_over_ranks(net: nn.Module) -> None:
    """Let every batch norm of `net`, such as of a network without masked forms, be an `OverRanks`, in place."""
    for layer in net.modules():
        if isinstance(layer, _BatchNorm) and not isinstance(layer, OverRanks):
            layer.__class__ = type(type(layer).__name__, (OverRanks, type(layer)), {})


def _normalised(x: Tensor, visible: Tensor | None, norm: Any) -> Tensor:
    """(B, C, H, W) by the statistics of visible positions, or all, of all ranks; running ones follow."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    weight, bias = (None if p is None else p[:, None, None].to(wide) for p in (norm.weight, norm.bias))
    seen = x.new_ones(1, 1, 1, 1, dtype=wide).expand(len(x), 1, *x.shape[2:]) if visible is None else visible.to(wide)
    y, mean, variance, count = _Normalised.apply(x, seen, weight, bias, norm.eps)
    if norm.track_running_stats:
        _track(norm, mean, variance, count)
    return y


@torch.no_grad()
def _track(norm: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Running statistics, as PyTorch's batch norm keeps them: of the variance the unbiased one."""
    norm.num_batches_tracked += 1
    share = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
    unbiased = variance * count / (count - 1).clamp(min=1)
    for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        running.copy_((1 - share) * running + share * new.flatten())


class _Normalised(torch.autograd.Function):
    """(x, seen (B, 1, H, W) of 0 and 1, weight and bias (C, 1, 1) or None, eps) -> (y, mean, biased variance, count).

    Only x is kept for the way back, in its own type; the rest of that size is computed again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, seen: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        count = seen.sum()
        mean = (x * seen).sum(PLACES, keepdim=True) / count
        centred = (x - mean).mul_(seen)
        variance = torch.linalg.vector_norm(centred, dim=PLACES, keepdim=True).square() / count
        if world() > 1:
            mean, variance, count = _over_ranks(mean, variance, count)
            centred = (x - mean).mul_(seen)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, seen, weight, mean, scale, count)
        ctx.has_bias = bias is not None
        y = centred.mul_(scale if weight is None else scale * weight)
        if bias is not None:
            y = y.addcmul_(seen, bias)
        ctx.mark_non_differentiable(mean, variance, count)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Any) -> Any:
        x, seen, weight, mean, scale, count = ctx.saved_tensors
        gradient = gradient * seen
        normal = (x - mean).mul_(scale)
        of_bias = gradient.sum(PLACES, keepdim=True)
        of_weight = (gradient * normal).sum(PLACES, keepdim=True)
        sums = total(torch.stack([of_weight, of_bias]))
        of_x = gradient.sub_(normal.mul_(sums[0] / count)).sub_(sums[1] / count).mul_(seen)
        of_x = of_x.mul_(scale if weight is None else scale * weight).to(x.dtype)
        return of_x, None, None if weight is None else of_weight[0], of_bias[0] if ctx.has_bias else None, None


def _over_ranks(mean: Tensor, variance: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Those of all ranks' positions together, of each rank's own."""
    every = gathered(torch.stack([mean, variance, count.expand_as(mean)]).double())
    means, variances, counts = every.unbind(1)
    whole = counts.sum(0)
    middle = (means * counts).sum(0) / whole
    spread = ((variances + (means - middle).square()) * counts).sum(0) / whole
    return middle.to(mean), spread.to(mean), whole.flatten()[0].to(count)
