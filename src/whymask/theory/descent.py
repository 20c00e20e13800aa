"""How networks move: each kernel on its own clock, all on a common one, and training to a loss.

Sources: common clock [P, A]; own clock derived for this project [D].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from whymask.theory.data import Sample, Samples
from whymask.theory.measures import TINY, captured, largest_overlap, overlaps
from whymask.theory.network import Network
from whymask.theory.objectives import Trainable
from whymask.theory.rules import RULES, RuleName, within_norm

OWN_WEIGHT = 1.2
"""Mean total weight of a feature in images of its class."""
BLOCKS = {"cpu": 1, "cuda": 8, "mps": 8}
"""Steps after which a device is asked whether anything moves still. On a GPU every question waits for all work before;
steps that are taken in vain change nothing, as nothing moves."""


CLEARED, FULL = 10, 0.8
"""So many steps after one another kernels that stopped leave the product, where less than this share still move."""


class Batches(Protocol):
    """Batch after batch, round and round."""

    def __getitem__(self, number: int) -> Sample: ...


def horizon_of(rho: float, C_p: int, tau: float) -> float:
    """The correlation <w, v> = rho·C_p / (1.2 max(1, tau)) at which sigma turns linear on a kernel's winner, for the
    teacher, whose kernels are tau times as large, or for the student if that comes first [D]."""
    return rho * C_p / (OWN_WEIGHT * max(1.0, tau))


def mean_gradients(
    objective: Trainable, network: Network, samples: Batches, step: int, batches: int
) -> dict[str, Tensor]:
    """The gradients of step `step`, averaged over its `batches` batches."""
    parts = [objective.gradients(network, samples[step * batches + place])[1] for place in range(batches)]
    return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}


@dataclass
class Trajectory:
    """Where a descent led, and what was seen on the way."""

    network: Network
    """The last network."""
    steps: list[int] = field(default_factory=list)
    """At which steps something was recorded."""
    growth: list[Tensor] = field(default_factory=list)
    """Lambda_j = max_r <w_r, v_j>+ there, (S, n) each."""
    losses: list[Tensor] = field(default_factory=list)
    """`MiniBatchDescent`: the mean loss of each epoch, (S,) each."""
    grown: Tensor = field(default_factory=lambda: torch.empty(0))
    """`OwnClock`: which kernels reached the horizon, (S, K) bool."""
    rose: Tensor = field(default_factory=lambda: torch.empty(0))
    """`OwnClock`: of which kernels the winner's overlap rose before it fell, (S, K) bool."""
    taken: Tensor = field(default_factory=lambda: torch.empty(0))
    """Steps that each seed took, (S,)."""
    loss: Tensor = field(default_factory=lambda: torch.empty(0))
    """`MiniBatchDescent`: the loss of the last network over all samples, (S,)."""
    most: Tensor = field(default_factory=lambda: torch.empty(0))
    """`CommonClock`: the most features captured at any recorded time, (S,)."""

    @classmethod
    def joined(cls, paths: Sequence["Trajectory"]) -> "Trajectory":
        """Paths of `OwnClock`, of other seeds each: of those that ended earlier, what is seen stays as it was then."""
        network = paths[0].network.having(kernels=torch.cat([path.network.kernels for path in paths]))
        steps = max((path.steps for path in paths), key=lambda taken: (len(taken), taken[-1]))
        seen = [path.growth + path.growth[-1:] * (len(steps) - len(path.growth)) for path in paths]
        named: dict[str, Any] = {
            name: torch.cat([getattr(path, name) for path in paths]) for name in ("grown", "rose", "taken")
        }
        return cls(network, steps, [torch.cat(at) for at in zip(*seen, strict=True)], **named)

    def record(self, step: int, growth: Tensor) -> None:
        """Write down what is seen at a step."""
        self.steps.append(step)
        self.growth.append(growth)

    def until(self, step: int) -> "Trajectory":
        """Without what was recorded behind `step`, the first at which nothing moved, where the last record is put: what
        is seen there is what was seen behind it."""
        kept = sum(recorded < step for recorded in self.steps) + 1
        self.growth[kept - 1 :], self.losses[kept:] = self.growth[-1:], []
        self.steps[kept - 1 :] = [step]
        return self


class Ending:
    """Knows the first step at which nothing moves any more, without asking the device at each step."""

    def __init__(self, moving: Tensor, last: int, steps: int = 1) -> None:
        """`last` ends it in any case; a step of it is `steps` of descent."""
        self.every = math.ceil(BLOCKS[moving.device.type] / steps)
        self.last, self._first = last, torch.full((), last, device=moving.device)

    def at(self, step: int, moving: Tensor) -> bool:
        """Whether to stop after `step`, of which `moving` (S, ...) is the state."""
        self._first = torch.where(moving.any(), self._first, self._first.clamp_max(step))
        return step == self.last or ((step + 1) % self.every == 0 and not moving.any())

    def step(self) -> int:
        """The first step at which nothing moved, or the last."""
        return int(self._first)


@dataclass(frozen=True)
class OwnClock:
    """Every kernel walks the path of gradient flow in steps of its own, and stops at its own horizon [D].

    Where the loss is a sum over kernels with no term shared, gradient flow moves each kernel along the same path
    whatever its clock; steps of a fixed length relative to ||w_r|| follow it in about a hundred steps. A kernel stops
    when its largest overlap reaches `horizon` (it grew), or when that of its winner, the feature that was largest at
    the start, falls below `shrunk` of what it was (it did not). That each kernel stops at its own horizon is this lab's
    idealisation, not a statement of [P].
    """

    horizon: float
    """The overlap <w, v> at which a kernel stops; see `horizon_of`."""
    relative_step: float = 0.03
    """Length of a step, relative to ||w_r||."""
    steps: int = 600
    """At most so many."""
    shrunk: float = 0.9
    """A kernel stops when its winner's overlap is below this share of its first value."""
    record: int = 4
    """Steps between records."""
    batches: int = 1
    """Batches averaged in a step; all of them give the full-batch gradient."""

    def run(self, network: Network, objective: Trainable, samples: Samples, features: Tensor) -> Trajectory:
        """`samples` gives batch after batch; with one batch it is the full-batch gradient. `features` (n, d)."""
        if BLOCKS[network.kernels.device.type] > 1 or not objective.is_apart:
            return self._walk(network, objective, samples, features, math.inf)
        seeds = range(len(network.kernels))  # each alone, so that no seed's numbers depend on what has left of another
        paths = []
        for seed in seeds:
            one = slice(seed, seed + 1)
            paths.append(self._walk(network.of(one), objective, _OfSeeds(samples, one), features, CLEARED))
        return Trajectory.joined(paths)

    def _walk(
        self, network: Network, objective: Trainable, samples: Batches, features: Tensor, cleared: float
    ) -> Trajectory:
        """`run`, in which every `cleared` steps kernels that stopped leave the product."""
        first, winner = overlaps(network, features).max(2, keepdim=True)
        moving = torch.ones_like(winner[..., 0], dtype=torch.bool)
        path = Trajectory(network.map(torch.clone), grown=torch.zeros_like(moving), rose=torch.zeros_like(moving))
        path.taken = torch.full(moving.shape[:1], self.steps, device=moving.device)
        ending, of_stopped = Ending(moving, self.steps), first.new_zeros(len(first), len(features))
        left = _Left.all_of(network.kernels)
        for step in range(self.steps + 1):
            now = overlaps(network.having(kernels=left.kernels), features)
            ahead, of_winner = now.amax(2), now.gather(2, left.of(winner))[..., 0]
            began, moves = left.of(first)[..., 0], left.of(moving)
            left.put(path.grown, left.of(path.grown) | (moves & (ahead >= self.horizon)))
            left.put(path.rose, left.of(path.rose) | (moves & (of_winner >= began / self.shrunk) & (began > 0)))
            moves &= (ahead < self.horizon) & (of_winner > self.shrunk * began)
            left.put(moving, moves)
            path.taken = path.taken.clamp_max(step).where(~moving.any(1), path.taken)
            over = ending.at(step, moving)
            if over or step % self.record == 0:
                path.record(step, now.amax(1).maximum(of_stopped))
            if over:
                break
            if step and step % cleared == 0 and moves.sum(1).amax() < FULL * moves.shape[1]:
                left.put(path.network.kernels, left.kernels)
                of_stopped = now.masked_fill(moves[..., None], 0).amax(1).maximum(of_stopped)
                left = left.where(moves)
                moves = left.of(moving)
            small = network.having(kernels=left.kernels)
            gradient = mean_gradients(objective, small, samples, step, self.batches)["kernels"]
            length = gradient.norm(dim=2, keepdim=True).clamp_min(TINY)
            away = self.relative_step * left.kernels.norm(dim=2, keepdim=True) / length * gradient
            left = replace(left, kernels=left.kernels - moves[..., None] * away)
        left.put(path.network.kernels, left.kernels)
        return path.until(ending.step())


@dataclass(frozen=True)
class _OfSeeds:
    """Some seeds' batches."""

    samples: Batches
    seeds: slice

    def __getitem__(self, number: int) -> Sample:
        return self.samples[number].part(self.seeds, slice(None))


@dataclass(frozen=True)
class _Left:
    """Kernels that are still computed, equally many of each seed."""

    kernels: Tensor
    """(S, K', d)."""
    places: Tensor
    """(S, K'), their places among all kernels."""

    @classmethod
    def all_of(cls, kernels: Tensor) -> "_Left":
        return cls(kernels, torch.arange(kernels.shape[1], device=kernels.device).expand(kernels.shape[:2]))

    def of(self, values: Tensor) -> Tensor:
        """Theirs of all kernels' values, (S, K, ...)."""
        return values.gather(1, self._index(values))

    def put(self, values: Tensor, own: Tensor) -> None:
        """Writes their own into all kernels' values."""
        values.scatter_(1, self._index(values), own)

    def where(self, moves: Tensor) -> "_Left":
        """Those that move, and of seeds with fewer than another one some that do not."""
        kept = moves.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(moves.sum(1).amax()))]
        chosen = kept[..., None].expand(-1, -1, self.kernels.shape[2])
        return _Left(self.kernels.gather(1, chosen), self.places.gather(1, kept))

    def _index(self, values: Tensor) -> Tensor:
        rest = values.shape[2:]
        return self.places.view(*self.places.shape, *(1 for _ in rest)).expand(*self.places.shape, *rest)


@dataclass(frozen=True)
class CommonClock:
    """Plain gradient descent: one step size for all kernels and one stopping time, the papers' dynamics [P, A].

    The step size is common to all kernels of a seed but varies in time: the fastest kernel moves `relative_step` of its
    length. That follows the same gradient flow as a small constant one, for which about 1e5 steps are needed. A seed's
    network is that of the recorded time at which the first of its kernels reaches the horizon: past it, growth no
    longer favours a kernel's largest feature. The curves go on to four horizons.
    """

    horizon: float
    """The overlap <w, v> that stops all kernels; see `horizon_of`."""
    relative_step: float = 0.05
    """How far the fastest kernel moves in a step, of its length."""
    steps: int = 1500
    """At most so many."""
    record: int = 4
    """Steps between records."""
    batches: int = 1
    """Batches averaged in a step; all of them give the full-batch gradient."""
    rule: RuleName = "plain"
    """Whose step it is that moves the fastest kernel by `relative_step` of its length."""
    bound: float = math.inf
    """Longest norm of a kernel."""

    def run(self, network: Network, objective: Trainable, samples: Samples, features: Tensor) -> Trajectory:
        """`samples` gives batch after batch. `features` (n, d)."""
        stopped, path, update = network.kernels, Trajectory(network), RULES[self.rule]()
        waiting = torch.ones(len(stopped), dtype=torch.bool, device=stopped.device)
        moving, path.most = waiting.clone(), torch.zeros_like(waiting, dtype=torch.int64)
        path.taken, ending = torch.zeros_like(path.most), Ending(moving, self.steps)
        for step in range(self.steps + 1):
            if step % self.record == 0 or step == self.steps:
                now = overlaps(network, features)
                path.record(step, now.amax(1).clamp_min(0))
                path.most = path.most.maximum(captured(network, features, self.horizon).sum(1))
                stopped = torch.where(waiting[:, None, None], network.kernels, stopped)
                path.taken = torch.where(waiting, step, path.taken)
                waiting &= now.amax((1, 2)) < self.horizon
                moving &= now.amax((1, 2)) < 4 * self.horizon
            if ending.at(step, moving):
                break
            kernels = network.kernels
            away = update(mean_gradients(objective, network, samples, step, self.batches))["kernels"]
            relative = away.norm(dim=2) / kernels.norm(dim=2)
            size = self.relative_step / relative.amax(1).clamp_min(TINY)
            moved = kernels - (moving * size)[:, None, None] * away
            network = replace(network, kernels=within_norm(moved, self.bound))
        path.network = path.network.having(kernels=stopped)
        return path.until(ending.step())


@dataclass(frozen=True)
class PlainDescent:
    """Gradient descent with one constant step size for all kernels, and one stop."""

    rate: float
    steps: int
    record: int = 4
    """Steps between records."""
    batches: int = 1
    """Batches averaged in a step."""
    rule: RuleName = "plain"
    bound: float = math.inf
    """Longest norm of a kernel."""

    def run(self, network: Network, objective: Trainable, samples: Samples, features: Tensor) -> Trajectory:
        path, update = Trajectory(network), RULES[self.rule]()
        path.taken = torch.full(network.kernels.shape[:1], self.steps, device=network.kernels.device)
        for step in range(self.steps + 1):
            if step % self.record == 0 or step == self.steps:
                path.record(step, largest_overlap(network, features))
            if step < self.steps:
                away = update(mean_gradients(objective, network, samples, step, self.batches))["kernels"]
                network = network.having(kernels=within_norm(network.kernels - self.rate * away, self.bound))
        path.network = network
        return path


@dataclass(frozen=True)
class MiniBatchDescent:
    """Mini-batch gradient descent to a training loss, with a step size for each tensor.

    A seed stops at the end of the epoch in which the mean loss of its batches is at most `target`, so networks that
    reach it can be compared at the same training loss; after `epochs` it stops anyway.
    """

    rates: dict[str, float]
    """Step size of each tensor that is trained: "kernels", "head", "decoder"."""
    target: float = 0.0
    """Training loss at which a seed stops."""
    epochs: int = 120
    """At most so many passes over the samples."""
    rule: RuleName = "plain"
    """What is made of the gradients: plain descent, momentum, or Adam."""

    def run(self, network: Network, objective: Trainable, samples: Samples, features: Tensor) -> Trajectory:
        """All of `samples` are one epoch. `features` (n, d)."""
        path = Trajectory(network)
        update = RULES[self.rule]()
        moving = torch.ones(len(network.kernels), dtype=torch.bool, device=network.kernels.device)
        reached = torch.full(moving.shape, torch.inf, device=moving.device, dtype=network.kernels.dtype)
        path.taken = torch.zeros(len(moving), dtype=torch.int64, device=moving.device)
        ending = Ending(moving, self.epochs - 1, len(samples))
        for epoch in range(self.epochs):
            total = torch.zeros_like(reached)
            for number in range(len(samples)):
                loss, gradients = objective.gradients(network, samples[number])
                total += loss
                network = self._moved(network, update(gradients), moving)
            was_moving = moving.clone()
            reached = torch.where(moving, total / len(samples), reached)
            moving &= reached > self.target
            path.record((epoch + 1) * len(samples), largest_overlap(network, features))
            path.losses.append(reached.clone())
            path.taken = torch.where(was_moving, path.steps[-1], path.taken)
            if ending.at(epoch, moving):
                break
        path.network = network
        path.until((ending.step() + 1) * len(samples))
        path.loss = torch.stack([objective.gradients(network, batch)[0] for batch in samples]).mean(0)
        return path

    def _moved(self, network: Network, steps: dict[str, Tensor], moving: Tensor) -> Network:
        named = network.tensors()
        moved = {name: named[name] - moving[:, None, None] * self.rates[name] * step for name, step in steps.items()}
        return network.having(**moved)
