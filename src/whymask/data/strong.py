"""Augmentation beyond crops and flips: timm's RandAugment on bytes, and its random erasing on normalised images."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.randomness import derive, reseeding

ERASED_AREAS = (0.02, 1 / 3)  # of a box, as a share of the image
ERASED_ASPECTS = (0.3, 1 / 0.3)  # height / width
ATTEMPTS = 10  # boxes proposed until one fits into the image


@dataclass(frozen=True)
class Strong:
    """Both, each image's draws a function of (seed, step, place in the batch of all ranks).

    Attributes:
        rand_augment: timm's description, such as "rand-m9-mstd0.5-inc1" (arXiv 1909.13719); "" for none.
        random_erasing: share of images in which a box is replaced by noise (arXiv 1708.04896).
        mean: of the images' channels, 0 to 255: what is moved in from beyond the border.
    """

    rand_augment: str = ""
    random_erasing: float = 0.0
    mean: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.rand_augment:
            self._transform(32)

    def augment(self, images: Tensor, seed: int, step: int, first: int) -> Tensor:
        """RandAugment of uint8 (B, h, w, C), 1 or 3 channels; `first` is the first one's place in the batch."""
        if not self.rand_augment:
            return images
        transform = self._transform(min(images.shape[1:3]))
        result = np.empty(images.shape, np.uint8)
        with reseeding() as seed_all:
            for i, pixels in enumerate(images.numpy()):
                seed_all(seed, "rand augment", step, first + i)
                grey = pixels.shape[2] == 1
                changed = transform(Image.fromarray(pixels[..., 0] if grey else pixels))
                result[i] = np.asarray(changed).reshape(pixels.shape)
        return torch.from_numpy(result)

    def erase(
        self, images: Tensor, seed: int, step: int, first: int, move: Callable[[Tensor], Tensor] = lambda noise: noise
    ) -> Tensor:
        """Random erasing of normalised (B, C, h, w), in place, as timm's RandomErasing does it: standard normal noise,
        drawn on the CPU and brought to the images' device by `move`. No global generator is touched, as a step may be
        drawing from it at the same time."""
        for i in range(len(images) if self.random_erasing else 0):
            box, noise = self._erasure(images[i].shape, derive(seed, "random erasing", step, first + i))
            if noise is not None:
                images[i, :, box[0], box[1]] = move(noise)
        return images

    def _erasure(self, shape: torch.Size, number: int) -> tuple[tuple[slice, slice], Tensor | None]:
        """Where of an image (C, h, w), and by what, by the seed `number`; None where nothing is erased."""
        draw, (channels, *sides) = random.Random(number), shape
        if draw.random() <= self.random_erasing:
            for _ in range(ATTEMPTS):
                area = draw.uniform(*ERASED_AREAS) * sides[0] * sides[1]
                aspect = math.exp(draw.uniform(*map(math.log, ERASED_ASPECTS)))
                box = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if box[1] < sides[1] and box[0] < sides[0]:
                    top, left = (draw.randint(0, side - inner) for side, inner in zip(sides, box, strict=True))
                    noise = torch.empty(channels, *box).normal_(generator=torch.Generator().manual_seed(number))
                    return (slice(top, top + box[0]), slice(left, left + box[1])), noise
        return (slice(0), slice(0)), None

    def _transform(self, side: int) -> Any:
        colour = tuple(round(value) for value in self.mean) or (124, 116, 104)
        about = {
            "translate_const": int(0.45 * side),
            "img_mean": colour if len(colour) == 3 else colour[0],
            "magnitude_max": 9.99,  # at 10 timm asks Pillow to keep 0 bits of an image, which is an error there
        }
        if "mmax" in self.rand_augment:
            raise WhymaskError(f"rand_augment {self.rand_augment!r} was given; magnitudes end at 10; leave mmax out")
        try:
            return rand_augment_transform(self.rand_augment, about)
        except (AssertionError, ValueError, KeyError) as error:
            raise WhymaskError(
                f"rand_augment {self.rand_augment!r} is no description that timm reads; one is 'rand-m9-mstd0.5-inc1'"
            ) from error
