"""Masked convolution: a plain CNN that cannot see what is hidden (FCMAE, arXiv 2301.00808; SparK, arXiv 2301.03580).

A convolution mixes positions, so what is zero at the input does not stay zero. After every layer the hidden positions
are therefore set to zero again, and batch norm counts visible positions only: the features depend on nothing but
visible pixels, and their statistics are those of a dense network rather than of one fed with holes.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from whymask.masks import to_pixels


def coarsen(visible: Tensor, stride: int) -> Tensor:
    """Visibility after a layer of this stride: a position is visible if any position under it is.

    Args:
        visible: BoolTensor (B, 1, H, W), True = visible.

    Returns:
        BoolTensor (B, 1, ceil(H / stride), ceil(W / stride)), the size of the layer's output.
    """
    if stride == 1:
        return visible
    return F.max_pool2d(visible.float(), stride, ceil_mode=True).bool()


def visible_after(hidden: Tensor, unit: int, strides: Sequence[int]) -> Tensor:
    """Under which positions some pixel is visible, behind layers of these strides.

    Args:
        hidden: a mask BoolTensor (B, gh, gw) over squares of `unit` pixels.

    Returns:
        BoolTensor (B, 1, h', w'), True = visible.
    """
    visible = ~to_pixels(hidden, unit)
    for stride in strides:
        visible = coarsen(visible, stride)
    return visible


def at_visible(x: Tensor, visible: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """A layer that mixes no positions (norm, activation), applied at visible positions; hidden ones become zero.

    The visible positions are laid out as one image of n x 1 pixels, so that a batch norm's batch and running
    statistics, its momentum and its eval mode are exactly its own, over visible positions only.

    Args:
        x: (B, C, H, W); fastest in channels_last.
        visible: BoolTensor (B, 1, H, W).
        layer: (1, C, n, 1) -> (1, C, n, 1).

    Returns:
        (B, C, H, W) in channels_last.
    """
    batch, channels, height, width = x.shape
    rows = visible.flatten().nonzero().squeeze(1)
    positions = x.permute(0, 2, 3, 1).reshape(-1, channels)
    seen = layer(positions.index_select(0, rows).view(1, -1, 1, channels).permute(0, 3, 1, 2))
    seen = seen.permute(0, 2, 3, 1).reshape(-1, channels)
    filled = torch.zeros(positions.shape, dtype=seen.dtype, device=x.device).index_copy(0, rows, seen)
    return filled.view(batch, height, width, channels).permute(0, 3, 1, 2)
