"""What a study's page shows of its images: samples by class, and what pretraining reconstructed."""

from pathlib import Path
from typing import Any

import numpy as np

from whymask.report.pictures import arrays_of, data_uri

SAMPLES, SAMPLE_SIDE = 60, 64
GALLERY, GALLERY_SIDE = 8, 112


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


def samples(folder: Path, classes: list[str]) -> list[dict[str, Any]]:
    """Sample images by class: [{"name", "images": [data URI, ...]}], at most `SAMPLES` in all; unlabelled ones last."""
    arrays = arrays_of(folder / "samples.npz")
    if "images" not in arrays or not len(arrays["images"]):
        return []
    images = arrays["images"]
    labels = arrays.get("labels", np.full(len(images), -1))
    present = sorted({int(label) for label in labels}, key=lambda label: (label < 0, label))[:SAMPLES]
    share = max(1, SAMPLES // len(present))
    grid = []
    for label in present:
        name = classes[label] if 0 <= label < len(classes) else "unlabelled" if label < 0 else f"class {label}"
        rows = np.flatnonzero(labels == label)[:share]
        grid.append({"name": name, "images": [data_uri(images[row], SAMPLE_SIDE) for row in rows]})
    return grid
