"""Masks: which squares of an image are hidden. The only source of mask randomness in whymask.

A mask is a BoolTensor (B, gh, gw), True = HIDDEN, over squares of `unit` pixels; (gh, gw) = (height, width) / unit.
Masks are drawn on the CPU from a generator keyed by (seed, purpose, step) and then moved, so that every device and
every number of workers sees the same ones.
"""

import torch
from torch import Tensor

from whymask.errors import WhymaskError


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


def uniform(batch: int, grid: tuple[int, int], ratio: float, generator: torch.Generator) -> Tensor:
    """Hides the same number of squares in every sample, every subset of that size being equally likely.

    Returns:
        BoolTensor (batch, *grid), True = hidden; `hidden_count` squares a sample.
    """
    squares = grid[0] * grid[1]
    order = torch.rand(batch, squares, generator=generator).argsort(dim=1)
    return (order < hidden_count(squares, ratio)).view(batch, *grid)


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
    hidden = indices(mask)[1]
    kept = max(round(share * hidden.shape[1]), 1)
    drawn = torch.rand(hidden.shape, generator=generator).argsort(dim=1)[:, :kept].to(hidden.device)
    return torch.zeros_like(mask.flatten(1)).scatter_(1, hidden.gather(1, drawn), True).view_as(mask)


def indices(mask: Tensor) -> tuple[Tensor, Tensor]:
    """A mask (B, gh, gw) in index form: (visible (B, n_visible), hidden (B, n_hidden)), long, ascending.

    Squares are numbered row by row.

    Raises:
        ValueError: when samples hide different numbers of squares.
    """
    flat = mask.flatten(1)
    counts = flat.sum(dim=1)
    if not bool((counts == counts[0]).all()):
        raise ValueError("samples hide different numbers of squares; index form needs equal counts")
    visible, hidden = ((part.nonzero()[:, 1]).view(len(flat), -1) for part in (~flat, flat))
    return visible, hidden


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


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Picks rows of each sample: tokens (B, N, D), index (B, n) -> (B, n, D)."""
    batch, length, width = tokens.shape
    start = torch.arange(0, batch * length, length, device=index.device).unsqueeze(1)
    rows = tokens.reshape(-1, width).index_select(0, (index + start).flatten())
    return rows.view(batch, -1, width)
