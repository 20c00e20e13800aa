"""Probing features of pixels: what those of single positions of a frozen encoder's map tell of their classes.

A position's class is the commonest one of the pixels that it stands for. What the nearest positions, or a linear model,
say of the positions of a test image is brought to its pixels bilinearly, as a segmentation network's logits are.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from whymask.data.batches import Batch, in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder
from whymask.encoders.pyramids import at_size, map_of
from whymask.randomness import numpy_generator

MOST = 10_000
"""Positions that are learnt from, as many of each image."""
AT_ONCE = 200_000
"""Positions of test images that are told at a time."""
BATCH = 32

Told = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Features (n, D) and classes (n,) of positions, features (m, D) of others -> their log probabilities (m, k)."""


def dense_predictions(
    encoder: Encoder, prepared: Prepared, rows: np.ndarray, models: Mapping[str, Told]
) -> dict[str, np.ndarray]:
    """The task's predictions of the test images by each of the `models`, which see the positions of `rows` alone."""
    encoder.eval()
    train, classes = _positions(encoder, prepared, rows)
    grid = encoder.positions
    told: dict[str, list[Tensor]] = {name: [] for name in models}
    each = max(1, AT_ONCE // int(np.prod(grid)))
    for start in range(0, len(prepared.test), each):
        part = list(_batches(encoder, prepared, prepared.test[start : start + each]))
        features = torch.cat([maps.flatten(2).transpose(1, 2).flatten(0, 1) for maps, _ in part]).numpy()
        for name, model in models.items():
            logits = torch.from_numpy(model(train, classes, features)).float()
            of_image = logits.view(-1, *grid, logits.shape[1]).movedim(-1, 1)
            for (_, batch), some in zip(part, of_image.split(BATCH), strict=True):
                targets = batch.labels.cpu()
                told[name].append(prepared.task.kept(at_size(some, targets.shape[1:]), targets))
    return {name: torch.cat(parts).numpy() for name, parts in told.items()}


@torch.inference_mode()
def _batches(encoder: Encoder, prepared: Prepared, rows: np.ndarray) -> Iterator[tuple[Tensor, Batch]]:
    """Maps (B, D, h', w') of `rows`, on the CPU, and their batches."""
    device = next(encoder.parameters()).device
    for batch in in_order(prepared.images, rows, BATCH, device, targets="maps"):
        yield map_of(encoder, encoder(batch.images)).float().cpu(), batch


def _positions(encoder: Encoder, prepared: Prepared, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, D) and classes (n,) of positions of images of which some pixel counts, up to MOST."""
    most, features, classes = max(1, MOST // len(rows)), [], []
    for maps, batch in _batches(encoder, prepared, rows):
        of_positions = _classes(batch.labels.cpu(), len(prepared.classes), encoder.positions)
        for row, one, found in zip(batch.rows, maps, of_positions, strict=True):
            there = np.flatnonzero(found.flatten() >= 0)
            chosen = np.sort(numpy_generator(0, "positions", int(row)).permutation(there)[:most])
            features.append(one.flatten(1).T[chosen].numpy())
            classes.append(found.flatten()[chosen].numpy())
    return np.concatenate(features), np.concatenate(classes)


def _classes(targets: Tensor, classes: int, grid: tuple[int, int]) -> Tensor:
    """Of label maps (B, h, w) the commonest class at each position, int64 (B, h', w'); -1 where nothing counts."""
    counted = targets < classes
    shares = F.one_hot(targets.where(counted, 0), classes).movedim(-1, 1) * counted[:, None]
    pooled = F.adaptive_avg_pool2d(shares.float(), grid)
    return pooled.argmax(dim=1).where(pooled.sum(dim=1) > 0, -1)
