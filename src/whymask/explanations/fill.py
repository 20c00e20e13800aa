"""Hiding parts of an image: what the hidden pixels become.

No filling is neutral. The mean of the data is a flat square that no photo has; patches of other images have textures
and edges, and may show other classes. A conclusion is drawn only where both say the same.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.masks import to_pixels
from whymask.randomness import torch_generator

Filling = Literal["mean", "patches"]
FILLED: dict[Filling, str] = {"mean": "filled with the mean", "patches": "filled with patches of other images"}
"""How each filling is told."""
FILLINGS: tuple[Filling, ...] = tuple(FILLED)


def fillers(images: Tensor, cells: tuple[int, int], seed: int = 0) -> dict[Filling, Tensor]:
    """For each filling the images (n, C, h, w) that shine through where something is hidden.

    mean: 0, the data's mean, in normalised images. patches: in each cell what another image, drawn for this cell alone,
    has in the same place; so that no single other image takes over.

    Raises WhymaskError for fewer than two images.
    """
    n = len(images)
    if n < 2:
        raise WhymaskError(f"{n} test image; at least two are needed, for hidden parts show patches of another one")
    generator = torch_generator(seed, "filling")
    steps = torch.randint(1, n, (n, *cells), generator=generator)
    donor = (torch.arange(n)[:, None, None] + steps) % n
    mosaic, unit = torch.empty_like(images), images.shape[2] // cells[0]
    for i in range(cells[0]):
        for j in range(cells[1]):
            place = (slice(i * unit, (i + 1) * unit), slice(j * unit, (j + 1) * unit))
            mosaic[:, :, *place] = images[donor[:, i, j]][:, :, *place]
    return {"mean": torch.zeros_like(images), "patches": mosaic}


def hide(images: Tensor, hidden: Tensor, filler: Tensor) -> Tensor:
    """Images (B, C, h, w) with the cells that are True in `hidden` (B, gh, gw) taken from `filler` (B, C, h, w)."""
    unit = images.shape[2] // hidden.shape[1]
    return torch.where(to_pixels(hidden, unit).to(images.device), filler, images)


def cells_of(shares: Sequence[float], cells: tuple[int, int]) -> list[tuple[int, float]]:
    """How many of an image's cells each share is, and what share that is exactly.

    What rounds to none, to all, or to as many as another share is left out.
    """
    count = cells[0] * cells[1]
    numbers = dict.fromkeys(round(share * count) for share in shares)
    return [(number, number / count) for number in numbers if 0 < number < count]
