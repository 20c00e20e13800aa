"""Small images as data URIs."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SAMPLES, SAMPLE_SIDE = 60, 64
GALLERY, GALLERY_SIDE = 8, 112


def data_uri(image: np.ndarray, side: int) -> str:
    """A PNG of `image` (h, w, C), uint8, its longer side at most `side` pixels; of many channels, the first three."""
    picture = Image.fromarray(np.ascontiguousarray(image[..., :3] if image.shape[-1] >= 3 else image[..., 0]))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; none if there is no such file or it is damaged: a page is made from what is there."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError):
        return {}


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
