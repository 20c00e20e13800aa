"""What a study's page shows of its images: samples by class, and what pretraining reconstructed."""

from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.sheet import sample_groups
from whymask.report.marks import marked
from whymask.report.pictures import arrays_of, data_uri
from whymask.tasks import Task
from whymask.tasks.answers import in_words

GALLERY, GALLERY_SIDE = 8, 112
OUTCOME_SIDE, MARKED_SIDE = 80, 128


def galleries(folder: Path, pretraining: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per method, its first gallery: [{"method", "seed", "triples": [(original, masked, reconstructed), ...]}]."""
    shown: dict[str, dict[str, Any]] = {}
    methods = {record["method"] for record in pretraining}
    for record in pretraining:
        arrays = arrays_of(folder / record["folder"] / "gallery.npz") if record.get("folder") else {}
        if record["method"] in shown or not {"original", "masked", "reconstructed"} <= arrays.keys():
            continue
        columns = (arrays["original"], arrays["masked"], arrays["reconstructed"])
        triples = [
            tuple(data_uri(image, GALLERY_SIDE) for image in images)
            for images in list(zip(*columns, strict=False))[: max(2, GALLERY // len(methods))]
        ]
        shown[record["method"]] = {"method": record["method"], "seed": record.get("seed"), "triples": triples}
    return list(shown.values())


def outcomes(folder: Path, study: dict[str, Any], task: Task) -> dict[str, list[dict[str, Any]]]:
    """Per kind of study.json's outcomes, its images: {"image": data URI, "key", "true", "baseline", "arm": in words,
    "baseline_right", "arm_right", "marked": data URIs of the image with the true label map or objects, the baseline's
    and the arm's, where there are some}. None where the pixels are not there."""
    arrays, found = arrays_of(folder / "outcomes.npz"), study.get("outcomes")
    shown: dict[str, list[dict[str, Any]]] = {}
    for kind, rows in (found["shown"] if found else {}).items():
        pixels = arrays.get(kind, np.empty(0))
        if len(pixels) != len(rows):
            continue
        sides = ("true", "baseline", "arm")
        marks = {side: arrays[f"{kind}/{side}"] for side in sides if f"{kind}/{side}" in arrays}
        shown[kind] = [
            row
            | {side: in_words(task, row[side]) for side in sides}
            | {"image": data_uri(picture, OUTCOME_SIDE)}
            | {"marked": [data_uri(marked(picture, of[at], len(task.names)), MARKED_SIDE) for of in marks.values()]}
            for at, (row, picture) in enumerate(zip(rows, pixels, strict=True))
        ]
    return shown


def near_copies(folder: Path, pairs: list[dict[str, Any]], images: bool) -> list[dict[str, Any]]:
    """study.json's pairs of near copies: {"image", "test" (keys), "likeness", "pictures": two data URIs, or none}."""
    arrays = arrays_of(folder / "near.npz") if images and pairs else {}
    columns = [arrays.get(side, np.empty(0)) for side in ("image", "test")]
    if any(len(column) != len(pairs) for column in columns):
        return [row | {"pictures": []} for row in pairs]
    drawn = [[data_uri(picture, OUTCOME_SIDE) for picture in two] for two in zip(*columns, strict=True)]
    return [row | {"pictures": two} for row, two in zip(pairs, drawn, strict=True)]


def samples(folder: Path, task: Task) -> list[dict[str, Any]]:
    """The study's sample images, as `sample_groups` has them."""
    arrays = arrays_of(folder / "samples.npz")
    if "images" not in arrays or not len(arrays["images"]):
        return []
    images, labels = arrays["images"], arrays.get("labels", np.full(len(arrays["images"]), -1))
    marks = arrays.get("marks", arrays.get("maps"))  # as they were called before there were boxes
    if marks is not None:
        images = np.stack([marked(image, of, len(task.names)) for image, of in zip(images, marks, strict=True)])
    return sample_groups(images, labels, task)
