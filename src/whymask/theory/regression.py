"""A scalar to be predicted of the lab's images, by squared error, alone or beside cross-entropy over its bins [D]."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.theory.data import MultiView, Sample
from whymask.theory.network import Network
from whymask.theory.objectives import Gradients, Room


@dataclass(frozen=True)
class Skewed(MultiView):
    """Images whose classes, and so whose targets, are drawn unevenly: class i of k in proportion to
    skew^(-i / (k - 1)), so that the first is `skew` times as frequent as the last."""

    skew: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.skew < math.inf:
            raise WhymaskError(f"skew={self.skew}: a number above 0 was expected.")

    def _labels(self, generator: torch.Generator, images: int) -> Tensor:
        classes = self.shown.view(self.k, self.L).any(1).nonzero()[:, 0]
        chances = self.skew ** (-classes.double() / (self.k - 1))
        return classes[torch.multinomial(chances, images, replacement=True, generator=generator)]


@dataclass(frozen=True)
class Target:
    """t of an image of class y of k, told by the class and its features together:

        t = sqrt(12) ((y + u) / k - 1/2),    u = mean over the class's features of (w - 1) / 0.4, within [0, 1],

    w = sum_p <x_p, v> being a feature's weight, from 1 to 1.4 in multi-view images. So classes are bins of t, and over
    evenly drawn ones it has mean 0 and variance 1, nearly.
    """

    features: Tensor
    """(k·L, d), class by class."""
    k: int

    def of(self, batch: Sample) -> Tensor:
        """(S, B)."""
        weights = batch.copies * (batch.patches.sum(2) @ self.features.to(batch.patches).mT)  # (S, B, n)
        of_class = weights.unflatten(2, (self.k, -1))
        place = batch.labels[..., None, None].expand(*of_class.shape[:2], 1, of_class.shape[3])
        within = ((of_class.gather(2, place)[:, :, 0] - 1) / 0.4).mean(2).clamp(0, 1)
        return 12**0.5 * ((batch.labels + within) / self.k - 0.5)


@dataclass(frozen=True)
class Regression:
    """1/2 (f - t)^2 + weight x cross-entropy of softmax(g) with the bin of t, the mean over images.

    The network's head has f as its first output and g behind it: (S, 1 + k, K).
    """

    target: Target
    weight: float = 0.0
    """Of the cross-entropy; 0: squared error alone."""
    shifted: bool = False
    """A control: the bins of the next image of the batch."""
    is_apart = False

    def bins(self, batch: Sample) -> Tensor:
        """(S, B)."""
        return batch.labels.roll(1, 1) if self.shifted else batch.labels

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """(S,)."""
        outputs = network.logits(batch)
        missed = (outputs[..., 0] - self.target.of(batch)).square() / 2
        chances = outputs[..., 1:].log_softmax(2).gather(2, self.bins(batch)[..., None])[..., 0]
        return (missed - self.weight * chances).mean(1)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        kernels, head = network.kernels, network.own_head
        by_kernels, by_head = torch.zeros_like(kernels), torch.zeros_like(head)
        told, bins = self.target.of(batch), self.bins(batch)[..., None]
        loss, room, place = kernels.new_zeros(len(kernels)), Room(), 0
        for seeds, part in batch.parts(kernels.shape[1]):
            at, place = slice(place, place + len(part)), (place + len(part)) % len(batch)
            z = part.correlate(kernels[seeds])
            active, slope = network.sigma.with_slope(z, *room.like(z, 2))
            codes = active.sum(2).mul_(batch.copies)
            outputs = codes @ head[seeds].mT
            missed, chances = outputs[..., :1] - told[seeds, at, None], outputs[..., 1:].log_softmax(2)
            right = bins[seeds, at]
            loss[seeds] += (missed.square().sum((1, 2)) / 2) - self.weight * chances.gather(2, right).sum((1, 2))
            wrong = chances.exp().scatter_add_(2, right, -torch.ones_like(right, dtype=chances.dtype))
            pull = torch.cat([missed, self.weight * wrong], 2)  # by the outputs, (s, b, 1 + k)
            by_head[seeds] += pull.mT @ codes
            by_kernels[seeds] += part.collect(slope.mul_((pull @ head[seeds])[:, :, None]))
        scale = 1 / len(batch)
        return loss * scale, {"kernels": by_kernels.mul_(batch.copies * scale), "head": by_head.mul_(scale)}
