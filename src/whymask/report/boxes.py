"""How objects are shown: a box of its class's colour around each, and what is said of it."""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.utils import draw_bounding_boxes

from whymask.report.label_maps import palette


def boxed(
    image: np.ndarray, corners: np.ndarray, classes: np.ndarray, texts: Sequence[str] | None, count: int
) -> np.ndarray:
    """An image uint8 (H, W, C), of many channels the first three, with the boxes (n, 4), left, top, right and bottom in
    its pixels, of objects whose classes (n,) are below `count`: uint8 (H, W, 3)."""
    picture = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    if not len(corners):
        return np.ascontiguousarray(picture)
    drawn = draw_bounding_boxes(
        torch.from_numpy(np.moveaxis(picture, -1, 0).copy()),
        torch.from_numpy(np.asarray(corners, np.float64)),
        labels=None if texts is None else list(texts),
        colors=[tuple(colour) for colour in palette(count)[classes].tolist()],
        width=max(1, round(min(picture.shape[:2]) / 200)),
    )
    return drawn.movedim(0, -1).numpy()
