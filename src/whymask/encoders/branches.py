"""Residual branches, which training may leave out at random: stochastic depth, or drop path (arXiv 1603.09382)."""

import numpy as np
from timm.layers import DropPath
from torch import nn

PLACES = ("drop_path", "drop_path1", "drop_path2")
"""Attributes of timm's blocks that may leave a residual branch out."""


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
