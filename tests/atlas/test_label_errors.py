"""Labels that were changed are found where features tell classes apart, and not where they do not."""

import numpy as np
import pytest

from whymask.atlas.label_errors import (
    FIRST,
    can_be_told,
    changed_labels,
    doubts_of,
    linear_shares,
    neighbour_shares,
    planted,
)
from whymask.atlas.neighbours import neighbours_of
from whymask.atlas.outliers import unlikeness, withheld


def groups(classes: int = 4, each: int = 60, apart: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (n, 16) of classes that lie `apart`, in deviations of one, and their numbers."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    centres = apart * np.eye(classes, 16)
    return (centres[labels] + random.normal(0, 0.5, (len(labels), 16))).astype(np.float32), labels


def test_neighbours_are_those_of_the_largest_cosine_and_never_oneself() -> None:
    features, _ = groups(each=20)
    features[7] = features[3]  # a copy is a neighbour at no distance
    found = neighbours_of(features, 5)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    np.testing.assert_allclose(found.distances, 1 - np.sort(cosine, axis=1)[:, :-6:-1], atol=1e-5)
    assert found.places[7, 0] == 3 and not (found.places == np.arange(80)[:, None]).any()
    assert neighbours_of(features[:4], 10).places.shape == (4, 3)


def test_changed_labels_are_another_class_each_and_as_many_as_asked() -> None:
    labels = np.repeat([0, 2, 5], 40)  # class numbers that leave some out
    changed, wrong = changed_labels(labels, seed=1)
    assert wrong.sum() == 6 and (changed != labels)[wrong].all() and (changed == labels)[~wrong].all()
    assert set(changed) <= {0, 2, 5} and (changed_labels(labels, seed=1)[0] == changed).all()
    assert (changed_labels(labels, seed=2)[0] != changed).any()


def test_wrong_labels_lead_the_list_where_features_tell_classes_apart() -> None:
    features, labels = groups()
    changed, wrong = changed_labels(labels, 3)
    order = np.argsort(-doubts_of(features, changed))
    assert wrong[order[: wrong.sum()]].all()
    assert planted(features, labels).found_share == 1.0


def test_what_is_measured_is_chance_where_features_tell_nothing() -> None:
    """The measure must be able to say that a list is worth nothing."""
    features, labels = groups(apart=0.0, each=250)
    found = planted(features, labels)
    assert found.changed == 50 and found.found <= 8 and found.first <= 5


def test_an_image_is_judged_by_a_model_that_has_not_seen_it() -> None:
    """With as many values as images a linear model knows by heart what it was fitted on."""
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(100, 100)).astype(np.float32), np.repeat([0, 1], 50)
    shares = linear_shares(features, labels)
    assert shares.shape == (100, 2) and np.allclose(shares.sum(axis=1), 1)
    assert 0.3 < (shares.argmax(axis=1) == labels).mean() < 0.7


def test_shares_of_neighbours_are_weighed_by_nearness_and_never_nought() -> None:
    features, labels = groups(each=30)
    shares = neighbour_shares(labels, neighbours_of(features, 5))
    assert np.allclose(shares.sum(axis=1), 1) and shares.min() > 0 and (shares.argmax(axis=1) == labels).all()


def test_of_few_images_nothing_is_told() -> None:
    assert can_be_told(np.repeat([0, 1], 10)) and not can_be_told(np.repeat([0, 1], 9))
    assert not can_be_told(np.zeros(100, int)) and not can_be_told(np.zeros(0, int))


def test_the_image_that_is_unlike_all_others_leads_the_outliers() -> None:
    features, _ = groups()
    features[17] = -features[17]
    assert unlikeness(neighbours_of(features, 10)).argmax() == 17


@pytest.mark.parametrize(("apart", "least", "most"), [(0.0, 0.0, 0.2), (8.0, 0.95, 1.0)])
def test_rare_classes_are_found_as_far_as_they_lie_apart(apart: float, least: float, most: float) -> None:
    features, labels = groups(classes=3, each=400, apart=apart)
    found = withheld(features, labels)
    assert found is not None and (found.classes, found.left) == (3, 15) and least <= found.found_share <= most
    assert withheld(features[:300], labels[:300]) is None
    assert FIRST == 20
