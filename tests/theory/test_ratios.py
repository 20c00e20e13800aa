"""Ratios of masks: the closed form of ridgeless risk, and what of a drawn ratio counts."""

from dataclasses import replace

import pytest
import torch

from whymask.theory import MultiView, Network, TeacherStudent
from whymask.theory.claims.ratios import Mixed, equal_share
from whymask.theory.ridgeless import LinearTask
from whymask.theory.sampled import every_mask, teacher_student

THETAS = (0.25, 0.75)
HARMONIC = 0.375


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("thetas", [(0.3, 0.3), THETAS])
def test_masked_inputs_have_the_covariance_that_knows_the_mean_of_1_over_theta(thetas):
    task, n = LinearTask.drawn(4, 2, 0.5, generator()), 400_000
    theta = torch.tensor(thetas, dtype=torch.float64).repeat(n // 2)[:, None]
    z = torch.randn(n, 2, generator=generator(1), dtype=torch.float64)
    x = z @ task.seen.T + 0.5**0.5 * torch.randn(n, 4, generator=generator(2), dtype=torch.float64)
    masked = x * (torch.rand(n, 4, generator=generator(3), dtype=torch.float64) < theta) / theta
    expected = task.masked(float((1 / theta).mean()))
    assert torch.allclose(masked.T @ masked / n, expected, rtol=0.02, atol=0.02)
    assert torch.allclose(masked.T @ (z @ task.told) / n, task.seen @ task.told, atol=0.02)


@pytest.mark.parametrize("p", [30, 250])
def test_without_masks_and_isotropic_the_risk_is_the_ridgeless_one(p):
    n, noise = 100, 0.5
    task = LinearTask(torch.eye(p, dtype=torch.float64), torch.full((p,), p**-0.5, dtype=torch.float64), noise)
    length, left = 1 / (1 + noise) ** 2, 1 - 1 / (1 + noise)  # ||w*||^2, and the variance that w* leaves
    ratio = p / n
    excess = left * ratio / (1 - ratio)
    if ratio > 1:
        excess = (1 + noise) * length * (1 - 1 / ratio) + left / (ratio - 1)
    assert task.predicted(n, 1.0) == pytest.approx(left + excess)


@pytest.mark.parametrize(("p", "latents", "kept"), [(60, 40, 0.3), (300, 40, 0.5)])
def test_the_closed_form_is_what_fits_have(p, latents, kept):
    task, n = LinearTask.drawn(p, latents, 1.0, generator()), 150
    thetas = torch.full((n,), kept, dtype=torch.float64)
    risks = [task.risk(task.fitted(thetas, generator(seed))) for seed in range(30)]
    assert sum(risks) / 30 == pytest.approx(task.predicted(n, 1 / kept), rel=0.05)


def test_the_fixed_share_has_the_mean_of_1_over_the_drawn_one():
    uniform = torch.linspace(0.1, 0.4, 100_001, dtype=torch.float64)
    assert 1 / equal_share() == pytest.approx(float((1 / uniform).mean()), rel=1e-4)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(0.4 * torch.randn(2, 6, 12, generator=generator(1), dtype=torch.float64))


def images(count: int):
    drawn = MultiView(k=3, d=12, sigma=0.1).draw(generator(), count).to("cpu", torch.float64)
    named = {name: torch.cat([getattr(drawn, name)] * 2) for name in ("patches", "labels", "single")}
    return replace(drawn, **named | {"patches": named["patches"][:, :, :5]})


def test_over_all_masks_a_drawn_theta_is_the_fixed_one_of_equal_mean_inverse(network):
    batch = images(4)
    taken = [teacher_student(network, batch, theta, 1.3, every_mask(batch, theta)) for theta in THETAS]
    loss, gradients = TeacherStudent(HARMONIC, 1.3).gradients(network, batch)
    assert torch.allclose((taken[0][0] + taken[1][0]) / 2, loss)
    mean = (taken[0][1]["kernels"] + taken[1][1]["kernels"]) / 2
    assert torch.allclose(mean, gradients["kernels"])
    assert not torch.allclose(mean, TeacherStudent(0.5, 1.3).gradients(network, batch)[1]["kernels"], rtol=0.01)


def test_images_of_drawn_ratios_have_it_on_average(network):
    batch = images(8)
    mixed, steps = Mixed(THETAS, 1.3, [0, 1]), 60
    mean = torch.stack([mixed.gradients(network, batch)[1]["kernels"] for _ in range(steps)]).mean(0)
    expected = TeacherStudent(HARMONIC, 1.3).gradients(network, batch)[1]["kernels"]
    other = TeacherStudent(0.5, 1.3).gradients(network, batch)[1]["kernels"]
    assert (mean - expected).norm() < 0.3 * (other - expected).norm()
    one = Mixed(THETAS, 1.3, [1]).gradients(network.of(slice(1, 2)), batch.part(slice(1, 2), slice(None)))[1]["kernels"]
    assert torch.allclose(one[0], Mixed(THETAS, 1.3, [0, 1]).gradients(network, batch)[1]["kernels"][1])
