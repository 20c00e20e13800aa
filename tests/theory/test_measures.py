"""Every measure against plain loops over seeds, kernels, images and patches."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from whymask.theory.data import MultiView, Sample, Samples
from whymask.theory.descent import OwnClock, horizon_of
from whymask.theory.measures import (
    accuracy,
    captured,
    captured_at_any_scale,
    class_winners,
    decodability,
    favourites,
    feature_power,
    kappa,
    largest_cosine,
    largest_overlap,
    overlaps,
    own_overlap,
    predicted_to_grow,
    purification,
    ratio_at,
    second_to_first,
)
from whymask.theory.network import Network, SmoothedReLU
from whymask.theory.objectives import TeacherStudent
from whymask.theory.settings import Split
from whymask.theory.shares import companionship, effective_patches

S, K, CLASSES, L, D = 3, 6, 3, 2, 8
DATA = MultiView(k=CLASSES, L=L, d=D, C_p=2, sigma=0.0, split="equal", mu=0.3)
keys = st.integers(0, 2**31)


def random_network(key: int, scale: float = 1.0) -> Network:
    generator = torch.Generator().manual_seed(key)
    kernels, head = (torch.randn(shape, generator=generator).double() for shape in ((S, K, D), (S, CLASSES, K)))
    return Network(scale * kernels, head=head, sigma=SmoothedReLU(3, 0.5))


def random_batch(key: int, images: int = 5, data: MultiView = DATA) -> Sample:
    return Samples(data, [key, key + 1, key + 2], images, images, dtype=torch.float64)[0]


def dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def overlap(network: Network, seed: int, r: int) -> list[float]:
    """<w_r, v_j> for each feature."""
    return [dot(network.kernels[seed, r], feature) for feature in DATA.features]


def sigma(z: float, q: float = 3, rho: float = 0.5) -> float:
    if z <= 0:
        return 0.0
    return z**q / (q * rho ** (q - 1)) if z <= rho else z - (1 - 1 / q) * rho


def purity(overlaps: list[float]) -> float:
    """Second over first; 1 if there is no positive first."""
    second, first = sorted(overlaps)[-2:]
    return max(second, 0) / first if first > 0 else 1.0


@settings(max_examples=10, deadline=None)
@given(keys)
def test_overlaps_of_each_kernel(key: int):
    network = random_network(key)
    network.kernels[0, 0] = -DATA.features.sum(0)  # a kernel that correlates with nothing
    largest, ratio, first = (f(network, DATA.features) for f in (largest_overlap, second_to_first, favourites))
    for seed in range(S):
        each = [overlap(network, seed, r) for r in range(K)]
        for j in range(CLASSES * L):
            assert float(largest[seed, j]) == pytest.approx(max(0.0, *(now[j] for now in each)))
        for r in range(K):
            assert float(ratio[seed, r]) == pytest.approx(purity(each[r]))
            assert int(first[seed, r]) == each[r].index(max(each[r]))
    assert ratio[0, 0] == 1


@settings(max_examples=10, deadline=None)
@given(keys)
def test_favourites_among_some_features(key: int):
    network = random_network(key)
    among = torch.tensor([False, True, False, True, True, False])
    for seed in range(S):
        for r in range(K):
            now = overlap(network, seed, r)
            best = max((j for j in range(CLASSES * L) if among[j]), key=lambda j: now[j])
            assert int(favourites(network, DATA.features, among)[seed, r]) == best


@settings(max_examples=15, deadline=None)
@given(keys, st.floats(0.3, 1.2))
def test_captured_features_have_a_pure_kernel_at_half_the_horizon(key: int, horizon: float):
    network = random_network(key, scale=0.2)
    generator = torch.Generator().manual_seed(key)
    ends_on = torch.randint(CLASSES * L, (S, K), generator=generator)
    strength = torch.rand(S, K, 1, generator=generator).double()
    network = Network(network.kernels + strength * DATA.features[ends_on])
    found = captured(network, DATA.features, horizon)
    for seed in range(S):
        each = [overlap(network, seed, r) for r in range(K)]
        for j in range(CLASSES * L):
            pure = [now for now in each if max(now) == now[j] and purity(now) <= 0.3]
            assert bool(found[seed, j]) == any(now[j] >= horizon / 2 for now in pure)


@pytest.mark.parametrize(("second", "expected"), [(0.0, [0]), (0.29, [0]), (0.31, [])])
@pytest.mark.parametrize("first", [0.5, 1.0, 4.0])
def test_a_kernel_captures_at_most_the_one_feature_it_is_pure_in(first: float, second: float, expected: list[int]):
    """However far it has grown: one blended kernel does not count as many."""
    kernel = first * (DATA.features[0] + second * DATA.features[1])
    found = captured(Network(1.0001 * kernel[None, None]), DATA.features, horizon=1.0)
    assert found[0].nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("q", [2, 3, 4.5])
def test_feature_power_is_the_mean_over_images_of_the_class(copied: bool, q: float):
    data = MultiView(k=CLASSES, L=L, d=D, C_p=3, sigma=0.0, split="equal", mu=0.3, copied=copied)
    batch = random_batch(0, 20, data)
    power = feature_power(batch, data.features, L, q)
    for seed in range(S):
        for j in range(CLASSES * L):
            total = 0.0
            for patches, label in zip(batch.patches[seed], batch.labels[seed], strict=True):
                z = [max(dot(patch, data.features[j]), 0) for patch in patches]
                total += (int(label) == j // L) * batch.copies * sum(share**q for share in z)
            assert float(power[seed, j]) == pytest.approx(total / 20, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(keys, st.sampled_from([2.5, 3, 4]))
def test_class_winners_are_the_largest_weighted_overlap_of_a_classs_own_kernels(key: int, q: float):
    network = random_network(key)
    power = 0.1 + torch.rand(S, CLASSES * L, generator=torch.Generator().manual_seed(key))
    overlaps = own_overlap(network, DATA.features, L)
    winners, margin = class_winners(network, DATA.features, power, L, q)
    m = K // CLASSES
    for seed in range(S):
        for i in range(CLASSES):
            own = [overlap(network, seed, r) for r in range(i * m, (i + 1) * m)]
            expected = [max(0.0, *(now[i * L + place] for now in own)) for place in range(L)]
            assert overlaps[seed, i].tolist() == pytest.approx(expected)
            score = [expected[place] * float(power[seed, i * L + place]) ** (1 / (q - 2)) for place in range(L)]
            second, first = sorted(score)
            assert int(winners[seed, i]) == score.index(first)
            if second > 0:
                assert float(margin[seed, i]) == pytest.approx(first / second - 1, abs=1e-5)


def test_class_winners_at_q_2_are_the_features_of_most_power():
    """Where the exponent 1/(q-2) is infinite; outside the theorems, but allowed."""
    power = torch.tensor([[0.02, 0.01, 0.01, 0.02, 0.03, 0.04]] * S)
    network = Network(DATA.features.sum(0).expand(S, K, D).clone())  # all overlaps are 1
    winners, margin = class_winners(network, DATA.features, power, L, 2)
    assert winners.tolist() == [[0, 1, 1]] * S
    assert (margin >= 0).all()


def test_class_winners_of_classes_with_one_feature_are_this_feature():
    data = MultiView(k=CLASSES, L=1, d=D)
    winners, _ = class_winners(random_network(0), data.features, torch.ones(S, CLASSES), 1, 3)
    assert winners.tolist() == [[0] * CLASSES] * S


@settings(max_examples=10, deadline=None)
@given(keys)
def test_accuracy_is_the_share_of_images_whose_largest_output_is_right(key: int):
    network, batch = random_network(key), random_batch(key % 1000)
    assert network.head is not None
    for seed in range(S):
        hits = 0
        for patches, label in zip(batch.patches[seed], batch.labels[seed], strict=True):
            codes = [batch.copies * sum(sigma(dot(w, x)) for x in patches) for w in network.kernels[seed]]
            outputs = [dot(row, torch.tensor(codes)) for row in network.head[seed]]
            hits += outputs.index(max(outputs)) == int(label)
        assert float(accuracy(network, batch)[seed]) == pytest.approx(hits / len(batch))


def slow_kappa(network: Network, batch: Sample, seed: int, r: int) -> float:
    """The definition of claim 7: z is a feature's weight on each of its patches, A the sum of its powers."""
    now, q = overlap(network, seed, r), network.sigma.q
    v = now.index(max(now))
    weighted = weights = 0.0
    for patches in batch.patches[seed]:
        A = [sum(max(dot(patch, feature), 0) ** q for patch in patches) for feature in DATA.features]
        weighted += A[v] * sum((max(now[j], 0) / now[v]) ** q * A[j] for j in range(len(now)) if j != v)
        weights += A[v] ** 2
    return weighted / weights if weights > 1e-12 else 0.0


@settings(max_examples=10, deadline=None)
@example(66051)  # a kernel whose winner is in no image
@given(keys)
def test_kappa_and_the_prediction_follow_their_definition(key: int):
    network, batch = random_network(key, 0.05), random_batch(key % 1000)
    theta = torch.linspace(0.2, 0.8, K, dtype=torch.float64)
    tau = 1.2
    helped = kappa(network, batch, DATA.features)
    grows = predicted_to_grow(network, batch, DATA.features, theta, tau)
    for seed in range(S):
        for r in range(K):
            expected = slow_kappa(network, batch, seed, r)
            assert float(helped[seed, r]) == pytest.approx(expected, rel=1e-5, abs=1e-9)
            needed = (1 / float(theta[r]) - 1) / (DATA.C_p * (1 + expected))
            now = overlap(network, seed, r)
            winner = DATA.features[now.index(max(now))]
            shown = any(dot(patch, winner) > 1e-6 for patches in batch.patches[seed] for patch in patches)
            predicted = tau**3 - 1 > needed and max(now) > 0 and shown
            assert math.isclose(tau**3 - 1, needed, rel_tol=1e-4) or bool(grows[seed, r]) == predicted


def test_kernels_grow_at_first_exactly_where_it_is_predicted():
    """The sign of the gradient along the winner, for kernels small enough that nothing is linear yet."""
    network, batch = random_network(2, 0.05), random_batch(0, 200)
    alive = largest_of_each_kernel(network) > 0
    winner = favourites(network, DATA.features)
    shares = []
    for tau in (1.02, 1.1, 1.13, 1.14, 1.2):
        gradient = TeacherStudent(0.5, tau).gradients(network, batch)[1]["kernels"]
        grows = -(gradient * DATA.features[winner]).sum(2) > 0
        predicted = predicted_to_grow(network, batch, DATA.features, 0.5, tau)
        assert torch.equal(grows[alive], predicted[alive])
        shares.append(float(grows[alive].double().mean()))
    assert shares[0] < 0.2 and 0.2 < shares[2] < 0.8 and shares[-1] == 1


def test_kappa_is_the_same_in_single_and_double_precision_at_q_4():
    network = replace(random_network(1, 0.03), sigma=SmoothedReLU(4, 0.5))
    data = MultiView(k=CLASSES, L=L, d=D, C_p=1, sigma=0.0, split="equal", mu=0.3)
    batch = random_batch(0, 100, data)
    single = kappa(network.to("cpu", torch.float32), batch.to("cpu", torch.float32), data.features)
    torch.testing.assert_close(single.double(), kappa(network, batch, data.features), rtol=1e-3, atol=1e-4)
    assert single.isfinite().all()


def largest_of_each_kernel(network: Network) -> Tensor:
    return torch.tensor([[max(overlap(network, seed, r)) for r in range(K)] for seed in range(S)])


def test_a_kernel_whose_winner_no_image_shows_is_not_predicted_to_grow():
    """Also where its weights are of rounding size."""
    absent = DATA.features[-1].double()
    patches = (DATA.features[:2].double() + 1e-9 * absent).expand(1, 1, 2, D)
    batch = Sample(patches, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.bool))
    assert not predicted_to_grow(Network(absent.expand(1, 1, D)), batch, DATA.features, 0.5, 3.0).any()


def test_a_kernel_that_correlates_with_no_feature_is_not_predicted_to_grow():
    network = Network(-DATA.features.sum(0).expand(S, 1, -1).clone())
    assert not predicted_to_grow(network, random_batch(0), DATA.features, 0.5, 2.0).any()


@pytest.mark.parametrize(("factor", "grows"), [(0.95, False), (1.05, True)])
def test_pure_kernels_rise_above_the_threshold_and_shrink_below(factor: float, grows: bool):
    network = Network(0.05 * DATA.features.expand(S, -1, -1).clone())
    samples = Samples(DATA, range(S), 200, 200, dtype=torch.float64)
    tau = (1 + factor * (1 / 0.5 - 1) / DATA.C_p) ** (1 / 3)
    predicted = predicted_to_grow(network, samples[0], DATA.features, 0.5, tau)
    path = OwnClock(horizon_of(0.5, 2, 1)).run(network, TeacherStudent(0.5, tau), samples, DATA.features)
    assert predicted.tolist() == path.rose.tolist() == [[grows] * CLASSES * L] * S


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 1), st.floats(1.1, 6), st.sampled_from([2.0, 3.0, 4.0]))
def test_purification_is_what_the_gradient_does_to_the_sibling(ratio: float, factor: float, q: float):
    theta, w, z, C_p, rho = 0.4, 0.3, 0.5, 2, 0.5
    features = torch.eye(2, 3, dtype=torch.float64)
    batch = Sample((z * features)[None, None], torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1).bool(), C_p)
    network = Network(
        (w * torch.tensor([1.0, ratio, 0.0], dtype=torch.float64))[None, None], sigma=SmoothedReLU(q, rho)
    )
    penalty = 1 / theta - 1
    tau = (1 + factor * penalty / C_p) ** (1 / q)
    pull = -TeacherStudent(theta, tau).gradients(network, batch)[1]["kernels"][0, 0]
    speed = float(pull[1] / (w * ratio) - pull[0] / w)
    unit = C_p * penalty * w ** (2 * q - 2) * z ** (2 * q) / (q * rho ** (2 * q - 2))
    assert tau * w * z <= rho
    assert speed / unit == pytest.approx(purification(ratio, factor, q, 1), abs=1e-9)


@pytest.mark.parametrize("q", [3, 4, 6])
@pytest.mark.parametrize("c", [1, 0.9256])
def test_siblings_are_lost_above_the_limit_of_purification(q: float, c: float):
    critical = (q - 1) / (q - 1 - c)
    assert purification(0.99, critical + 0.1, q, c) < 0 < purification(0.99, critical - 0.1, q, c)


def test_at_q_2_features_that_always_come_together_are_never_told_apart():
    assert all(purification(0.99, factor, 2, 1) > 0 for factor in (1.5, 3, 100))


@pytest.mark.parametrize(("split", "factor"), [("equal", 3.0), ("random", 2.0)])
def test_the_path_of_two_kernels_equation_is_that_of_descent(split: Split, factor: float):
    """Of kernels between a winner and its sibling, from noise-free images of a class alone."""
    data = MultiView(k=2, C_p=2, d=8, s=0, mu=0, sigma=0.0, split=split)
    sigma, ratios = SmoothedReLU(3, 0.5), torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    C_eff, c = effective_patches(split, 2, 3), companionship(split, 2, 3)
    tau = (1 + factor / C_eff) ** (1 / 3)
    horizon = horizon_of(0.5, 2, tau)
    first, second = data.features[0], data.features[1]
    network = Network(0.05 * (first + ratios[:, None] * second)[None], sigma=sigma)
    samples = Samples(data, [0], 4000, 4000, dtype=torch.float64)
    path = OwnClock(horizon, 0.01, 2000, shrunk=0.2).run(network, TeacherStudent(0.5, tau), samples, data.features)
    assert path.grown.all()
    now = overlaps(path.network, data.features)[0].numpy()
    told = ratio_at(horizon, np.full(3, 0.05), ratios.numpy(), factor, 3, c)
    np.testing.assert_allclose(now[:, 1] / now[:, 0], told, atol=0.02)


def test_measures_without_scale_are_the_same_for_kernels_of_any_length():
    features = torch.eye(4, 6, dtype=torch.float64)
    pure = torch.tensor([[1.0, 0.1, 0, 0, 5, 0], [0.6, 0.9, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0.01, 0, 0, 0]])
    for scale in (1e-3, 1.0, 50.0):
        network = Network(scale * pure[None].double())
        assert captured_at_any_scale(network, features).tolist() == [[True, False, False, True]]  # the third is short
        expected = [1 / 1.01**0.5, 0.9 / 1.17**0.5, 1, 1]
        torch.testing.assert_close(largest_cosine(network, features)[0], torch.tensor(expected, dtype=torch.float64))


def test_decodability_is_one_where_codes_hold_the_weight_and_not_above_0_where_they_hold_nothing():
    data = MultiView(k=6, d=12, sigma=0.0, split="equal", copied=False)
    batch = data.draw(torch.Generator().manual_seed(0), 400).to("cpu", torch.float64)
    features = data.features
    linear = Network(100 * features[None, :2], sigma=SmoothedReLU(3, 0.01))  # nearly linear
    found = decodability(linear, batch, features)[0]
    assert (found[:2] > 0.98).all() and (found[2:] < 0.5).all()
    silent = Network(torch.zeros(1, 2, 12, dtype=torch.float64))
    assert (decodability(silent, batch, features) <= 1e-12).all()
