"""Detection: that what is kept gives COCO's own numbers, of all images and of every resample of them."""

import contextlib
import io
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tiny import NAMES
from whymask.data.boxes import Boxes
from whymask.data.preprocessing import Preprocessing
from whymask.errors import WhymaskError
from whymask.intervals import resampled_weights
from whymask.tasks import Detection, LossConfig, RawLabels
from whymask.tasks.budgets import Budget
from whymask.tasks.coco_matches import CROWD, DIFFICULT, KEPT, MOST, matches_of, taken_apart
from whymask.tasks.resampling import Units

TASK = Detection(NAMES)
STATS = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar": 8}
"""Where pycocotools has them."""


def drawn(seed: int, images: int, scores: int | None = None, most: int = 6, found: int = 12) -> tuple:
    """Detections (B, D, 6) and objects (B, M, 8), of sizes on both sides of COCO's limits; objects may be crowds or
    difficult, or there may be none. `scores`: how many different ones there are, none of which an image has twice."""
    generator = np.random.default_rng(seed)
    objects, detections = np.zeros((images, most, 8)), np.zeros((images, found, 6))
    objects[..., 7] = generator.uniform(0.5, 3, (images, 1)) ** 2
    objects[..., 4] = np.where(generator.random((images, most)) < 0.7, generator.integers(3, size=(images, most)), -1)
    objects[..., 5] = generator.choice(3, p=[0.7, 0.15, 0.15], size=(images, most))
    sides = np.exp(generator.normal(3.3, 1, (images, most, 2)))
    objects[..., :2] = generator.uniform(0, 200, (images, most, 2))
    objects[..., 2:4] = objects[..., :2] + sides
    objects[..., 6] = sides.prod(axis=2) * objects[..., 7] * generator.uniform(0.5, 1, (images, most))
    which = generator.integers(most, size=(images, found))
    near = np.take_along_axis(objects, which[..., None], axis=1)
    moved = generator.normal(0, 0.08, (images, found, 4)) * np.tile(near[..., 2:4] - near[..., :2], 2)
    detections[..., :4] = near[..., :4] + moved
    detections[..., 2:4] = np.maximum(detections[..., 2:4], detections[..., :2] + 1)
    other = generator.integers(-1, 3, (images, found))
    detections[..., 5] = np.where((generator.random((images, found)) < 0.8) & (near[..., 4] >= 0), near[..., 4], other)
    detections[..., 4] = generator.random((images, found))
    if scores:
        detections[..., 4] = generator.permuted(np.tile(np.arange(scores), (images, 1)), axis=1)[:, :found] / scores
    return torch.from_numpy(detections).float(), torch.from_numpy(objects).float()


def labels_of_objects(objects: torch.Tensor) -> np.ndarray:
    """What the labels of these images are."""
    counted = objects[..., 5] == 0
    return torch.stack([((objects[..., 4] == c) & counted).sum(1) for c in range(3)], dim=1).numpy()


class VocEval(COCOeval):
    """pycocotools' own, which leaves out what is difficult as it does a crowd; it forgets `ignore` when it reads it."""

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for each in objects:
                each["ignore"] = each["left_out"]


def by_pycocotools(detections: np.ndarray, objects: np.ndarray, classes: int = 3) -> dict[str, float]:
    """The metrics of float64 arrays by pycocotools' public way: files of annotations and results, and a summary."""
    true, found = [], []
    scales = np.sqrt(objects[:, 0, 7])  # of a side, where the column is of what pixels cover
    for image, scale in enumerate(scales, 1):
        for left, top, right, bottom, c, ignored, area, _ in objects[image - 1][objects[image - 1, :, 4] >= 0]:
            box = [left * scale, top * scale, (right - left) * scale, (bottom - top) * scale]
            about = {"id": len(true) + 1, "image_id": image, "category_id": int(c) + 1, "bbox": box, "area": area}
            true.append(about | {"iscrowd": int(ignored == CROWD), "left_out": int(ignored != 0)})
        for left, top, right, bottom, score, c in detections[image - 1][detections[image - 1, :, 5] >= 0]:
            box = [left * scale, top * scale, (right - left) * scale, (bottom - top) * scale]
            found.append({"image_id": image, "category_id": int(c) + 1, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(1, len(objects) + 1)],
            "categories": [{"id": c + 1} for c in range(classes)],
            "annotations": true,
        }
        coco.createIndex()
        evaluation = VocEval(coco, coco.loadRes(found) if found else COCO(), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: evaluation.stats[at] for name, at in STATS.items() if evaluation.stats[at] > -1}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 12), scores=st.sampled_from([None, 12]))
def test_metrics_are_pycocotools_own(seed, images, scores):
    detections, objects = drawn(seed, images, scores)
    kept = TASK.kept(detections, objects)
    assert kept.dtype == torch.float32 and kept.shape == (images, 4 * 3 + MOST * len(KEPT))
    found = TASK.metrics(kept.numpy(), labels_of_objects(objects))
    expected = by_pycocotools(detections.double().numpy(), objects.double().numpy())
    assert found == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(kept.numpy()[:, :3], labels_of_objects(objects))


def test_what_is_found_is_as_large_as_in_the_image_itself():
    """What is wrong of 40 x 40 pixels, seen at half that: medium, as COCO has it, and neither small nor large."""
    prep = Preprocessing((50, 100), (50, 100), 3, pads=True)
    one, corners, sizes = np.array([0]), np.array([[100.0, 50.0, 140.0, 90.0]]), np.array([[100, 200]])
    boxes = Boxes(one == 0, np.array([0, 1]), corners, one, one, np.array([1600.0]), sizes)
    objects = torch.from_numpy(boxes.seen(one, prep.fitting))
    assert objects[0, 0, :4].tolist() == [50, 25, 70, 45]
    wrong = torch.tensor([[[0.0, 0, 20, 20, 0.9, 0]]])
    kept = matches_of(wrong, objects, 1)
    found = taken_apart(kept.numpy(), 1)
    assert found.objects[:, 0, 0].tolist() == [1, 0, 1, 0]  # AREAS: all, small, medium, large
    assert found.wrong[:, :, 0].all(axis=1).tolist() == [True, False, True, False]


PUBLISHED = [
    ([(258.15, 41.29, 606.41, 285.07, 0.236, 4)], [(214.15, 41.29, 562.41, 285.07, 4)]),
    (
        [(61.0, 22.75, 565.0, 632.42, 0.318, 3), (12.66, 3.32, 281.26, 275.23, 0.726, 2)],
        [(13.0, 22.75, 548.98, 632.42, 2), (1.66, 3.32, 270.26, 275.23, 2)],
    ),
    (
        [
            (87.87, 276.25, 384.29, 379.43, 0.546, 4),
            (0.0, 3.66, 142.15, 316.06, 0.3, 1),
            (296.55, 93.96, 314.97, 152.79, 0.407, 0),
            (328.94, 97.05, 342.49, 122.98, 0.611, 0),
            (356.62, 95.47, 372.33, 147.55, 0.335, 0),
            (464.08, 105.09, 495.74, 146.99, 0.805, 0),
            (276.11, 103.84, 291.44, 150.72, 0.953, 0),
        ],
        [
            (61.87, 276.25, 358.29, 379.43, 4),
            (2.75, 3.66, 162.15, 316.06, 1),
            (295.55, 93.96, 313.97, 152.79, 0),
            (326.94, 97.05, 340.49, 122.98, 0),
            (356.62, 95.47, 372.33, 147.55, 0),
            (462.08, 105.09, 493.74, 146.99, 0),
            (277.11, 103.84, 292.44, 150.72, 0),
        ],
    ),
    ([(0.0, 2.87, 601.0, 421.52, 0.699, 5)], [(13.99, 2.87, 640.0, 421.52, 5)]),
]
"""Detections and objects of COCO's images 42, 73, 74 and 133, from cocoapi's own instances_val2014_fakebbox100_results.
These, and what the official pycocotools says of them, stand in TorchMetrics' tests of mean average precision."""
OF_PUBLISHED = {"ap": 0.706, "ap50": 0.901, "ap75": 0.846, "ap_small": 0.689, "ap_medium": 0.800, "ap_large": 0.701}
OF_PUBLISHED |= {"ar": 0.716}


def test_the_published_example_has_the_published_numbers():
    task = Detection(tuple("abcdef"))
    detections, objects = torch.zeros(4, 9, 6), torch.zeros(4, 8, 8)
    detections[..., 5], objects[..., 4], objects[..., 7] = -1, -1, 1
    for image, (found, true) in enumerate(PUBLISHED):
        detections[image, : len(found)] = torch.tensor(found)
        objects[image, : len(true), :5] = torch.tensor(true)
        sides = objects[image, :, 2:4] - objects[image, :, :2]
        objects[image, :, 6] = sides.prod(dim=1)
    kept = task.kept(detections, objects).numpy()
    labels = kept[:, :6].astype(np.int64)
    assert task.metrics(kept, labels) == pytest.approx(OF_PUBLISHED, abs=5e-4)
    assert task.per_name(kept, labels) == [pytest.approx(ap, abs=5e-4) for ap in (0.725, 0.8, 0.454)] + [
        None,
        pytest.approx(0.65, abs=5e-4),
        pytest.approx(0.9, abs=5e-4),
    ]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), tied=st.sampled_from(["none", "images", "all"]), grouped=st.booleans())
def test_resamples_are_pycocotools_on_copies_of_the_images(seed, tied, grouped):
    """Copies stand together, and so do those of one detection: where scores are equal within an image, too, the copies'
    scores are told apart by less than float32 knows."""
    images = 10
    detections, objects = drawn(seed, images, {"none": None, "images": 12, "all": None}[tied])
    if tied == "all":
        detections[..., 4] = (3 * detections[..., 4]).round() / 3
    groups = np.random.default_rng(seed).integers(4, size=images) if grouped else None
    units = Units.of(images, groups)
    kept, labels = TASK.kept(detections, objects).numpy(), labels_of_objects(objects)
    (weights,) = resampled_weights(units.count, 4)
    nothing = TASK.guess(labels, labels)
    found = TASK.differences([kept], [nothing], labels, units)(weights)
    ours, true = detections.double().numpy(), objects.double().numpy()
    ours[..., 4] -= 1e-12 * np.arange(ours[..., 4].size).reshape(ours.shape[:2])
    for r, times in enumerate(weights.T):
        rows = np.repeat(np.arange(images), times[units.of_image].astype(int))
        expected = by_pycocotools(ours[rows], true[rows])
        for name in TASK.every_metric:
            assert found[name][r] == pytest.approx(expected.get(name, np.nan), abs=1e-9, nan_ok=True), name


def test_an_image_alone_is_as_good_as_its_own_ap50_and_without_objects_as_what_is_found_is_unsure():
    detections, objects = drawn(4, 70)
    objects[:3, :, 4] = -1
    detections[1, :, 5] = -1
    detections[1, :, 4] = 0
    found = TASK.of_images(TASK.kept(detections, objects).numpy())
    for image, alone in enumerate(found):
        row = slice(image, image + 1)
        of_image = by_pycocotools(detections[row].double().numpy(), objects[row].double().numpy())
        there = detections[image, detections[image, :, 5] >= 0, 4].double()
        expected = of_image.get("ap50", 1 - float(there.max()) if len(there) else 1.0)
        assert alone == pytest.approx(expected), image
    assert found[1] == 1 and 0 < found[0] < 1


def test_what_is_difficult_is_found_once_and_a_crowd_by_all_that_lies_in_it():
    def ap50(ignored: int, *boxes: tuple) -> float:
        objects = torch.tensor([[[0, 0, 40, 40, 0, 0, 1600, 1], [100, 0, 140, 40, 0, ignored, 1600, 1]]]).float()
        found = torch.tensor([[(*box, score, 0) for score, box in zip((0.9, 0.8, 0.7), boxes, strict=True)]])
        return TASK.metrics(TASK.kept(found.float(), objects).numpy(), np.array([[1, 0, 0]]))["ap50"]

    whole, part, ours = (100, 0, 140, 40), (100, 0, 110, 10), (0, 0, 40, 40)
    assert ap50(DIFFICULT, whole, (0, 90, 9, 99), ours) == pytest.approx(1 / 2)
    assert ap50(DIFFICULT, whole, whole, ours) == pytest.approx(1 / 2), "the second finds nothing"
    assert ap50(CROWD, whole, part, ours) == pytest.approx(1)
    assert ap50(DIFFICULT, part, whole, ours) == pytest.approx(1 / 2)


def test_who_finds_nothing_has_nothing_and_who_knows_more_objects_than_are_kept_has_all():
    labels = np.array([[0, 0, 0], [2, 0, 1], [150, 3, 0]])
    assert set(TASK.chance(labels, labels).values()) == {0.0} and len(TASK.chance(labels, labels)) == 7
    assert TASK.metrics(TASK.perfect(labels), labels) == pytest.approx(dict.fromkeys(TASK.every_metric, 1.0))
    assert TASK.of_images(TASK.guess(labels, labels)).tolist() == [1.0, 0.0, 0.0]
    nothing = np.zeros((2, 3), np.int64)
    assert TASK.metrics(TASK.guess(nothing, nothing), nothing) == {}


def test_of_more_detections_than_are_kept_the_best_are():
    detections, objects = drawn(1, 2, found=130)
    kept = TASK.kept(detections, objects)
    ranked = detections.where(detections[..., 5:] >= 0, -1)
    best = torch.stack([image[image[:, 4].argsort(descending=True)][:MOST] for image in ranked])
    assert torch.equal(kept[:, 12:].view(2, MOST, len(KEPT))[..., 4:6], best[..., 4:])


def test_a_budget_counts_images_that_were_looked_at_and_show_nothing():
    labels = np.array([[-1, -1, -1], [0, 0, 0], [3, 0, 1], [0, 2, 0]])
    assert TASK.draw(labels, np.arange(4), Budget("all"), 0).tolist() == [1, 2, 3]
    assert TASK.stock(labels[1:]) == [3] and TASK.counts(labels[1:]) == [1, 1, 1]
    assert [rows.tolist() for rows in TASK.strata(labels[1:], 3)] == [[1], [2], [1], [0]]
    assert TASK.summary(labels[1:]) == {"objects": [3, 2, 1]}


def test_the_loss_is_the_sum_of_the_networks_own():
    objective = TASK.objective(np.array([[1, 0, 0]]), LossConfig())
    losses = {"boxes": torch.tensor(0.5, requires_grad=True), "classes": torch.tensor(2.0)}
    loss = objective(losses, torch.empty(0))
    loss.backward()
    assert objective.width == 3 and loss.item() == 2.5 and losses["boxes"].grad == 1


def test_what_is_found_in_an_image_is_told_by_class():
    found = np.array([[0, 0, 9, 9, 0.9, 2], [0, 0, 9, 9, 0.8, 0], [0, 0, 9, 9, 0.7, 2], [0, 0, 0, 0, 0, -1]])
    assert dict(zip(TASK.header, TASK.row(found), strict=True)) == {
        "objects of ant": "1",
        "objects of bee": "0",
        "objects of cow": "2",
    }


def test_outputs_that_are_no_numbers_are_refused_as_those_of_other_tasks():
    detections, objects = drawn(0, 3)
    detections[1, 2, 0] = torch.inf
    kept = TASK.kept(detections, objects)
    assert kept.isnan().all(dim=1).tolist() == [False, True, False]
    with pytest.raises(WhymaskError, match="predictions are NaN"):
        TASK.metrics(kept.numpy(), labels_of_objects(objects))


def test_labels_without_boxes_and_questions_of_whole_images_are_refused():
    with pytest.raises(WhymaskError, match="none of the 2 images to train on shows an object of ant, bee, cow"):
        TASK.check(np.zeros((2, 3), np.int64), "photos")
    with pytest.raises(WhymaskError, match="for --task detection the boxes of each image's objects were expected"):
        Detection.encode(RawLabels(["a"]), "photos.csv")
    with pytest.raises(WhymaskError, match="explain a run or a study of classification"):
        TASK.question(np.zeros((1, 3)), np.array([0]), None)
    for probe in (lambda *args: TASK.nearest(*args, 5), TASK.linear):
        with pytest.raises(WhymaskError, match="for detection train a head"):
            probe(np.zeros((1, 2)), np.zeros((1, 3)), np.zeros((1, 2)))


def test_without_pycocotools_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(WhymaskError, match=r"pip install 'whymask\[dense\]'"):
        TASK.kept(*drawn(0, 1))
