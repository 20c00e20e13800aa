"""From a raw image of any size, mode and depth to the array that a network sees; the same in training and in use.

The rules, in order:

1. native pixels: EXIF orientation is applied, palettes are resolved, CMYK and the like become RGB. Transparency is
   dropped, or laid on white, or a further channel, as `alpha` says; of several frames the first is seen, or all as
   channels, as `frames` says (each as an image, or tiles: see `parts`).
2. channels: grey repeats to three; three become luminance (ITU-R 601) where one is wanted; nothing else is guessed,
   and nothing at all where channels are frames.
3. values: 8 bit by 0..255; anything else by `low`..`high`, clipped outside. `derive` takes 0 and the largest number of
   as many bits as 16-bit data use (12 bits: 4,095), and of other numbers the smallest and largest of its sample. For
   data of 8 bits, images of 16 count by 0..65535.
4. size: the shorter side is resized (antialiased; bicubic, or as given weights were trained) and the middle cut out,
   to the pixel as torchvision's Resize and CenterCrop do it; or, where objects are to be found, the longer side, and
   grey is put at the right or below (`pads`). An image that has the size already is not resampled.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whymask.data.pixels import native_pixels
from whymask.data.settings import Alpha, Frames
from whymask.data.source import RawImage
from whymask.errors import WhymaskError

LUMINANCE = np.array([0.299, 0.587, 0.114])
INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest")
GREY = 128
"""Of 255, what is put beside an image that is seen whole."""
TOP = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


@dataclass(frozen=True)
class Preprocessing:
    """How raw images become network inputs. It travels with the encoder and is what its `.transform` runs.

    `low` and `high` are the raw values that become 0 and 1, for data of other than 8 bits. `mean` and `std` are those
    of the pretraining data, one value a channel, in units of [0, 1] (see `derive.statistics`).
    """

    size: tuple[int, int]  # (h, w) that the network sees
    store: tuple[int, int]  # (H, W) kept in the decode store
    channels: int
    low: float = 0.0
    high: float = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    alpha: Alpha = "drop"
    frames: Frames = "first"
    tile: int | None = None  # side, pixels, of what each file is cut into
    overlap: int = 0  # of neighbouring tiles, pixels
    interpolation: str = "bicubic"  # by which raw images are resized: one of INTERPOLATIONS
    pads: bool = False  # whether an image is seen whole, padded, and not its middle; `store` and `size` are then equal

    @property
    def dtype(self) -> np.dtype:
        """What is stored: uint8 for 8-bit data, uint16 for everything else."""
        return np.dtype(np.uint8 if (self.low, self.high) == (0.0, 255.0) else np.uint16)

    def decode(self, raw: RawImage) -> np.ndarray:
        """The stored form (H, W, C) of a raw image; WhymaskError if its channels do not fit."""
        return self.fit(native_pixels(raw, self.alpha, self.frames))

    def fit(self, pixels: np.ndarray, whole: bool = False) -> np.ndarray:
        """`decode` from native pixels (any H, any W, any C) on; of a `whole` image nothing is cut off, so that it may
        be larger than `store` in height or width."""
        pixels = _match_channels(pixels, self.channels, self.frames)
        is_sized = pixels.shape[:2] == self.store
        if is_sized and pixels.dtype == self.dtype and (self.low, self.high) == (0.0, TOP[self.dtype]):
            return pixels
        resize = self._covering if whole else self._resize
        if pixels.dtype == self.dtype == np.uint8 and self.channels in (1, 3):
            image = resize(Image.fromarray(pixels[..., 0] if self.channels == 1 else pixels))
            return np.asarray(image).reshape(image.height, image.width, self.channels)
        top = TOP[self.dtype]
        values = self._in_range(pixels, top)
        if not is_sized:
            planes = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(self.channels)]
            values = np.stack([np.asarray(resize(plane)) for plane in planes], axis=-1)
        return np.rint(values).clip(0, top).astype(self.dtype)

    def _in_range(self, pixels: np.ndarray, top: float) -> np.ndarray:
        """Float32 values in 0..top: 8 bit by its own depth, as 16 bit is where it is brought to 8; others by
        low..high."""
        if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and self.dtype == np.uint8):
            return pixels.astype(np.float32) * np.float32(top / TOP[pixels.dtype])
        unit = (pixels.astype(np.float64) - self.low) / (self.high - self.low)
        return (unit.clip(0, 1) * top).astype(np.float32)

    def _resize(self, image: Image.Image) -> Image.Image:
        """`image` resized (antialiased) until it just covers `store` (H, W), and of that the middle.

        The middle is placed so that its centre crop of `size` is the one that torchvision's and timm's Resize and
        CenterCrop make of the whole image in one step.
        """
        if self.pads:
            return self._padded(image)
        image, store, size = self._covering(image), self.store, self.size
        top = _middle(image.height, size[0]) - _middle(store[0], size[0])
        left = _middle(image.width, size[1]) - _middle(store[1], size[1])
        return image.crop((left, top, left + store[1], top + store[0]))

    def _padded(self, image: Image.Image) -> Image.Image:
        """`image` resized (antialiased) until it just lies in `store`, with grey beside or below it."""
        sides = self.fitting(image.height, image.width)
        canvas = Image.new(image.mode, self.store[::-1], (round(GREY / 255 * TOP[self.dtype]),) * len(image.getbands()))
        canvas.paste(self._resized(image, sides))
        return canvas

    def fitting(self, height: int, width: int) -> tuple[int, int]:
        """The sides to which an image is resized that is to lie whole in `store`."""
        ratio = max(height / self.store[0], width / self.store[1])
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _covering(self, image: Image.Image) -> Image.Image:
        """`image` resized (antialiased) until it just covers `store`, of sides as `covering` has them."""
        return self._resized(image, self.covering(image.height, image.width))

    def _resized(self, image: Image.Image, sides: tuple[int, int]) -> Image.Image:
        if sides == (image.height, image.width):
            return image
        return image.resize(sides[::-1], Image.Resampling[self.interpolation.upper()])

    def covering(self, height: int, width: int) -> tuple[int, int]:
        """The sides to which an image is resized before it is cropped, rounded as torchvision and timm do it."""
        store = self.store
        if store[0] == store[1]:  # torchvision: the shorter side, the other one cut off to a whole number
            shorter = min(height, width)
            return int(store[0] * height / shorter), int(store[0] * width / shorter)
        ratio = min(height / store[0], width / store[1])  # timm's ResizeKeepRatio
        return round(height / ratio), round(width / ratio)

    def normalise(self, batch: Tensor | np.ndarray) -> Tensor:
        """(B, H, W, C) uint8, uint16 or float in [0, 1] -> float32 (B, C, H, W): (x / max - mean) / std, no crop."""
        images = batch if isinstance(batch, Tensor) else torch.tensor(np.ascontiguousarray(batch))
        return self.scaled(images.permute(0, 3, 1, 2).contiguous().to(torch.float32), images.dtype)

    def scaled(self, images: Tensor, kind: torch.dtype) -> Tensor:
        """`normalise`, in place, of float32 (B, C, H, W) that hold the numbers of images of this kind."""
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise WhymaskError(
                f"a preprocessing with {len(self.mean)} means and {len(self.std)} standard deviations for "
                f"{self.channels} channels; one each is needed; fill them in from whymask.data.preprocessing.statistics"
            )
        top = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(kind, 1.0)
        mean = torch.tensor(self.mean, dtype=torch.float64).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float64).view(1, -1, 1, 1)
        scale, shift = (1 / (top * std)).float().to(images.device), (-mean / std).float().to(images.device)
        return images.mul_(scale).add_(shift)

    def centre_crop(self, batch: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w), where (h, w) is `size`."""
        top, left = _middle(batch.shape[-2], self.size[0]), _middle(batch.shape[-1], self.size[1])
        return batch[..., top : top + self.size[0], left : left + self.size[1]]

    def __call__(self, raw: RawImage) -> Tensor:
        """The network's input (C, h, w) for one raw image, as in evaluation."""
        return self.centre_crop(self.normalise(self.decode(raw)[None]))[0].contiguous()

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def _match_channels(pixels: np.ndarray, channels: int, frames: Frames) -> np.ndarray:
    if pixels.shape[2] == channels:
        return pixels
    if frames == "channels":
        raise WhymaskError(
            f"an image of {pixels.shape[2]} channels, as all its frames are; {channels} were expected, as most have; "
            "leave out those of other numbers of frames"
        )
    if (pixels.shape[2], channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    if (pixels.shape[2], channels) == (3, 1):
        grey = (pixels @ LUMINANCE)[..., None]
        return np.rint(grey).astype(pixels.dtype) if pixels.dtype.kind in "ui" else grey
    raise WhymaskError(
        f"an image of {pixels.shape[2]} channels; {channels} were expected; only grey to colour and back is converted"
    )


def _middle(side: int, crop: int) -> int:
    """Where torchvision's CenterCrop begins."""
    return round((side - crop) / 2)
