"""Segmentation: what is counted of label maps, and that metrics are those of the field."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from tiny import NAMES, labels_of, maps_with
from whymask.errors import WhymaskError
from whymask.tasks import LossConfig, Segmentation
from whymask.tasks.segmentation import COUNTED, IGNORED, TOLERANCE, counts_of

TASK = Segmentation(NAMES)


def maps(seed: int, count: int = 4, side: tuple[int, int] = (24, 30), ignored: float = 0.1) -> tuple:
    """Label maps of smooth regions, predicted and true, int64 (N, h, w), of which the true ones are partly ignored."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((2, count, len(NAMES), 4, 5), generator=generator).flatten(0, 1)
    coarse[count:] += coarse[:count]
    predicted, true = F.interpolate(coarse, size=side, mode="bilinear").argmax(1).split(count)
    return predicted, true.masked_fill(torch.rand(true.shape, generator=generator) < ignored, IGNORED)


def logits(predicted: torch.Tensor) -> torch.Tensor:
    return F.one_hot(predicted, len(NAMES)).movedim(-1, 1).float()


def true_labels(true: torch.Tensor) -> np.ndarray:
    return np.stack([np.bincount(each.flatten(), minlength=256)[: len(NAMES)] for each in true.numpy()])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), ignored=st.sampled_from([0.0, 0.1, 0.9]))
def test_metrics_are_scikit_learns_over_all_pixels_that_count(seed, ignored):
    predicted, true = maps(seed, ignored=ignored)
    found = TASK.metrics(TASK.kept(logits(predicted), true).numpy(), true_labels(true))
    counted = true != IGNORED
    ours, theirs = predicted[counted].numpy(), true[counted].numpy()
    shown = np.unique(theirs).tolist()
    expected = {
        "pixel_accuracy": accuracy_score(theirs, ours),
        "mean_iou": jaccard_score(theirs, ours, labels=shown, average="macro", zero_division=0),
        "mean_dice": f1_score(theirs, ours, labels=shown, average="macro", zero_division=0),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    iou = TASK.per_name(TASK.kept(logits(predicted), true).numpy(), true_labels(true))
    of_class = jaccard_score(theirs, ours, labels=range(3), average=None, zero_division=0)
    assert iou == [pytest.approx(of_class[c]) if c in shown else None for c in range(3)]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.sampled_from([(24, 30), (150, 200)]))
def test_edges_are_scikit_images_and_near_ones_lie_within_the_tolerance(seed, side):
    predicted, true = maps(seed, 2, side, ignored=0.0)
    counted = dict(zip(COUNTED, counts_of(predicted, true, 3).view(2, len(COUNTED), 3).unbind(1), strict=True))
    reach = max(1.0, TOLERANCE * np.hypot(*side))
    grid = np.arange(-int(reach), int(reach) + 1)
    disc = grid[:, None] ** 2 + grid**2 <= reach**2
    for image in range(2):
        for c in range(3):
            ours, theirs = (
                find_boundaries((x[image] == c).numpy(), mode="inner", connectivity=1) for x in (predicted, true)
            )
            expected = (ours, ours & binary_dilation(theirs, disc), theirs, theirs & binary_dilation(ours, disc))
            assert [counted[name][image, c] for name in COUNTED[3:]] == [edge.sum() for edge in expected]


def test_boundary_f_is_the_mean_over_images_with_an_edge_then_over_classes():
    predicted, true = maps(3, ignored=0.0)
    kept = TASK.kept(logits(predicted), true).numpy()
    ours, near, theirs, theirs_near = kept.reshape(4, len(COUNTED), 3).swapaxes(0, 1)[3:]
    values = []
    for c in range(3):
        scores = []
        for image in range(4):
            if ours[image, c] + theirs[image, c]:
                precision = near[image, c] / ours[image, c] if ours[image, c] else 0
                recall = theirs_near[image, c] / theirs[image, c] if theirs[image, c] else 0
                scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0)
        values.append(np.mean(scores))
    assert TASK.metrics(kept, true_labels(true))["boundary_f"] == pytest.approx(np.mean(values))


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(dice=0.4), LossConfig(label_smoothing=0.1)], ids=str)
def test_what_is_ignored_has_no_say_in_the_loss_or_in_what_is_counted(config):
    _, true = maps(0, ignored=0.3)
    objective = TASK.objective(true_labels(true), config)
    outputs = torch.randn(4, 3, 24, 30, generator=torch.Generator().manual_seed(1))
    other = torch.where((true == IGNORED)[:, None], 1e3 * torch.randn(outputs.shape), outputs).requires_grad_()
    torch.testing.assert_close(objective(other, true), objective(outputs, true))
    objective(other, true).backward()
    assert not other.grad[(true == IGNORED)[:, None].expand(other.shape)].any()
    assert torch.equal(TASK.kept(other, true), TASK.kept(outputs, true))
    assert objective(outputs, torch.full_like(true, IGNORED)) == 0


def test_the_loss_is_torchs_weighted_by_class_and_dice_is_its_formula():
    _, true = maps(0, ignored=0.2)
    labels = true_labels(true)
    outputs = torch.randn(4, 3, 24, 30)
    weight = torch.tensor(labels.sum() / (3 * labels.sum(axis=0)), dtype=torch.float32)
    weighted = TASK.objective(labels, LossConfig(class_weights="balanced"))(outputs, true)
    pixels = F.cross_entropy(outputs, true, weight, ignore_index=IGNORED, reduction="none")
    torch.testing.assert_close(weighted, pixels.mean())
    counted = true != IGNORED
    plain = F.cross_entropy(outputs, true, ignore_index=IGNORED) * counted.float().mean()
    parts = [TASK.objective(labels, LossConfig())(outputs[part], true[part]) for part in (slice(1), slice(1, 4))]
    torch.testing.assert_close((parts[0] + 3 * parts[1]) / 4, plain)
    shares, truth = outputs.softmax(1).movedim(1, -1)[counted], F.one_hot(true[counted], 3)
    dice = 2 * (shares * truth).sum(0) / (shares.sum(0) + truth.sum(0))
    half = TASK.objective(labels, LossConfig(dice=0.5))(outputs, true)
    torch.testing.assert_close(half, 0.5 * plain + 0.5 * (1 - dice.mean()))


def test_a_guess_says_the_commonest_class_everywhere():
    labels = labels_of(TASK, 50, 0)
    maps_, commonest = maps_with(labels), int(labels.sum(axis=0).argmax())
    said = TASK.kept(logits(torch.full_like(maps_, commonest)), maps_).numpy()
    guessed = TASK.guess(labels, labels)
    assert np.array_equal(guessed[:, :9], said[:, :9])
    assert TASK.metrics(guessed, labels) == TASK.metrics(said, labels) == TASK.chance(labels, labels)


def test_maps_of_one_class_and_labels_of_whole_images_are_refused():
    with pytest.raises(WhymaskError, match="fewer than two of the classes ant, bee, cow"):
        TASK.check(np.array([[5, 0, 0], [9, 0, 0]]), "photos")
    with pytest.raises(WhymaskError, match="explain a run or a study of classification"):
        TASK.question(np.zeros((1, 3)), np.array([0]), None)
