"""Supervised training on images that are changed at each step: patches hidden, or two images mixed.

The loss that is returned, and at which training stops, is that of the unchanged images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from whymask.randomness import torch_generator
from whymask.theory.data import Sample
from whymask.theory.network import Network
from whymask.theory.objectives import CrossEntropy, Gradients

CLEAN = CrossEntropy()


@dataclass
class Masked:
    """Cross-entropy of a learned head on images of which each patch is kept with probability theta; their codes are
    divided by theta, as in pretraining. One mask an image and step, a function of the seed and the step."""

    theta: float
    seeds: Sequence[int]
    is_apart: bool = False
    _step: int = field(default=0, init=False)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        shape = batch.patches.shape[1:3]
        drawn = [torch.rand(shape, generator=torch_generator(seed, "hidden", self._step)) for seed in self.seeds]
        self._step += 1
        kept = (torch.stack(drawn) < self.theta).to(batch.patches)
        seen = replace(batch, patches=batch.patches * kept[..., None])
        _, gradients = CLEAN.gradients(network.having(head=network.own_head / self.theta), seen)
        return CLEAN.loss(network, batch), gradients | {"head": gradients["head"] / self.theta}


@dataclass
class Mixed:
    """Cross-entropy of a learned head on each image mixed with the next of its batch, at a share that is uniform in
    (0, 1), one a seed and step (mixup, arXiv 1710.09412, at alpha 1)."""

    seeds: Sequence[int]
    is_apart: bool = False
    _step: int = field(default=0, init=False)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        drawn = [torch.rand((), generator=torch_generator(seed, "mixed", self._step)) for seed in self.seeds]
        self._step += 1
        share = torch.stack(drawn).to(batch.patches)[:, None, None]
        patches = share[..., None] * batch.patches + (1 - share[..., None]) * batch.patches.roll(1, 1)
        own, other = (
            CLEAN.gradients(network, replace(batch, patches=patches, labels=labels))[1]
            for labels in (batch.labels, batch.labels.roll(1, 1))
        )
        return CLEAN.loss(network, batch), {name: share * own[name] + (1 - share) * other[name] for name in own}
