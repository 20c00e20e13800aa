"""The parts that measures are made of, on networks and images whose answers are known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn
from torch.nn import functional as F

from tiny import new_encoder
from whymask.data.batches import Batch
from whymask.data.glyph_settings import Glyphs
from whymask.data.glyphs import generate, patterns
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import EncoderSettings
from whymask.errors import WhymaskError
from whymask.explanations import batching, conclusions, numbers
from whymask.explanations.compared import Compared
from whymask.explanations.controls import erasing
from whymask.explanations.evidence import Pointing, evidence, means_of, ranks
from whymask.explanations.fill import FILLINGS, cells_of, fillers, hide
from whymask.explanations.measures import MEASURES, features, lottery
from whymask.explanations.measures.robustness import robustness_scores
from whymask.explanations.measures.views import SHARES, count_views, view_scores
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key, Number
from whymask.explanations.settings import NAMES
from whymask.intervals import SHARE, clopper_pearson, kept_within
from whymask.randomness import torch_generator
from whymask.stages.network import Classifier

CELLS = (8, 8)
VIEW = Preprocessing((32, 32), (32, 32), 1, mean=(0.5,), std=(0.25,))


class Bright(nn.Module):
    """An encoder whose one feature is the brightest of 8 x 8 cells of a 32 x 32 image."""

    kind, dim, grid, size, channels, transform = "cnn", 1, CELLS, (32, 32), 1, VIEW

    def forward(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 4)

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        return point(self(images))

    def pool(self, features: Tensor) -> Tensor:
        return features.amax(dim=(2, 3))


def bright_network() -> Member:
    """Says class 1 where some cell is brighter than 1/2."""
    classifier = Classifier(Bright(), 2)  # type: ignore[arg-type]
    with torch.no_grad():
        classifier.head.weight.copy_(torch.tensor([[0.0], [10.0]]))
        classifier.head.bias.copy_(torch.tensor([5.0, 0.0]))
    return Member("baseline", "scratch", 0, classifier, VIEW)


def blocks(*rows: int) -> Tensor:
    """An image (1, 1, 32, 32), dark but for a block of 2 x 2 bright cells in each of these rows of cells."""
    image = torch.zeros(1, 1, 32, 32)
    for row in rows:
        image[0, 0, 4 * row : 4 * row + 8, 8:16] = 1
    return image


def small_network(name: str, seed: int = 0, **settings: object) -> Member:
    encoder = new_encoder(EncoderSettings(name, **settings), (32, 32), 1, seed)  # type: ignore[arg-type]
    encoder.transform = VIEW
    return Member("baseline", "scratch", seed, Classifier(encoder, 3, seed), VIEW)


def some_images(n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 32, 32, generator=torch_generator(0, "test images")), torch.arange(n) % 3


# hiding and evidence ---------------------------------------------------------------------------------------------


def test_hidden_pixels_come_from_the_filler_and_others_stay() -> None:
    images, _ = some_images()
    hidden = torch.rand(6, *CELLS, generator=torch_generator(1)) < 0.5
    pixels = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    for filler in fillers(images, CELLS).values():
        shown = hide(images, hidden, filler)
        assert torch.equal(shown[~pixels], images[~pixels])
        assert torch.equal(shown[pixels], filler[pixels])
        changed = torch.where(pixels, images + 100, images)
        assert torch.equal(hide(changed, hidden, filler), shown)  # what was there does not matter


def test_patches_are_those_of_other_images_in_the_same_place() -> None:
    images = torch.arange(5.0)[:, None, None, None] + 10 * torch.arange(32 * 32.0).view(1, 1, 32, 32)
    filled = fillers(images, CELLS)
    assert not filled["mean"].any()
    source = filled["patches"] - images[:1]  # the number of the image that each pixel comes from
    assert not (source == torch.arange(5.0)[:, None, None, None]).any()
    assert set(source.unique().tolist()) == {0, 1, 2, 3, 4}
    assert all(len(image.unique()) > 1 for image in source)  # no single other image takes over


def test_a_single_image_cannot_be_filled() -> None:
    with pytest.raises(WhymaskError, match="at least two"):
        fillers(torch.zeros(1, 1, 32, 32), CELLS)


@pytest.mark.parametrize("name", ["cnn", "vit", "two-layer", "swin_tiny_patch4_window7_224"])
def test_grad_cam_is_the_mean_gradient_times_the_map(name: str) -> None:
    sizes = {"vit": {"width": 64, "depth": 2}, "cnn": {"width": 8}, "two-layer": {"width": 16}}
    settings = sizes.get(name, {"width": 32})
    network = small_network(name, **settings)
    images, labels = some_images(3)
    encoder = network.encoder
    if name == "vit":  # what its last block is given
        features = encoder.outputs(images)[-2].detach().requires_grad_()
        final = encoder.net.norm(encoder.net.blocks[-1](features))
    else:
        final = features = encoder(images).detach().requires_grad_()
    logits = network.classifier.head(encoder.pool(final))
    (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), features)
    positions, own = encoder.rows(features), encoder.rows(gradient)
    expected = (positions * own.mean(dim=1, keepdim=True)).sum(dim=2)
    height, width = (32 // network.encoder.stride,) * 2
    found = evidence(network, images, labels, (height, width))
    assert torch.allclose(found.flatten(1), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_pointing_does_not_change_the_network(name: str) -> None:
    network = small_network(name, width=64)
    images, _ = some_images()
    assert torch.allclose(Pointing(network.classifier)(images), network(images), atol=1e-6)


def test_a_network_without_a_map_is_asked_by_occlusion() -> None:
    network = small_network("resnet18", output_stride=32)  # its last map is a single position
    images, labels = some_images(2)
    assert means_of(network, images, labels) == "occlusion"
    for pool in ("mean", "token"):
        assert means_of(small_network("vit", width=64, depth=2, pool=pool), images, labels) == "grad-cam"
    maps = evidence(network, images, labels, CELLS, "occlusion")
    hidden = torch.zeros(2, *CELLS, dtype=torch.bool)
    hidden[:, 2, 5] = True
    before, after = (
        network(x).log_softmax(1).gather(1, labels[:, None])[:, 0] for x in (images, hide(images, hidden, 0 * images))
    )
    assert torch.allclose(maps[:, 2, 5], before - after, atol=1e-5)


def test_ranks() -> None:
    assert ranks(torch.tensor([[[0.1, 0.9], [0.9, -3.0]]])).tolist() == [[2, 0, 1, 3]]


def test_shares_of_few_cells_are_told_as_they_are() -> None:
    assert cells_of((1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4), (8, 8)) == [
        (8, 1 / 8), (16, 1 / 4), (24, 3 / 8), (32, 1 / 2), (40, 5 / 8), (48, 3 / 4),
    ]  # fmt: skip
    assert cells_of((1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 1), (2, 2)) == [(1, 1 / 4), (2, 1 / 2), (3, 3 / 4)]


def test_each_network_sees_images_as_it_was_trained_to() -> None:
    own, view = (Preprocessing((32, 32), (32, 32), 1, mean=(m,), std=(s,)) for m, s in ((0.3, 0.5), (0.5, 0.25)))
    encoder = new_encoder(EncoderSettings("cnn", width=8), (32, 32), 1, 0)
    encoder.transform = own
    network = Member("baseline", "scratch", 0, Classifier(encoder, 3), view)
    pixels = torch.rand(4, 1, 32, 32, generator=torch_generator(0))
    with torch.inference_mode():
        expected = network.classifier((pixels - 0.3) / 0.5)
        pooled = encoder.pool(encoder((pixels - 0.3) / 0.5))
    assert torch.allclose(network((pixels - 0.5) / 0.25), expected, atol=1e-5)
    assert np.allclose(network.pooled((pixels - 0.5) / 0.25), pooled, atol=1e-5)


# views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(0,), (0, 3), (0, 3, 6)])
def test_views_are_the_separate_parts_that_suffice(rows: tuple[int, ...]) -> None:
    images, labels = torch.cat([blocks(*rows), blocks()]), torch.tensor([1, 1])
    network = bright_network()
    whole = network.recognises(images, labels)
    assert whole.tolist() == [True, False]
    found = count_views(network, images, labels, torch.zeros_like(images), whole, CELLS, "grad-cam")
    assert found.tolist() == [len(rows), 0]


def test_a_rest_that_only_suffices_whole_is_the_last_view() -> None:
    """Of a network that says class 0 unless some cell is bright, a dark image is recognised with anything hidden."""
    images = torch.cat([blocks(), blocks()])
    found = count_views(
        bright_network(), images, torch.tensor([0, 0]), 0 * images, torch.tensor([True, True]), CELLS, "grad-cam"
    )
    assert found.tolist() == [5, 5]  # as many as are counted
    whole, bright = torch.tensor([True, True]), torch.ones(2, 1, 32, 32)
    found = count_views(bright_network(), images, torch.tensor([0, 0]), bright, whole, CELLS, "grad-cam")
    assert found.tolist() == [1, 1]  # with anything hidden it is bright


def test_view_scores_of_one_block() -> None:
    images, labels = torch.cat([blocks(3), blocks()]), torch.tensor([1, 1])
    scores = view_scores(bright_network(), images, labels, fillers(images, CELLS), CELLS, "grad-cam")
    assert scores[Key("accuracy")].tolist() == [1, 0]
    for share in SHARES:
        hidden, kept = scores[Key("hidden", "mean", share)], scores[Key("kept", "mean", share)]
        assert hidden[0] == 0 and kept[0] == 1  # the block is the strongest evidence, whatever is hidden with it
        assert np.isnan(hidden[1]) and np.isnan(kept[1])
    assert scores[Key("area", "mean")][0] == pytest.approx(SHARES[0] / 2 / SHARES[-1])
    assert scores[Key("views", "mean")][0] == 1 and scores[Key("views of N", "mean", 1)][0] == 1


def test_views_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (images, labels) = small_network("cnn", width=8), some_images(12)
    filled = fillers(images, CELLS)
    whole = view_scores(network, images, labels, filled, CELLS, "grad-cam")
    monkeypatch.setattr(batching, "BATCH", 5)
    parts = view_scores(network, images, labels, filled, CELLS, "grad-cam")
    assert all(np.array_equal(whole[key], parts[key], equal_nan=True) for key in whole)


# robustness, lottery ---------------------------------------------------------------------------------------------


def test_robustness_counts_every_image_at_five_strengths() -> None:
    images, labels = torch.cat([blocks(3), blocks()]), torch.tensor([1, 0])
    scores = robustness_scores(bright_network(), images, labels, fillers(images, CELLS), CELLS)
    assert scores[Key("accuracy")].tolist() == [1, 1]
    strengths = [key.at for key in scores if key.quantity == "noise"]
    shares = [key.at for key in scores if key.quantity == "occlusion" and key.filling == "mean"]
    assert len(strengths) == len(shares) == 5
    assert all(scores[Key("occlusion", "mean", share)][1] == 1 for share in shares)  # nothing bright to hide
    mean = np.mean([scores[Key("occlusion", "mean", share)] for share in shares], axis=0)
    assert np.array_equal(scores[Key("occlusion mean", "mean")], mean)


def test_equal_networks_are_no_lottery() -> None:
    logits, maps = torch.randn(20, 3), torch.randn(20, 8, 8)
    labels = logits.argmax(dim=1)
    labels[0] = (labels[0] + 1) % 3  # one error, the same of all
    rows = lottery.lottery_numbers("a", dict.fromkeys(range(5), (logits, maps)), labels)
    found = {(row.quantity, row.over): row for row in rows}
    assert found["agreement", "images"].value == found["evidence overlap", "seeds"].value == 1
    assert found["error consistency", "images"].value == pytest.approx(1)
    assert found["agreement", "images"].low is None  # no spread, no interval
    assert found["ensemble gain", "seeds"].value == 0 and found["ensemble gain", "seeds"].count == 5


def test_the_lottery_of_three_networks_by_hand() -> None:
    says = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1]])
    maps = [torch.randn(4, 8, 8, generator=torch_generator(seed)) for seed in range(3)]
    seen = {seed: (3.0 * F.one_hot(row, 2), maps[seed]) for seed, row in enumerate(says)}
    rows = lottery.lottery_numbers("a", seen, torch.tensor([0, 1, 1, 1]))
    found = {row.quantity: row for row in rows if row.over == "images"}
    assert found["agreement"].value == pytest.approx((3 / 4 + 2 / 4 + 3 / 4) / 3)
    assert found["accuracy"].value == pytest.approx((3 + 4 + 3) / 12)
    assert found["ensemble gain"].value == pytest.approx(1 - 10 / 12)
    jackknifed = next(row for row in rows if row.quantity == "agreement" and row.over == "seeds")
    pairs = np.array([3 / 4, 2 / 4, 3 / 4])  # without network 2, 1, 0
    half = stats.t.ppf(0.975, 2) * np.sqrt(2 / 3 * ((pairs - pairs.mean()) ** 2).sum())
    assert (jackknifed.low, jackknifed.high) == pytest.approx(kept_within(jackknifed.value, half))


def test_overlap_by_chance() -> None:
    generator = torch_generator(0)
    sets = torch.rand(2, 4000, 64, generator=generator).argsort(dim=2) < 16
    simulated = lottery._overlap(sets[0], sets[1]).mean()
    assert lottery.overlap_by_chance(64, 16) == pytest.approx(float(simulated), abs=0.005)


def test_a_single_network_has_no_lottery() -> None:
    assert lottery.lottery_numbers("a", {0: (torch.randn(4, 2), torch.randn(4, 8, 8))}, torch.zeros(4).long()) == []


def test_error_consistency_is_cohens_kappa_of_who_is_right_where() -> None:
    right = (np.random.default_rng(0).random((3, 200)) < [[0.9], [0.7], [0.8]]).astype(float)
    right[1] = np.where(np.arange(200) < 100, right[0], right[1])
    pairs = [cohen_kappa_score(right[a], right[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    once = np.ones((200, 1))
    assert lottery.error_consistency(right, once)[0] == pytest.approx(np.mean(pairs))
    twice = np.repeat(np.eye(200), 2, axis=1).sum(axis=1, keepdims=True)
    assert lottery.error_consistency(right, twice) == pytest.approx(lottery.error_consistency(right, once))
    faultless = np.ones((2, 200))
    assert np.isnan(lottery.error_consistency(faultless, once)).all()


def test_accurate_networks_that_err_independently_are_not_consistent() -> None:
    """Two of them are both right or both wrong on 90.5 % of the images, which their accuracy alone makes."""
    right = (np.random.default_rng(1).random((5, 20_000)) < 0.95).astype(float)
    assert abs(lottery.error_consistency(right, np.ones((20_000, 1)))[0]) < 0.02


# numbers ---------------------------------------------------------------------------------------------------------


def test_summarise_labels_what_each_interval_is_over() -> None:
    said = ([1, 0, 1, np.nan], [1, 0, 0, np.nan], [1, 1, 1, np.nan])
    values = {seed: {Key("x"): np.array(row, float)} for seed, row in enumerate(said)}
    rows = numbers.summarise("views", "a", values)
    means = [row for row in rows if row.seed is None]
    assert [(row.over, row.count) for row in means] == [("images", 3), ("seeds", 3)]
    assert all(row.value == pytest.approx(2 / 3) for row in means)
    half = stats.t.ppf(0.975, 2) / 3 / np.sqrt(3)
    assert (means[1].low, means[1].high) == pytest.approx(kept_within(2 / 3, half))
    first = next(row for row in rows if row.seed == 0)
    exact = stats.binomtest(2, 3).proportion_ci(0.95)
    assert (first.low, first.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_one_seed_has_no_interval_over_seeds() -> None:
    rows = numbers.summarise("views", "a", {4: {Key("x"): np.array([1.0, 0.0])}})
    (over_seeds,) = (row for row in rows if row.over == "seeds")
    assert over_seeds.low is None and over_seeds.count == 1


def test_what_no_network_counts_has_no_row() -> None:
    assert numbers.summarise("views", "a", {0: {Key("x"): np.full(3, np.nan)}}) == []


def test_differences_are_paired_by_seed_and_image() -> None:
    arm = {0: {Key("x"): np.array([1.0, 1.0, np.nan])}, 1: {Key("x"): np.ones(3)}}
    baseline = {0: {Key("x"): np.array([0.0, np.nan, 0.0])}, 2: {Key("x"): np.zeros(3)}}
    found = numbers.differences(arm, baseline)
    assert list(found) == [0]
    assert np.array_equal(found[0][Key("x")], [1, np.nan, np.nan], equal_nan=True)


def test_images_of_one_group_are_resampled_together() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=20), 25)
    alone = numbers.bootstrap_bounds(values)
    grouped = numbers.bootstrap_bounds(values, np.repeat(np.arange(20), 25))
    assert 3 < (grouped[1] - grouped[0]) / (alone[1] - alone[0]) < 7  # sqrt(25) = 5


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    sample = np.random.default_rng(1).normal(size=8)
    found = numbers.jackknife(sample.mean(), [np.delete(sample, i).mean() for i in range(8)])
    assert found == pytest.approx(stats.t.interval(0.95, 7, sample.mean(), stats.sem(sample)))


def test_intervals_over_seeds_keep_within_what_a_quantity_is() -> None:
    """A share near 1 whose t interval would go to 1.1, a count up to 5, and a difference, which has no ends."""
    scores = {seed: {Key("x"): np.array([1.0] * (9 - seed) + [0.0] * (1 + seed))} for seed in range(3)}
    over = numbers.summarise("views", "a", scores)[-1]
    assert over.over == "seeds" and over.value == pytest.approx(0.8)
    assert 0 < over.low < 0.8 < over.high < 1  # type: ignore[operator]
    views = {seed: {Key("views"): np.array([5.0, 5.0, 4.0 - seed])} for seed in range(3)}
    counted = numbers.summarise("views", "a", views, ranges={"views": (0.0, 5.0)})[-1]
    assert 0 < counted.low < counted.value < counted.high < 5  # type: ignore[operator]
    gain = numbers.summarise("views", "a - b", scores, difference=True)[-1]
    assert gain.high > 1  # type: ignore[operator]


def test_counts_are_not_taken_for_shares() -> None:
    with pytest.raises(ValueError, match="views of views goes from 1 to 3"):
        numbers.summarise("views", "a", {0: {Key("views"): np.array([1.0, 3.0])}})


def test_the_jackknife_of_a_share_lies_between_0_and_1() -> None:
    low, high = numbers.jackknife(0.95, [0.9, 0.95, 1.0], SHARE)
    assert low is not None and high is not None and 0 < low < 0.9 and 0.95 < high < 1
    assert numbers.jackknife(0.95, [0.9, 0.95, 1.0])[1] > 1  # type: ignore[operator]


# features --------------------------------------------------------------------------------------------------------


def test_a_feature_alone_is_shown_without_the_others_of_its_class() -> None:
    glyphs = Glyphs(classes=4, noise=0.0)
    view = Preprocessing((32, 32), (32, 32), 1, low=-6.0, high=6.0, mean=(0.5,), std=(1 / 12,))
    alone = features.features_alone(glyphs, view, images=10)
    assert len(alone.images) == 80
    _, labels, truth = generate(glyphs, 80, "alone")
    assert np.array_equal(labels, alone.classes)
    assert np.unique(np.stack([alone.classes, alone.features]), axis=1, return_counts=True)[1].tolist() == [10] * 8
    forms = patterns(glyphs)
    for row, (image, c, f) in enumerate(zip(alone.images[:, 0].numpy(), alone.classes, alone.features, strict=True)):
        cells = image.reshape(4, 8, 4, 8).swapaxes(1, 2).reshape(16, 8, 8)
        shown, hidden = (cells[truth.cells[row, place]] for place in (f, 1 - f))
        assert np.allclose(shown, truth.amplitudes[row, f] * forms[c, f], atol=1e-3)
        assert np.abs(hidden).max() < 1e-3


def test_captured_features_are_counted_by_class_and_seed() -> None:
    shares = {0: np.array([[0.9, 0.2], [0.8, 0.7]]), 1: np.array([[0.9, 0.6], [0.5, 0.7]])}
    rows = features.feature_numbers("scratch", shares, ("a", "b"), images=50)
    found = {(row.quantity, row.item, row.seed): row for row in rows}
    assert found["captured", "a", None].value == 1.5
    assert found["captured a class", None, None].value == 1.5
    assert found["captured a class", None, 0].value == 1.5
    assert found["lost in some seeds", None, None].value == 0.5  # a's second, b's first
    recognised = found["recognised", "a, feature 2", 0]
    assert (recognised.count, recognised.over) == (50, "images") and recognised.low < 0.2 < recognised.high  # type: ignore[operator]
    (difference,) = features.difference_numbers(("mae", "scratch"), {0: np.ones((2, 2)), 1: np.ones((2, 2))}, shares)
    assert difference.value == 0.5 and difference.arm == "mae - scratch"


def test_shares_of_single_images_have_the_exact_interval_and_differences_or_groups_do_not() -> None:
    values = {seed: {Key("x"): np.array([1.0, 1.0, 1.0, 0.0])} for seed in range(2)}
    exact = clopper_pearson(3, 4)
    for row in numbers.summarise("views", "a", values)[:3]:  # of each network, and of all, which say the same
        assert (row.low, row.high) == exact
    for row in [
        *numbers.summarise("views", "a - b", values, difference=True)[:3],
        *numbers.summarise("views", "a", values, np.array([0, 0, 1, 1]))[:3],
    ]:
        assert (row.low, row.high) != exact


# conclusions -----------------------------------------------------------------------------------------------------


COMPARED = Compared("mae", "scratch", ("mae", "scratch"))


def row(quantity: str, arm: str, low: float, high: float, filling: str | None = None, measure: str = "views") -> Number:
    return Number(measure, quantity, arm, (low + high) / 2, low, high, 5, "seeds", filling=filling)


@pytest.mark.parametrize(
    ("mean", "patches", "third", "verdict"),
    [
        ((0.1, 0.3), (0.1, 0.2), (0.1, 0.2), "supported"),
        ((0.1, 0.3), (-0.1, 0.2), (0.1, 0.2), "open"),  # the fillings do not agree
        ((0.1, 0.3), (-0.3, -0.2), (0.1, 0.2), "open"),
        ((0.1, 0.3), (0.1, 0.2), (-0.1, 0.2), "open"),  # erasing explains it
        ((0.1, 0.3), (0.1, 0.2), None, "open"),  # nobody knows whether it does
        ((-0.3, -0.1), (-0.2, -0.1), None, "against"),
    ],
)
def test_a_conclusion_needs_both_fillings_and_the_third_network(
    mean: tuple[float, float], patches: tuple[float, float], third: tuple[float, float] | None, verdict: str
) -> None:
    rows = [row("views", "mae - scratch", *mean, "mean"), row("views", "mae - scratch", *patches, "patches")]
    if third:
        rows += [row("views", "mae - scratch-erased", *third, filling) for filling in ("mean", "patches")]
    (found,) = conclusions.draw(rows, COMPARED)
    assert found.verdict == verdict
    assert len(found.reasons) >= len(rows)


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_few_seeds_nothing_is_concluded(seeds: int) -> None:
    over_seeds = replace(row("noise mean", "mae - scratch", 0.1, 0.2, None, "robustness"), count=seeds)
    over_images = replace(over_seeds, over="images", count=500)
    (found,) = conclusions.draw([over_seeds, over_images], COMPARED)
    assert found.verdict == "open" and "Fewer than 3 seeds" in found.reasons[0]
    assert "for these networks alone" in found.reasons[1]


def test_seeds_that_are_all_the_same_are_no_certainty() -> None:
    gains = {seed: {Key("captured a class"): np.full(4, 0.5)} for seed in range(3)}
    rows = numbers.summarise("features", "mae - scratch", gains, difference=True)
    assert all(row.low is None for row in rows)
    (found,) = conclusions.draw(rows, COMPARED)
    assert found.verdict == "open"


def test_one_filling_is_not_enough() -> None:
    both = [row("views", f"mae - {other}", 0.1, 0.2, f) for other in ("scratch", "scratch-erased") for f in FILLINGS]
    assert conclusions.draw(both, COMPARED)[0].verdict == "supported"
    for missing in both:
        assert conclusions.draw([one for one in both if one != missing], COMPARED)[0].verdict == "open"


def test_a_lottery_needs_errors_and_evidence_to_differ() -> None:
    def verdict(errors: tuple[float, float], evidence: tuple[float, float]) -> str:
        pairs = (("error consistency", errors), ("evidence overlap", evidence), ("agreement", (0.1, 0.2)))
        rows = [row(quantity, "mae - scratch", *bounds, None, "lottery") for quantity, bounds in pairs]
        return conclusions.draw(rows, COMPARED)[0].verdict

    assert verdict((0.1, 0.2), (0.1, 0.2)) == "supported" and verdict((-0.2, -0.1), (-0.2, -0.1)) == "against"
    assert verdict((-0.2, -0.1), (0.1, 0.2)) == "open"


def test_sentences_say_what_is_compared() -> None:
    rows = [row("noise mean", "a - b", -0.2, -0.1, None, "robustness")]
    (found,) = conclusions.draw(rows, Compared("a", "b", ("mae", "data2vec")))
    assert found.text == "Networks of b are more accurate under noise than networks of a."
    named = [replace(one, arm="mae - scratch") for one in rows]
    (found,) = conclusions.draw(named, COMPARED)
    assert found.text == "Networks from scratch are more accurate under noise than pretrained networks."


def test_the_names_that_flags_know_are_those_of_the_measures() -> None:
    assert tuple(MEASURES) == NAMES
    assert all(name == measure.name for name, measure in MEASURES.items())


# the third network -----------------------------------------------------------------------------------------------


def test_erasing_hides_the_ratio_of_about_half_the_images_and_differs_by_step() -> None:
    encoder = new_encoder(EncoderSettings("cnn", width=8), (32, 32), 1, 0)
    images = torch.ones(400, 1, 32, 32)
    seen: list[Tensor] = []

    def loss_of(model: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        seen.append(batch.images)
        return {"loss": batch.images.sum()}

    erased: Callable = erasing(loss_of, encoder, 0.75, seed=3)
    for step in (0, 0, 1):
        erased(nn.Identity(), Batch(images, torch.zeros(400), np.arange(400)), step)
    shares = (seen[0] == 0).double().mean(dim=(1, 2, 3))
    assert set(shares.tolist()) == {0.0, 0.75}
    assert 0.4 < (shares > 0).double().mean() < 0.6
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert images.all()  # the batch itself is as it was
