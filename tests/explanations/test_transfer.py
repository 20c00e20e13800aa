"""Interactions and retention: what a fine-tuned network keeps of the pretrained one."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tiny import new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import EncoderSettings
from whymask.errors import WhymaskError
from whymask.explanations.measures import interactions as ia
from whymask.explanations.measures import retention
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key
from whymask.explanations.readout import fit_readout
from whymask.explanations.regions import regions
from whymask.randomness import torch_generator
from whymask.stages.network import Classifier

# interactions ----------------------------------------------------------------------------------------------------


def values_of(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (2, 2**n), elements=st.floats(-50, 50))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5).flatmap(values_of))
def test_interactions_within_every_set_sum_to_its_value(values: np.ndarray) -> None:
    found = ia.interactions(values)
    for t in range(values.shape[1]):
        within = [s for s in range(values.shape[1]) if s & ~t == 0]
        assert np.allclose(found[:, within].sum(axis=1), values[:, t], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(values_of(4))
def test_interactions_are_the_alternating_sums_of_their_definition(values: np.ndarray) -> None:
    found = ia.interactions(values)
    for s in range(16):
        parts = [t for t in range(16) if t & ~s == 0]
        signs = [(-1) ** (s.bit_count() - t.bit_count()) for t in parts]
        assert np.allclose(found[:, s], (values[:, parts] * signs).sum(axis=1), atol=1e-9)


def test_what_regions_add_alone_and_only_together() -> None:
    subsets = np.arange(8)
    shown = (subsets[:, None] >> np.arange(3)) & 1
    additive = ia.interactions((shown @ np.array([1.0, 2.0, -3.0]))[None])[0]
    assert additive[[1, 2, 4]].tolist() == [1, 2, -3] and not additive[[0, 3, 5, 6, 7]].any()
    together = ia.interactions(((subsets & 5) == 5).astype(float)[None])[0]
    assert together[5] == 1 and np.abs(together).sum() == 1


def test_the_identity_holds_for_a_network_and_maskings_do_not_depend_on_the_batch() -> None:
    network = Classifier(new_encoder(EncoderSettings("cnn", width=8), (32, 32), 1, 0), 3).eval()
    images, labels = torch.randn(3, 1, 32, 32, generator=torch_generator(0)), torch.tensor([0, 1, 2])
    filler, where = torch.zeros_like(images), regions((32, 32), 4)
    values = ia.masked_values(network, images, labels, filler, where, 256)
    assert np.allclose(ia.masked_values(network, images, labels, filler, where, 5), values, atol=1e-4)
    with torch.inference_mode():
        whole, blank = ia.log_odds(network(images), labels), ia.log_odds(network(filler), labels)
    assert np.allclose(values[:, -1], whole, atol=1e-4) and np.allclose(values[:, 0], blank, atol=1e-4)
    assert np.allclose(ia.interactions(values).sum(axis=1), whole, atol=1e-4)


def test_hidden_regions_are_not_seen() -> None:
    network = Classifier(new_encoder(EncoderSettings("cnn", width=8), (32, 32), 1, 0), 3).eval()
    images, labels = torch.randn(2, 1, 32, 32, generator=torch_generator(0)), torch.tensor([0, 1])
    where = regions((32, 32), 4)
    changed = torch.where(torch.from_numpy(where == 2), images + 9, images)
    before, after = (ia.masked_values(network, x, labels, torch.zeros_like(x), where, 64) for x in (images, changed))
    without = [t for t in range(16) if not t >> 2 & 1]
    assert np.array_equal(before[:, without], after[:, without])
    assert not np.allclose(before[:, -1], after[:, -1])


def test_log_odds() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [300.0, -300.0, 0.0]])
    p = logits[0].double().softmax(0)[1]
    found = ia.log_odds(logits, torch.tensor([1, 0]))
    assert float(found[0]) == pytest.approx(float((p / (1 - p)).log()))
    assert float(found[1]) == pytest.approx(300)  # where p rounds to 1


@pytest.mark.parametrize(("n", "shape"), [(8, (2, 4)), (12, (3, 4)), (9, (3, 3)), (7, (1, 7)), (2, (1, 2))])
def test_regions(n: int, shape: tuple[int, int]) -> None:
    where = regions((30, 42), n)
    assert set(np.unique(where)) == set(range(n))
    corners = where[:: -(-30 // shape[0]), :: -(-42 // shape[1])]
    assert corners.tolist() == np.arange(n).reshape(shape).tolist()


@pytest.mark.parametrize(("size", "n"), [((32, 32), 1), ((32, 32), 13), ((32, 3), 8)])
def test_regions_that_are_refused(size: tuple[int, int], n: int) -> None:
    with pytest.raises(WhymaskError, match="regions"):
        regions(size, n)


def test_preserved_discarded_and_new_by_hand() -> None:
    before = np.array([[9.0, 3.0, -2.0, 1.0]])  # the empty set, {0}, {1}, {0, 1}
    after = np.array([[5.0, 1.0, 4.0, 2.0]])
    scores = ia.transfer_scores(before, after, "mean")
    assert scores[Key("preserved", "mean")] == 1 + 0 + 1
    assert scores[Key("discarded", "mean")] == 2 + 2 + 0
    assert scores[Key("new", "mean")] == 0 + 4 + 1
    assert [scores[Key("discarded at", "mean", order)].item() for order in (1.0, 2.0)] == [4, 0]
    found = ia.found_scores(before, after, "mean")
    assert found[Key("found by, in log-odds", "mean")] == pytest.approx(2 / 6)
    assert found[Key("found by", "mean")] == pytest.approx(1 / 7 + 0 + 1 / 6)  # 1 of 7, against 3 of 6; and so on


def test_larger_log_odds_alone_are_not_more_of_what_was_there() -> None:
    before = np.random.default_rng(0).normal(size=(5, 16))
    for scale in (0.1, 1, 10):
        found = ia.found_scores(before, scale * before, "mean")
        assert found[Key("found by", "mean")] == pytest.approx(np.ones(5))
    assert (found[Key("found by, in log-odds", "mean")] == 1).all()
    assert (ia.found_scores(before, 0.1 * before, "mean")[Key("found by, in log-odds", "mean")] < 0.11).all()


def test_what_no_scratch_network_finds() -> None:
    before, after = np.array([[0.0, 4.0, 2.0, 0.0]]), np.array([[0.0, 3.0, 2.0, 0.0]])
    scratch = [np.array([[0.0, 1.0, -5.0, 0.0]]), np.array([[0.0, 2.0, 0.5, 0.0]])]
    found = ia.never_found_scores(before, after, scratch, "mean")
    kept = [3 / 5, 2 / 6]  # shares of the strength: before 4/6 and 2/6, after 3/5 and 2/5
    best = [3 / 5, 0.5 / 2.5]  # of scratch 1/6 and -5/6, and 2/2.5 and 0.5/2.5
    assert found[Key("never found", "mean")] == pytest.approx(1 - sum(best) / sum(kept))
    assert ia.never_found_scores(before, after, [after], "mean")[Key("never found", "mean")] == 0
    assert np.isnan(ia.never_found_scores(before, -after, scratch, "mean")[Key("never found", "mean")])


def test_effective_count() -> None:
    assert ia.effective_count(np.array([[7.0, 1, -1, 1], [7.0, 0, 5, 0]])).tolist() == [3, 1]


# retention -------------------------------------------------------------------------------------------------------


def test_unbiased_cka_is_the_mean_over_distinct_images() -> None:
    """HSIC_1 as the mean over all ordered quadruples of distinct images of k_ij (l_ij + l_qr - 2 l_iq)."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(7, 2)), random.normal(size=(7, 3))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        k, other = a @ a.T, b @ b.T
        quadruples = permutations(range(7), 4)
        return float(np.mean([k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in quadruples]))

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert retention.unbiased_cka(x, y) == pytest.approx(expected)


def test_cka_sees_through_rotation_scale_and_shift() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(60, 8))
    turned = 3 * x @ np.linalg.qr(random.normal(size=(8, 8)))[0] + 5
    assert retention.unbiased_cka(x, x) == pytest.approx(1)
    assert retention.unbiased_cka(x, turned) == pytest.approx(1)


def test_cka_of_unrelated_features_is_about_zero_where_the_biased_one_is_not() -> None:
    random = np.random.default_rng(2)
    found, biased = [], []
    for _ in range(20):
        x, y = random.normal(size=(2, 50, 40))
        found.append(retention.unbiased_cka(x, y))
        x, y = x - x.mean(0), y - y.mean(0)
        cross, own, other = (np.linalg.norm(a.T @ b) for a, b in ((x, y), (x, x), (y, y)))
        biased.append(cross**2 / (own * other))
    assert abs(np.mean(found)) < 0.02 < 0.3 < np.mean(biased)


def test_cka_numbers_have_both_intervals_and_leave_wide_layers_out() -> None:
    random = np.random.default_rng(3)

    def layers() -> list[np.ndarray]:
        return [random.normal(size=(80, 5)), random.normal(size=(80, 100))]

    before = layers()
    rows = retention.cka_numbers("mae", {seed: (before, before if seed else layers()) for seed in range(3)})
    assert retention.too_wide(before) == [2]
    assert {row.item for row in rows} == {"1"}
    by_kind = {(row.seed, row.over): row for row in rows}
    assert by_kind[1, "images"].value == pytest.approx(1) and by_kind[0, "images"].value < 0.3
    assert by_kind[None, "seeds"].count == 3 and by_kind[None, "images"].count == 80
    unrelated = by_kind[0, "images"]
    assert unrelated.low < 0.05 < unrelated.high or abs(unrelated.value) < 0.1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("config", "size", "widths"),
    [
        (EncoderSettings("vit", width=32, depth=3, heads=1), 32, [32] * 3),
        (EncoderSettings("cnn", width=8), 32, None),
        (EncoderSettings("two-layer", width=16), 32, [16]),
        (EncoderSettings("swin_tiny_patch4_window7_224", width=32), 32, None),
    ],
)
def test_layer_features(config: EncoderSettings, size: int, widths: list[int] | None) -> None:
    encoder = new_encoder(config, (size, size), 1, 0)
    encoder.transform = Preprocessing((size, size), (size, size), 1, mean=(0.5,), std=(0.25,))
    images = torch.randn(5, 1, size, size, generator=torch_generator(0))
    layers = Member("baseline", "scratch", 0, Classifier(encoder, 2), encoder.transform).layers(images)
    with torch.inference_mode():
        outputs = encoder.outputs(images)
    assert [layer.shape[0] for layer in layers] == [5] * len(outputs)
    if widths:
        assert [layer.shape[1] for layer in layers] == widths
    last = outputs[-1]
    if config.name == "vit":
        expected = last[:, encoder.prefix :].mean(1)  # type: ignore[misc]
    else:
        expected = last.flatten(1, 2).mean(1) if encoder.kind == "swin" else last.flatten(2).mean(2)
    assert np.allclose(layers[-1], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_readout_is_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % classes
    features = random.normal(size=(60, 5)) * [1, 10, 0.1, 1, 1] + labels[:, None]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    weight, bias = fit_readout(features, labels, classes)
    shares = torch.from_numpy(features @ weight.T + bias).softmax(dim=1).numpy()
    assert np.allclose(shares, pipeline.predict_proba(features), atol=1e-4)


def test_a_class_without_images_is_never_read_out() -> None:
    features, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2 * 2
    weight, bias = fit_readout(features, labels, 3)
    assert 1 not in (features @ weight.T + bias).argmax(axis=1)


def test_kept_counts_what_could_be_decoded_before() -> None:
    labels = np.arange(40) % 2
    clear, noise = labels[:, None] + np.zeros((40, 1)), np.random.default_rng(0).normal(size=(40, 1))
    half = clear.copy()
    half[:20] = 0.5 + 0.1 * noise[:20]
    right = [retention.readout((clear, test), (labels, labels), 2) for test in (half, clear)]
    scores = retention.readout_scores(*right)
    before = scores[Key("read-out before")]
    assert scores[Key("read-out after")].all() and before[20:].all() and not before[:20].all()
    assert np.array_equal(np.isnan(scores[Key("kept")]), before == 0)
    assert np.nanmean(scores[Key("kept")]) == 1


def test_cka_blocks_keep_groups_together() -> None:
    groups = np.repeat(np.arange(12), 5)
    for rows, _ in retention._blocks_left(60, groups):
        left = set(groups[rows[:, 0]])
        assert all((groups[rows[:, 0]] == group).sum() == 5 for group in left) and len(left) in (10, 11)
    random = np.random.default_rng(4)
    x = random.normal(size=(60, 3))
    layers = {0: ([x], [x + random.normal(size=x.shape)])}
    alone, grouped = (retention.cka_numbers("mae", layers, g)[0] for g in (None, groups))
    assert alone.value == grouped.value and alone.low != grouped.low
