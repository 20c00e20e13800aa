"""The networks of one regime: pretrained on either clock, trained from scratch, fine-tuned; each made once a seed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from whymask.randomness import torch_generator
from whymask.theory.data import Sample, Samples
from whymask.theory.descent import CommonClock, Ending, MiniBatchDescent, OwnClock, PlainDescent, Trajectory, horizon_of
from whymask.theory.measures import accuracy
from whymask.theory.network import Network
from whymask.theory.objectives import CrossEntropy, NormalisedTargets, PixelReconstruction, TeacherStudent, Trainable
from whymask.theory.placed import PlacedReconstruction
from whymask.theory.regime import Regime
from whymask.theory.rules import RuleName
from whymask.theory.store import Arrays, Store, numpy

OneStop = Literal["common", "normalised"]
Clock = Literal["own"] | OneStop
CLOCKS: tuple[Clock, ...] = ("own", "common", "normalised")
"""Teacher-student pretraining with a stop for each kernel or one for all; plain descent on normalised targets."""
Start = Literal["random", "own", "common", "normalised", "pixels", "placed", "resized"]
"""Where kernels come from: drawn at random; pretrained on one of the clocks; by pixel reconstruction with one decoder,
or with one of each place; or drawn at random and each brought to the norm of the own clock's kernel in its place."""
Head = Literal["fixed", "learned"]
READ_OUT_STEPS = 3000
PLAIN_STEPS = 500
"""Of plain descent on normalised targets."""
EXTRAS = ("grown", "taken", "loss", "most")


@dataclass(frozen=True)
class Trained:
    """A network and how it came about; arrays are those of `Trajectory`, seeds first, empty where there is nothing."""

    network: Network
    growth: np.ndarray = field(default_factory=partial(np.empty, 0))
    """Lambda over time, (S, T, n)."""
    losses: np.ndarray = field(default_factory=partial(np.empty, 0))
    """(S, epochs); empty after pretraining."""
    grown: np.ndarray = field(default_factory=partial(np.empty, 0))
    """(S, K) bool after pretraining on own clocks; else empty."""
    taken: np.ndarray = field(default_factory=partial(np.empty, 0))
    """(S,), steps that each seed took."""
    loss: np.ndarray = field(default_factory=partial(np.empty, 0))
    """(S,), of the last network over all training images; empty after pretraining."""
    most: np.ndarray = field(default_factory=partial(np.empty, 0))
    """(S,), after pretraining on a common clock the most features captured at any time; else empty."""
    seconds: np.ndarray = field(default_factory=partial(np.empty, 0))
    """(S,), the time it took; that of seeds side by side is shared out."""


class Lab:
    """All that is trained under one regime, for `seeds` side by side.

    `name` separates regimes within one store. Downstream images have all features; the images of pretraining may cover
    only a share of them, `regime.data.covered`. Where they cover all, they are the same images, without labels.
    """

    def __init__(
        self,
        regime: Regime,
        seeds: Sequence[int],
        store: Store | None = None,
        name: str = "main",
    ):
        self.regime, self.seeds, self.name = regime, list(seeds), name
        self.store = store or Store()
        """Where what was made is kept."""
        self.data = replace(regime.data, covered=1.0)
        """Downstream images."""
        self.pretraining = replace(regime.data, copied=False)
        """Images of pretraining."""

    # what is measured with ----------------------------------------------------------------------------------

    @cached_property
    def features(self) -> Tensor:
        """(n, d)."""
        return self.data.features.to(self.regime.torch_device, self.regime.dtype)

    def start(self, seeds: Sequence[int] | None = None) -> Network:
        """Random kernels."""
        s = self.regime
        drawn = Network.random(s.K, self.data.width, self.seeds if seeds is None else seeds, s.scale, s.sigma)
        return drawn.to(s.torch_device, s.dtype)

    @cached_property
    def tests(self) -> dict[str, Sample]:
        """Multi-view and single-view test images, and the mixture, the same for every seed: S = 1."""
        s = self.regime
        return {
            view: self.data.draw(torch_generator("test", view), s.test, view).to(s.torch_device, s.dtype)
            for view in ("multi", "single", "mixed")
        }

    def logits(self, network: Network, view: str) -> Tensor:
        """F on test images, (S, B, k)."""
        return torch.cat([one.logits(self.tests[view]) for one in _each(network)])

    def accuracy(self, network: Network, view: str) -> np.ndarray:
        """(S,), in [0, 1]."""
        return numpy(torch.cat([accuracy(one, self.tests[view]) for one in _each(network)]))

    def sub(self, name: str, regime: Regime, seeds: Sequence[int]) -> "Lab":
        """Another lab with the same store."""
        return Lab(regime, seeds, self.store, name)

    # what is trained ----------------------------------------------------------------------------------------

    def pretrained(self, clock: Clock) -> Trained:
        """Kernels after pretraining."""
        if clock != "own":
            return self.descended(clock)
        s = self.regime
        return self.on_own_clocks(clock, lambda seeds: TeacherStudent(s.theta, s.teacher))

    def descended(self, clock: OneStop, rule: RuleName = "plain", bounded: bool = False) -> Trained:
        """Kernels after descent with one stop for all, by any rule.

        If `bounded`, a kernel's norm is at most the student's horizon, in place of decay, on normalised targets; else
        the teacher's, in place of a stop before the last step.
        """
        s, tag = self.regime, ("" if rule == "plain" else f"-{rule}") + "-bounded" * bounded
        if clock == "normalised":
            (nu, decay, _), rate = s.normalised, s.rate_by(rule)
            bound, decay = (horizon_of(s.rho, s.data.C_p, 1), 0.0) if bounded else (math.inf, decay)
            plain = PlainDescent(rate, PLAIN_STEPS, batches=s.together, rule=rule, bound=bound)
            return self._pretrained(f"normalised{tag}", plain, lambda seeds: NormalisedTargets(s.theta, nu, decay))
        horizon, bound = (math.inf, s.horizon) if bounded else (s.horizon, math.inf)
        descent = CommonClock(horizon, s.common_step, batches=s.together, rule=rule, bound=bound)
        return self._pretrained(f"common{tag}", descent, lambda seeds: TeacherStudent(s.theta, s.teacher))

    def shifted(self) -> Trained:
        """Kernels after plain descent on normalised targets of another image."""
        s = self.regime
        descent = PlainDescent(s.normalised.rate, PLAIN_STEPS, batches=s.together)
        objective = NormalisedTargets(s.theta, s.normalised.nu, s.normalised.decay, shifted=True)
        return self._pretrained("normalised-shifted", descent, lambda seeds: objective)

    def on_own_clocks(self, name: str, objective: Callable[[Sequence[int]], Trainable]) -> Trained:
        """Kernels after pretraining on own clocks by any objective, which is made for the seeds."""
        s = self.regime
        return self._pretrained(name, OwnClock(s.horizon, relative_step=s.own_step, batches=s.together), objective)

    def _pretrained(
        self,
        name: str,
        descent: OwnClock | CommonClock | PlainDescent,
        objective: Callable[[Sequence[int]], Trainable],
    ) -> Trained:
        return self._trained(
            name,
            self.start,
            lambda network, seeds: descent.run(network, objective(seeds), self.images(seeds, True), self.features),
        )

    def reconstructed(self, placed: bool = False) -> Trained:
        """Kernels and a free decoder, or one of each place if `placed`, after pixel reconstruction by Adam."""
        s = self.regime
        training = MiniBatchDescent(
            {"kernels": s.pixel_rate, "decoder": s.pixel_rate}, epochs=s.pixel_epochs, rule="adam"
        )
        objective = (PlacedReconstruction if placed else PixelReconstruction)(s.theta)
        return self._trained(
            "placed" if placed else "pixels",
            lambda seeds: self._with_decoder(seeds, self.data.patches if placed else 1),
            lambda network, seeds: training.run(network, objective, self.images(seeds, True), self.features),
        )

    def classifier(
        self,
        head: Head,
        start: Start,
        rates: tuple[float, float] | None = None,
        tag: str = "",
        augmented: Callable[[Sequence[int]], Trainable] | None = None,
        target: float | None = None,
        epochs: int | None = None,
    ) -> Trained:
        """Trained to the target loss from random or pretrained kernels.

        `rates` are the step sizes of kernels and head; by default those of training from scratch, or of fine-tuning for
        a learned head on pretrained kernels. `augmented`: an objective of the seeds in place of cross-entropy of whole
        images. `target` and `epochs` instead of the regime's. What is not the default needs a `tag`.
        """
        s = self.regime
        if rates is None:
            tuned = "tuning_" if start != "random" and head == "learned" else ""
            rates = s.rate(f"{tuned}kernel_rate"), s.rate(f"{tuned}head_rate")
        training = MiniBatchDescent(
            {"kernels": rates[0], "head": rates[1]}, s.target if target is None else target, epochs or s.epochs
        )
        objective = augmented or (lambda seeds: CrossEntropy(head == "learned"))
        begin = self.beginning(start)
        return self._trained(
            f"{head}-{start}{tag}",
            lambda seeds: begin(seeds).with_head(self.data.k, head),
            lambda network, seeds: training.run(network, objective(seeds), self.images(seeds), self.features),
        )

    def read_out(self, start: Start = "random") -> Trained:
        """Frozen kernels with a learned head."""
        return self.headed(start, self.beginning(start))

    def headed(self, name: str, kernels: Callable[[Sequence[int]], Network]) -> Trained:
        """Frozen kernels of one's own, (S, K, d) as a function of the seeds, with a learned head."""
        return self._trained(f"frozen-{name}", kernels, self._read_out)

    def beginning(self, start: Start) -> Callable[[Sequence[int]], Network]:
        """The kernels that training begins with, as a function of the seeds; pretrained ones are made now."""
        if start == "random":
            return self.start
        if start == "pixels":
            kernels = self.reconstructed().network.kernels
        elif start == "placed":
            kernels = self.reconstructed(placed=True).network.kernels
        else:
            kernels = self.pretrained("own" if start == "resized" else start).network.kernels
        if start == "resized":
            drawn = self.start().kernels
            kernels = drawn * (kernels.norm(dim=2) / drawn.norm(dim=2))[..., None]
        places = {seed: place for place, seed in enumerate(self.seeds)}
        return lambda seeds: Network(kernels[[places[seed] for seed in seeds]], sigma=self.regime.sigma)

    def _with_decoder(self, seeds: Sequence[int], places: int) -> Network:
        """Random kernels, and a decoder drawn at the same scale, for one place or all."""
        s, shape = self.regime, (places * self.data.width, self.regime.K)
        drawn = [torch.randn(shape, generator=torch_generator(seed, "decoder"), dtype=torch.float64) for seed in seeds]
        return self.start(seeds).having(decoder=(s.scale * torch.stack(drawn)).to(s.torch_device, s.dtype))

    def _read_out(self, network: Network, seeds: Sequence[int]) -> Trajectory:
        """Gradient descent of the head alone, on codes divided by their size: they are tiny before any training."""
        samples = self.images(seeds)
        codes = torch.cat([network.codes(batch) for batch in samples], dim=1)
        labels = torch.cat([batch.labels for batch in samples], dim=1)
        size = codes.square().mean((1, 2), keepdim=True).sqrt()
        scaled, head = codes.div_(size), codes.new_zeros(len(codes), self.data.k, codes.shape[2])
        largest = torch.linalg.eigvalsh(scaled.mT @ scaled)[:, -1, None, None] / codes.shape[1]
        onehot = torch.nn.functional.one_hot(labels, self.data.k).to(codes)
        moving = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
        loss = codes.new_zeros(len(codes))
        ending = Ending(moving, READ_OUT_STEPS)
        for step in range(READ_OUT_STEPS):
            chances = (scaled @ head.mT).log_softmax(2)
            loss = torch.where(moving, -(chances * onehot).sum(2).mean(1), loss)
            moving &= loss > self.regime.target
            if ending.at(step, moving):
                break
            gradient = (chances.exp() - onehot).mT @ scaled / codes.shape[1]
            head -= moving[:, None, None] * 2 / largest * gradient
        return Trajectory(network.having(head=head / size), losses=[loss], loss=loss)

    def images(self, seeds: Sequence[int], pretraining: bool = False) -> Samples:
        """Training images with labels, or those of pretraining: the same where all features are covered."""
        s = self.regime
        return Samples(
            self.pretraining if pretraining else self.data,
            seeds,
            s.images,
            s.batch,
            budget=s.budget * 2**30 / self.store.workers,
            device=s.torch_device,
            dtype=s.dtype,
        )

    @property
    def at_once(self) -> int:
        """Seeds side by side: as many as have room for their images, at least one."""
        s = self.regime
        seed = s.images * self.data.patches * self.data.width * (4 if s.precision == "32" else 8)
        return max(1, int(s.budget * 2**30 / self.store.workers / seed))

    def _trained(
        self, name: str, start: Callable[[list[int]], Network], run: Callable[[Network, list[int]], Trajectory]
    ) -> Trained:
        def compute(seeds: list[int]) -> Arrays:
            began = time.perf_counter()
            path = run(start(seeds), seeds)
            seconds = np.full(len(seeds), (time.perf_counter() - began) / len(seeds))
            curves = {"growth": path.growth, "losses": path.losses}
            arrays = path.network.tensors() | {k: torch.stack(v, 1) for k, v in curves.items() if v}
            arrays |= {k: v for k in EXTRAS if len(v := getattr(path, k))}
            return {key: numpy(tensor) for key, tensor in arrays.items()} | {"seconds": seconds}

        return self._as_trained(self.store.get(f"{self.name}/{name}", self.seeds, self.at_once, compute))

    def kept(self, name: str, compute: Callable[[list[int]], Arrays]) -> Arrays:
        """What is measured of each seed at some cost, seeds first; made once."""
        return self.store.get(f"{self.name}/{name}", self.seeds, self.at_once, compute)

    def known(self, name: str) -> Trained | None:
        """What is trained under this name, if all seeds are."""
        arrays = self.store.find(f"{self.name}/{name}", self.seeds)
        return None if arrays is None else self._as_trained(arrays)

    def _as_trained(self, arrays: Arrays) -> Trained:
        device = self.regime.torch_device
        named = {k: torch.from_numpy(arrays[k]).to(device) for k in ("kernels", "head", "decoder") if k in arrays}
        network = Network(named["kernels"], named.get("head"), named.get("decoder"), self.regime.sigma)
        known = {key: arrays[key] for key in ("growth", "losses", "seconds", *EXTRAS) if key in arrays}
        return Trained(network, **known)


def _each(network: Network) -> Iterator[Network]:
    """The network of each seed alone, S = 1, as the test images are."""
    return (network.of(slice(place, place + 1)) for place in range(len(network.kernels)))
