"""What a network is trained on, with the expectation over masks in closed form: no mask is ever drawn.

Masks keep each patch independently with probability theta; a_p = sigma(W x_p), S = sum_p a_p, and the code of a masked
image is h'(eX) = (1/theta) sum_p e_p a_p. The closed forms are derived for this project ([D], checked in the tests
against every mask of small images, against drawn masks, and against autograd); `sampled.py` draws the masks.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.theory.data import Sample
from whymask.theory.network import Network

Gradients = dict[str, Tensor]
"""By the names of `Network.tensors`."""


class Trainable(Protocol):
    """What a descent asks of an objective."""

    @property
    def is_apart(self) -> bool:
        """Whether what a kernel is pulled by depends on no other kernel, nor on its place among them."""

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        """Loss of each seed, (S,), the mean over images; and its gradient by each tensor that is trained."""


class Objective:
    """The base of one's own objectives: give `loss`, and autograd gives the gradients."""

    trained: tuple[str, ...] = ("kernels",)
    """Names of the tensors that are trained."""
    is_apart = False
    """As in `Trainable`: False is always right, True is faster."""

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """Mean over images, (S,)."""
        raise NotImplementedError

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        """The loss, (S,), and its gradients by the name of each tensor that is trained, by autograd."""
        leaves = network.map(lambda tensor: tensor.detach().requires_grad_())
        tensors = [leaves.tensors()[name] for name in self.trained]
        loss = self.loss(leaves, batch)
        return loss.detach(), dict(zip(self.trained, torch.autograd.grad(loss.sum(), tensors), strict=True))


@dataclass(frozen=True)
class TeacherStudent:
    """Reconstruct the features of the whole image, h^ of the kernels tau·w_r without gradient, from visible patches.

    The data2vec form [P]: loss = 1/2 E_X E_e sum_r (h^_r - h'_r(eX))^2, h^_r = sum_p sigma(tau <w_r, x_p>). Since
    E e = theta, exactly [D]

        E_e loss = 1/2 sum_r (h^_r - S_r)^2 + (1 - theta)/(2 theta) sum_r sum_p a_pr^2

    so masking is distillation with an activation penalty. The loss is a sum over kernels with no term shared: `theta`
    and `tau` may differ from kernel to kernel, and a sweep over them is one wide network.
    """

    theta: float | Tensor = 0.5
    """Share of patches kept, in (0, 1); a number, or (K,). Asymptotically: a constant [P] (memory)."""
    tau: float | Tensor = 2 ** (1 / 3)
    """Scale of the teacher's kernels; a number, or (K,). Growth needs more than 1."""

    def __post_init__(self) -> None:
        check_theta(self.theta)

    @property
    def is_apart(self) -> bool:
        """Where `theta` and `tau` are one number for all kernels."""
        return not isinstance(self.theta, Tensor) and not isinstance(self.tau, Tensor)

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """Mean over images, (S,); the teacher is not differentiated."""
        z = batch.correlate(network.kernels)
        active = network.sigma(z)
        teacher = network.sigma(self.tau * z.detach()).sum(2)
        missing = batch.copies * (teacher - active.sum(2))
        penalty = ((1 / self.theta - 1) * batch.copies * active.square()).sum((2, 3))
        return ((missing.square().sum(2) + penalty) / 2).mean(1)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        """The loss, (S,), and its gradients by the name of each tensor that is trained, in closed form."""
        kernels = network.kernels
        gradient, loss = torch.zeros_like(kernels), kernels.new_zeros(len(kernels))
        strength = 1 / self.theta - 1
        room = Room()
        for seeds, part in batch.parts(kernels.shape[1]):
            z = part.correlate(kernels[seeds])
            active, slope, teacher = room.like(z, 3)
            network.sigma.with_slope(torch.mul(z, self.tau, out=active), teacher, slope)
            network.sigma.with_slope(z, active, slope)
            missing = teacher.sub_(active).sum(2, keepdim=True).mul_(batch.copies)  # h^ - S, (s, b, 1, K)
            squares = torch.mul(active, active, out=z).sum((1, 2))  # (s, K)
            loss[seeds] += (missing.square().sum((1, 2, 3)) + batch.copies * (strength * squares).sum(1)) / 2
            pull = active.mul_(strength).sub_(missing)
            gradient[seeds] += part.collect(pull.mul_(slope))
        scale = 1 / len(batch)
        return loss * scale, {"kernels": gradient.mul_(batch.copies * scale)}


@dataclass(frozen=True)
class NormalisedTargets:
    """Reconstruct the student's own codes of the whole image at one size, without gradient, from visible patches [D].

    y_r = nu h_r / rms(h_r), the root mean square over the step's images, as data2vec normalises its targets; and decay:

        E_e loss = 1/2 sum_r (y_r - S_r)^2 + (1 - theta)/(2 theta) sum_r sum_p a_pr^2 + decay/2 ||W||^2

    exactly, as for `TeacherStudent`. Kernels share no term. It is not the objective of [P].
    """

    theta: float
    """Share of patches kept, in (0, 1)."""
    nu: float
    """Root mean square of the targets."""
    decay: float
    """Of the kernels, at least 0."""
    shifted: bool = False
    """A control: targets of the next image of the batch."""
    is_apart = True

    def __post_init__(self) -> None:
        check_theta(self.theta)

    def targets(self, codes: Tensor) -> Tensor:
        """y of the codes of a step's images, (S, B, K) both."""
        size = codes.square().mean(1, keepdim=True).sqrt().clamp_min(torch.finfo(codes.dtype).tiny)
        return (codes.roll(1, 1) if self.shifted else codes) * (self.nu / size)

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """Mean over images, (S,); the targets are not differentiated."""
        active = network.sigma(batch.correlate(network.kernels))
        codes = batch.copies * active.sum(2)
        penalty = ((1 / self.theta - 1) * batch.copies * active.square()).sum((2, 3))
        decay = self.decay * network.kernels.square().sum((1, 2))
        return (((self.targets(codes.detach()) - codes).square().sum(2) + penalty).mean(1) + decay) / 2

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        """The loss, (S,), and its gradients by the name of each tensor that is trained, in closed form."""
        kernels, strength = network.kernels, 1 / self.theta - 1
        gradient, loss = torch.zeros_like(kernels), kernels.new_zeros(len(kernels))
        for _, parts in groupby(batch.parts(kernels.shape[1]), key=lambda of: of[0].start):
            blocks = [(at, part, *network.sigma.with_slope(part.correlate(kernels[at]))) for at, part in parts]
            codes = [batch.copies * active.sum(2) for _, _, active, _ in blocks]  # of all images of these seeds
            missing = (self.targets(torch.cat(codes, 1)) - torch.cat(codes, 1)).split(
                [code.shape[1] for code in codes], 1
            )
            for (seeds, part, active, slope), left in zip(blocks, missing, strict=True):
                squares = batch.copies * strength * active.square().sum((1, 2, 3))
                loss[seeds] += (left.square().sum((1, 2)) + squares) / 2
                gradient[seeds] += part.collect(active.mul_(strength).sub_(left[:, :, None]).mul_(slope))
        decayed = self.decay * kernels.square().sum((1, 2)) / 2
        return loss / len(batch) + decayed, {"kernels": gradient * (batch.copies / len(batch)) + self.decay * kernels}


class Room:
    """Memory that parts use one after another: on a CPU, fresh pages cost more than what is computed on them."""

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def like(self, z: Tensor, count: int) -> tuple[Tensor, ...]:
        """`count` tensors of z's shape, with anything in them."""
        size = z.numel()
        if self._held is None or self._held.shape[1] < size:
            self._held = z.new_empty(count, size)
        return tuple(row[:size].view(z.shape) for row in self._held)


@dataclass(frozen=True)
class PixelReconstruction:
    """Reconstruct the hidden patches' numbers by a linear decoder D from the code of the visible ones: the MAE form.

    loss = 1/2 E_X E_e sum_p (1 - e_p) ||x_p - D h'(eX)||^2. With S_-p = S - a_p and Q_-p = sum_{p' != p} ||D a_p'||^2,
    exactly [D]

        E_e loss = (1 - theta)/2 sum_p [ ||x_p - D S_-p||^2 + (1 - theta)/theta Q_-p ]

    so it is leave-one-patch-out regression with a ridge. The prediction is the same for every hidden patch.
    """

    theta: float = 0.5
    """Share of patches kept, in (0, 1)."""
    is_apart = False
    """Kernels share the decoder."""

    def __post_init__(self) -> None:
        check_theta(self.theta)

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """Mean over images, (S,)."""
        check_no_copies(batch)
        active = network.sigma(batch.correlate(network.kernels))
        shown = active.flatten(1, 2) @ _decoder(network).mT  # D a_p, (S, B P, d)
        shown = shown.view(batch.patches.shape)
        left = batch.patches - (shown.sum(2, keepdim=True) - shown)
        squares = shown.square().sum((2, 3)) * (shown.shape[2] - 1)  # sum_p Q_-p counts each patch P - 1 times
        ridge = (1 - self.theta) / self.theta * squares
        return (1 - self.theta) / 2 * (left.square().sum((2, 3)) + ridge).mean(1)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        """The loss, (S,), and its gradients by the name of each tensor that is trained, in closed form."""
        check_no_copies(batch)
        kernels, decoder = network.kernels, _decoder(network)
        by_kernels, by_decoder = torch.zeros_like(kernels), torch.zeros_like(decoder)
        loss = kernels.new_zeros(len(kernels))
        ridge = (1 - self.theta) / self.theta * (batch.patches.shape[2] - 1)
        for seeds, part in batch.parts(kernels.shape[1]):
            active, slope = network.sigma.with_slope(part.correlate(kernels[seeds]))
            shown = (active.flatten(1, 2) @ decoder[seeds].mT).view(part.patches.shape)
            left = part.patches - shown.sum(2, keepdim=True) + shown
            loss[seeds] += (left.square().sum((1, 2, 3)) + ridge * shown.square().sum((1, 2, 3))) / 2
            # left_p holds -D a_p' for every p' but p: patch p' is pulled by all that is left but its own.
            pull = (left - left.sum(2, keepdim=True) + ridge * shown).flatten(1, 2)
            by_decoder[seeds] += pull.mT @ active.flatten(1, 2)
            by_kernels[seeds] += part.collect((pull @ decoder[seeds]).view(slope.shape).mul_(slope))
        scale = (1 - self.theta) / len(batch)
        return loss * scale, {"kernels": by_kernels.mul_(scale), "decoder": by_decoder.mul_(scale)}


def check_no_copies(batch: Sample) -> None:
    """Raise WhymaskError for patches that stand for several."""
    if batch.copies != 1:
        raise WhymaskError("pixel reconstruction tells copies of a patch apart; draw the data with copied=False.")


def _decoder(network: Network) -> Tensor:
    if network.decoder is None:
        raise WhymaskError("pixel reconstruction needs a decoder D, (S, d, K); the network has none.")
    return network.decoder


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of softmax(F) with the labels. A fixed head is [A]'s network, a learned one is fine-tuned."""

    learned_head: bool = True
    """Whether the head is trained."""
    train_kernels: bool = True
    """Whether the kernels are."""
    is_apart = False
    """Kernels share the head's loss."""

    def loss(self, network: Network, batch: Sample) -> Tensor:
        """Mean over images, (S,)."""
        chances = network.logits(batch).log_softmax(2)
        return -chances.gather(2, batch.labels[..., None])[..., 0].mean(1)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        """The loss, (S,), and its gradients by the name of each tensor that is trained, in closed form."""
        kernels, head = network.kernels, network.own_head
        by_kernels, by_head = torch.zeros_like(kernels), torch.zeros_like(head)
        loss, room = kernels.new_zeros(len(kernels)), Room()
        for seeds, part in batch.parts(kernels.shape[1]):
            z = part.correlate(kernels[seeds])
            active, slope = network.sigma.with_slope(z, *room.like(z, 2))
            codes = active.sum(2).mul_(batch.copies)
            chances = (codes @ head[seeds].mT).log_softmax(2)
            right = part.labels[..., None]
            loss[seeds] -= chances.gather(2, right).sum((1, 2))
            wrong = chances.exp_()
            wrong.scatter_add_(2, right, -torch.ones_like(right, dtype=wrong.dtype))  # softmax - onehot, (s, b, k)
            if self.learned_head:
                by_head[seeds] += wrong.mT @ codes
            if self.train_kernels:
                by_kernels[seeds] += part.collect(slope.mul_((wrong @ head[seeds])[:, :, None]))
        scale = 1 / len(batch)
        by_kernels.mul_(batch.copies)
        named = {"kernels": (self.train_kernels, by_kernels), "head": (self.learned_head, by_head)}
        return loss * scale, {name: tensor.mul_(scale) for name, (trained, tensor) in named.items() if trained}


def check_theta(theta: float | Tensor) -> None:
    """Raise WhymaskError unless every theta lies in (0, 1)."""
    given = torch.as_tensor(theta)
    if not bool(((given > 0) & (given < 1)).all()):
        raise WhymaskError(f"theta={theta}: the share of patches kept lies strictly between 0 and 1.")
