"""One's own augmentation: a function of the bytes of an image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.randomness import derive, reseeding


@dataclass(frozen=True)
class OwnAugment:
    """`change`, called `name`: a stored image, uint8 (C, H, W), becomes what the network sees, uint8 (C, h, w).

    What it draws from the global generators of Python, NumPy and PyTorch is a function of the seed, the step and the
    image's place in the batch; so a batch is not made while a step runs, which draws from these too.
    """

    name: str
    change: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor, size: tuple[int, int], seed: int, step: int, first: int) -> Tensor:
        """Stored images (B, H, W, C), of which the first stands at place `first` -> (B, h, w, C) of `size`.

        Raises WhymaskError for images of other than 8 bits, and for anything but bytes of that size.
        """
        if images.dtype != torch.uint8:
            raise WhymaskError(f"augment={self.name} was given; it is for images of 8 bits, and these have more")
        expected, changed = (images.shape[3], *size), []
        with reseeding() as seed_all, torch.random.fork_rng(devices=[]):
            for place, image in enumerate(images.movedim(-1, 1), start=first):
                seed_all(seed, "own augmentation", step, place)
                torch.manual_seed(derive(seed, "own augmentation", step, place))
                result = self.change(image.contiguous())
                if not isinstance(result, Tensor) or result.dtype != torch.uint8 or tuple(result.shape) != expected:
                    made = f"{result.dtype} of {tuple(result.shape)}" if isinstance(result, Tensor) else type(result)
                    raise WhymaskError(
                        f"augment={self.name} made {made} of an image of {tuple(image.shape)}; torch.uint8 of "
                        f"{expected}, as the network sees images, was expected"
                    )
                changed.append(result)
        return torch.stack(changed).movedim(1, -1)
