"""Attacks on images: projected gradient ascent within a ball around each (Madry et al., arXiv 1706.06083).

S seeds, B images each, P patches an image, d numbers a patch, K kernels, k classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from whymask.theory.data import Sample
from whymask.theory.measures import TINY
from whymask.theory.network import Network

STEPS = 20
STRIDE = 2.5
"""All steps together, in radii."""
Goal = Callable[[Network, Sample, Sample], tuple[Tensor, Tensor]]
"""Of a network, changed images and the unchanged ones: what is to grow, (S, B), and its gradient by the patches."""


@dataclass(frozen=True)
class Ball:
    """All changes of an image whose P·d numbers together are at most `radius` long."""

    norm: Literal["L2", "Linf"]
    radius: float

    def inside(self, shift: Tensor) -> Tensor:
        """The nearest change within the ball, (S, B, P, d)."""
        if self.norm == "Linf":
            return shift.clamp(-self.radius, self.radius)
        return shift * (self.radius / _length(shift)).clamp_max(1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The change of length `radius` that a gradient calls for, (S, B, P, d)."""
        return self.radius * (gradient.sign() if self.norm == "Linf" else gradient / _length(gradient))

    def drawn(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """A random change within the ball, (S, B, P, d)."""
        if self.norm == "Linf":
            uniform = torch.rand(patches.shape, generator=generator, dtype=torch.float64)
            return (self.radius * (2 * uniform - 1)).to(patches)
        normal = torch.randn(patches.shape, generator=generator, dtype=torch.float64)
        share = torch.rand((*patches.shape[:2], 1, 1), generator=generator, dtype=torch.float64)
        return (self.radius * share * normal / _length(normal)).to(patches)


def attacked(network: Network, batch: Sample, ball: Ball, goal: Goal, generator: torch.Generator) -> Sample:
    """The images, changed within the ball by `STEPS` steps of ascent from a random start; of all changes on the way,
    that of the largest goal is kept for each image."""
    shift = ball.drawn(batch.patches, generator)
    best = shift.clone()
    for seeds, part, chosen in _parts(network, batch):
        best[seeds, chosen] = _ascent(network.of(seeds), part, ball, goal, shift[seeds, chosen])
    return replace(batch, patches=batch.patches + best)


def _ascent(network: Network, part: Sample, ball: Ball, goal: Goal, shift: Tensor) -> Tensor:
    best, most = shift, shift.new_full(shift.shape[:2], -torch.inf)
    for step in range(STEPS + 1):
        value, gradient = goal(network, replace(part, patches=part.patches + shift), part)
        better = value > most
        best, most = torch.where(better[..., None, None], shift, best), torch.where(better, value, most)
        if step < STEPS:
            shift = ball.inside(shift + STRIDE / STEPS * ball.steepest(gradient))
    return best


def _parts(network: Network, batch: Sample) -> Iterator[tuple[slice, Sample, slice]]:
    """The parts of `Sample.parts`: their seeds, themselves, and which images they hold."""
    place = 0
    for seeds, part in batch.parts(network.kernels.shape[1]):
        yield seeds, part, slice(place, place + len(part))
        place = (place + len(part)) % len(batch)


def loss(network: Network, batch: Sample, _: Sample) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each image."""
    active, slope = network.sigma.with_slope(batch.correlate(network.kernels))
    chances = (active.sum(2) @ network.own_head.mT).log_softmax(2)
    right = batch.labels[..., None]
    wrong = chances.exp().scatter_add_(2, right, -torch.ones_like(right, dtype=chances.dtype))
    return -chances.gather(2, right)[..., 0], _back(network, slope, wrong @ network.own_head)


def movement(network: Network, batch: Sample, whole: Sample) -> tuple[Tensor, Tensor]:
    """How far the code of each image moves, ||h(x + change) - h(x)||^2 / 2."""
    active, slope = network.sigma.with_slope(batch.correlate(network.kernels))
    moved = active.sum(2) - network.sigma(whole.correlate(network.kernels)).sum(2)
    return moved.square().sum(2) / 2, _back(network, slope, moved)


def _back(network: Network, slope: Tensor, pull: Tensor) -> Tensor:
    """The gradient by the patches, (S, B, P, d), of what pulls at codes by (S, B, K)."""
    return (slope * pull[:, :, None]).flatten(1, 2).bmm(network.kernels).unflatten(1, slope.shape[1:3])


def _length(change: Tensor) -> Tensor:
    """L2, (S, B, 1, 1)."""
    return change.flatten(2).norm(dim=2)[..., None, None].clamp_min(TINY)
