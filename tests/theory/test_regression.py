"""Regression in the theory lab: its target, its gradients, skewed images, and what its controls share."""

from dataclasses import replace

import pytest
import torch

from whymask import WhymaskError
from whymask.theory import Lab, MultiView, Network, Regime, data
from whymask.theory.claims import regression as claim
from whymask.theory.regression import Regression, Skewed, Target

CLEAN = MultiView(k=4, d=16, sigma=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(CLEAN.features, 4)


def test_the_target_is_told_by_the_class_and_all_its_features(target):
    images = CLEAN.draw(generator(), 4000, "multi").to("cpu", torch.float64)
    told = target.of(images)
    weights = torch.einsum("sbpd,nd->sbn", images.patches, CLEAN.features)
    for place in range(20):
        y = int(images.labels[0, place])
        own = weights[0, place, 2 * y : 2 * y + 2]
        within = ((own - 1) / 0.4).mean()
        assert 0 <= within <= 1
        assert float(told[0, place]) == pytest.approx(12**0.5 * ((y + float(within)) / 4 - 0.5), abs=1e-6)
    assert abs(float(told.mean())) < 0.1 and float(told.var()) == pytest.approx(1, abs=0.1)
    single = CLEAN.draw(generator(), 10, "single")
    assert torch.allclose(target.of(single), 12**0.5 * (single.labels / 4 - 0.5))


def test_copies_change_no_target(target):
    once, written = (replace(CLEAN, split="equal", copied=of).draw(generator(), 9) for of in (True, False))
    assert once.copies == 2 and torch.allclose(target.of(once), target.of(written), atol=1e-5)


@pytest.mark.parametrize(("weight", "shifted"), [(0.0, False), (0.7, False), (0.7, True)])
def test_gradients_are_those_of_autograd(weight, shifted, target, monkeypatch):
    drawn = replace(CLEAN, sigma=0.1).draw(generator(), 23).to("cpu", torch.float64)
    batch = replace(drawn, **{name: torch.cat([getattr(drawn, name)] * 2) for name in ("patches", "labels", "single")})
    network = Network(
        0.5 * torch.randn(2, 6, 16, generator=generator(1), dtype=torch.float64),
        torch.randn(2, 5, 6, generator=generator(2), dtype=torch.float64),
    )
    loss = Regression(target, weight, shifted)
    monkeypatch.setitem(data.BLOCK_ELEMENTS, "cpu", 7 * 6 * batch.patches.shape[2])  # several parts
    assert len(list(batch.parts(6))) > 4
    value, gradients = loss.gradients(network, batch)
    kernels, head = (tensor.clone().requires_grad_() for tensor in (network.kernels, network.own_head))
    codes = network.sigma(torch.einsum("sbpd,skd->sbpk", batch.patches, kernels)).sum(2)
    outputs = codes @ head.mT
    bins = batch.labels.roll(1, 1) if shifted else batch.labels
    plain = (outputs[..., 0] - target.of(batch)).square().mean(1) / 2
    for seed in range(2):
        plain[seed] = plain[seed] + weight * torch.nn.functional.cross_entropy(outputs[seed, :, 1:], bins[seed])
    assert torch.allclose(value, plain) and torch.allclose(loss.loss(network, batch), plain)
    for name, expected in zip(("kernels", "head"), torch.autograd.grad(plain.sum(), (kernels, head)), strict=True):
        assert torch.allclose(gradients[name], expected)


def test_skewed_images_have_the_first_class_so_many_times_as_often_as_the_last():
    counts = Skewed.of(CLEAN).draw(generator(), 20_000).labels[0].bincount().double()
    assert float(counts[0] / counts[3]) == pytest.approx(20, rel=0.15)
    assert float(counts[1] / counts[2]) == pytest.approx(20 ** (1 / 3), rel=0.1)
    even = replace(Skewed.of(CLEAN), skew=1.0).draw(generator(), 20_000).labels[0].bincount() / 20_000
    assert torch.allclose(even, torch.full((4,), 0.25), atol=0.02)
    with pytest.raises(WhymaskError, match="skew=0"):
        Skewed(skew=0)


@pytest.fixture
def lab() -> Lab:
    return Lab(Regime(MultiView(k=3, d=12), m=4, N=60, batch=20, test=40), [0, 1])


def test_squared_error_alone_leaves_the_bins_untrained(lab, monkeypatch):
    monkeypatch.setattr(claim, "EPOCHS", 3)
    target = Target(lab.features, 3)
    alone, both = (claim._fitted(lab, f"{weight}", Regression(target, weight))["head"] for weight in (0.0, 1.0))
    assert alone.shape == both.shape == (2, 4, 12)
    assert (alone[:, 1:] == 0).all() and (alone[:, 0] != 0).any() and (both[:, 1:] != 0).any()


def test_the_control_of_norms_begins_with_the_others_norms(lab, monkeypatch):
    monkeypatch.setattr(claim, "EPOCHS", 1)
    monkeypatch.setattr(claim, "RATE", 0.0)
    norms = {seed: torch.linspace(1, 2, 12) + seed for seed in (0, 1)}
    kernels = torch.from_numpy(claim._fitted(lab, "resized", Regression(Target(lab.features, 3)), norms)["kernels"])
    assert torch.allclose(kernels.norm(dim=2), torch.stack([norms[0], norms[1]]))
    drawn = lab.start().kernels
    assert torch.allclose(torch.cosine_similarity(kernels, drawn, dim=2), torch.ones(2, 12))
