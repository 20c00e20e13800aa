"""Interactions of an image's parts: dividends, what networks have of them by definition, and what the claim reads."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from whymask.theory import Lab, MultiView, Network, Regime
from whymask.theory.claims import interactions as claim
from whymask.theory.harsanyi import (
    coalitions,
    dividends,
    effects,
    every_coalition,
    log_odds,
    of_log_odds,
    shared,
    similarity,
)

PLAYERS = 4
OWNERS = torch.tensor([0, 0, 1, 1, 2, 3, 3])
SEVERAL = coalitions(PLAYERS).sum(1) > 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    drawn = MultiView(k=3, d=12, sigma=0.1).draw(generator(), 5).to("cpu", torch.float64)
    return replace(drawn, patches=drawn.patches[:, :, : len(OWNERS)])


@pytest.fixture(scope="module")
def networks() -> Network:
    kernels = 0.5 * torch.randn(2, 6, 12, generator=generator(1), dtype=torch.float64)
    return Network(kernels, 5 * torch.randn(2, 3, 6, generator=generator(2), dtype=torch.float64))


def test_dividends_are_their_alternating_sums_and_add_up_to_what_they_are_of():
    values = torch.randn(2, 2**PLAYERS, generator=generator(), dtype=torch.float64)
    found = dividends(values)
    for coalition, row in enumerate(coalitions(PLAYERS)):
        players = [place for place in range(PLAYERS) if row[place]]
        assert coalition == sum(2**place for place in players)
        subsets = [some for size in range(len(players) + 1) for some in combinations(players, size)]
        place = {some: sum(2**one for one in some) for some in subsets}
        plain = sum((-1) ** (len(players) - len(some)) * values[:, place[some]] for some in subsets)
        assert torch.allclose(found[:, coalition], torch.as_tensor(plain))
        assert torch.allclose(sum(found[:, place[some]] for some in subsets), values[:, coalition])


def test_a_logit_and_the_log_odds_of_two_classes_have_no_interaction_but_those_of_three_have(images, networks):
    logits = every_coalition(networks, images, OWNERS)  # (2, 5, 16, 3)
    assert torch.allclose(
        logits[:, :, -1], networks.logits(replace(images, patches=images.patches.expand(2, -1, -1, -1)))
    )
    of_logits = dividends(logits.movedim(3, 2))
    assert of_logits[..., SEVERAL].abs().max() < 1e-12 < of_logits[..., ~SEVERAL].abs().max()
    first = torch.zeros(logits.shape[:3], dtype=torch.int64)
    pair, all_ = (dividends(log_odds(logits[..., :classes], first))[..., SEVERAL] for classes in (2, 3))
    assert pair.abs().max() < 1e-12 and all_.abs().max() > 1e-3


def test_log_odds_are_those_of_softmax(images, networks):
    logits = networks.logits(replace(images, patches=images.patches.expand(2, -1, -1, -1)))
    chances = logits.softmax(2).gather(2, images.labels.expand(2, -1)[..., None])[..., 0]
    assert torch.allclose(log_odds(logits, images.labels.expand(2, -1)), (chances / (1 - chances)).log())


def test_by_the_effects_of_players_interactions_are_those_by_definition(images, networks):
    brought = effects(networks, images, OWNERS)
    assert brought.shape == (2, 5, PLAYERS, 3)
    exact = every_coalition(networks, images, OWNERS)
    labels = images.labels[0]
    expected = dividends(log_odds(exact, labels[None, :, None].expand(exact.shape[:3])))
    assert torch.allclose(of_log_odds(brought, labels), expected, atol=1e-10)


def test_copies_count_in_what_a_player_brings():
    equal = MultiView(k=3, d=12, split="equal", sigma=0.0)
    once, written = (replace(equal, copied=copied).draw(generator(), 4) for copied in (True, False))
    assert once.copies == 2
    net = Network(torch.randn(1, 6, 12, generator=generator()), torch.randn(1, 3, 6, generator=generator()))
    places = torch.arange(once.patches.shape[2])
    assert torch.allclose(effects(net, once, places), effects(net, written, places.repeat_interleave(2)), atol=1e-5)


def test_what_is_shared_has_one_sign():
    one, other = torch.tensor([[1.0, -2.0, 3.0, 0.0]]), torch.tensor([[2.0, -1.0, -1.0, 4.0]])
    assert shared(one, other).tolist() == [[1, 1, 0, 0]]
    assert similarity(one, other).tolist() == pytest.approx([2 / (2 + 2 + 3 + 1 + 4)])
    assert similarity(one, one).tolist() == similarity(0 * one, 0 * one).tolist() == [1]
    assert similarity(one, -one).tolist() == [0]


def small() -> Lab:
    return Lab(Regime(MultiView(k=3, d=12), m=4, N=60, batch=20, test=40, epochs=5), [0, 1])


def test_a_network_that_is_watched_ends_as_the_one_that_is_not(monkeypatch):
    monkeypatch.setattr(claim, "IMAGES", 3)
    lab = small()
    rates = lab.regime.rate("kernel_rate"), lab.regime.rate("head_rate")
    arrays = claim._along(lab, lab.beginning("random"), rates, [0, 1])
    plain = lab.classifier("learned", "random")
    assert np.array_equal(arrays["kernels"], plain.network.kernels.numpy())
    assert np.array_equal(arrays["losses"], plain.losses) and arrays["taken"].tolist() == [5, 5]
    assert arrays["similarity"].shape == arrays["single"].shape == (2, 6)
    assert np.all(arrays["similarity"][:, -1] == 1) and np.all(arrays["similarity"][:, 0] == 0)


def test_a_feature_that_no_kernel_has_brings_nothing():
    lab = small()
    images = replace(lab.data, sigma=0.0, gamma=0.0, copied=False).draw(generator(), 20, "multi")
    head = torch.nn.functional.one_hot(torch.arange(6) // 2).float().T[None]
    whole = Network(lab.features[None].clone(), head)
    lacking = whole.having(kernels=whole.kernels * (torch.arange(6) % 2 == 0)[None, :, None])
    least = [
        claim._least(claim._of_class(effects(net, images, claim.owners(lab)), images.labels[0]), 2)[0]
        for net in (whole, lacking)
    ]
    assert least[0] > 0.3 and least[1] < 1e-6


def test_reached_is_where_a_similarity_stays():
    near = np.array([[0, 0.95, 0.5, 0.92, 1], [0, 0, 0, 0.5, 1], [1, 1, 1, 1, 1]])
    assert claim._reached(near).tolist() == [3, 4, 0]
