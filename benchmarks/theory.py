"""The theory lab beside what one would write first: autograd on the definition, masks drawn, one seed at a time.

One thread and processor time: the rates are those of a core, whatever else the machine does.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.machine import SIDE, matrix_products
from benchmarks.measure import Effort, Rates, Row, Work, against, interleaved, threads
from whymask.randomness import torch_generator
from whymask.theory.data import MultiView, Sample, Samples
from whymask.theory.descent import MiniBatchDescent, OwnClock, Trajectory
from whymask.theory.measures import captured
from whymask.theory.network import Network, SmoothedReLU
from whymask.theory.objectives import CrossEntropy, TeacherStudent
from whymask.theory.regime import Regime

MASKS = (1, 10, 100)
"""Masks drawn for each image in a step."""
MOMENT = 0.2
"""Seconds a block for gradients, of which one takes milliseconds."""
DRAWS = 3
"""Gradients by drawn masks whose error is averaged."""


@dataclass(frozen=True)
class TheorySize:
    """What is trained, for how many seeds side by side; the defaults are the lab's own."""

    regime: Regime = field(default_factory=Regime)
    seeds: int = 4
    steps: int = 600
    """At most so many of pretraining."""
    epochs: int = 2
    """Of supervised training, in one piece of work."""
    wide: int = 100
    """The larger k of theory-structure."""
    side: int = SIDE
    """Of the matrices whose products give the machine's rate."""


QUICK = TheorySize(Regime(MultiView(k=2), m=2, N=40, batch=20), seeds=2, steps=2, epochs=1, wide=3, side=64)


def theory_rows(effort: Effort, size: TheorySize) -> list[Row]:
    """All rows of the theory lab."""
    moment = replace(effort, seconds=min(effort.seconds, MOMENT))
    with threads(1):
        return [
            pretraining_row(replace(effort, seconds=0), size),  # one run each a block
            supervised_row(moment, size),
            *(row for k in (size.regime.data.k, size.wide) for row in structure_rows(moment, size, k)),
            *mask_rows(moment, size.regime),
        ]


def described(regime: Regime, more: str) -> str:
    data = regime.data
    sizes = f"k={data.k}, K={regime.K}, d={data.width}, P={data.patches}, batch {regime.batch}"
    return f"{sizes}, float32, one thread, processor time; {more}"


# Pretraining ----------------------------------------------------------------------------------------------------------


def pretraining_row(effort: Effort, size: TheorySize) -> Row:
    """theory-pretrain: until every kernel stopped on its own clock; both start from the same kernels and images."""
    s, seeds = size.regime, range(size.seeds)
    clock = OwnClock(s.horizon, s.own_step, size.steps, batches=s.together)
    samples, alone, start = images_of(s, seeds), [images_of(s, [seed]) for seed in seeds], start_of(s, seeds)

    def ours() -> Trajectory:
        return clock.run(start, TeacherStudent(s.theta, s.teacher), samples, s.data.features)

    def plain(seed: int, masks: int) -> Tensor:
        generator = torch_generator(seed, "bench", "mask")
        return plain_pretraining(s, clock, start.kernels[seed], alone[seed], masks, generator)

    path = ours()
    found = captured(path.network, s.data.features, s.horizon)
    masks, outcomes = enough_masks(s, found, lambda count: torch.stack([plain(seed, count) for seed in seeds]))
    order = cycle(seeds)
    works = {"ours": counting(size.seeds, ours), "plain": counting(1, lambda: plain(next(order), masks))}
    rates = interleaved(works | matrix_products(size.side), effort, time.process_time)
    operations = 4.0 * s.batch * s.data.patches * s.data.width * s.K * s.together * path.steps[-1]  # forward, backward
    more = f"{size.seeds} seeds side by side, {path.steps[-1]} steps, captured {counts(found)} of {s.data.count}; "
    return Row(
        name="theory-pretrain",
        peer=f"autograd, {masks_an_image(masks)}, one seed at a time",
        share=median(rates["ours"]) * operations / machine_rate(rates),
        unit="seeds/s",
        setting=described(s, more + outcomes),
        **against(rates, "ours", "plain"),
    )


def enough_masks(regime: Regime, ours: Tensor, plain: Callable[[int], Tensor]) -> tuple[int, str]:
    """The fewest masks with which plain pretraining captures as many features as ours, and what each number captured.

    `plain` gives the kernels (S, K, d) after pretraining with so many masks an image.
    """
    told = []
    for masks in MASKS:
        theirs = captured(Network(plain(masks)), regime.data.features, regime.horizon)
        both = int((ours & theirs).sum())
        told.append(f"with {masks_an_image(masks)} the peer captured {counts(theirs)}, {both} of them ours")
        if theirs.sum() >= ours.sum():
            break
    return masks, "; ".join(told)


def plain_pretraining(
    regime: Regime, clock: OwnClock, start: Tensor, samples: Samples, masks: int, generator: torch.Generator
) -> Tensor:
    """Own-clock pretraining of one seed's kernels (K, d), as `OwnClock` has it; gradients by autograd, masks drawn."""
    features = regime.data.features.to(start)
    kernels = start.clone().requires_grad_()
    first, winner = (start @ features.T).max(1)
    moving = torch.ones_like(first, dtype=torch.bool)
    for step in range(clock.steps + 1):
        now = kernels.detach() @ features.T
        of_winner = now.gather(1, winner[:, None])[:, 0]
        moving &= (now.amax(1) < clock.horizon) & (of_winner > clock.shrunk * first)
        if step == clock.steps or not moving.any():
            break
        for place in range(clock.batches):
            patches = samples[step * clock.batches + place].patches[0]
            plain_masked_loss(regime, kernels, patches, masks, generator).backward()
        assert kernels.grad is not None
        with torch.no_grad():
            length = clock.relative_step * kernels.norm(dim=1) / kernels.grad.norm(dim=1).clamp_min(1e-30)
            kernels -= (moving * length)[:, None] * kernels.grad
        kernels.grad = None
    return kernels.detach()


def plain_masked_loss(
    regime: Regime, kernels: Tensor, patches: Tensor, masks: int, generator: torch.Generator
) -> Tensor:
    """Half the mean over images and drawn masks of sum_r (h^_r - h'_r)^2, of patches (B, P, d), for autograd.

    Activations are computed once for all masks of an image.
    """
    z = patches @ kernels.T
    with torch.no_grad():
        teacher = plain_sigma(regime.sigma, regime.teacher * z).sum(1)
    drawn = torch.rand(len(patches), masks, patches.shape[1], generator=generator) < regime.theta
    codes = drawn.to(z) @ plain_sigma(regime.sigma, z) / regime.theta  # h', (B, masks, K)
    return (teacher[:, None] - codes).square().sum(2).mean() / 2


def plain_sigma(sigma: SmoothedReLU, z: Tensor) -> Tensor:
    bent = z.clamp(0, sigma.rho) ** sigma.q / (sigma.q * sigma.rho ** (sigma.q - 1))
    return torch.where(z > sigma.rho, z - (1 - 1 / sigma.q) * sigma.rho, bent)


# Supervised -----------------------------------------------------------------------------------------------------------


def supervised_row(effort: Effort, size: TheorySize) -> Row:
    """theory-supervised: steps with [A]'s fixed head; a step of S seeds counts as S."""
    s, seeds = size.regime, range(size.seeds)
    training = MiniBatchDescent({"kernels": s.rate("kernel_rate")}, epochs=size.epochs)
    samples, alone = images_of(s, seeds), [images_of(s, [seed]) for seed in seeds]
    start = start_of(s, seeds).with_head(s.data.k, "fixed")
    assert start.head is not None
    heads = start.head

    def ours() -> Tensor:
        return training.run(start, CrossEntropy(learned_head=False), samples, s.data.features).network.kernels

    def plain(seed: int) -> Tensor:
        return plain_supervised(s, start.kernels[seed], heads[seed], alone[seed], size.epochs)

    mine, theirs = ours() - start.kernels, torch.stack([plain(seed) for seed in seeds]) - start.kernels
    order, steps = cycle(seeds), size.epochs * len(samples)
    works = {"ours": counting(steps * size.seeds, ours), "plain": counting(steps, lambda: plain(next(order)))}
    rates = interleaved(works, effort, time.process_time)
    more = f"{size.seeds} seeds side by side; what {steps} steps changed differs by {distance(theirs, mine):.0e}"
    return Row(
        name="theory-supervised",
        peer="autograd, one seed at a time",
        unit="steps/s",
        setting=described(s, more),
        **against(rates, "ours", "plain"),
    )


def plain_supervised(regime: Regime, start: Tensor, head: Tensor, samples: Samples, epochs: int) -> Tensor:
    """One seed's kernels (K, d) after plain descent of the cross-entropy."""
    kernels = start.clone().requires_grad_()
    descent = torch.optim.SGD([kernels], lr=regime.rate("kernel_rate"))
    for step in range(epochs * len(samples)):
        batch = samples[step]
        codes = plain_sigma(regime.sigma, batch.patches[0] @ kernels.T).sum(1)
        descent.zero_grad()
        cross_entropy(codes @ head.T, batch.labels[0]).backward()
        descent.step()
    return kernels.detach()


# Structure ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owned(Sample):
    """Noise-free patches z_p v_owner: correlations are rows of V W^T, gathered, in place of products."""

    owner: Tensor = field(kw_only=True)
    """(S, B, P), the feature of each patch."""
    z: Tensor = field(kw_only=True)
    """(S, B, P), its weight there."""
    features: Tensor = field(kw_only=True)
    """(n, d)."""

    @classmethod
    def of(cls, batch: Sample, features: Tensor) -> "Owned":
        features = features.to(batch.patches)
        z, owner = (batch.patches @ features.T).max(3)
        return cls(batch.patches, batch.labels, batch.single, batch.copies, owner=owner, z=z, features=features)

    def correlate(self, kernels: Tensor) -> Tensor:
        table = self.features @ kernels.mT  # (S, n, K)
        rows = [of_seed[owner] for of_seed, owner in zip(table, self.owner, strict=True)]
        gathered = torch.stack(rows) if len(rows) > 1 else rows[0][None]
        return gathered.mul_(self.z[..., None])

    def collect(self, coefficients: Tensor) -> Tensor:
        sums = coefficients.new_zeros(len(coefficients), len(self.features), coefficients.shape[3])
        for seed, weighted in enumerate(coefficients * self.z[..., None]):
            sums[seed].index_add_(0, self.owner[seed].flatten(), weighted.flatten(0, 1))
        return sums.mT @ self.features

    def part(self, seeds: slice, images: slice) -> "Owned":
        batch = Sample(self.patches, self.labels, self.single, self.copies).part(seeds, images)
        owner, z = self.owner[seeds, images], self.z[seeds, images]
        return Owned(batch.patches, batch.labels, batch.single, batch.copies, owner=owner, z=z, features=self.features)


def structure_rows(effort: Effort, size: TheorySize, k: int) -> list[Row]:
    """theory-structure-k: a gradient on patches stored once against one on all; -gather: the same without products."""
    s = replace(size.regime, data=MultiView(k=k, split="equal", sigma=0.0))
    network, objective = start_of(s, [0]), TeacherStudent(s.theta, s.teacher)
    dense = images_of(s.with_data(copied=False), [0])[0]
    once = images_of(s, [0])[0]
    batches = {"dense": dense, "once": once, "gather": Owned.of(once, s.data.features)}
    gradients = {name: objective.gradients(network, batch)[1]["kernels"] for name, batch in batches.items()}
    works = {name: counting(1, partial(objective.gradients, network, batch)) for name, batch in batches.items()}
    rates = interleaved(works, effort, time.process_time)
    rows = []
    for name, ours, peer in (("", "once", "dense"), ("-gather", "gather", "once")):
        error = distance(gradients[ours], gradients[peer])
        rows.append(
            Row(
                name=f"theory-structure-{k}{name}",
                peer={"dense": "every patch", "once": "patches stored once, dense product"}[peer],
                unit="gradients/s",
                setting=described(s, f"no noise, equal split; the gradients differ by {error:.0e}"),
                **against(rates, ours, peer),
            )
        )
    return rows


# Masks ----------------------------------------------------------------------------------------------------------------


def mask_rows(effort: Effort, regime: Regime) -> list[Row]:
    """theory-masks-n: a gradient in closed form against one from n masks an image, and the latter's error."""
    s = regime
    samples, network, objective = images_of(s, [0]), start_of(s, [0]), TeacherStudent(s.theta, s.teacher)
    batch, generator = samples[0], torch_generator("bench", "mask")
    exact_batch, exact_network = batch.to("cpu", torch.float64), network.to("cpu", torch.float64)
    exact = objective.gradients(exact_network, exact_batch)[1]["kernels"][0]

    def plain(masks: int) -> Tensor:
        kernels = network.kernels[0].clone().requires_grad_()
        plain_masked_loss(s, kernels, batch.patches[0], masks, generator).backward()
        assert kernels.grad is not None
        return kernels.grad

    works = {"ours": counting(1, partial(objective.gradients, network, batch))}
    works |= {str(masks): counting(1, partial(plain, masks)) for masks in MASKS}
    rates = interleaved(works, effort, time.process_time)
    ours_error = distance(objective.gradients(network, batch)[1]["kernels"][0], exact)
    rows = []
    for masks in MASKS:
        error = median(distance(plain(masks), exact) for _ in range(DRAWS))
        more = (
            f"gradient at the start: off by {error:.2g} of its norm with drawn masks, {ours_error:.0e} in closed form"
        )
        rows.append(
            Row(
                name=f"theory-masks-{masks}",
                peer=f"autograd, {masks_an_image(masks)}",
                unit="gradients/s",
                setting=described(s, more),
                **against(rates, "ours", str(masks)),
            )
        )
    return rows


# Helpers --------------------------------------------------------------------------------------------------------------


def images_of(regime: Regime, seeds: Sequence[int]) -> Samples:
    """MiniBatchDescent images, all drawn now, so that no contender draws them."""
    samples = Samples(regime.data, seeds, regime.images, regime.batch)
    for number in range(len(samples)):
        samples[number]
    return samples


def start_of(regime: Regime, seeds: Sequence[int]) -> Network:
    drawn = Network.random(regime.K, regime.data.width, seeds, regime.scale, regime.sigma)
    return drawn.to("cpu", torch.float32)


def counting(amount: float, work: Callable[[], Any]) -> Work:
    """`work`, which does so much."""

    def run() -> float:
        work()
        return amount

    return run


def distance(estimate: Tensor, exact: Tensor) -> float:
    """Norm of the difference relative to that of `exact`."""
    return float((estimate - exact).norm() / exact.norm())


def counts(found: Tensor) -> str:
    """Features captured, seed by seed."""
    return "+".join(str(int(number)) for number in found.sum(1))


def masks_an_image(number: int) -> str:
    return f"{number} mask{'s' * (number > 1)} an image"


def machine_rate(rates: Rates) -> float:
    return max(median(rates["product"]), median(rates["torch product"]))
