"""Pictures: what each arm sees in a few images, and what it still says when that is hidden."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from whymask.data.preprocessing import Preprocessing
from whymask.explanations.cast import Cast
from whymask.explanations.evidence import Means, evidence, ranks, top_cells
from whymask.explanations.fill import hide
from whymask.explanations.networks import ROLES

SHOWN = 8
"""Images that are shown."""


def evidence_pictures(
    cast: Cast, images: Tensor, labels: Tensor, cells: tuple[int, int], means: Mapping[str, Means]
) -> dict[str, np.ndarray]:
    """The first images (n, C, h, w), and what the first network of each arm makes of them.

    "images" uint8 (m, h, w, C) and "labels" (m,); for each arm "evidence/ARM" (m, gh, gw) in 0..1, "hidden/ARM" the
    images with the strongest quarter of it at the mean, and "whole/ARM", "left/ARM" (m,), the classes said of both.
    """
    images, labels = images[:SHOWN], labels[:SHOWN]
    pictures = {"images": pixels(images, cast.preprocessing), "labels": labels.numpy()}
    for role in ROLES:
        if role not in cast.networks:
            continue
        network = cast.networks[role][min(cast.networks[role])]
        maps = evidence(network, images, labels, cells, means[network.arm])
        first = (ranks(maps) < top_cells(maps[0].numel())).view_as(maps)
        left = hide(images, first, torch.zeros_like(images))
        positive = maps.clamp(min=0)
        pictures |= {
            f"evidence/{network.arm}": (positive / positive.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).numpy(),
            f"hidden/{network.arm}": pixels(left, cast.preprocessing),
            f"whole/{network.arm}": network(images).argmax(dim=1).numpy(),
            f"left/{network.arm}": network(left).argmax(dim=1).numpy(),
        }
    return pictures


def pixels(images: Tensor, preprocessing: Preprocessing) -> np.ndarray:
    """Normalised images (n, C, h, w) as uint8 (n, h, w, C)."""
    std, mean = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.std, preprocessing.mean))
    return ((images * std + mean).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
