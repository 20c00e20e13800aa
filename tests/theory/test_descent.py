import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from questions import Questions
from whymask import activations
from whymask.theory import descent as descents
from whymask.theory.data import MultiView, Sample, Samples
from whymask.theory.descent import (
    CommonClock,
    MiniBatchDescent,
    OwnClock,
    PlainDescent,
    Trajectory,
    horizon_of,
    mean_gradients,
    overlaps,
)
from whymask.theory.lab import Lab
from whymask.theory.measures import captured
from whymask.theory.network import Network, SmoothedReLU
from whymask.theory.objectives import CrossEntropy, Gradients, NormalisedTargets, PixelReconstruction, TeacherStudent
from whymask.theory.regime import Regime
from whymask.theory.rules import Adam, Momentum, Plain, Rule, within_norm

DATA = MultiView(k=3, C_p=2, d=12)
CLEAN = replace(DATA, sigma=0.0, split="equal")
HORIZON = horizon_of(0.5, 2, 1)
GROWING = TeacherStudent(0.5, 2 ** (1 / 3))


def images(
    seeds: Any = (0, 1, 2), data: MultiView = DATA, dtype: torch.dtype = torch.float64, **changes: Any
) -> Samples:
    return Samples(data, seeds, **({"size": 120, "batch": 60, "dtype": dtype} | changes))


def start(seeds: Any = (0, 1, 2), K: int = 9, scale: float = 0.1, dtype: torch.dtype = torch.float64) -> Network:
    return Network.random(K, DATA.width, seeds, scale).to("cpu", dtype)


@pytest.mark.parametrize("q", [2, 2.5, 3, 5])
@pytest.mark.parametrize("rho", [0.3, 1.5])
def test_smoothed_relu_is_its_formula_and_continuous_with_its_slope(q: float, rho: float):
    sigma = SmoothedReLU(q, rho)
    z = torch.linspace(-1, 3, 401, dtype=torch.float64)
    bent = z.clamp_min(0) ** q / (q * rho ** (q - 1))
    linear = z - (1 - 1 / q) * rho
    expected = torch.where(z < 0, 0, torch.where(z <= rho, bent, linear))
    torch.testing.assert_close(sigma(z), expected)
    for kink in (0.0, rho):
        around = torch.tensor([kink - 1e-9, kink, kink + 1e-9], dtype=torch.float64)
        value, slope = sigma.with_slope(around)
        assert value.max() - value.min() < 1e-8 and slope.max() - slope.min() < 1e-7
    assert sigma.with_slope(torch.tensor([0.0, rho, 2 * rho]))[1].tolist() == [0, 1, 1]


@pytest.mark.parametrize("q", [2, 2.5, 3, 5])
@pytest.mark.parametrize("top", [0.2, 3.0])  # nothing is linear; something is
def test_value_and_slope_equal_the_call_and_autograd(q: float, top: float):
    sigma = SmoothedReLU(q, 0.5)
    z = torch.linspace(-1, top, 97, dtype=torch.float64, requires_grad=True)
    value, slope = sigma.with_slope(z.detach().clone())
    torch.testing.assert_close(value, sigma(z).detach())
    torch.testing.assert_close(slope, torch.autograd.grad(sigma(z).sum(), z)[0])


@pytest.mark.parametrize(("kink", "expected"), [(0.0, 0.0), (0.5, 1.0)])
def test_autograd_gives_the_slope_at_the_kinks(kink: float, expected: float):
    z = torch.tensor(kink, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(SmoothedReLU(3, 0.5)(z), z)[0].item() == expected


def test_horizon_is_where_a_winner_of_mean_weight_turns_linear():
    assert horizon_of(0.5, 2, 1) * 1.2 / 2 == pytest.approx(0.5)


def test_first_kernels_are_functions_of_the_seed_and_have_their_scale():
    together, alone = start((5, 6, 7), K=400), start((6,), K=400)
    assert torch.equal(together.kernels[1:2], alone.kernels)
    assert together.kernels.std((1, 2)).tolist() == pytest.approx([0.1] * 3, rel=0.05)
    assert not torch.equal(together.kernels[0], together.kernels[1])


def plain_path(network: Network, samples: Samples) -> np.ndarray:
    """Overlaps of lone kernels on plain descent with a small step, until all passed the horizon: (steps, S, n)."""
    seen = [overlaps(network, CLEAN.features)[:, 0]]
    while (seen[-1].amax(1) < 1.1 * HORIZON).any() and len(seen) < 20_000:
        kernels = network.kernels - 0.05 * GROWING.gradients(network, samples[0])[1]["kernels"]
        network = replace(network, kernels=kernels)
        seen.append(overlaps(network, CLEAN.features)[:, 0])
    return torch.stack(seen).numpy()


def test_own_clock_follows_the_path_of_plain_gradient_descent():
    """Of lone kernels, one a seed: the second overlap as a function of the first, on the way to the horizon.

    First and second are features of one class, which come together and so help each other: both grow.
    """
    samples = images(data=CLEAN, size=100, batch=100)
    first, second = CLEAN.features[[0, 2, 4]], CLEAN.features[[1, 3, 5]]
    network = Network(0.3 * (first + torch.tensor([0.5, 0.8, 0.9])[:, None] * second)[:, None])
    path = OwnClock(HORIZON, record=1).run(network, GROWING, samples, CLEAN.features)
    slow, fast = plain_path(network, samples), torch.stack(path.growth).numpy()
    assert path.grown.all() and len(fast) < 60 < 2000 < len(slow)
    for seed in range(3):
        (x, y), (ours, ours_y) = slow[:, seed, 2 * seed : 2 * seed + 2].T, fast[:, seed, 2 * seed : 2 * seed + 2].T
        expected = np.interp(ours, x, y)
        assert expected[-1] > 1.5 * expected[0]
        assert np.abs(ours_y - expected).max() <= 0.02 * expected.max()


def pretrain_own(network: Network, samples: Samples) -> Trajectory:
    return OwnClock(HORIZON).run(network, GROWING, samples, DATA.features)


def pretrain_common(network: Network, samples: Samples) -> Trajectory:
    return CommonClock(HORIZON, steps=400).run(network, GROWING, samples, DATA.features)


def train(network: Network, samples: Samples) -> Trajectory:
    training = MiniBatchDescent({"kernels": 0.3, "head": 1.0}, target=0.4, epochs=60)
    return training.run(network.with_head(DATA.k, "learned"), CrossEntropy(), samples, DATA.features)


def reconstruct(network: Network, samples: Samples) -> Trajectory:
    decoder = network.kernels.mT.clone()
    training = MiniBatchDescent({"kernels": 0.003, "decoder": 0.003}, epochs=30, rule="adam")
    return training.run(network.having(decoder=decoder), PixelReconstruction(), samples, DATA.features)


RUNS = [pretrain_own, pretrain_common, train, reconstruct]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_a_seed_among_others_equals_the_seed_alone(
    run: Callable[..., Trajectory], dtype: torch.dtype, tolerance: float
):
    together = run(start(dtype=dtype), images(dtype=dtype))
    assert not torch.equal(together.network.kernels, start(dtype=dtype).kernels)
    for seed in range(3):
        alone = run(start((seed,), dtype=dtype), images((seed,), dtype=dtype))
        ours, theirs = together.network.of(slice(seed, seed + 1)), alone.network
        steps = min(len(together.growth), len(alone.growth))  # alone, it may end before
        for a, b in zip(together.growth[:steps], alone.growth[:steps], strict=True):
            torch.testing.assert_close(a[seed : seed + 1], b, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            overlaps(ours, DATA.features), overlaps(theirs, DATA.features), rtol=tolerance, atol=tolerance
        )
        assert torch.equal(captured(ours, DATA.features, HORIZON), captured(theirs, DATA.features, HORIZON))
        if dtype == torch.float64:
            for name, tensor in theirs.tensors().items():
                torch.testing.assert_close(ours.tensors()[name], tensor, rtol=tolerance, atol=tolerance)


def test_own_clock_lets_kernels_grow_and_stops_each_at_its_horizon():
    path = pretrain_own(start(), images())
    grown = path.grown
    largest = overlaps(path.network, DATA.features).amax(2)
    assert grown.any(1).all()
    assert (largest[grown] >= HORIZON).all() and (largest[~grown] < HORIZON).all()
    assert (largest[grown] <= HORIZON + 0.03 * path.network.kernels.norm(dim=2)[grown]).all()


def test_own_clock_moves_a_kernel_no_more_once_it_has_grown_or_shrunk():
    """Kernels that stop early are where they end in a run without the others."""
    theta = torch.tensor([0.5, 0.5, 0.5, 0.05, 0.05, 0.05], dtype=torch.float64)  # the last three shrink
    network, samples = start(K=6, scale=0.2), images(data=CLEAN)
    path = OwnClock(HORIZON, record=1).run(network, replace(GROWING, theta=theta), samples, CLEAN.features)
    for r in range(6):
        alone = OwnClock(HORIZON, record=1).run(
            Network(network.kernels[:, r : r + 1]), replace(GROWING, theta=float(theta[r])), samples, CLEAN.features
        )
        torch.testing.assert_close(path.network.kernels[:, r : r + 1], alone.network.kernels)
        assert torch.equal(path.grown[:, r : r + 1], alone.grown)
        assert alone.steps[-1] <= path.steps[-1]
        assert torch.equal(path.rose[:, r : r + 1], alone.rose)
    first, winner = overlaps(network, CLEAN.features).max(2, keepdim=True)
    fell = (first - overlaps(path.network, CLEAN.features).gather(2, winner))[:, 3:, 0]
    assert path.grown[:, :3].any() and not path.grown[:, 3:].any() and not path.rose[:, 3:].any()
    assert (fell >= 0.1 * first[:, 3:, 0]).all()  # by a tenth, and by one step more at most
    assert (fell <= 0.1 * first[:, 3:, 0] + 0.03 * network.kernels.norm(dim=2)[:, 3:]).all()


@pytest.mark.parametrize("clock", [OwnClock(HORIZON, steps=200), CommonClock(HORIZON, steps=200)], ids=str)
def test_nothing_grows_where_teacher_and_student_are_equal(clock: OwnClock | CommonClock):
    network, samples = start(), images()
    path = clock.run(network, replace(GROWING, tau=1.0), samples, DATA.features)
    assert not path.grown.any()
    assert (path.growth[-1] <= path.growth[0] + 1e-12).all()
    assert not captured(path.network, DATA.features, HORIZON).any()


def test_own_clock_leaves_a_kernel_without_gradient_where_it_is():
    network = Network(-0.1 * CLEAN.features.sum(0).expand(1, 2, -1).clone())
    path = OwnClock(HORIZON).run(network, GROWING, images((0,), CLEAN), CLEAN.features)
    assert torch.equal(path.network.kernels, network.kernels)
    assert not path.grown.any() and not path.rose.any()


@dataclass
class Scripted:
    """An objective whose gradient is what a function of the kernels says."""

    gradient: Callable[[Tensor], Tensor]

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        return torch.zeros(len(network.kernels)), {"kernels": self.gradient(network.kernels)}


def scripted(clock: CommonClock, kernels: list[list[float]], gradient: Callable[[Tensor], Tensor]) -> Trajectory:
    """A run of one seed whose features are the unit vectors."""
    network = Network(torch.tensor([kernels], dtype=torch.float64))
    return clock.run(network, Scripted(gradient), images((0,)), torch.eye(network.kernels.shape[2]))


def test_common_clock_moves_the_fastest_kernel_by_the_relative_step_and_all_with_one_step_size():
    speeds = -torch.tensor([[[1.0, 0.0], [0.0, 0.25]]], dtype=torch.float64)
    path = scripted(CommonClock(1.0, 0.05, steps=2, record=1), [[0.1, 0], [0, 0.2]], lambda kernels: speeds)
    torch.testing.assert_close(path.growth[1], torch.tensor([[0.105, 0.20125]], dtype=torch.float64))
    assert path.steps == [0, 1, 2]


def test_common_clock_stops_all_kernels_when_the_first_reaches_the_horizon():
    """The first kernel grows pure and blends past the horizon; the second follows slowly."""

    def grow_then_blend(kernels: Tensor) -> Tensor:
        blends = kernels[..., :1] >= 1
        return -torch.where(blends, torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])).to(kernels)

    path = scripted(CommonClock(1.0, steps=200, record=4), [[0.1, 0.01], [0.02, 0.0]], grow_then_blend)
    reached = [bool(growth.max() >= 1) for growth in path.growth].index(True)
    assert path.taken.tolist() == [path.steps[reached]] and reached < len(path.steps) - 1
    torch.testing.assert_close(path.network.kernels.amax(1), path.growth[reached])
    counts = [int(captured(Network(growth[:, None]), torch.eye(2), 1.0).sum()) for growth in path.growth]
    assert path.most.tolist() == [max(counts)] == [1] and counts[-1] == 0


def test_common_clock_is_over_at_four_horizons():
    path = scripted(CommonClock(1.0, record=1), [[0.5, 0.0]], lambda kernels: -kernels)
    assert path.growth[-1].max() >= 4 > path.growth[-2].max()


def test_training_stops_each_seed_at_its_target_and_leaves_it_unchanged():
    training = MiniBatchDescent({"kernels": 1.0, "head": 1.0}, target=0.5, epochs=100)
    network, samples = start(scale=0.2).with_head(DATA.k, "learned"), images()
    path = training.run(network, CrossEntropy(), samples, DATA.features)
    losses = torch.stack(path.losses)
    stops = (losses <= 0.5).float().argmax(0).tolist()
    assert len(set(stops)) > 1 and (losses[-1] <= 0.5).all() and max(stops) == len(losses) - 1
    assert path.steps == [2 * (epoch + 1) for epoch in range(len(losses))]
    for seed, stop in enumerate(stops):
        assert (losses[:stop, seed] > 0.5).all() and (losses[stop:, seed] == losses[stop, seed]).all()
        alone = replace(training, target=0.0, epochs=stop + 1).run(
            network.of(slice(seed, seed + 1)), CrossEntropy(), images((seed,)), DATA.features
        )
        for name, tensor in alone.network.tensors().items():
            torch.testing.assert_close(path.network.tensors()[name][seed : seed + 1], tensor)
        torch.testing.assert_close(losses[stop, seed], alone.losses[-1][0])


def test_training_is_plain_descent_with_a_step_size_for_each_tensor():
    samples, objective = images(), CrossEntropy()
    network = start().with_head(DATA.k, "fixed")
    path = MiniBatchDescent({"kernels": 0.3, "head": 0.1}, epochs=1).run(network, objective, samples, DATA.features)
    losses = []
    for batch in samples:
        loss, gradients = objective.gradients(network, batch)
        losses.append(loss)
        assert network.head is not None
        network = network.having(
            kernels=network.kernels - 0.3 * gradients["kernels"], head=network.head - 0.1 * gradients["head"]
        )
    for name, tensor in network.tensors().items():
        torch.testing.assert_close(path.network.tensors()[name], tensor)
    torch.testing.assert_close(path.losses[0], torch.stack(losses).mean(0))


def test_frozen_tensors_stay():
    network = start().with_head(DATA.k, "fixed")
    for objective, frozen in (
        (CrossEntropy(learned_head=False), "head"),
        (CrossEntropy(train_kernels=False), "kernels"),
    ):
        path = MiniBatchDescent({"kernels": 0.3, "head": 0.3}, epochs=2).run(
            network, objective, images(), DATA.features
        )
        unchanged = {
            name for name, tensor in network.tensors().items() if torch.equal(tensor, path.network.tensors()[name])
        }
        assert unchanged == {frozen}


@pytest.mark.parametrize(
    ("rule", "of_torch"),
    [
        (Plain(), torch.optim.SGD),
        (Momentum(), partial(torch.optim.SGD, momentum=0.9)),
        (Adam(), torch.optim.Adam),
    ],
    ids=["plain", "momentum", "adam"],
)
def test_rules_of_descent_equal_pytorchs(rule: Rule, of_torch: Callable[..., torch.optim.Optimizer]):
    generator = torch.Generator().manual_seed(0)
    shapes = {"kernels": (2, 3, 4), "decoder": (2, 4, 3)}
    ours = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    theirs = {name: tensor.clone().requires_grad_() for name, tensor in ours.items()}
    reference = of_torch(theirs.values(), lr=0.01)
    for step in range(30):
        gradients = {
            name: (step % 7) * torch.randn(tensor.shape, generator=generator).double() for name, tensor in ours.items()
        }
        for name, tensor in theirs.items():
            tensor.grad = gradients[name].clone()
        reference.step()
        ours = {name: ours[name] - 0.01 * step for name, step in rule(gradients).items()}
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name].detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "of_torch"),
    [("momentum", partial(torch.optim.SGD, momentum=0.9)), ("adam", torch.optim.Adam)],
)
def test_plain_descent_by_a_rule_is_pytorchs_of_the_same_objective(
    rule: Any, of_torch: Callable[..., torch.optim.Optimizer]
):
    """Of normalised targets, whose gradient is autograd's here."""
    objective, samples, network = NormalisedTargets(0.5, 0.2, 0.01), images(), start()
    path = PlainDescent(0.02, 12, rule=rule).run(network, objective, samples, DATA.features)
    kernels = network.kernels.clone().requires_grad_()
    reference = of_torch([kernels], lr=0.02)
    for step in range(12):
        reference.zero_grad()
        objective.loss(network.having(kernels=kernels), samples[step]).sum().backward()
        reference.step()
    assert not torch.allclose(network.kernels, kernels, atol=1e-3)
    torch.testing.assert_close(path.network.kernels, kernels.detach(), rtol=1e-9, atol=1e-12)


def test_kernels_of_bounded_norm_are_the_nearest_ones():
    kernels = torch.tensor([[[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]])
    torch.testing.assert_close(within_norm(kernels, 1.0), torch.tensor([[[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]]))
    assert within_norm(kernels, math.inf) is kernels
    for descent in (PlainDescent(5.0, 8, bound=0.3), CommonClock(math.inf, steps=60, bound=0.3)):
        path = descent.run(start(), GROWING, images(), DATA.features)
        lengths = path.network.kernels.norm(dim=2)
        assert lengths.max() == pytest.approx(0.3) and (lengths <= 0.3 + 1e-12).all()


def all_at_once(samples: Samples) -> Sample:
    batches = list(samples)
    return Sample(*(torch.cat([getattr(b, name) for b in batches], dim=1) for name in ("patches", "labels", "single")))


def test_averaged_batches_give_the_gradient_of_all_images():
    network, samples = start(), images(size=120, batch=30)
    full = GROWING.gradients(network, all_at_once(samples))[1]["kernels"]
    for step in (0, 3):
        averaged = mean_gradients(GROWING, network, samples, step, 4)["kernels"]
        torch.testing.assert_close(averaged, full, rtol=1e-10, atol=1e-14)
    second = [GROWING.gradients(network, samples[number])[1]["kernels"] for number in (2, 3)]
    torch.testing.assert_close(mean_gradients(GROWING, network, samples, 1, 2)["kernels"], (second[0] + second[1]) / 2)


@pytest.mark.parametrize("clock", [OwnClock(HORIZON, steps=40), CommonClock(HORIZON, steps=40)], ids=str)
def test_clocks_average_their_batches(clock: OwnClock | CommonClock):
    samples = images(size=120, batch=30)
    full: Any = [all_at_once(samples)] * 50
    expected = clock.run(start(), GROWING, full, DATA.features)
    path = replace(clock, batches=4).run(start(), GROWING, samples, DATA.features)
    torch.testing.assert_close(torch.stack(path.growth), torch.stack(expected.growth))


# What a device is asked


def everything(path: Trajectory) -> list[Tensor]:
    arrays = [path.grown, path.rose, path.taken, path.loss, path.most]
    return [*path.network.tensors().values(), *arrays, torch.tensor(path.steps), *path.growth, *path.losses]


ENDING = {
    "own": (OwnClock(HORIZON, steps=300), GROWING),
    "own, to the last step": (OwnClock(HORIZON, steps=23), GROWING),
    "common": (CommonClock(HORIZON, steps=400), GROWING),
    "common, to the last step": (CommonClock(HORIZON, steps=23), GROWING),
    "supervised": (MiniBatchDescent({"kernels": 2.0, "head": 2.0}, target=0.6, epochs=90), CrossEntropy()),
    "pixels": (MiniBatchDescent({"kernels": 0.01, "decoder": 0.01}, epochs=30, rule="adam"), PixelReconstruction()),
}


@pytest.mark.parametrize("name", ENDING)
def test_a_device_that_is_asked_seldom_gives_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch):
    """As on a GPU; whose steps taken in vain change nothing, and are not recorded."""
    descent, objective = ENDING[name]
    begin = start().with_head(3, "learned") if isinstance(objective, CrossEntropy) else start()
    if isinstance(objective, PixelReconstruction):
        begin = begin.having(decoder=0.1 * torch.ones(3, DATA.width, 9, dtype=torch.float64))
    samples = images()
    assert all(len(samples[number]) for number in range(len(samples)))  # they are drawn, which asks too
    monkeypatch.setattr(descents, "CLEARED", 1000)  # what has left the product changes how sums are rounded
    expected = descent.run(begin, objective, samples, DATA.features)
    if "last" not in name and name != "pixels":
        assert len(set(expected.taken.tolist())) > 1  # seeds end at steps of their own, before the last
        assert expected.taken.max() < (180 if name == "supervised" else descent.steps)
    monkeypatch.setitem(descents.BLOCKS, "cpu", 11)
    monkeypatch.setattr(activations, "ASKED", ())
    with Questions() as questions:
        found = descent.run(begin, objective, samples, DATA.features)
    for mine, other in zip(everything(found), everything(expected), strict=True):
        assert torch.equal(mine, other)
    assert len(questions.asked) <= (found.steps[-1] + 11) // 11 + 2  # the blocks', and where it ended


def test_a_read_out_that_is_asked_seldom_is_the_same(monkeypatch: pytest.MonkeyPatch):
    def head() -> tuple[Any, list[str]]:
        lab = Lab(Regime(DATA, m=2, N=60, batch=60, target=0.3, device="cpu"), [0, 1])
        with Questions() as questions:
            return lab.read_out(), questions.asked

    (expected, often) = head()
    monkeypatch.setitem(descents.BLOCKS, "cpu", 11)
    found, seldom = head()
    assert torch.equal(found.network.head, expected.network.head) and found.loss.tolist() == expected.loss.tolist()
    assert len(often) > 5 * len(seldom)
