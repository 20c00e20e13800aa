"""The networks of one setting: pretrained on either clock, trained from scratch, fine-tuned; each made once a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.randomness import torch_generator
from whymask.theory.data import Batch, Samples
from whymask.theory.descent import CommonClock, OwnClock, Path, Training
from whymask.theory.network import Network
from whymask.theory.objectives import CrossEntropy, TeacherStudent
from whymask.theory.setting import Setting
from whymask.theory.store import Arrays, Store

Start = Literal["random", "own", "common"]
"""Where kernels come from: drawn at random, or pretrained on their own clocks or on a common one."""
Head = Literal["fixed", "learned"]
READ_OUT_STEPS = 3000


@dataclass(frozen=True)
class Trained:
    """A network and how it came about; arrays are those of `Path`, seeds first."""

    network: Network
    growth: np.ndarray
    """Lambda over time, (S, T, n)."""
    losses: np.ndarray
    """(S, epochs); empty after pretraining."""
    grown: np.ndarray
    """(S, K) bool after pretraining on own clocks; else empty."""


class Lab:
    """All that is trained under one setting, for `seeds` side by side.

    `name` separates settings within one store. Downstream images are those of `setting`, with all features;
    pretraining images are those of `pretraining`, which may cover only a share of them.
    """

    def __init__(
        self,
        setting: Setting,
        seeds: Sequence[int],
        store: Store | None = None,
        name: str = "main",
        covered: float = 1.0,
    ):
        self.setting, self.seeds, self.name = setting, list(seeds), name
        self.store = store or Store()
        self.data = setting.data
        self.pretraining = replace(setting.data, covered=covered)
        self._samples: dict[tuple, Samples] = {}

    # what is measured with ----------------------------------------------------------------------------------

    @cached_property
    def features(self) -> Tensor:
        """(n, d)."""
        return self.data.features.to(self.setting.torch_device, self.setting.dtype)

    def start(self, seeds: Sequence[int] | None = None) -> Network:
        """Random kernels."""
        s = self.setting
        drawn = Network.random(s.K, self.data.width, self.seeds if seeds is None else seeds, s.scale, s.sigma)
        return drawn.to(s.torch_device, s.dtype)

    @cached_property
    def tests(self) -> dict[str, Batch]:
        """Multi-view and single-view test images, and the mixture, the same for every seed: S = 1."""
        s = self.setting
        return {
            view: self.data.draw(torch_generator("test", view), s.test, view).to(s.torch_device, s.dtype)
            for view in ("multi", "single", "mixed")
        }

    def logits(self, network: Network, view: str) -> Tensor:
        """F on test images, (S, B, k)."""
        images = self.tests[view]
        return torch.cat([network.of(slice(i, i + 1)).logits(images) for i in range(len(network.kernels))])

    def accuracy(self, network: Network, view: str) -> np.ndarray:
        """(S,), in [0, 1]."""
        right = self.logits(network, view).argmax(2) == self.tests[view].labels
        return right.double().mean(1).cpu().numpy()

    # what is trained ----------------------------------------------------------------------------------------

    def pretrained(self, clock: Literal["own", "common"], objective: TeacherStudent | None = None) -> Trained:
        """Kernels after teacher-student pretraining."""
        s = self.setting
        kind, size = (OwnClock, s.own_step) if clock == "own" else (CommonClock, s.common_step)
        descent = kind(s.horizon, relative_step=size, batches=s.together)
        return self._trained(
            clock,
            lambda seeds: self.start(seeds),
            lambda network, seeds: descent.run(
                network, objective or TeacherStudent(s.theta, s.teacher), self._images(seeds, True), self.features
            ),
        )

    def classifier(self, head: Head, start: Start, rates: tuple[float, float] | None = None, tag: str = "") -> Trained:
        """Trained to the target loss from random or pretrained kernels.

        `rates` are the step sizes of kernels and head; by default those of training from scratch, or of fine-tuning for
        a learned head on pretrained kernels.
        """
        s = self.setting
        if rates is None:
            tuned = "tuning_" if start != "random" and head == "learned" else ""
            rates = s.rate(f"{tuned}kernel_rate"), s.rate(f"{tuned}head_rate")
        training = Training({"kernels": rates[0], "head": rates[1]}, s.target, s.epochs)
        return self._trained(
            f"{head}-{start}{tag}",
            lambda seeds: self._started(start, seeds).with_head(self.data.k, head),
            lambda network, seeds: training.run(
                network, CrossEntropy(head == "learned"), self._images(seeds), self.features
            ),
        )

    def read_out(self) -> Trained:
        """Frozen random kernels with a learned head."""
        return self._trained("frozen-random", lambda seeds: self.start(seeds), self._read_out)

    def _started(self, start: Start, seeds: Sequence[int]) -> Network:
        if start == "random":
            return self.start(seeds)
        chosen = [self.seeds.index(seed) for seed in seeds]
        return self.pretrained(start).network.of(torch.tensor(chosen))

    def _read_out(self, network: Network, seeds: Sequence[int]) -> Path:
        """Gradient descent of the head alone, on codes divided by their size: they are tiny before any training."""
        samples = self._images(seeds)
        codes = torch.cat([network.codes(batch) for batch in samples], dim=1)
        labels = torch.cat([batch.labels for batch in samples], dim=1)
        size = codes.square().mean((1, 2), keepdim=True).sqrt()
        largest = torch.linalg.matrix_norm(codes / size, ord=2)[:, None, None] ** 2 / codes.shape[1]
        scaled, head = codes / size, codes.new_zeros(len(codes), self.data.k, codes.shape[2])
        onehot = torch.nn.functional.one_hot(labels, self.data.k).to(codes)
        moving = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
        loss = codes.new_zeros(len(codes))
        for _ in range(READ_OUT_STEPS):
            chances = (scaled @ head.mT).log_softmax(2)
            loss = torch.where(moving, -(chances * onehot).sum(2).mean(1), loss)
            moving &= loss > self.setting.target
            if not moving.any():
                break
            gradient = (chances.exp() - onehot).mT @ scaled / codes.shape[1]
            head -= moving[:, None, None] * 2 / largest * gradient
        return Path(network.having(head=head / size), losses=[loss])

    def _images(self, seeds: Sequence[int], pretraining: bool = False) -> Samples:
        s = self.setting
        key = (tuple(seeds), pretraining and self.pretraining.covered < 1)
        if key not in self._samples:
            self._samples.clear()
            self._samples[key] = Samples(
                self.pretraining if pretraining else self.data,
                seeds,
                s.N,
                s.batch,
                budget=s.budget * 2**30,
                device=s.torch_device,
                dtype=s.dtype,
            )
        return self._samples[key]

    @property
    def at_once(self) -> int:
        """Seeds side by side: as many as have their images in memory, at least one."""
        s = self.setting
        seed = s.N * self.data.patches * self.data.width * (4 if s.precision == "32" else 8)
        return max(1, int(s.budget * 2**30 / seed))

    def _trained(
        self, name: str, start: Callable[[list[int]], Network], run: Callable[[Network, list[int]], Path]
    ) -> Trained:
        def compute(seeds: list[int]) -> Arrays:
            path = run(start(seeds), seeds)
            curves = {"growth": path.growth, "losses": path.losses}
            arrays = path.network.tensors() | {k: torch.stack(v, 1) for k, v in curves.items() if v}
            arrays |= {"grown": path.grown} if len(path.grown) else {}
            return {key: tensor.cpu().numpy() for key, tensor in arrays.items()}

        arrays = self.store.get(f"{self.name}/{name}", self.seeds, self.at_once, compute)
        device = self.setting.torch_device
        named = {k: torch.from_numpy(arrays[k]).to(device) for k in ("kernels", "head", "decoder") if k in arrays}
        network = Network(named["kernels"], named.get("head"), named.get("decoder"), self.setting.sigma)
        empty = np.empty((len(self.seeds), 0))
        return Trained(network, *(arrays.get(key, empty) for key in ("growth", "losses", "grown")))


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise WhymaskError where an interval over seeds is asked for and there are fewer than two."""
    if len(seeds) < 2:
        raise WhymaskError(
            f"{len(seeds)} seed was given; an interval over seeds needs at least 2. Give --seeds 2 or more."
        )
