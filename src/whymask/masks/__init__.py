"""Masks: which squares of an image are hidden. The only source of mask randomness in whymask.

A mask is a BoolTensor (B, gh, gw), True = HIDDEN, over squares of `unit` pixels; (gh, gw) = (height, width) / unit.
Masks are drawn on the CPU from a generator keyed by (seed, purpose, step) and then moved, so that every device and
every number of workers sees the same ones. What networks ask of a mask is found there too, and moved with it (`Mask`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.masks.index import Mask as Mask
from whymask.masks.index import hides as hides
from whymask.masks.index import indices as indices
from whymask.masks.index import joined as joined
from whymask.masks.index import look as look
from whymask.masks.index import once as once
from whymask.masks.index import take as take

Ratio = float | tuple[float, float]
"""The hidden share, or (low, high), between which the share of each batch is drawn uniformly (R2MAE, arXiv
2509.21650)."""


def ratio_of(ratio: Ratio, generator: torch.Generator) -> float:
    """The ratio of a batch: `ratio` itself, or drawn uniformly between its two values."""
    if not isinstance(ratio, tuple):
        return ratio
    low, high = ratio
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def check_ratio(ratio: Ratio) -> None:
    """Raises WhymaskError unless the ratio, or both its bounds in ascending order, lie strictly between 0 and 1."""
    low, high = ratio if isinstance(ratio, tuple) else (ratio, ratio)
    if low > high:
        raise WhymaskError(f"mask ratio from {low} to {high}; the lower bound comes first, such as {high} {low}")
    for bound in (low, high):
        hidden_count(2, bound)


def hidden_count(squares: int, ratio: float) -> int:
    """How many of `squares` a mask of this ratio hides: rounded, at least 1, and at least 1 stays visible.

    Raises:
        WhymaskError: when the ratio is not strictly between 0 and 1, or there are fewer than two squares.
    """
    if not 0 < ratio < 1:
        raise WhymaskError(f"mask ratio {ratio}; the hidden share must lie strictly between 0 and 1, such as 0.5")
    if squares < 2:
        raise WhymaskError(
            f"{squares} square to hide in an image; at least two are needed, choose a smaller patch or mask unit"
        )
    return min(max(round(ratio * squares), 1), squares - 1)


def check_block(grid: tuple[int, int], side: int) -> None:
    """Raises WhymaskError unless a block of `side` squares a side lies within the grid and does not fill it."""
    if side < 1 or side > min(grid) or side * side >= grid[0] * grid[1]:
        raise WhymaskError(
            f"mask block of {side} squares a side; the grid has {grid[0]}x{grid[1]} squares: choose a block between 1 "
            f"and {max(1, min(grid) - (grid[0] == grid[1]))}, or a smaller patch or mask unit"
        )


def uniform(batch: int, grid: tuple[int, int], ratio: Ratio, generator: torch.Generator, side: int = 1) -> Tensor:
    """Hides the same number of squares in every sample, every subset of that size being equally likely.

    With `side` > 1 squares are hidden in aligned groups of side x side (SimMIM's mask patches, arXiv 2111.09886).

    Returns:
        BoolTensor (batch, *grid), True = hidden; `hidden_count` squares, or groups, a sample.
    """
    if grid[0] % side or grid[1] % side:
        raise WhymaskError(
            f"mask block of {side} squares does not divide the grid of {grid[0]}x{grid[1]} squares; "
            f"choose one that does"
        )
    rows, columns = grid[0] // side, grid[1] // side
    count = hidden_count(rows * columns, ratio_of(ratio, generator))
    order = torch.rand(batch, rows * columns, generator=generator).argsort(dim=1)
    hidden = (order < count).view(batch, rows, columns)
    return hidden.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)


def block(batch: int, grid: tuple[int, int], ratio: Ratio, generator: torch.Generator, side: int) -> Tensor:
    """Hides square blocks of `side` squares a side, anywhere in the grid, until the ratio is reached.

    Blocks lie whole within the grid and may overlap; of the last one only as many squares are hidden, drawn uniformly,
    as make the count exact. (BEiT's blocks, arXiv 2106.08254, have random sizes and aspects, and inexact counts.)

    Returns:
        BoolTensor (batch, *grid), True = hidden; `hidden_count` squares a sample.
    """
    check_block(grid, side)
    count = hidden_count(grid[0] * grid[1], ratio_of(ratio, generator))
    corners = torch.rand(batch, 1, grid[0] - side + 1, grid[1] - side + 1, generator=generator)
    padded = F.pad(corners, (side - 1,) * 4, value=2.0)
    turn = -F.max_pool2d(-padded, side, stride=1).view(batch, -1)  # of the first block that covers a square
    turn = turn.double() + 1e-9 * torch.rand(turn.shape, generator=generator, dtype=torch.float64)
    chosen = turn.argsort(dim=1)[:, :count]
    return torch.zeros(turn.shape, dtype=torch.bool).scatter_(1, chosen, True).view(batch, *grid)


def inverse_block(batch: int, grid: tuple[int, int], ratio: Ratio, generator: torch.Generator, side: int) -> Tensor:
    """Leaves square blocks visible and hides what is around them (data2vec 2.0, arXiv 2212.07525).

    Returns:
        BoolTensor (batch, *grid), True = hidden; `hidden_count` squares a sample, up to rounding.
    """
    shown = 1 - ratio_of(ratio, generator)
    return ~block(batch, grid, shown, generator, side)


def multiblock(
    batch: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> tuple[Tensor, ...]:
    """I-JEPA's masks (arXiv 2301.08243): a large context block, without the target blocks that lie in it.

    Sizes are drawn once a batch, places for every sample, again where the targets leave no context. Where contexts
    differ in size, squares drawn uniformly are hidden from the larger ones, so that all samples show equally many.

    Args:
        target_scale, context_scale: area of a block, as a share of the grid's.
        target_aspect: height / width of a target, times that of the grid; the context's is the grid's.

    Returns:
        (hidden, target 1, ..., target n), BoolTensors (batch, *grid). `hidden` is True outside the context; a target is
        True on its own squares.

    Raises:
        WhymaskError: when the targets of a sample leave no context, after 100 draws.
    """
    sizes = [_block_size(grid, target_scale, target_aspect, generator)] * targets
    sizes.append(_block_size(grid, context_scale, (1.0, 1.0), generator))
    blocks = torch.zeros(targets + 1, batch, *grid, dtype=torch.bool)
    shown = torch.zeros(batch, dtype=torch.long)
    for _ in range(100):
        drawn = torch.stack([_block_at_random(batch, grid, size, generator) for size in sizes])
        blocks = torch.where((shown == 0)[:, None, None], drawn, blocks)
        context = blocks[-1] & ~blocks[:-1].any(dim=0)
        shown = context.flatten(1).sum(dim=1)
        if bool((shown > 0).all()):
            return (~keep(context, int(shown.min()), generator), *blocks[:-1])
    raise WhymaskError(
        f"{targets} target blocks of {target_scale[0]:g} to {target_scale[1]:g} of the area leave no context in a grid "
        f"of {grid[0]}x{grid[1]} squares; choose fewer or smaller targets, or smaller patches"
    )


def _block_size(
    grid: tuple[int, int], scale: tuple[float, float], aspect: tuple[float, float], generator: torch.Generator
) -> tuple[int, int]:
    area, shape = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    area = grid[0] * grid[1] * (scale[0] + (scale[1] - scale[0]) * area)
    shape = (aspect[0] + (aspect[1] - aspect[0]) * shape) * grid[0] / grid[1]
    sides = round((area * shape) ** 0.5), round((area / shape) ** 0.5)
    return min(max(sides[0], 1), grid[0]), min(max(sides[1], 1), grid[1])


def _block_at_random(batch: int, grid: tuple[int, int], size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """One block of size (h, w) a sample, uniformly placed: BoolTensor (batch, *grid), True within."""
    inside = []
    for full, side in zip(grid, size, strict=True):
        start = torch.randint(full - side + 1, (batch, 1), generator=generator)
        place = torch.arange(full)
        inside.append((place >= start) & (place < start + side))
    return inside[0].unsqueeze(2) & inside[1].unsqueeze(1)


def subset(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Keeps a uniformly drawn share of the hidden squares, the same number in every sample.

    Args:
        mask: BoolTensor (B, gh, gw) with equally many True in every sample.
        share: in (0, 1]; round(share * hidden) squares are kept, at least 1.

    Returns:
        BoolTensor (B, gh, gw), True only where `mask` is.
    """
    if not 0 < share <= 1:
        raise WhymaskError(f"share {share} of the hidden squares; it must lie in (0, 1], 1 being all of them")
    hidden = indices(mask)[1].shape[1]
    return keep(mask, max(round(share * hidden), 1), generator)


def keep(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Keeps `count` of each sample's hidden squares, every subset of that size being equally likely.

    Args:
        mask: BoolTensor (B, gh, gw) with at least `count` True in every sample.

    Returns:
        BoolTensor (B, gh, gw), True only where `mask` is.
    """
    flat = mask.flatten(1)
    order = torch.rand(flat.shape, generator=generator).to(mask.device).masked_fill(~flat, 2.0)
    kept = order.argsort(dim=1)[:, :count]
    return torch.zeros_like(flat).scatter_(1, kept, True).view_as(mask)


def to_pixels(mask: Tensor, unit: int) -> Tensor:
    """A mask over squares (B, gh, gw) as a mask over pixels (B, 1, gh * unit, gw * unit)."""
    return mask.repeat_interleave(unit, dim=1).repeat_interleave(unit, dim=2).unsqueeze(1)


def to_squares(images: Tensor, unit: int) -> Tensor:
    """Cuts images (B, C, H, W) into squares (B, N, C * unit * unit), row by row, channel by channel within."""
    batch, channels, height, width = images.shape
    squares = images.reshape(batch, channels, height // unit, unit, width // unit, unit)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * unit * unit)


def from_squares(squares: Tensor, unit: int, size: tuple[int, int]) -> Tensor:
    """Puts squares (B, N, C * unit * unit) together to images (B, C, *size); the inverse of `to_squares`."""
    rows, columns = size[0] // unit, size[1] // unit
    grid = squares.reshape(len(squares), rows, columns, -1, unit, unit)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(squares), -1, *size)


def cover(squares: Tensor, unit: int, size: tuple[int, int]) -> Tensor:
    """`from_squares` for squares (B, N, C * unit * unit) that may reach beyond images of `size`, below and right."""
    whole = tuple(-(-side // unit) * unit for side in size)
    return from_squares(squares, unit, (whole[0], whole[1]))[:, :, : size[0], : size[1]]
