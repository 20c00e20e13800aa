"""Rules of descent: what is taken off each tensor, for a step size of 1, as gradients come one after another."""

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

RuleName = Literal["plain", "momentum", "adam"]
KEPT = 0.9
"""Of the steps before, by momentum."""


class Rule(Protocol):
    """Each seed for itself, by the names of `Network.tensors`."""

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]: ...


class Plain:
    """The gradients themselves."""

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        return gradients


class Momentum:
    """The gradients so far, of which a step keeps `KEPT` (Polyak, 1964): in the long run 1 / (1 - `KEPT`) times as far
    as `Plain`."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {name: KEPT * before for name, before in self.sums.items()}
        self.sums = {name: kept[name] + gradient if kept else gradient for name, gradient in gradients.items()}
        return self.sums


class Adam:
    """Adam's steps (Kingma and Ba, arXiv 1412.6980)."""

    def __init__(self, betas: Sequence[float] = (0.9, 0.999), epsilon: float = 1e-8):
        self.betas, self.epsilon = betas, epsilon
        self.count = 0
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        self.count += 1
        (b1, b2), steps = self.betas, {}
        for name, gradient in gradients.items():
            first, second = self.moments.setdefault(name, (torch.zeros_like(gradient), torch.zeros_like(gradient)))
            first.mul_(b1).add_(gradient, alpha=1 - b1)
            second.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            unbiased = (second / (1 - b2**self.count)).sqrt_().add_(self.epsilon)
            steps[name] = first / (1 - b1**self.count) / unbiased
        return steps


RULES: dict[RuleName, type[Rule]] = {"plain": Plain, "momentum": Momentum, "adam": Adam}


def within_norm(kernels: Tensor, bound: float) -> Tensor:
    """Kernels (S, K, d), those longer than `bound` shortened to it: the nearest ones of bounded norm."""
    if bound == math.inf:
        return kernels
    return kernels * (bound / kernels.norm(dim=2, keepdim=True)).clamp_max(1)
