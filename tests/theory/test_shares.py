"""What unequal shares of a feature's weight are worth, against images that are drawn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whymask.randomness import torch_generator
from whymask.theory.data import MultiView
from whymask.theory.regime import Regime
from whymask.theory.settings import Split
from whymask.theory.shares import companionship, effective_patches

PLACES = {"random": (2, 4), "simplex": (2,), "equal": (2,)}


def powers(split: Split, C_p: int, q: float) -> torch.Tensor:
    """z_p^q of both features of a class in multi-view images, (images, features, patches)."""
    data = MultiView(k=2, C_p=C_p, s=0, mu=0, sigma=0.0, split=split, copied=False)
    batch = data.draw(torch_generator("shares", split, C_p), 100_000, "multi")
    z = batch.patches[0].double() @ data.features.double().mT  # (B, P, n)
    own = batch.labels[0] == 0
    return z[own][..., :2].mT.clamp_min(0) ** q


@pytest.mark.parametrize("q", [3, 4])
@pytest.mark.parametrize(("split", "C_p"), [(split, C_p) for split, several in PLACES.items() for C_p in several])
def test_effective_patches_and_companionship_are_those_of_drawn_images(split: Split, C_p: int, q: float) -> None:
    z = powers(split, C_p, q)
    A = z.sum(2)
    measured = A.square().mean() / z.square().sum(2).mean()
    together = (A[:, 0] * A[:, 1]).mean() / A.square().mean()
    assert float(measured) == pytest.approx(effective_patches(split, C_p, q), abs=0.03)
    assert float(together) == pytest.approx(companionship(split, C_p, q), abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["equal", "random", "simplex"]), st.integers(1, 6), st.floats(2, 6))
def test_unequal_shares_are_worth_between_one_patch_and_all(split: Split, C_p: int, q: float) -> None:
    assert 1 - 1e-9 <= effective_patches(split, C_p, q) <= C_p + 1e-9
    assert 0 < companionship(split, C_p, q) <= 1


def test_published_shares() -> None:
    """A simplex's closed form, and what was derived for the defaults."""
    assert effective_patches("simplex", 3, 3) == pytest.approx(1 + 2 * math.gamma(4) ** 2 / math.gamma(7))
    assert effective_patches("random", 2, 3) == pytest.approx(1.510, abs=1e-3)
    assert Regime().teacher == pytest.approx(1.325, abs=1e-3)
    assert Regime().horizon == pytest.approx(0.5 * 2 / 1.2 / Regime().teacher)
    equal = Regime(MultiView(split="equal"))
    assert equal.threshold == pytest.approx((1 / 0.5 - 1) / 2)
