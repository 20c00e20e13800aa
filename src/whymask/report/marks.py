"""What is known, or said, of places in an image, drawn on it: a label map's colours, or a box around each object."""

from collections.abc import Sequence

import numpy as np

from whymask.report.label_maps import overlaid, palette

SURE = 0.3
"""Score from which on a detection is drawn, and counted: those below are many, and mostly of nothing."""


def marked(image: np.ndarray, mark: np.ndarray, classes: int) -> np.ndarray:
    """An image uint8 (H, W, C) under its label map uint8 (H, W), or with the boxes of its objects, float (M, 5): left,
    top, right, bottom, class, -1 for none; uint8 (H, W, 3)."""
    if mark.dtype == np.uint8:
        return overlaid(image, mark, palette(classes))
    return boxed(image, mark[mark[:, 4] >= 0], classes)


def objects(found: np.ndarray) -> np.ndarray:
    """Of detections (..., 6), with score and class, those that are SURE, as `marked` takes them (..., 5)."""
    classes = np.where(found[..., 4] >= SURE, found[..., 5], -1)
    return np.concatenate([found[..., :4], classes[..., None]], axis=-1)


def counted(objects: np.ndarray) -> np.ndarray:
    """Of true objects (..., 8), as `data.boxes.COLUMNS` says, those that count, as `marked` takes them (..., 5)."""
    classes = np.where(objects[..., 5] == 0, objects[..., 4], -1)
    return np.concatenate([objects[..., :4], classes[..., None]], axis=-1)


def boxed(image: np.ndarray, boxes: np.ndarray, classes: int, texts: Sequence[str] | None = None) -> np.ndarray:
    """An image uint8 (H, W, C), of many channels the first three, with a box of its class's colour, and a text, around
    each object of (n, 5)."""
    import torch
    from torchvision.utils import draw_bounding_boxes

    picture = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    if not len(boxes):
        return np.ascontiguousarray(picture)
    drawn = draw_bounding_boxes(
        torch.from_numpy(np.moveaxis(picture, -1, 0).copy()),
        torch.from_numpy(boxes[:, :4].astype(np.float64)),
        labels=None if texts is None else list(texts),
        colors=[tuple(colour) for colour in palette(classes)[boxes[:, 4].astype(int)].tolist()],
        width=max(1, round(min(picture.shape[:2]) / 200)),
    )
    return drawn.movedim(0, -1).numpy()
