"""The two-layer convolutional network of the papers, for many seeds at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whymask.activations import SmoothedReLU
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator
from whymask.theory.data import Sample

SIGMA = SmoothedReLU()


@dataclass(frozen=True)
class Network:
    """h_r(X) = sum_p sigma(<w_r, x_p>) for K kernels, and what is put on top; S seeds side by side."""

    kernels: Tensor
    """(S, K, d)."""
    head: Tensor | None = None
    """u of the classifier F_i = sum_r u_ir h_r: (S, k, K)."""
    decoder: Tensor | None = None
    """D of pixel reconstruction: (S, d, K)."""
    sigma: SmoothedReLU = SIGMA
    """The activation."""

    @classmethod
    def random(
        cls, kernels: int, d: int, seeds: Sequence[int], scale: float = 0.03, sigma: SmoothedReLU = SIGMA
    ) -> "Network":
        """Kernels from N(0, scale^2 I), (S, kernels, d) float64, a function of each seed. Asymptotically scale is
        1/sqrt(k) up to logarithms [A] (memory)."""
        drawn = [
            torch.randn(kernels, d, generator=torch_generator(seed, "kernels"), dtype=torch.float64) for seed in seeds
        ]
        return cls(scale * torch.stack(drawn), sigma=sigma)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Network":
        """There, all tensors of this type."""
        return self.map(lambda tensor: tensor.to(device, dtype))

    def having(self, **tensors: Tensor) -> "Network":
        """The same with other tensors."""
        named = self.tensors() | tensors
        return Network(named["kernels"], named.get("head"), named.get("decoder"), self.sigma)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Network":
        """`change` applied to each tensor that is there."""
        return self.having(**{name: change(tensor) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name: "kernels", "head", "decoder"."""
        named = {"kernels": self.kernels, "head": self.head, "decoder": self.decoder}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def of(self, seeds: slice | Tensor) -> "Network":
        """The networks of some seeds."""
        return self.map(lambda tensor: tensor[seeds])

    def with_head(self, classes: int, kind: str) -> "Network":
        """With "fixed": class i owns kernels i·m to (i+1)·m - 1 at weight 1, as in [A]; with "learned": u = 0."""
        seeds, kernels, _ = self.kernels.shape
        head = self.kernels.new_zeros(seeds, classes, kernels)
        if kind == "fixed":
            owner = torch.arange(kernels, device=head.device) // (kernels // classes)
            head[:, owner.clamp_max(classes - 1), torch.arange(kernels, device=head.device)] = 1
        return self.having(head=head)

    def codes(self, batch: Sample) -> Tensor:
        """h, (S, B, K)."""
        seeds, kernels, _ = self.kernels.shape
        codes = self.kernels.new_empty(seeds, len(batch), kernels)
        place = 0
        for chosen, part in batch.parts(kernels):
            codes[chosen, place : place + len(part)] = self.sigma(part.correlate(self.kernels[chosen])).sum(2)
            place = (place + len(part)) % len(batch)
        return codes.mul_(batch.copies)

    def logits(self, batch: Sample) -> Tensor:
        """F, (S, B, k)."""
        return self.codes(batch) @ self.own_head.mT

    @property
    def own_head(self) -> Tensor:
        """The head, (S, k, K). Raises WhymaskError where there is none."""
        if self.head is None:
            raise WhymaskError("the network has no head; give it one with `with_head`.")
        return self.head
