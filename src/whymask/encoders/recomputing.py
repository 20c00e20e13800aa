"""Blocks of a network that compute on the way back again what they would keep for it: less memory, the same bits."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from whymask.encoders.branches import branches_of


class Recomputed:
    """Mixed into a block's class."""

    recomputes: bool

    def forward(self, *given: Any, **named: Any) -> Any:
        if not (self.recomputes and torch.is_grad_enabled()):
            return super().forward(*given, **named)  # type: ignore[misc]
        work = super().forward  # type: ignore[misc]
        return checkpoint(work, *given, use_reentrant=False, context_fn=partial(_contexts, self), **named)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Its residual blocks; of a network without them, the groups of layers that follow one another."""
    groups = [
        layer
        for chain in network.modules()
        if isinstance(chain, nn.Sequential)
        for layer in chain
        if any(True for _ in layer.children()) and not isinstance(layer, nn.Sequential)
    ]
    return branches_of(network) or groups


def recompute(block: Any, masking: Any, on: bool) -> None:
    """Let a block compute again, or not any more. Where it sees only a part of images, by `masking`, it then sees that
    part again."""
    if not isinstance(block, Recomputed):
        block.__class__ = type(f"Recomputed{type(block).__name__}", (Recomputed, type(block)), {})
    block.recomputes, block.seen_by = on, masking


def _contexts(block: Any) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """That in which the block is computed, and that in which it is once more."""
    stack = [] if block.seen_by is None else block.seen_by.stack
    return nullcontext(), _once_more(block, stack, stack[-1:])


@contextmanager
def _once_more(block: nn.Module, stack: list[Any], seen: list[Any]) -> Iterator[None]:
    """Within, the block sees what it saw; what batch norms count stays as it is, as the batch was counted."""
    buffers = list(block.buffers())
    kept = [buffer.clone() for buffer in buffers]
    stack.extend(seen)
    try:
        yield
    finally:
        del stack[len(stack) - len(seen) :]
        with torch.no_grad():
            for buffer, before in zip(buffers, kept, strict=True):
                buffer.copy_(before)
