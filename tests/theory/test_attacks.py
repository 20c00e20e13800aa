"""Attacks in the theory lab: their gradients, their balls, what they find, and the bound that holds them."""

from dataclasses import replace

import pytest
import torch

from whymask.theory import MultiView, Network, SmoothedReLU
from whymask.theory.attacks import Ball, attacked, loss, movement
from whymask.theory.data import Sample

BALLS = [Ball("L2", 0.4), Ball("Linf", 0.05)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch() -> Sample:
    drawn = MultiView(k=3, d=12, sigma=0.1).draw(generator(), 7).to("cpu", torch.float64)
    return replace(drawn, **{name: torch.cat([getattr(drawn, name)] * 2) for name in ("patches", "labels", "single")})


@pytest.fixture(scope="module")
def network() -> Network:
    kernels = 0.4 * torch.randn(2, 6, 12, generator=generator(1), dtype=torch.float64)
    return Network(kernels, torch.randn(2, 3, 6, generator=generator(2), dtype=torch.float64))


@pytest.mark.parametrize("goal", [loss, movement])
def test_gradients_are_those_of_autograd(goal, network, batch):
    away = replace(batch, patches=batch.patches + 0.1)
    leaf = away.patches.clone().requires_grad_()
    codes = network.sigma(torch.einsum("sbpd,skd->sbpk", leaf, network.kernels)).sum(2)
    if goal is loss:
        value = torch.nn.functional.cross_entropy((codes @ network.own_head.mT).flatten(0, 1), batch.labels.flatten())
        value = value * batch.labels.numel()
    else:
        value = (codes - network.codes(batch)).square().sum() / 2
    (expected,) = torch.autograd.grad(value, leaf)
    values, gradient = goal(network, away, batch)
    assert values.shape == batch.labels.shape and torch.allclose(values.sum(), value)
    assert torch.allclose(gradient, expected)


@pytest.mark.parametrize("ball", BALLS)
def test_changes_stay_in_the_ball_and_are_the_worst_seen(ball, network, batch):
    size = 2 if ball.norm == "L2" else torch.inf
    worst = attacked(network, batch, ball, loss, generator())
    change = (worst.patches - batch.patches).flatten(2).norm(size, dim=2)
    assert change.amax() <= ball.radius * (1 + 1e-9) and change.amax() > 0.9 * ball.radius
    by_chance = replace(batch, patches=batch.patches + ball.drawn(batch.patches, generator()))
    assert (loss(network, worst, batch)[0] >= loss(network, by_chance, batch)[0]).all()
    assert (loss(network, worst, batch)[0] > loss(network, batch, batch)[0]).all()


def test_where_codes_are_linear_an_attack_finds_the_largest_movement(batch):
    away = replace(batch, patches=batch.patches.abs() + 1)  # every kernel far beyond its bend
    kernels = torch.rand(2, 6, 12, generator=generator(3), dtype=torch.float64)
    linear = Network(kernels, sigma=SmoothedReLU(3, 1e-3))
    moved = movement(linear, attacked(linear, away, BALLS[0], movement, generator()), away)[0]
    patches = batch.patches.shape[2]
    largest = BALLS[0].radius * patches**0.5 * torch.linalg.matrix_norm(kernels, 2)  # all patches the same way
    found = (2 * moved).sqrt() / largest[:, None]
    assert found.amax() <= 1 + 1e-9 and found.amin() > 0.95


@pytest.mark.parametrize("size", [0.01, 0.3, 3.0])
def test_the_loss_of_a_head_grows_by_no_more_than_its_codes_move(size, network, batch):
    change = size * torch.randn(batch.patches.shape, generator=generator(4), dtype=torch.float64)
    away, head = replace(batch, patches=batch.patches + change), network.own_head
    grew = loss(network, away, batch)[0] - loss(network, batch, batch)[0]
    moved = (2 * movement(network, away, batch)[0]).sqrt()
    apart = torch.cdist(head, head)  # ||u_j - u_y||
    bound = torch.stack([apart[seed][batch.labels[seed]].amax(1) for seed in range(2)]) * moved
    assert (grew <= bound + 1e-12).all() and (grew.abs() <= bound + 1e-12).all()
    assert (grew > bound / 100).any()
