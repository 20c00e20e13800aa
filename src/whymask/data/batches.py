"""From a step to its batch, without state: order, crops and flips are functions of (seed, purpose, epoch or step).

Augmentation works on whole batches. The random resized crop has the distribution of torchvision's
RandomResizedCrop and the pixels of its bilinear, antialiased resize.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from whymask.data.preprocessing import Preprocessing
from whymask.data.strong import Strong
from whymask.errors import WhymaskError
from whymask.randomness import numpy_generator, torch_generator

ASPECTS = (3 / 4, 4 / 3)  # width / height of a crop
SMALL = 36 * 36  # pixels of an image up to which a CPU crops faster by matrices than image by image
ATTEMPTS = 10  # crops proposed until one fits into the image, as in torchvision


Order = Callable[[int], np.ndarray]
"""Epoch -> the rows of its images, in their order."""


class Images(Protocol):
    """The part of `whymask.data.store.ImageSet` that is needed here."""

    @property
    def images(self) -> np.ndarray: ...  # uint8 or uint16 (N, H, W, C)
    @property
    def labels(self) -> np.ndarray: ...  # int64 or float64, N rows
    @property
    def preprocessing(self) -> Preprocessing: ...


@dataclass(frozen=True)
class Augment:
    """A random resized crop of an area share U(min_scale, 1) and aspect 3/4 to 4/3, then a horizontal flip."""

    min_scale: float = 0.4
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise WhymaskError(f"min_scale={self.min_scale}; expected an area share above 0 and at most 1; try 0.4")


@dataclass
class Batch:
    """Images float32 (B, C, h, w), normalised; labels, int64 or float32, such as (B,) or (B, L); and the rows of the
    image set they came from."""

    images: torch.Tensor
    labels: torch.Tensor
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Crops:
    """A box in every image, in pixels, and whether what it holds is mirrored; int64 and bool (B,)."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor
    flip: torch.Tensor

    def __getitem__(self, rows: slice) -> "Crops":
        return Crops(self.top[rows], self.left[rows], self.height[rows], self.width[rows], self.flip[rows])

    def to(self, device: torch.device) -> "Crops":
        return Crops(*(_to(t, device) for t in (self.top, self.left, self.height, self.width, self.flip)))


class Batches:
    """The training batches of some rows: ``batches(step)`` is the same whenever and wherever it is called.

    An epoch is a permutation of the rows, or another order, cut into batches; the rows left over are dropped, other
    ones each epoch. With fewer rows than a batch, every batch is all rows. The batch of all ranks together does not
    depend on their number: each takes its slice of it.

    Args:
        rows: rows of `images` to train on.
        batch_size: images of a step, over all ranks.
        augment: None for the centre crop of evaluation.
        strong: what is done beyond that.
        order: epoch -> its rows, as many as `rows`, of which some may come more than once; by default a permutation.
        rank, world: this process and their number; `world` must divide the batch.
    """

    def __init__(
        self,
        images: Images,
        rows: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        augment: Augment | None,
        strong: Strong | None = None,
        order: Order | None = None,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if len(rows) == 0:
            raise WhymaskError("no images to train on; expected at least one; check the labels and the splits")
        self.batch_size = min(batch_size, len(rows))
        if batch_size < 1 or self.batch_size % world:
            raise WhymaskError(
                f"a batch of {self.batch_size} images over {world} processes; expected a multiple of {world}"
            )
        self.images, self.rows, self.seed, self.augment = images, np.asarray(rows), seed, augment
        self.strong, self.order = strong, order or self._permuted
        self.device, self.rank, self.world = torch.device(device), rank, world
        self.steps_per_epoch = len(rows) // self.batch_size
        self.share = self.batch_size // world
        self.mine = slice(rank * self.share, (rank + 1) * self.share)
        self._epoch: tuple[int, np.ndarray] = (-1, self.rows)  # the order last used: a cache, not a state

    def __call__(self, step: int) -> Batch:
        """The batch of this rank at `step`, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self._of_epoch(epoch)[position * self.batch_size :][self.mine]
        crops = None
        if self.augment is not None:
            generator = torch_generator(self.seed, "augment", step)
            crops = draw_crops(self.batch_size, self.images.images.shape[1:3], self.augment, generator)[self.mine]
        if self.strong is None:
            return _load(self.images, rows, crops, self.device)
        strong, first = self.strong, self.mine.start
        change = partial(strong.augment, seed=self.seed, step=step, first=first) if strong.rand_augment else None
        batch = _load(self.images, rows, crops, self.device, change)
        strong.erase(batch.images, self.seed, step, first)
        return batch

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.order(epoch))
        return self._epoch[1]

    def _permuted(self, epoch: int) -> np.ndarray:
        return numpy_generator(self.seed, "order", epoch).permutation(self.rows)


def in_order(images: Images, rows: np.ndarray, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
    """All `rows` as they come, the last batch perhaps smaller; centre crops."""
    rows = np.asarray(rows)
    for start in range(0, len(rows), batch_size):
        yield _load(images, rows[start : start + batch_size], None, torch.device(device))


def _load(
    images: Images,
    rows: np.ndarray,
    crops: Crops | None,
    device: torch.device,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Batch:
    """`change` works on the cropped bytes (B, h, w, C), on the CPU."""
    preprocessing = images.preprocessing
    kind = np.float32 if images.labels.dtype.kind == "f" else np.int64
    labels = _to(torch.from_numpy(np.asarray(images.labels[rows], kind)), device)
    if change is not None:
        pixels = torch.from_numpy(images.images[rows])
        if crops is None:
            pixels = preprocessing.centre_crop(pixels.movedim(-1, 1)).movedim(1, -1)
        else:
            pixels = _crop_bytes(pixels, crops, preprocessing.size)
        return Batch(preprocessing.normalise(_to(change(pixels), device)), labels, rows)
    raw = _to(torch.from_numpy(images.images[rows]), device)
    if crops is None:
        ready = preprocessing.centre_crop(preprocessing.normalise(raw)).contiguous()
    elif device.type == "cpu" and raw.dtype == torch.uint8 and raw.shape[1] * raw.shape[2] > SMALL:
        ready = preprocessing.normalise(_crop_bytes(raw, crops, preprocessing.size))
    else:
        ready = resized_crops(preprocessing.normalise(raw), crops, preprocessing.size)
    return Batch(ready, labels, rows)


def _to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def draw_crops(n: int, stored: tuple[int, ...], augment: Augment, generator: torch.Generator) -> Crops:
    """`n` boxes in images of `stored` (H, W) pixels, distributed as torchvision's RandomResizedCrop draws them.

    Up to ten boxes are proposed and the first that fits is taken; should none fit, the largest centred box whose
    aspect is allowed.
    """
    full_height, full_width = stored
    area = full_height * full_width * _uniform(augment.min_scale, 1.0, (n, ATTEMPTS), generator)
    aspect = _uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1]), (n, ATTEMPTS), generator).exp()
    heights, widths = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
    fits = (heights <= full_height) & (widths <= full_width) & (heights > 0) & (widths > 0)
    found, first = fits.any(1), fits.int().argmax(1, keepdim=True)

    nearest = min(max(full_width / full_height, ASPECTS[0]), ASPECTS[1])
    fallback = (min(full_height, round(full_width / nearest)), min(full_width, round(full_height * nearest)))
    height = torch.where(found, heights.gather(1, first)[:, 0], fallback[0])
    width = torch.where(found, widths.gather(1, first)[:, 0], fallback[1])

    place = _uniform(0.0, 1.0, (2, n), generator)
    top = torch.where(found, (place[0] * (full_height - height + 1)).long(), (full_height - height) // 2)
    left = torch.where(found, (place[1] * (full_width - width + 1)).long(), (full_width - width) // 2)
    flip = torch.rand(n, generator=generator) < (0.5 if augment.flip else 0.0)
    return Crops(top, left, height, width, flip)


def _uniform(low: float, high: float, shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float64).uniform_(low, high, generator=generator)


def resized_crops(images: torch.Tensor, crops: Crops, size: tuple[int, int]) -> torch.Tensor:
    """Every crop enlarged or reduced to `size` (h, w), bilinear and antialiased, on the images' device.

    Args:
        images: float (B, C, H, W).

    Returns:
        float (B, C, h, w). Both axes are resized by products with batched matrices, flips included.
    """
    batch, channels, height, width = images.shape
    crops = crops.to(images.device)
    rows = _resize_matrix(crops.top, crops.height, height, size[0])
    columns = _resize_matrix(crops.left, crops.width, width, size[1])
    columns = torch.where(crops.flip[:, None, None], columns.flip(1), columns)
    across = images.reshape(batch, channels * height, width) @ columns.mT
    return rows[:, None] @ across.view(batch, channels, height, size[1])


def _resize_matrix(start: torch.Tensor, length: torch.Tensor, full: int, out: int) -> torch.Tensor:
    """float32 (B, out, full): the weights with which `out` pixels see those of `start` ... `start + length` - 1."""
    scale = (length / out)[:, None, None]
    support = scale.clamp(min=1)
    centre = start[:, None, None] + (torch.arange(out, device=start.device)[:, None] + 0.5) * scale
    pixel = torch.arange(full, device=start.device) + 0.5
    inside = (pixel > start[:, None, None]) & (pixel < (start + length)[:, None, None])
    weights = (1 - (pixel - centre).abs() / support).clamp(min=0) * inside
    return weights / weights.sum(-1, keepdim=True)


def _crop_bytes(images: torch.Tensor, crops: Crops, size: tuple[int, int]) -> torch.Tensor:
    """`resized_crops` of uint8 (B, H, W, C) on the CPU, rounded; (B, h, w, C).

    Image by image, since torch resizes bytes with vector instructions: at 96 pixels 4 times as fast as matrices, but
    at 32 half as fast, as each call costs 10 us.
    """
    out = torch.empty((len(images), *size, images.shape[-1]), dtype=torch.uint8)
    sources, targets = images.movedim(-1, 1), out.movedim(-1, 1)
    boxes = torch.stack([crops.top, crops.left, crops.height, crops.width], 1).tolist()
    for i, (top, left, height, width) in enumerate(boxes):
        box = sources[i : i + 1, :, top : top + height, left : left + width]
        targets[i : i + 1] = F.interpolate(box, size=size, mode="bilinear", antialias=True)
    return torch.where(crops.flip[:, None, None, None], out.flip(2), out)
