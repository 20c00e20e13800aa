"""Pixel reconstruction as [P] has it (memory): a map D_p for each place; and images whose places say nothing."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.theory.data import MultiView, Sample
from whymask.theory.network import Network
from whymask.theory.objectives import Gradients, check_no_copies, check_theta
from whymask.theory.settings import ImageSettings


@dataclass(frozen=True)
class Permuted(MultiView):
    """Images of which each has its patches in an order of its own. Otherwise the features of the image's class come
    first, in their order, so that a place says which of them it shows."""

    def draw(
        self, generator: torch.Generator, images: int, view: Literal["multi", "single", "mixed"] = "mixed"
    ) -> Sample:
        batch = super().draw(generator, images, view)
        order = torch.rand(batch.patches.shape[:3], generator=generator).argsort(2)
        return replace(batch, patches=batch.patches.gather(2, order[..., None].expand_as(batch.patches)))


@dataclass(frozen=True)
class Settled(MultiView):
    """Images of which every feature keeps its places: feature j has those from j·C_p on, empty where it is absent. As
    drawn otherwise, a feature is at some place if its class is the image's and anywhere if not."""

    @classmethod
    def of(cls, settings: ImageSettings) -> "Settled":
        """With as many patches as that takes."""
        return super().of(replace(settings, P=settings.count * settings.C_p))

    def _placed(self, generator: torch.Generator, labels: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(self.count).expand(len(labels), -1), present


@dataclass(frozen=True)
class PlacedReconstruction:
    """Reconstruct the hidden patches' numbers by a linear decoder of each place from the code of the visible ones.

    loss = 1/2 E_X E_e sum_p (1 - e_p) ||x_p - D_p h'(eX)||^2. With S_-p = S - a_p and G = sum_p D_p' D_p, exactly [D]

        E_e loss = (1 - theta)/2 sum_p [ ||x_p - D_p S_-p||^2 + (1 - theta)/theta (a_p' G a_p - ||D_p a_p||^2) ]

    (' transposes). The network's decoder holds the D_p one below the other: (S, P·d, K).
    """

    theta: float = 0.5
    """Share of patches kept, in (0, 1)."""
    is_apart = False

    def __post_init__(self) -> None:
        check_theta(self.theta)

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """Mean over images, (S,)."""
        maps = _maps(network, batch)
        active = network.sigma(batch.correlate(network.kernels))
        left = batch.patches - _shown(maps, active.sum(2, keepdim=True) - active)
        gram = torch.einsum("spdk,spdl->skl", maps, maps)
        others = (active * (active @ gram[:, None])).sum((2, 3)) - _shown(maps, active).square().sum((2, 3))
        ridge = (1 - self.theta) / self.theta * others
        return (1 - self.theta) / 2 * (left.square().sum((2, 3)) + ridge).mean(1)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        kernels, maps = network.kernels, _maps(network, batch)
        gram = torch.einsum("spdk,spdl->skl", maps, maps)
        by_kernels, by_maps = torch.zeros_like(kernels), torch.zeros_like(maps)
        loss, strength = kernels.new_zeros(len(kernels)), (1 - self.theta) / self.theta
        for at, part in batch.parts(kernels.shape[1]):
            active, slope = network.sigma.with_slope(part.correlate(kernels[at]))
            without = active.sum(2, keepdim=True) - active  # S_-p
            left, own = part.patches - _shown(maps[at], without), _shown(maps[at], active)
            widened = active @ gram[at][:, None]  # G a_p
            others = (active * widened).sum((1, 2, 3)) - own.square().sum((1, 2, 3))
            loss[at] += (left.square().sum((1, 2, 3)) + strength * others) / 2
            every = active.flatten(1, 2)
            by_maps[at] += strength * maps[at] @ (every.mT @ every)[:, None]
            by_maps[at] -= torch.einsum("sbpd,sbpk->spdk", left, without)
            by_maps[at] -= strength * torch.einsum("sbpd,sbpk->spdk", own, active)
            back = torch.einsum("sbpd,spdk->sbpk", left, maps[at])  # what is left at p pulls every patch but p
            pull = back - back.sum(2, keepdim=True)
            pull += strength * (widened - torch.einsum("sbpd,spdk->sbpk", own, maps[at]))
            by_kernels[at] += part.collect(pull * slope)
        scale = (1 - self.theta) / len(batch)
        return loss * scale, {"kernels": by_kernels * scale, "decoder": by_maps.flatten(1, 2) * scale}


def _maps(network: Network, batch: Sample) -> Tensor:
    """D_p, (S, P, d, K)."""
    check_no_copies(batch)
    rows = batch.patches.shape[2] * batch.patches.shape[3]
    if network.decoder is None or network.decoder.shape[1] != rows:
        given = None if network.decoder is None else tuple(network.decoder.shape)
        raise WhymaskError(f"a decoder of each place, (S, P·d={rows}, K), was expected; the network has {given}.")
    return network.decoder.unflatten(1, batch.patches.shape[2:])


def _shown(maps: Tensor, codes: Tensor) -> Tensor:
    """D_p c_p of codes (S, B, P, K): (S, B, P, d)."""
    return torch.einsum("spdk,sbpk->sbpd", maps, codes)
