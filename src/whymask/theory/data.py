"""Images whose features are known: the multi-view distribution, and samples of it made by blocks from seeds.

Sources: [A] Allen-Zhu and Li, arXiv 2012.09816, Definition 1; [P] Pan, Zhou and Yan, arXiv 2206.03826.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, Protocol, Self

import torch
from scipy.special import bdtrc
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.linear import IMAGES, as_convolution, linear, weight_gradient
from whymask.randomness import torch_generator
from whymask.theory.settings import ImageSettings

MAX_OVERFLOW = 0.01
"""The largest probability with which an image may have more features than its patches can show."""


@dataclass(frozen=True)
class Sample:
    """Images of several seeds: S seeds, B images each, P patches an image, d numbers a patch.

    Each stored patch stands for `copies` identical patches of its image.
    """

    patches: Tensor
    """(S, B, P, d)."""
    labels: Tensor
    """(S, B), the class of each image."""
    single: Tensor
    """(S, B) bool: whether the image is single-view."""
    copies: int = 1
    """Identical patches that a stored one stands for."""

    def correlate(self, kernels: Tensor) -> Tensor:
        """<w_r, x_p> for kernels (S, K, d): (S, B, P, K)."""
        if as_convolution(self.patches):
            return _stack([linear(x, w) for x, w in zip(self.patches, kernels, strict=True)])
        return (self.patches.flatten(1, 2) @ kernels.mT).unflatten(1, self.patches.shape[1:3])

    def collect(self, coefficients: Tensor) -> Tensor:
        """sum over images and patches of coefficients (S, B, P, K) times x_p: (S, K, d), the adjoint of `correlate`."""
        if as_convolution(self.patches):
            return _stack([weight_gradient(x, c) for x, c in zip(self.patches, coefficients, strict=True)])
        return coefficients.flatten(1, 2).mT @ self.patches.flatten(1, 2)

    def part(self, seeds: slice, images: slice) -> "Sample":
        """A view of some seeds and images."""
        return replace(
            self,
            patches=self.patches[seeds, images],
            labels=self.labels[seeds, images],
            single=self.single[seeds, images],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Sample":
        """There, its patches of this type."""
        return replace(
            self,
            patches=self.patches.to(device, dtype),
            labels=self.labels.to(device),
            single=self.single.to(device),
        )

    def parts(self, kernels: int) -> Iterator[tuple[slice, "Sample"]]:
        """Parts that are small enough for their (images, P, kernels) activations to stay near the processor.

        Yields (the seeds, the part). What a part computes does not depend on the other seeds.
        """
        seeds, images, places, _ = self.patches.shape
        room = BLOCK_ELEMENTS[self.patches.device.type] // (places * kernels)
        step = max(1, min(images, room))
        step -= step % IMAGES if IMAGES < step < images else 0  # oneDNN is given whole groups of so many
        together = max(1, room // images)
        for first in range(0, seeds, together):
            chosen = slice(first, first + together)
            for start in range(0, images, step):
                yield chosen, self.part(chosen, slice(start, start + step))

    def __len__(self) -> int:
        """Images a seed."""
        return self.labels.shape[1]


def _stack(tensors: list[Tensor]) -> Tensor:
    """Without a copy where there is one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**26, "mps": 2**26}
"""Activations computed at once: on a CPU what fits its cache, on a GPU what keeps it busy."""


class Distribution(Protocol):
    """What the lab needs of a data distribution. Your own needs these two members and no more."""

    @property
    def features(self) -> Tensor:
        """(n, d), orthonormal rows: the directions whose capture is measured, class by class."""

    def draw(self, generator: torch.Generator, images: int) -> Sample:
        """A batch of one seed (S = 1), as a function of the generator's state."""


@dataclass(frozen=True)
class MultiView(ImageSettings):
    """Multi-view and single-view images of k classes with L features each [A, Definition 1].

    An image has the L features of its class, and every other feature with probability s/k. Each present feature owns
    `C_p` patches; on these x_p = z_p v + feature noise + Gaussian noise; the other patches hold Gaussian noise only.
    The features are the same for every seed: kernels start isotropic, so nothing is lost, and networks of several
    seeds can be tested on the same images.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shown.any():
            raise WhymaskError(f"covered={self.covered} leaves no feature of {self.count}; a larger share is needed.")
        if self.P is not None and self.places < self._places_needed():
            raise WhymaskError(
                f"overflow: with P={self.P} patches, over {MAX_OVERFLOW:.0%} of images have more features than fit "
                f"(features x C_p > P). Give P of at least {self._places_needed() * self.C_p}, or a smaller s or C_p."
            )

    @classmethod
    def of(cls, settings: ImageSettings) -> Self:
        """The distribution that was asked for."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(ImageSettings)})

    @property
    def places(self) -> int:
        """Features that an image has room for."""
        return self._places_needed() if self.P is None else min(self.P // self.C_p, self.count)

    @property
    def patches(self) -> int:
        """P, the default resolved."""
        return self.places * self.C_p if self.P is None else self.P

    @property
    def noise(self) -> float:
        """sigma, the default resolved."""
        return 0.1 / self.width**0.5 if self.sigma is None else self.sigma

    def _places_needed(self) -> int:
        others, chance = self.count - self.L, min(1.0, self.s / self.k)
        return next(self.L + n for n in range(others + 1) if bdtrc(n, others, chance) <= MAX_OVERFLOW)

    @property
    def _once(self) -> bool:
        """Whether a feature's patches are identical and stored once."""
        return self.copied and self.C_p > 1 and self.split == "equal" and self.noise == 0 and self.gamma == 0

    @cached_property
    def features(self) -> Tensor:
        """(k·L, d) float64, orthonormal; row i·L + l is feature l of class i."""
        generator = torch_generator("features", self.width, self.count)
        drawn = torch.randn(self.width, self.count, generator=generator, dtype=torch.float64)
        return torch.linalg.qr(drawn).Q.T.contiguous()

    @cached_property
    def shown(self) -> Tensor:
        """(k·L,) bool: the features that these images may show."""
        shown = torch.zeros(self.count, dtype=torch.bool)
        generator = torch_generator("covered", self.k, self.L, self.covered_by)
        if self.covered_by == "classes":
            kept = torch.randperm(self.k, generator=generator)[: round(self.covered * self.k)]
            shown.view(self.k, self.L)[kept] = True
        else:
            shown[torch.randperm(self.count, generator=generator)[: round(self.covered * self.count)]] = True
        return shown

    def draw(
        self, generator: torch.Generator, images: int, view: Literal["multi", "single", "mixed"] = "mixed"
    ) -> Sample:
        """`images` images of one seed, (1, images, ...); `view` forces all of them to be multi- or single-view."""
        labels = self._labels(generator, images)
        chance = {"multi": 0.0, "single": 1.0, "mixed": self.mu}[view]
        single = torch.rand(images, generator=generator) < chance
        present, weights = self._weights(generator, labels, single)
        owner, owned = self._placed(generator, labels, present)
        z = weights.gather(1, owner) * owned  # (images, places)
        patches = self._patches(generator, owner, z)
        return Sample(patches[None], labels[None], single[None], self.C_p if self._once else 1)

    def _labels(self, generator: torch.Generator, images: int) -> Tensor:
        """Uniform on the classes of which some feature is shown."""
        classes = self.shown.view(self.k, self.L).any(1).nonzero()[:, 0]
        return classes[torch.randint(len(classes), (images,), generator=generator)]

    def _own(self, labels: Tensor) -> Tensor:
        """Which features are those of the image's class, (images, k·L)."""
        return torch.arange(self.count) // self.L == labels[:, None]

    def _weights(self, generator: torch.Generator, labels: Tensor, single: Tensor) -> tuple[Tensor, Tensor]:
        """Which features are present and their total weights, (images, k·L) each."""
        images = len(labels)
        own = self._own(labels)
        others = torch.rand(images, self.count, generator=generator) < self.s / self.k
        uniform = torch.rand(images, self.count, generator=generator)
        main = self.L * labels + torch.randint(self.L, (images,), generator=generator)
        first_shown = self.L * labels + self.shown.view(self.k, self.L).int().argmax(1)[labels]
        main = torch.where(self.shown[main], main, first_shown)
        is_main = torch.arange(self.count) == main[:, None]
        weak = torch.where(own, self.rho_single, self.Gamma)
        in_single = torch.where(is_main, 1 + 0.4 * uniform, weak)
        in_multi = torch.where(own, 1 + 0.4 * uniform, 0.2 + 0.2 * uniform)
        return (own | others) & self.shown, torch.where(single[:, None], in_single, in_multi)

    def _placed(self, generator: torch.Generator, labels: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The feature at each place, (images, places), own features first, and whether the place is owned."""
        order = torch.rand(present.shape, generator=generator) + 1
        order = order.masked_fill(self._own(labels), 0).masked_fill(~present, 3)
        owner = order.argsort(dim=1, stable=True)[:, : self.places]
        return owner, present.gather(1, owner)

    def _patches(self, generator: torch.Generator, owner: Tensor, z: Tensor) -> Tensor:
        """(images, P, d), or (images, places, d) where each patch stands for its `C_p` copies."""
        features = self.features.float()
        if self._once:
            return (z / self.C_p)[..., None] * features[owner]
        images, places = z.shape
        parts = torch.rand(images, places, self.C_p, generator=generator)
        if self.split == "simplex":
            parts = parts.clamp_min(1e-30).log().neg()  # exponentials, normalised, are uniform on the simplex
        parts = torch.ones_like(parts) if self.split == "equal" else parts + 0.5 * (self.split == "random")
        parts /= parts.sum(-1, keepdim=True)
        patches = torch.zeros(images, self.patches, self.width)
        shown = (z[..., None] * parts)[..., None] * features[owner][:, :, None]  # (images, places, C_p, d)
        patches[:, : places * self.C_p] = shown.flatten(1, 2)
        if self.gamma > 0:
            alpha = self.gamma * torch.rand(images, places, self.C_p, self.count, generator=generator)
            alpha *= (z > 0)[..., None, None] * self.shown
            patches[:, : places * self.C_p] += (alpha @ features).flatten(1, 2)
        if self.noise > 0:
            patches += self.noise * torch.randn(patches.shape, generator=generator)
        return patches


@dataclass
class Samples:
    """`size` images a seed of a distribution, as batches that are functions of (seed, purpose, number).

    Batches that fit into `budget` bytes are kept, others are made again each time: the numbers are the same.
    """

    distribution: Distribution
    """What images are drawn from."""
    seeds: Sequence[int]
    """Of the draws, S of them side by side."""
    size: int
    """Images a seed; a multiple of `batch`, else WhymaskError is raised."""
    batch: int
    """Images a batch."""
    purpose: str = "train"
    """A name for these draws: others, such as "test", are independent of them."""
    budget: float = 2 * 2**30
    """Bytes for all batches that are kept; one that is larger raises WhymaskError."""
    device: torch.device | str = "cpu"
    """Where batches are put."""
    dtype: torch.dtype = torch.float32
    """Of the patches."""

    def __post_init__(self) -> None:
        self._kept: dict[int, Sample] = {}
        if self.size % self.batch:
            raise WhymaskError(f"{self.size} images do not divide into batches of {self.batch}; a multiple is needed.")

    def __len__(self) -> int:
        """Batches."""
        return self.size // self.batch

    def __getitem__(self, number: int) -> Sample:
        """Batch `number` (counted round and round) of every seed."""
        number %= len(self)
        if number in self._kept:
            return self._kept[number]
        drawn = [
            self.distribution.draw(torch_generator(seed, self.purpose, number, self.batch), self.batch)
            for seed in self.seeds
        ]
        made = _joined(drawn).to(self.device, self.dtype)
        bytes_each = made.patches.numel() * made.patches.element_size()
        if bytes_each > self.budget:
            fits = int(self.batch * self.budget / bytes_each)
            raise WhymaskError(
                f"a batch of {self.batch} images for {len(self.seeds)} seeds takes {bytes_each / 2**20:,.0f} MiB; the "
                f"budget is {self.budget / 2**20:,.0f} MiB. At most {fits} images a batch fit; or give fewer seeds, a "
                "smaller d or P, or a larger budget."
            )
        if (len(self._kept) + 1) * bytes_each <= self.budget:
            self._kept[number] = made
        return made

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))


def _joined(drawn: Sequence[Sample]) -> Sample:
    """Batches of one seed each as a batch of all."""
    return Sample(
        torch.cat([batch.patches for batch in drawn]),
        torch.cat([batch.labels for batch in drawn]),
        torch.cat([batch.single for batch in drawn]),
        drawn[0].copies,
    )
