"""The masked losses by their definition, over drawn masks or all of them: the reference of the closed forms.

Only tests and benchmarks use it. S seeds, B images a seed, P patches an image, d numbers a patch, K kernels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from whymask.theory.data import Sample
from whymask.theory.network import Network
from whymask.theory.objectives import Gradients

WeightedMasks = Iterable[tuple[float, Tensor]]
"""Masks e of 0 and 1, (S, B, P) or what broadcasts to it, each with its weight; the weights sum to 1."""


def drawn_masks(batch: Sample, theta: float, generator: torch.Generator, masks: int) -> Iterator[tuple[float, Tensor]]:
    """`masks` times a mask of its own for every image, (S, B, P), e_p ~ Bernoulli(theta); the weights are equal."""
    patches = expanded(batch)
    for _ in range(masks):
        uniform = torch.rand(patches.shape[:3], generator=generator, device=generator.device)
        yield 1 / masks, (uniform < theta).to(patches)


def every_mask(batch: Sample, theta: float) -> Iterator[tuple[float, Tensor]]:
    """All 2^P masks, (1, 1, P) each, with their probabilities: the exact expectation, for small P."""
    patches = expanded(batch)
    for kept in product((0, 1), repeat=patches.shape[2]):
        chance = theta ** sum(kept) * (1 - theta) ** (len(kept) - sum(kept))
        yield chance, patches.new_tensor(kept)[None, None]


def teacher_student(
    network: Network, batch: Sample, theta: float, tau: float, masks: WeightedMasks
) -> tuple[Tensor, Gradients]:
    """1/2 E_e sum_r (h^_r - h'_r(eX))^2, the mean over images, (S,), and its gradient by the kernels (S, K, d).

    The teacher h^ sees the whole image with the kernels tau·w_r and gets no gradient.
    """
    teacher = _active(network, expanded(batch), tau * network.kernels.detach()).sum(2)  # h^, (S, B, K)
    return to_targets(network, batch, theta, teacher, masks)


def to_targets(
    network: Network, batch: Sample, theta: float, targets: Tensor, masks: WeightedMasks
) -> tuple[Tensor, Gradients]:
    """1/2 E_e sum_r (y_r - h'_r(eX))^2 for targets y (S, B, K), the mean over images, (S,), and its gradient by the
    kernels (S, K, d)."""
    patches = expanded(batch)

    def loss(leaves: Network, mask: Tensor) -> Tensor:
        return (targets - _code(leaves, patches, mask, theta)).square().sum(2).mean(1) / 2

    return _averaged(loss, network, ("kernels",), masks)


def pixel_reconstruction(
    network: Network, batch: Sample, theta: float, masks: WeightedMasks
) -> tuple[Tensor, Gradients]:
    """1/2 E_e sum_p (1 - e_p) ||x_p - D h'(eX)||^2, the mean over images, (S,), and its gradient by kernels and D."""
    patches = expanded(batch)

    def loss(leaves: Any, mask: Tensor) -> Tensor:
        guess = _code(leaves, patches, mask, theta) @ leaves.decoder.mT  # (S, B, d), the same for every hidden patch
        errors = (patches - guess[:, :, None]).square().sum(3)  # (S, B, P)
        return ((1 - mask) * errors).sum(2).mean(1) / 2

    return _averaged(loss, network, ("kernels", "decoder"), masks)


def placed_reconstruction(
    network: Network, batch: Sample, theta: float, masks: WeightedMasks
) -> tuple[Tensor, Gradients]:
    """1/2 E_e sum_p (1 - e_p) ||x_p - D_p h'(eX)||^2, the mean over images, (S,), and its gradient by kernels and
    decoder, (S, P·d, K)."""
    patches = expanded(batch)

    def loss(leaves: Any, mask: Tensor) -> Tensor:
        guess = (_code(leaves, patches, mask, theta) @ leaves.decoder.mT).view(patches.shape)
        return ((1 - mask) * (patches - guess).square().sum(3)).sum(2).mean(1) / 2

    return _averaged(loss, network, ("kernels", "decoder"), masks)


def expanded(batch: Sample) -> Tensor:
    """Patches (S, B, P, d) with every copy written out."""
    return batch.patches.repeat_interleave(batch.copies, dim=2)


def _active(network: Network, patches: Tensor, kernels: Tensor) -> Tensor:
    """a_p = sigma(W x_p), (S, B, P, K)."""
    return network.sigma(torch.einsum("sbpd,skd->sbpk", patches, kernels))


def _code(network: Network, patches: Tensor, mask: Tensor, theta: float) -> Tensor:
    """h'(eX) = (1/theta) sum_p e_p a_p, (S, B, K)."""
    return (mask[..., None] * _active(network, patches, network.kernels)).sum(2) / theta


def _averaged(
    loss_of: Callable[[Network, Tensor], Tensor], network: Network, trained: Sequence[str], masks: WeightedMasks
) -> tuple[Tensor, Gradients]:
    """The weighted mean of a mask's loss, (S,), and of its gradients, one mask in memory at a time."""
    leaves = network.map(lambda tensor: tensor.detach().requires_grad_())
    by = [leaves.tensors()[name] for name in trained]
    total, sums = torch.zeros_like(by[0][:, 0, 0]), [torch.zeros_like(tensor) for tensor in by]
    for weight, mask in masks:
        loss = loss_of(leaves, mask)
        total += weight * loss.detach()
        for place, gradient in enumerate(torch.autograd.grad(loss.sum(), by)):
            sums[place] += weight * gradient
    return total, dict(zip(trained, sums, strict=True))
