"""Random crops and flips of whole batches: the distribution of torchvision's RandomResizedCrop, and the pixels of its
bilinear, antialiased resize."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from whymask.errors import WhymaskError

ASPECTS = (3 / 4, 4 / 3)  # width / height of a crop
SMALL = 36 * 36  # pixels of an image up to which a CPU crops faster by matrices than image by image
CHUNK = 64 * 2**20  # bytes of stored images that are floats at a time
ATTEMPTS = 10  # crops proposed until one fits into the image, as in torchvision


@dataclass(frozen=True)
class Augment:
    """A random resized crop of an area share U(min_scale, 1) and aspect 3/4 to 4/3, then a horizontal flip."""

    min_scale: float = 0.4
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise WhymaskError(f"min_scale={self.min_scale}; expected an area share above 0 and at most 1; try 0.4")


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
        return Crops(*(tensor.to(device) for tensor in self.tensors()))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.top, self.left, self.height, self.width, self.flip


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


def resized_in_turn(images: torch.Tensor, crops: Crops, size: tuple[int, int]) -> torch.Tensor:
    """`resized_crops` of stored images (B, H, W, C) of integers, of a few at a time: those alone are floats, as large
    as they are stored, beside what is made; float32 (B, C, h, w)."""
    batch, height, width, channels = images.shape
    made = torch.empty((batch, channels, *size), device=images.device)
    each = max(1, CHUNK // (4 * channels * height * width))
    for start in range(0, batch, each):
        rows = slice(start, start + each)
        made[rows] = resized_crops(images[rows].movedim(-1, 1).to(torch.float32), crops[rows], size)
    return made


def nearest_crops(maps: torch.Tensor, crops: Crops, size: tuple[int, int]) -> torch.Tensor:
    """The same boxes of label maps (B, H, W), brought to `size` (h, w) by the nearest pixel's class; (B, h, w)."""
    rows = _nearest(crops.top, crops.height, size[0])
    columns = _nearest(crops.left, crops.width, size[1])
    columns = torch.where(crops.flip[:, None], columns.flip(1), columns)
    return maps[torch.arange(len(maps))[:, None, None], rows[:, :, None], columns[:, None, :]]


def objects_in_crops(objects: torch.Tensor, crops: Crops, size: tuple[int, int]) -> torch.Tensor:
    """Objects (B, M, 8), whose columns are `boxes.COLUMNS`, as the same boxes brought to `size` (h, w) show them: what
    lies beyond is cut off, and an object whose centre does (arXiv 1512.02325) or of which less than a pixel is left, is
    none."""
    start = torch.stack([crops.left, crops.top], dim=1)[:, None]
    sides = torch.stack([crops.width, crops.height], dim=1)[:, None]
    scale = torch.tensor([size[1], size[0]]) / sides
    first, last = objects[..., :2], objects[..., 2:4]
    centre = (first + last) / 2 - start
    inside = ((centre >= 0) & (centre < sides)).all(dim=-1)
    first, last = (((corner - start) * scale).clamp(min=0) for corner in (first, last))
    first, last = (corner.minimum(torch.tensor(size[::-1]).float()) for corner in (first, last))
    flip = crops.flip[:, None]
    left = torch.where(flip, size[1] - last[..., 0], first[..., 0])
    right = torch.where(flip, size[1] - first[..., 0], last[..., 0])
    seen = objects.clone()
    seen[..., :4] = torch.stack([left, first[..., 1], right, last[..., 1]], dim=-1)
    seen[..., 4] = objects[..., 4].where(inside & (last - first >= 1).all(dim=-1), -1)
    return seen


def _nearest(start: torch.Tensor, length: torch.Tensor, out: int) -> torch.Tensor:
    """int64 (B, out): which of the pixels `start` ... `start + length` - 1 each of `out` lies in."""
    return start[:, None] + ((2 * torch.arange(out) + 1) * length[:, None]).div(2 * out, rounding_mode="floor")


def _resize_matrix(start: torch.Tensor, length: torch.Tensor, full: int, out: int) -> torch.Tensor:
    """float32 (B, out, full): the weights with which `out` pixels see those of `start` ... `start + length` - 1."""
    scale = (length / out)[:, None, None]
    support = scale.clamp(min=1)
    centre = start[:, None, None] + (torch.arange(out, device=start.device)[:, None] + 0.5) * scale
    pixel = torch.arange(full, device=start.device) + 0.5
    inside = (pixel > start[:, None, None]) & (pixel < (start + length)[:, None, None])
    weights = (1 - (pixel - centre).abs() / support).clamp(min=0) * inside
    return weights / weights.sum(-1, keepdim=True)


def crop_bytes(images: torch.Tensor, crops: Crops, size: tuple[int, int]) -> torch.Tensor:
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
