"""Residual branches, which training may leave out at random: stochastic depth, or drop path (arXiv 1603.09382)."""

import numpy as np
import timm.layers
from torch import Tensor, nn

from whymask.ranks import drawn

PLACES = ("drop_path", "drop_path1", "drop_path2")
"""Attributes of timm's blocks that may leave a residual branch out."""


class DropPath(timm.layers.DropPath):
    """Which samples are left out is drawn for the batch of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        keep = 1 - self.drop_prob
        if keep == 1 or not self.training:
            return x
        kept = drawn(lambda shape: x.new_empty(shape).bernoulli_(keep), (len(x), *[1] * (x.ndim - 1)))
        return x * (kept.div_(keep) if keep > 0 and self.scale_by_keep else kept)


def branches_of(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network, in order, that have residual branches which drop path can leave out."""
    return [block for block in network.modules() if any(hasattr(block, place) for place in PLACES)]


def drop_branches(network: nn.Module, rate: float) -> None:
    """Makes the residual branches of a timm network be left out at random in training, from 0 in the first block to
    `rate` in the last. Its state and what it computes in eval mode stay the same."""
    blocks = branches_of(network)
    for share, block in zip(np.linspace(0, rate, len(blocks)).tolist(), blocks, strict=True):
        for place in PLACES:
            if hasattr(block, place):
                setattr(block, place, (DropPath(share) if share else nn.Identity()).train(block.training))
