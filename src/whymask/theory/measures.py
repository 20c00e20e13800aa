"""What a network captured, what it should have captured, and how well it classifies."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from whymask.theory.data import Sample
from whymask.theory.network import Network

PATH_STEPS, TINY = 400, 1e-30
Ratio = TypeVar("Ratio", float, np.ndarray)
PURE = 0.3
"""Largest second/first overlap of a kernel that counts as having captured its first."""


def overlaps(network: Network, features: Tensor) -> Tensor:
    """<w_r, v_j>, (S, K, n), for features (n, d)."""
    return network.kernels @ features.to(network.kernels).mT


def largest_overlap(network: Network, features: Tensor) -> Tensor:
    """Lambda_j = max_r <w_r, v_j>+, (S, n)."""
    return overlaps(network, features).amax(1).clamp_min(0)


def second_to_first(network: Network, features: Tensor) -> Tensor:
    """A kernel's second largest overlap relative to its largest, (S, K): 0 is pure; 1 where none is positive."""
    first, second = overlaps(network, features).topk(2, dim=2).values.unbind(2)
    return torch.where(first > 0, second.clamp_min(0) / first, torch.ones_like(first))


def captured(network: Network, features: Tensor, horizon: float, pure: float = PURE) -> Tensor:
    """Features that some kernel finds: (S, n) bool."""
    return finds(network, features, horizon, pure).any(1)


def finds(network: Network, features: Tensor, horizon: float, pure: float = PURE) -> Tensor:
    """Which feature each kernel has as its first, if it is pure and has it at half the horizon or more: (S, K, n)."""
    now = overlaps(network, features)
    good = (now >= horizon / 2) & (second_to_first(network, features) <= pure)[..., None]
    return good & (now == now.amax(2, keepdim=True))


def captured_at_any_scale(network: Network, features: Tensor, pure: float = PURE) -> Tensor:
    """Features that are the first of some pure kernel which is not short: its length within the features' span is at
    least half the seed's median. (S, n) bool; one definition for kernels of any objective."""
    now = overlaps(network, features)
    length = now.norm(dim=2)
    good = (second_to_first(network, features) <= pure) & (length >= length.median(1, keepdim=True).values / 2)
    return (good[..., None] & (now == now.amax(2, keepdim=True)) & (now > 0)).any(1)


def largest_cosine(network: Network, features: Tensor) -> Tensor:
    """The largest cosine of any kernel, within the features' span, with each feature: (S, n) in [0, 1]."""
    now = overlaps(network, features)
    return (now / now.norm(dim=2, keepdim=True).clamp_min(TINY)).amax(1).clamp_min(0)


def decodability(network: Network, batch: Sample, features: Tensor) -> Tensor:
    """R^2 of each feature's weight, sum_p <x_p, v>, read from the codes linearly: (S, n), at most 1.

    Fitted by least squares with a small ridge on the first half of the images, tested on the second.
    """
    weights = batch.copies * (batch.patches @ features.to(batch.patches).mT).sum(2).double()  # (S, B, n)
    codes = network.codes(batch).double()
    half = len(batch) // 2
    codes = (codes - codes[:, :half].mean(1, keepdim=True)) / codes[:, :half].std(1, keepdim=True).clamp_min(TINY)
    centre = weights[:, :half].mean(1, keepdim=True)
    seen, ridge = codes[:, :half], 1e-3 * half * torch.eye(codes.shape[2], dtype=codes.dtype, device=codes.device)
    map_ = torch.linalg.solve(seen.mT @ seen + ridge, seen.mT @ (weights - centre)[:, :half])
    truth = weights[:, half:]
    missed = (truth - centre - codes[:, half:] @ map_).square().mean(1)
    return 1 - missed / truth.var(1, correction=0).clamp_min(TINY)


def favourites(network: Network, features: Tensor, among: Tensor | None = None) -> Tensor:
    """The feature of largest overlap of each kernel, (S, K): at the start, its winner; `among` (n,) bool of them."""
    now = overlaps(network, features)
    if among is not None:
        now = now.masked_fill(~among.to(now.device), -torch.inf)
    return now.argmax(2)


def feature_power(batch: Sample, features: Tensor, L: int, q: float) -> Tensor:
    """S_j = E[1{y = class of j} sum_p z_p^q] for each feature j, (S, n) [A] (memory). z is read off as <x_p, v_j>+,
    which is exact without noise."""
    z = batch.patches @ features.to(batch.patches).mT  # (S, B, P, n)
    own = batch.labels[..., None] == torch.arange(len(features), device=z.device) // L
    return batch.copies * (z.clamp_min_(0).pow_(q).sum(2) * own).mean(1)


def class_winners(start: Network, features: Tensor, power: Tensor, L: int, q: float) -> tuple[Tensor, Tensor]:
    """The feature that a class should capture, (S, k) in 0..L-1, and its margin over the runner-up, (S, k).

    The one whose own m kernels start with the largest Lambda_{i,l} S_{i,l}^(1/(q-2)) [A] (memory).
    """
    strength = power.to(start.kernels).unflatten(1, (-1, L)).log() / max(q - 2, 1e-6)  # logarithms: q may be near 2
    score = own_overlap(start, features, L).log() + strength
    if L == 1:
        return score.argmax(2), torch.full_like(score[..., 0], torch.inf)
    first, second = score.topk(2, dim=2).values.unbind(2)
    return score.argmax(2), (first - second).expm1().nan_to_num(0)  # 0 where neither has any


def own_overlap(network: Network, features: Tensor, L: int) -> Tensor:
    """Lambda_{i,l} over the kernels that class i owns, (S, k, L); kernels are owned in order, m a class."""
    now = overlaps(network, features)
    classes = len(features) // L
    now = now.unflatten(2, (classes, L)).unflatten(1, (classes, -1))  # (S, k, m, k, L)
    return now.amax(2).diagonal(dim1=1, dim2=2).mT.clamp_min(0)


def accuracy(network: Network, batch: Sample) -> Tensor:
    """Share of images classified right, (S,)."""
    return (network.logits(batch).argmax(2) == batch.labels).double().mean(1)


ABSENT = 1e-6
"""A weight below this is rounding: the feature is not in the image."""


def kappa(network: Network, batch: Sample, features: Tensor) -> Tensor:
    """What a kernel's winner v is helped by features that come with it, (S, K) [D, claim 7].

    With A_j = sum_p z_jp^q of each feature j in an image, and T = sum_j <w_r, v_j>+^q A_j, what the kernel responds to
    the image: E[A_v T] / (<w_r, v>^q E[A_v^2]) - 1. Needs noise-free images: z_jp is then read off as <x_p, v_j>.
    """
    return _helped(network, batch.copies * _weights(batch, features).pow_(network.sigma.q).sum(2), features)


def _weights(batch: Sample, features: Tensor) -> Tensor:
    """z, of each feature in each patch of noise-free images, (S, B, P, n); 0 where it is absent."""
    z = batch.patches @ features.to(batch.patches).mT
    return z.masked_fill_(z < ABSENT, 0)


def _helped(network: Network, shown: Tensor, features: Tensor) -> Tensor:
    """`kappa` from A (S, B, n)."""
    q = network.sigma.q
    now = overlaps(network, features).clamp_min(0)
    response = shown @ now.mT**q  # T, (S, B, K)
    of_winner = shown.gather(2, now.argmax(2)[:, None].expand(-1, shown.shape[1], -1))
    alone = of_winner.square().sum(1)
    helped = (of_winner * response).sum(1) / (now.amax(2) ** q).clamp_min(torch.finfo(now.dtype).tiny) - alone
    return torch.where((alone > 0) & (now.amax(2) > 0), helped / alone, torch.zeros_like(alone))


def predicted_to_grow(
    network: Network, batch: Sample, features: Tensor, theta: float | Tensor, tau: float | Tensor
) -> Tensor:
    """Whether the winner of each kernel will grow, (S, K) bool: tau^q - 1 > (1/theta - 1)/(C_eff (1 + kappa_r)) [D],
    C_eff as the winner's patches are shared out in these images, from which kappa is, too."""
    q = network.sigma.q
    z = _weights(batch, features)
    alone = batch.copies * z.pow(2 * q).sum((1, 2))  # of each feature, (S, n)
    shown = batch.copies * z.pow_(q).sum(2)  # A, (S, B, n)
    shared = shown.square().sum(1) / alone.clamp_min(torch.finfo(z.dtype).tiny)  # C_eff of each feature
    now = overlaps(network, features)
    C_eff = shared.gather(1, now.argmax(2))
    enough = tau**q - 1 > (1 / theta - 1) / (C_eff * (1 + _helped(network, shown, features))).clamp_min(TINY)
    return enough & (now.amax(2) > 0)


def purification(ratio: Ratio, factor: float, q: float, c: float) -> Ratio:
    """How fast a kernel frees itself of its winner's sibling, the other feature of the class: d log r / dt, up to a
    positive factor; negative is purer [D].

    `ratio` r = <w, sibling> / <w, winner>; `factor` f = (tau^q - 1) over the growth threshold without kappa; c as of
    `companionship`. Where both come together, below rho, gradient flow gives, with w = <w, winner>,

        d log r / dt = w^(2q-2) [(f - 1) r^(2q-2) + f c r^(q-2) - (f - 1) - f c r^q]

    Near r = 1 this is negative only for f > (q - 1)/(q - 1 - c): masks penalise the winner's own activations and leave
    the sibling's free. At q = 3 that is 1.86 with equal shares, whose c is 0.93.
    """
    r, f = ratio, factor
    return (f - 1) * r ** (2 * q - 2) + f * c * r ** (q - 2) - (f - 1) - f * c * r**q


def ratio_at(horizon: float, overlap: np.ndarray, ratio: np.ndarray, factor: float, q: float, c: float) -> np.ndarray:
    """r of kernels at the horizon, by the equation of `purification` along the path of a kernel that grows [D]:

        dr / d ln w = r [purification] / (f (1 + c r^q) - 1)

    from `ratio` (N,) at a winner's `overlap` w (N,), in `PATH_STEPS` steps of Runge and Kutta's fourth order.
    """

    def slope(r: np.ndarray) -> np.ndarray:
        return r * purification(r, factor, q, c) / (factor * (1 + c * r**q) - 1)

    step, r = np.log(horizon / overlap) / PATH_STEPS, ratio
    for _ in range(PATH_STEPS):
        a = slope(r)
        b = slope(r + step / 2 * a)
        d = slope(r + step / 2 * b)
        e = slope(r + step * d)
        r = np.maximum(r + step / 6 * (a + 2 * b + 2 * d + e), 0)
    return r
