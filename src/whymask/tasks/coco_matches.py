"""Which detections find which objects of an image, as COCO counts it: every metric of detection is made of it."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from whymask.errors import WhymaskError

CROWD, DIFFICULT = 1, 2
"""Why an object does not count: its box is around a crowd of its kind, or it is too difficult to be asked for (Pascal
VOC). Neither is learnt, and neither is wrong to find."""
COLUMNS = ("left", "top", "right", "bottom", "class", "ignored", "area", "scale")
"""Of an object as it is learnt: corners in pixels that the network sees; its class, -1 where there is no object; 0, or
why it does not count; its area in pixels of the image itself, and how many of those one pixel seen stands for."""
AREAS = ("all", "small", "medium", "large")
"""Of objects, in pixels of the image itself: COCO's, cut at 32 x 32 and 96 x 96."""
MOST = 100
"""Detections of an image that are kept, the best."""
KEPT = ("left", "top", "right", "bottom", "score", "class", *AREAS)
"""Of a detection: corners in pixels that the network sees, its score, its class, -1 where there is no detection; and
of the objects of each of AREAS, a number whose bits 0 to 9 say at which IoU threshold, .5, .55 to .95, it is the match
of one, and whose bits 10 to 19 say at which it does not count."""
THRESHOLDS = 10
BITS = 2 ** np.arange(2 * THRESHOLDS)


class Matches(NamedTuple):
    """What is kept of N images, of k classes, taken apart; detections come best first, of equal scores those of earlier
    images first, as in COCO's.

    Attributes:
        objects: float64 (4, N, k), of each of AREAS how many objects of each class that count each image shows.
        images, classes, scores: (n,), of each detection.
        right, wrong: bool (4, 10, n), at each IoU threshold whether it is the match of an object that counts, or should
            not be there. It may be neither.
    """

    objects: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    wrong: np.ndarray


def matches_of(detections: Tensor, objects: Tensor, classes: int) -> Tensor:
    """Detections (B, D, 6) of a network beside objects (B, M, 8), `COLUMNS`: float32 (B, 4 k + 10 * MOST), first of
    each of AREAS how many objects of each class count, then `KEPT` of each detection, the best first.

    Rows are matched by pycocotools' COCOeval, in pixels of the image itself. WhymaskError where it is not installed.
    """
    evaluator = _evaluator()
    found, true = (side.detach().cpu().double().numpy() for side in (detections, objects))
    rows = [_of_image(evaluator, *image, classes) for image in zip(found, true, strict=True)]
    return torch.from_numpy(np.stack(rows).astype(np.float32)).to(detections.device)


def _evaluator() -> Any:
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise WhymaskError(
            "boxes that are found are compared with true ones by pycocotools, which is not installed; install it: "
            "pip install 'whymask[dense]'"
        ) from error
    evaluator = COCOeval(iouType="bbox")
    evaluator.params.maxDets = [MOST]
    return evaluator


def _of_image(evaluator: Any, found: np.ndarray, objects: np.ndarray, classes: int) -> np.ndarray:
    scale, true = objects[0, COLUMNS.index("scale")], objects[objects[:, 4] >= 0]
    found = found[found[:, 5] >= 0]
    found = found[np.argsort(-found[:, 4], kind="stable")[:MOST]]
    counts, kept = np.zeros((len(AREAS), classes)), np.zeros((MOST, len(KEPT)))
    kept[:, 5] = -1
    kept[: len(found), :6] = found
    for c in np.unique(np.concatenate([found[:, 5], true[:, 4]])).astype(int).tolist():
        of_class = np.flatnonzero(found[:, 5] == c)
        evaluator._gts[0, c] = _as_coco_has_objects(true[true[:, 4] == c], scale)
        evaluator._dts[0, c] = _as_coco_has_detections(found[of_class], scale)
        evaluator.ious[0, c] = evaluator.computeIoU(0, c)
        for area, bounds in enumerate(evaluator.params.areaRng):
            result = evaluator.evaluateImg(0, c, bounds, MOST)
            counts[area, c] = (result["gtIgnore"] == 0).sum()
            kept[of_class, 6 + area] = BITS @ np.concatenate([result["dtMatches"] > 0, result["dtIgnore"]])
    return np.concatenate([counts.ravel(), kept.ravel()])


def _as_coco_has_objects(objects: np.ndarray, scale: float) -> list[dict[str, Any]]:
    """What is difficult is ignored, and is found once, by its IoU, as others are; a crowd is found by any number of
    detections, by the share of them that lies in it."""
    areas, ignored = objects[:, COLUMNS.index("area")], objects[:, COLUMNS.index("ignored")]
    boxes = _boxes(objects, scale)
    return [
        {"id": number, "bbox": box, "area": area, "ignore": int(why != 0), "iscrowd": int(why == CROWD)}
        for number, (box, area, why) in enumerate(zip(boxes, areas, ignored, strict=True), 1)
    ]


def _as_coco_has_detections(found: np.ndarray, scale: float) -> list[dict[str, Any]]:
    return [
        {"id": number, "bbox": box, "area": box[2] * box[3], "score": score}
        for number, (box, score) in enumerate(zip(_boxes(found, scale), found[:, 4], strict=True), 1)
    ]


def _boxes(rows: np.ndarray, scale: float) -> list[list[float]]:
    """Left, top, width and height in pixels of the image itself."""
    corners = rows[:, :4] * math.sqrt(scale)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()


def taken_apart(predictions: np.ndarray, classes: int) -> Matches:
    """Of predictions (N, 4 k + 10 D), as `matches_of` gives them."""
    counted = len(AREAS) * classes
    objects = predictions[:, :counted].reshape(-1, len(AREAS), classes).swapaxes(0, 1).astype(np.float64)
    kept = predictions[:, counted:].reshape(len(predictions), -1, len(KEPT))
    images, places = np.nonzero(kept[..., 5] >= 0)
    order = np.argsort(-kept[images, places, 4], kind="stable")
    found = kept[images, places][order]
    said = found[:, 6:].T.astype(np.int64)[:, None] & BITS[:, None] != 0
    matched, ignored = said[:, :THRESHOLDS], said[:, THRESHOLDS:]
    right, wrong = matched & ~ignored, ~matched & ~ignored
    return Matches(objects, images[order], found[:, 5].astype(np.int64), found[:, 4], right, wrong)


def known_matches(objects: np.ndarray, are_found: bool) -> np.ndarray:
    """Predictions (N, 4 k + 10 D) of images with so many objects of each class, (N, k), all of which are found at a
    score of 1, or none is. Their sizes are not known: each counts in all of AREAS."""
    each = objects.sum(axis=1)
    kept = np.zeros((len(objects), max(MOST, each.max(initial=0)), len(KEPT)), np.float32)
    kept[..., 5] = -1
    if are_found:
        rows, of_class = np.nonzero(objects)
        times = objects[rows, of_class]
        taken = np.arange(kept.shape[1]) < each[:, None]
        kept[taken, 4], kept[taken, 5] = 1, np.repeat(of_class, times)
        kept[taken, 6:] = BITS[:THRESHOLDS].sum()
    counts = np.tile(objects, len(AREAS))
    return np.concatenate([counts, kept.reshape(len(objects), -1)], axis=1, dtype=np.float32)
