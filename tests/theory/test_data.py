import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.theory.data import MultiView, Sample, Samples
from whymask.theory.network import SmoothedReLU
from whymask.theory.overlapping import Overlapping

CLEAN = MultiView(k=5, L=3, C_p=2, sigma=0.0, split="random", s=1.0)
IMAGES = 4000


def draw(data: MultiView, images: int = IMAGES, key: int = 0, view: Any = "mixed") -> Sample:
    return data.draw(torch.Generator().manual_seed(key), images, view)


def shares(batch: Sample, data: MultiView) -> Tensor:
    """z of each feature on each patch, read off along the features: (B, P, n)."""
    return batch.patches[0] @ data.features.float().T


def weights(batch: Sample, data: MultiView) -> Tensor:
    """Total weight of each feature in each image, (B, n)."""
    return batch.copies * shares(batch, data).sum(1)


def is_own(batch: Sample, data: MultiView) -> Tensor:
    """(B, n): which features are those of the image's class."""
    return torch.arange(data.count) // data.L == batch.labels[0][:, None]


def within(values: Tensor, low: float, high: float, slack: float = 1e-5) -> bool:
    return bool(values.numel() and ((values >= low - slack) & (values <= high + slack)).all())


def is_share(hits: Tensor, share: float) -> bool:
    """Whether the share of hits is compatible with `share`; a fixed generator, so it never turns by chance."""
    return binomtest(int(hits.sum()), hits.numel(), share).pvalue > 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 30))
def test_features_are_orthonormal(k: int, L: int, more: int):
    features = MultiView(k=k, L=L, d=k * L + more).features
    assert features.shape == (k * L, k * L + more)
    torch.testing.assert_close(features @ features.T, torch.eye(k * L, dtype=torch.float64), rtol=0, atol=1e-12)


def test_multi_view_images_weigh_own_features_1_to_1_4_and_others_0_2_to_0_4():
    batch = draw(CLEAN, view="multi")
    total, own = weights(batch, CLEAN), is_own(batch, CLEAN)
    others = total[~own & (total > 1e-4)]
    assert not batch.single.any()
    assert within(total[own], 1, 1.4) and within(others, 0.2, 0.4)
    assert kstest((total[own] - 1) / 0.4, "uniform").pvalue > 1e-3
    assert kstest((others - 0.2) / 0.2, "uniform").pvalue > 1e-3


def test_single_view_images_have_one_main_feature_drawn_uniformly():
    data = replace(CLEAN, rho_single=0.07, Gamma=0.15)
    batch = draw(data, view="single")
    total, own = weights(batch, data), is_own(batch, data)
    main = total > 0.5
    assert batch.single.all()
    assert (main.sum(1) == 1).all() and not (main & ~own).any()
    assert within(total[main], 1, 1.4)
    assert within(total[own & ~main], 0.07, 0.07)
    assert within(total[~own & (total > 1e-4)], 0.15, 0.15)
    place = main.float().argmax(1) % data.L
    assert all(is_share(place == number, 1 / data.L) for number in range(data.L))


@pytest.mark.parametrize("C_p", [1, 2, 5])
def test_present_features_own_C_p_patches_each_and_no_patch_has_two(C_p: int):
    data = replace(CLEAN, C_p=C_p)
    batch = draw(data, 300)
    there = shares(batch, data) > 1e-5
    assert there.sum(2).max() == 1
    assert set(there.sum(1).flatten().tolist()) == {0, C_p}
    assert there.any(1)[is_own(batch, data)].all()


def test_labels_presence_and_single_views_have_their_shares():
    data = replace(CLEAN, mu=0.2)
    batch = draw(data)
    own = is_own(batch, data)
    present = weights(batch, data) > 1e-5
    assert present[own].all()
    assert is_share(batch.single, 0.2)
    assert all(is_share(batch.labels == i, 1 / data.k) for i in range(data.k))
    # The few features that do not fit are dropped, in at most 1 % of images.
    assert present[~own].float().mean() == pytest.approx(data.s / data.k, abs=0.01)


def test_features_that_do_not_fit_are_other_classes_and_rare():
    data = replace(CLEAN, copied=False)
    roomy = replace(data, P=data.count * data.C_p)
    kept, all_of_them = ((weights(draw(each), each) > 1e-5) for each in (data, roomy))
    assert not (kept & ~all_of_them).any()
    dropped = all_of_them & ~kept
    assert not (dropped & is_own(draw(data), data)).any()
    assert 0 < dropped.any(1).float().mean() <= 0.01
    assert is_share(all_of_them[~is_own(draw(roomy), roomy)], data.s / data.k)


def main_shares(split: Any) -> Tensor:
    """The first patch's share of an own feature's weight, C_p = 2."""
    data = replace(CLEAN, split=split, copied=False)
    batch = draw(data, 1000, view="multi")
    z = shares(batch, data)[:, : 2 * data.L].unflatten(1, (data.L, 2)).sum(3)  # own features are placed first
    return z[:, :, 0] / z.sum(2)


def test_splits_share_out_a_weight_equally_at_random_or_uniformly_on_the_simplex():
    equal, random, simplex = (main_shares(split) for split in ("equal", "random", "simplex"))
    assert within(equal, 0.5, 0.5)
    assert within(random, 0.25, 0.75) and random.std() > 0.05
    assert kstest(simplex.flatten(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("split", ["equal", "random", "simplex"])
@pytest.mark.parametrize("C_p", [1, 3])
def test_splits_leave_the_total_weights(split: Any, C_p: int):
    data = replace(CLEAN, C_p=C_p)
    expected = weights(draw(data, 50), data)
    other = replace(data, split=split)
    torch.testing.assert_close(weights(draw(other, 50), other), expected)


def test_identical_patches_are_stored_once_and_only_those():
    equal = replace(CLEAN, split="equal")
    once, written = draw(equal, 20), draw(replace(equal, copied=False), 20)
    assert (once.copies, written.copies) == (2, 1)
    assert torch.equal(once.patches.repeat_interleave(2, dim=2), written.patches)
    for changes in ({"sigma": 0.1}, {"gamma": 0.1}, {"split": "random"}, {"split": "simplex"}):
        assert draw(replace(equal, **changes), 2).copies == 1
    alone = replace(equal, C_p=1, P=20)  # more patches than features: the empty ones are hidden and guessed as well
    assert torch.equal(draw(alone, 20).patches, draw(replace(alone, copied=False), 20).patches)


def test_feature_noise_lies_between_0_and_gamma_on_owned_patches_of_shown_features():
    quiet = replace(CLEAN, covered=0.6)
    data = replace(quiet, gamma=0.1)
    noise = shares(draw(data, 300), data) - shares(draw(quiet, 300), quiet)
    owned = shares(draw(quiet, 300), quiet).amax(2) > 1e-6
    assert within(noise[owned][:, data.shown], 0, 0.1)
    assert kstest(noise[owned][:, data.shown].flatten()[:5000] / 0.1, "uniform").pvalue > 1e-3
    assert within(noise[owned][:, ~data.shown], 0, 0) and within(noise[~owned], 0, 0)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_gaussian_noise_has_its_standard_deviation_on_every_patch(sigma: float | None):
    data = replace(CLEAN, sigma=sigma)
    noise = (draw(data, 200).patches - draw(CLEAN, 200).patches)[0]
    expected = 0.1 / data.width**0.5 if sigma is None else sigma
    assert noise.std((0, 2)) == pytest.approx([expected] * data.patches, rel=0.05)
    assert kstest(noise.flatten()[:20_000] / expected, "norm").pvalue > 1e-3


@pytest.mark.parametrize("view", ["multi", "single"])
@pytest.mark.parametrize("covered_by", ["features", "classes"])
def test_uncovered_features_never_appear(covered_by: Any, view: Any):
    data = replace(CLEAN, covered=0.4, covered_by=covered_by)
    batch = draw(data, 2000, view=view)
    assert int(data.shown.sum()) == 6
    assert torch.equal((weights(batch, data) > 1e-5).any(0), data.shown)
    by_class = data.shown.view(data.k, data.L)
    assert set(batch.labels.unique().tolist()) == set(by_class.any(1).nonzero()[:, 0].tolist())
    if covered_by == "classes":
        assert (by_class.all(1) | ~by_class.any(1)).all()


def test_draws_are_functions_of_the_generator():
    data = MultiView(k=3, gamma=0.1)
    first, again, other = draw(data, 5, 0), draw(data, 5, 0), draw(data, 5, 1)
    for name in ("patches", "labels", "single"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.patches, other.patches)
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(data.draw(generator, 5).patches, data.draw(generator, 5).patches)


random_settings = st.fixed_dictionaries({
    "k": st.integers(2, 6), "L": st.integers(1, 3), "C_p": st.integers(1, 4), "s": st.floats(0, 3),
    "mu": st.floats(0, 1), "gamma": st.sampled_from([0.0, 0.1]), "sigma": st.sampled_from([None, 0.0, 0.2]),
    "split": st.sampled_from(["random", "equal", "simplex"]), "covered": st.floats(0.5, 1),
    "covered_by": st.sampled_from(["features", "classes"]),
})  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(random_settings, st.integers(1, 6), st.integers(0, 10), st.integers(0, 7))
def test_shapes_and_counts_of_any_setting(changes: dict[str, Any], images: int, more: int, spare: int):
    data = MultiView(**changes)
    data = replace(data, d=data.count + more, P=data.patches + spare)
    batch = draw(data, images)
    assert batch.labels.shape == batch.single.shape == (1, images)
    assert batch.patches.shape == (1, images, batch.patches.shape[2], data.count + more)
    assert batch.patches.isfinite().all() and len(batch) == images
    assert batch.copies in (1, data.C_p)
    if batch.copies == 1:
        assert batch.patches.shape[2] == data.P
    if data.noise == 0:
        assert (batch.patches.norm(dim=3) > 1e-6).sum(2).max() * batch.copies <= data.P


@settings(max_examples=30, deadline=None)
@given(random_settings)
def test_default_P_is_the_least_that_is_accepted(changes: dict[str, Any]):
    data = MultiView(**changes)
    assert replace(data, P=data.patches).places == data.places
    if data.patches - 1 >= data.L * data.C_p:
        with pytest.raises(WhymaskError, match="overflow"):
            replace(data, P=data.patches - 1)


def test_overflow_is_an_error_that_names_the_P_that_works():
    with pytest.raises(WhymaskError, match="overflow") as error:
        MultiView(k=10, P=8)
    (needed,) = re.findall(r"P of at least (\d+)", str(error.value))
    data = MultiView(k=10, P=int(needed))
    assert data.patches == int(needed) == MultiView(k=10).patches
    with pytest.raises(WhymaskError, match="overflow"):
        MultiView(k=10, P=int(needed) - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"L": 3, "k": 5, "d": 14}, r"L·k = 3·5 = 15.*d of at least 15"),
        ({"mu": 1.1}, "mu=1.1"),
        ({"mu": -0.1}, "mu=-0.1"),
        ({"covered": 1.5}, "covered=1.5"),
        ({"covered": float("nan")}, "covered=nan"),
        ({"covered": 0.0}, "leaves no feature"),
        ({"s": -1.0}, "s=-1"),
        ({"gamma": -0.1}, "gamma=-0.1"),
        ({"Gamma": -0.1}, "Gamma=-0.1"),
        ({"rho_single": -0.1}, "rho_single=-0.1"),
        ({"sigma": -0.1}, "-0.1"),
        ({"k": 1}, "at least 2 classes"),
        ({"C_p": 0}, "1 patch"),
    ],
)
def test_settings_that_make_no_sense_are_errors(changes: dict[str, Any], message: str):
    with pytest.raises(WhymaskError, match=message):
        MultiView(**changes)


@pytest.mark.parametrize(("q", "rho"), [(1.9, 0.5), (3, 0), (3, -1)])
def test_smoothed_relu_needs_q_of_2_and_rho_above_0(q: float, rho: float):
    with pytest.raises(WhymaskError, match="q >= 2 and rho > 0"):
        SmoothedReLU(q, rho)
    SmoothedReLU(2, 0.5)


def samples(seeds: Any = (3, 4, 9), **changes: Any) -> Samples:
    return Samples(MultiView(k=3), seeds, **({"size": 12, "batch": 4} | changes))


def equal(a: Sample, b: Sample) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("patches", "labels", "single"))


def test_images_of_a_seed_are_the_same_alone_and_among_others():
    together, alone = samples(), samples([4])
    for number in range(3):
        assert equal(together[number].part(slice(1, 2), slice(None)), alone[number])
    assert not equal(samples([3])[0], alone[0])
    assert not equal(samples([4], purpose="test")[0], alone[0])
    assert not equal(alone[0], alone[1])


def test_batches_are_the_same_when_none_is_kept_and_come_round_and_round():
    first = samples()
    bytes_each = first[0].patches.numel() * 4
    for budget in (bytes_each, 2.5 * bytes_each):  # one kept; two kept
        tight = samples(budget=budget)
        for _ in range(2):
            assert all(equal(a, b) for a, b in zip(first, tight, strict=True))
        assert tight[0] is tight[0] and tight[2] is not tight[2]
    assert len(list(first)) == len(first) == 3
    assert equal(first[4], first[1])


def test_samples_have_their_type_and_shape():
    batch = samples(dtype=torch.float64)[0]
    assert batch.patches.dtype == torch.float64
    assert batch.patches.shape[:2] == batch.labels.shape == batch.single.shape == (3, 4)


def test_over_budget_error_says_how_many_images_fit():
    bytes_each = samples()[0].patches.numel() * 4
    with pytest.raises(WhymaskError, match="At most 3 images a batch fit"):
        samples(budget=0.8 * bytes_each)[0]
    samples(budget=0.8 * bytes_each, batch=3)[0]


def test_images_must_be_a_multiple_of_the_batch():
    with pytest.raises(WhymaskError, match="10 images do not divide into batches of 4"):
        samples(size=10)


@pytest.mark.parametrize("k", [4, 5])
def test_overlapping_features_have_their_cosine_with_one_of_another_class(k: int):
    features = Overlapping(k=k, L=3, overlap=0.5).features
    expected = torch.eye(k * 3, dtype=torch.float64)
    for first in range(0, k - 1, 2):
        for feature in range(3 * first, 3 * first + 3):
            expected[feature, feature + 3] = expected[feature + 3, feature] = 0.5
    torch.testing.assert_close(features @ features.T, expected, atol=1e-12, rtol=0)
    assert torch.allclose(Overlapping(k=k, L=3, overlap=0.0).features, MultiView(k=k, L=3).features)


def test_overlapping_images_are_those_of_their_features_and_the_rest_is_as_it_was():
    given = MultiView(k=4, sigma=0.0, mu=0.3)
    overlapping = Overlapping.of(given)
    apart, there = draw(given, 50), draw(overlapping, 50)
    coefficients = apart.patches @ given.features.float().T
    torch.testing.assert_close(there.patches, coefficients @ overlapping.features.float(), atol=1e-5, rtol=0)
    assert torch.equal(apart.labels, there.labels)
    with pytest.raises(WhymaskError, match="overlap=1"):
        Overlapping(overlap=1.0)
