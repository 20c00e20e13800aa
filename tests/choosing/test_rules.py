"""The rules of choosing are those of their papers, written a second time plainly, and keep what each promises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from whymask.choosing import clusters, distances, rules
from whymask.choosing.clusters import clusters_of
from whymask.choosing.distances import mean_to_nearest, to_nearest_other, unit
from whymask.choosing.rules import NEIGHBOURS, PURE, RULES, Images, covering, radius_of, spread, typical
from whymask.choosing.uncertain import uncertain
from whymask.randomness import numpy_generator

BLOBS = np.repeat(np.arange(4), (60, 40, 30, 3))
"""Of which group each of 133 images is; the last one is smaller than TypiClust takes first."""


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.normal(0, 3, (4, 8))
    return unit(centres[BLOBS] + random.normal(0, 0.5, (len(BLOBS), 8)))


@pytest.fixture
def images(features: np.ndarray) -> Images:
    known = np.zeros(len(features), bool)
    known[[3, 70]] = True
    return Images(features, known, ~known, classes=4)


@pytest.fixture
def cloud() -> Images:
    """Images without clear groups, five of them labelled."""
    features = unit(np.random.default_rng(0).normal(0, 1, (150, 4)))
    known = np.arange(150) % 30 == 0
    return Images(features, known, ~known, classes=9)


def all_distances(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return np.sqrt(np.square(wide[:, None] - wide[None]).sum(axis=2))


@pytest.mark.parametrize("rule", [*RULES, "uncertain"])
def test_every_rule_gives_the_same_again_none_twice_and_none_that_is_labelled(rule: str, images: Images) -> None:
    def chosen(count: int, seed: int = 0) -> list[int]:
        if rule == "uncertain":
            answers = np.random.default_rng(1).dirichlet(np.ones(3), len(images.known))
            return [row for row, _ in uncertain(images.features, answers, images.free, count, seed)]
        return [choice.row for choice in RULES[rule](images, count, seed)]

    everything = int(images.free.sum())
    for count in (1, 7, everything):
        rows = chosen(count)
        assert rows == chosen(count) and len(set(rows)) == len(rows) == count
        assert images.free[rows].all()
    assert set(chosen(everything)) == {*np.flatnonzero(images.free)}


def test_what_is_computed_in_blocks_is_what_the_whole_matrix_says(
    features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "BLOCK_BYTES", 4 * len(features) * 7)  # 7 rows at a time
    largest: list[int] = []
    plain = distances.distances
    monkeypatch.setattr(distances, "distances", lambda a, b: largest.append(len(a) * len(b)) or plain(a, b))
    whole = all_distances(features)
    np.fill_diagonal(whole, np.inf)
    near = np.sort(whole, axis=1)[:, :NEIGHBOURS].mean(axis=1)
    assert np.allclose(mean_to_nearest(features, NEIGHBOURS), near, atol=2e-3)
    other = np.where(BLOBS[:, None] == BLOBS, np.inf, whole).min(axis=1)
    assert np.allclose(to_nearest_other(features, BLOBS), other, atol=2e-3)
    assert max(largest) == 7 * len(features)
    assert mean_to_nearest(features[:1], NEIGHBOURS).tolist() == [0]


def test_typical_is_typiclusts_formula(features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The densest image of the largest cluster without a label, then of the next; small clusters come last."""
    monkeypatch.setattr(rules, "clusters_of", lambda features, count, seed: BLOBS)
    known = np.zeros(len(features), bool)
    known[0] = True  # the largest cluster has a label already
    found = [choice.row for choice in typical(Images(features, known, ~known), 3, 0)]
    whole = all_distances(features)
    expected = []
    for blob in (1, 2):
        rows = np.flatnonzero(blob == BLOBS)
        near = np.sort(whole[np.ix_(rows, rows)], axis=1)[:, 1 : NEIGHBOURS + 1].mean(axis=1)
        expected.append(rows[(1 / near).argmax()])
    assert found[:2] == expected
    assert BLOBS[found[2]] == 0  # all others have one label each; of these the largest


def test_of_near_copies_typical_takes_one() -> None:
    random = np.random.default_rng(0)
    once = random.normal(0, 1, (60, 6))
    pairs = unit(np.repeat(once, 2, axis=0) + random.normal(0, 1e-3, (120, 6)))
    known = np.zeros(120, bool)
    for count in (5, 20, 40):
        rows = [choice.row // 2 for choice in typical(Images(pairs, known, ~known), count, 0)]
        assert len(set(rows)) == count


def test_a_cluster_whose_turn_comes_again_gives_no_neighbour_of_what_it_gave(
    features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "clusters_of", lambda features, count, seed: np.zeros(len(features), int))
    known = np.zeros(len(features), bool)
    first, second = (choice.row for choice in typical(Images(features, known, ~known), 2, 0))
    assert second not in np.argsort(all_distances(features)[first])[: NEIGHBOURS + 1]


def test_covering_is_probcovers_greedy_on_the_whole_graph(cloud: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK_BYTES", 4 * len(cloud.known) * 5)
    whole, radius = all_distances(cloud.features), radius_of(cloud.features, clusters_of(cloud.features, 9, 0))
    edges = whole < radius
    edges[:, edges[cloud.known].any(axis=0)] = False  # what labels cover has no edge to it any more
    expected, gains = [], []
    free = cloud.free.copy()
    while (best := int(np.where(free, edges.sum(axis=1), -1).argmax())) >= 0 and edges[best].any():
        expected.append(best)
        gains.append(int(edges[best].sum()))
        free[best] = False
        edges[:, edges[best].copy()] = False
    found = covering(cloud, len(expected) + 2, 0)
    assert [choice.row for choice in found[: len(expected)]] == expected and len(expected) > 3
    assert [choice.why.split()[1] for choice in found[: len(expected)]] == list(map(str, gains))
    known = cloud.known.copy()
    known[expected] = True
    assert [c.row for c in found[len(expected) :]] == [c.row for c in spread(Images(cloud.features, known, free), 2, 0)]


def test_the_radius_is_the_largest_at_which_balls_are_pure(features: np.ndarray) -> None:
    groups = clusters_of(features, 9, 0)
    whole, radius = all_distances(features), radius_of(features, groups)

    def purity(size: float) -> float:
        return float(np.mean([(groups[row < size] == groups[at]).all() for at, row in enumerate(whole)]))

    assert purity(radius - 1e-3) >= PURE > purity(radius + 1e-3)


def test_spread_is_farthest_first(images: Images) -> None:
    whole, centres, expected = all_distances(images.features), [3, 70], list[int]()
    for _ in range(10):
        expected.append(int(whole[centres].min(axis=0).argmax()))
        centres.append(expected[-1])
    assert [choice.row for choice in spread(images, 10, 0)] == expected
    none = np.zeros(len(whole), bool)
    middle = np.square(images.features - images.features.mean(axis=0)).sum(axis=1).argmin()
    assert spread(Images(images.features, none, ~none), 1, 0)[0].row == middle


def test_uncertain_is_badge_on_the_whole_gradients() -> None:
    random = np.random.default_rng(0)
    features, answers = random.normal(0, 1, (50, 5)), random.dirichlet(np.ones(3), 50)
    free = np.arange(50) >= 10
    rows = np.flatnonzero(free)
    residuals = answers - np.eye(3)[answers.argmax(axis=1)]
    gradients = (residuals[:, :, None] * features[:, None, :]).reshape(50, -1)[rows]
    generator, expected = numpy_generator(0, "choose", "uncertain"), [int(np.square(gradients).sum(axis=1).argmax())]
    while len(expected) < 12:
        weights = np.square(gradients[:, None] - gradients[expected]).sum(axis=2).min(axis=1)
        expected.append(int(np.searchsorted(np.cumsum(weights), generator.random() * weights.sum(), side="right")))
    found = uncertain(features, answers, free, 12, 0)
    assert [row for row, _ in found] == rows[expected].tolist()
    assert [sure for _, sure in found] == pytest.approx(answers[rows[expected]].max(axis=1))


def test_uncertain_goes_on_where_no_image_has_anything_to_add() -> None:
    found = uncertain(np.ones((6, 2)), np.full((6, 2), 0.5), np.ones(6, bool), 6, 0)
    assert sorted(row for row, _ in found) == list(range(6))


def test_coverage_is_above_that_of_images_at_random(cloud: Images) -> None:
    near = all_distances(cloud.features) < radius_of(cloud.features, clusters_of(cloud.features, 9, 0))

    def covered(rule: Callable[..., Any], seed: int) -> float:
        rows = [*np.flatnonzero(cloud.known), *(choice.row for choice in rule(cloud, 8, seed))]
        return float(near[rows].any(axis=0).mean())

    assert covered(covering, 0) > max(covered(RULES["blind"], seed) for seed in range(10))


def test_clusters_are_the_same_again_by_either_algorithm(features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (10**7, 1):
        monkeypatch.setattr(clusters, "MOST_AT_ONCE", most)
        found = clusters_of(features, 4, 0)
        assert (found == clusters_of(features, 4, 0)).all() and found.max() < 4
    assert len(set(clusters_of(np.ones((5, 2), np.float32), 3, 0))) == 1  # fewer points than clusters


def test_what_all_features_have_in_common_does_not_count() -> None:
    features = np.random.default_rng(0).normal(0, 1, (20, 4))
    assert np.allclose(unit(features), unit(features + 100), atol=1e-4)
    assert np.allclose(np.linalg.norm(unit(features), axis=1), 1, atol=1e-6)
    assert (unit(np.ones((3, 2))) == 0).all()
