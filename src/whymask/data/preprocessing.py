"""From a raw image of any size, mode and depth to the array that a network sees; the same in training and in use.

The rules, in order:

1. native pixels: EXIF orientation is applied, palettes are resolved, CMYK and the like become RGB. Transparency is
   dropped, or laid on white, or a further channel, as `alpha` says.
2. channels: grey repeats to three; three become luminance (ITU-R 601) where one is wanted; nothing else is guessed.
3. values: 8 bit 0..255, 16 bit 0..65535, each by its own depth; anything else by `low`..`high`, clipped outside.
4. size: the shorter side is resized (bicubic, antialiased) and the middle cut out, to the pixel as torchvision's
   Resize and CenterCrop do it. An image that has the size already is not resampled.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from whymask.data.settings import Alpha
from whymask.data.source import RawImage, Source
from whymask.errors import WhymaskError

LARGEST_NATIVE_SIDE = 96  # images of one size up to here are used as they are; others are brought to at most this
CROP_SHARE = 0.875  # side of the evaluation crop over side of the stored image, as timm's crop_pct
SAMPLE = 200  # images that `derive` looks at
ORIENTATION = 0x0112  # the EXIF tag
LUMINANCE = np.array([0.299, 0.587, 0.114])
TOP = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


@dataclass(frozen=True)
class Preprocessing:
    """How raw images become network inputs. It travels with the encoder and is what its `.transform` runs.

    `low` and `high` are the raw values that become 0 and 1, for data that are neither 8 nor 16 bit. `mean` and
    `std` are those of the pretraining data, one value a channel, in units of [0, 1] (see `statistics`).
    """

    size: tuple[int, int]  # (h, w) that the network sees
    store: tuple[int, int]  # (H, W) kept in the decode store
    channels: int
    low: float = 0.0
    high: float = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    alpha: Alpha = "drop"

    @property
    def dtype(self) -> np.dtype:
        """What is stored: uint8 for 8-bit data, uint16 for everything else."""
        return np.dtype(np.uint8 if (self.low, self.high) == (0.0, 255.0) else np.uint16)

    def decode(self, raw: RawImage) -> np.ndarray:
        """The stored form (H, W, C) of a raw image; WhymaskError if its channels do not fit."""
        return self.fit(native_pixels(raw, self.alpha))

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """`decode` from native pixels (any H, any W, any C) on."""
        pixels = _match_channels(pixels, self.channels)
        is_sized = pixels.shape[:2] == self.store
        if pixels.dtype == self.dtype and is_sized:
            return pixels
        if pixels.dtype == self.dtype == np.uint8 and self.channels in (1, 3):
            image = Image.fromarray(pixels[..., 0] if self.channels == 1 else pixels)
            return np.asarray(_resize(image, self.store, self.size)).reshape(*self.store, self.channels)
        top = TOP[self.dtype]
        values = self._in_range(pixels, top)
        if not is_sized:
            planes = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(self.channels)]
            values = np.stack([np.asarray(_resize(plane, self.store, self.size)) for plane in planes], axis=-1)
        return np.rint(values).clip(0, top).astype(self.dtype)

    def _in_range(self, pixels: np.ndarray, top: float) -> np.ndarray:
        """Float32 values in 0..top: 8 and 16 bit by their own depth, others by low..high."""
        if pixels.dtype in TOP:
            return pixels.astype(np.float32) * np.float32(top / TOP[pixels.dtype])
        unit = (pixels.astype(np.float64) - self.low) / (self.high - self.low)
        return (unit.clip(0, 1) * top).astype(np.float32)

    def normalise(self, batch: Tensor | np.ndarray) -> Tensor:
        """(B, H, W, C) uint8, uint16 or float in [0, 1] -> float32 (B, C, H, W): (x / max - mean) / std, no crop."""
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise WhymaskError(
                f"a preprocessing with {len(self.mean)} means and {len(self.std)} standard deviations for "
                f"{self.channels} channels; one each is needed; fill them in from whymask.data.preprocessing.statistics"
            )
        images = batch if isinstance(batch, Tensor) else torch.tensor(np.ascontiguousarray(batch))
        top = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(images.dtype, 1.0)
        mean = torch.tensor(self.mean, dtype=torch.float64).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float64).view(1, -1, 1, 1)
        scale, shift = (1 / (top * std)).float().to(images.device), (-mean / std).float().to(images.device)
        return images.permute(0, 3, 1, 2).contiguous().to(torch.float32).mul_(scale).add_(shift)

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


def native_pixels(raw: RawImage, alpha: Alpha = "drop") -> np.ndarray:
    """Pixels as the picture has them: (H, W, C); uint8, uint16, or another real type for what is neither. What is done
    with the transparency of Pillow's images says `alpha`; "channel" gives four to every 8-bit one.

    Raises WhymaskError for arrays that are no image and for values that are not finite.
    """
    if isinstance(raw, Image.Image):
        return _pixels_of_image(raw, alpha)
    pixels = np.asarray(raw)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in "buif":
        raise WhymaskError(
            f"an array of shape {pixels.shape} and type {pixels.dtype}; an image is (height, width) or "
            "(height, width, channels) real numbers; reshape it"
        )
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise WhymaskError("an image with values that are not finite; numbers were expected; replace NaN and infinity")
    return pixels


def derive(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    multiple_of: int = 1,
    alpha: Alpha = "drop",
) -> Preprocessing:
    """Size, channels and value range for `source`, without mean and std, from up to 200 evenly spaced images.

    Images that share one size with no side above 96 pixels keep it (rounded down to a multiple of `multiple_of`,
    the side of a patch); others become squares of the median shorter side, at most 96. Where the result is not the
    size of all images, they are stored 1 / 0.875 larger and the network sees the centre.
    """
    seen = looks(source)
    sides = {(look.height, look.width) for look in seen}
    shorter = int(median(min(look.height, look.width) for look in seen))
    if shorter < multiple_of:
        raise WhymaskError(
            f"{source.name}: images of {shorter} pixels (median shorter side); at least one patch of {multiple_of} "
            "pixels was expected; give a smaller patch"
        )
    native = next(iter(sides)) if len(sides) == 1 else None
    chosen = _chosen_size(size, native, shorter, multiple_of)
    store = chosen if chosen == native else (round(chosen[0] / CROP_SHARE), round(chosen[1] / CROP_SHARE))
    low, high = _value_range(seen)
    usual = 4 if alpha == "channel" and all(look.bits == 8 for look in seen) else _usual_channels(seen)
    return Preprocessing(chosen, store, channels or usual, low, high, alpha=alpha)


def statistics(images: np.ndarray, rows: np.ndarray | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of [0, 1], over `rows` (numbers or a mask; all if None).

    `images` is (N, H, W, C) uint8 or uint16 and may be memory-mapped; it is read in chunks. A channel that never
    varies gets a standard deviation of 1, so that it can be divided by.
    """
    chosen = np.arange(len(images)) if rows is None else np.asarray(rows)
    chosen = np.flatnonzero(chosen) if chosen.dtype == bool else np.sort(chosen)
    if len(chosen) == 0:
        raise WhymaskError("no images to take mean and standard deviation of; at least one is needed; add images")
    total, squares = np.zeros(images.shape[-1]), np.zeros(images.shape[-1])
    step = max(1, 2**22 // images[0].size)
    for start in range(0, len(chosen), step):
        values = images[chosen[start : start + step]].reshape(-1, images.shape[-1]).astype(np.float64)
        total += values.sum(axis=0)
        squares += np.einsum("nc,nc->c", values, values)
    count, top = len(chosen) * images.shape[1] * images.shape[2], TOP[images.dtype]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0)) / top
    std = np.where(std < 1e-6, 1.0, std)
    return tuple((mean / top).tolist()), tuple(std.tolist())


@dataclass(frozen=True)
class _Look:
    """What `derive` needs to know of one image."""

    height: int
    width: int
    channels: int
    bits: int  # 8, 16, or 0 for other numbers, whose range is low..high
    low: float = 0.0
    high: float = 0.0


def looks(source: Source) -> list[_Look]:
    """Looks at an evenly spaced sample of readable images; of ordinary files only the header is decoded."""
    seen, reasons = [], []
    count = len(source.keys)
    for index in np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).round().astype(int)).tolist():
        try:
            seen.append(_look_at(source.read(index)))
        except Exception as error:  # a damaged image, whatever its decoder raises; the store lists it as skipped
            reasons.append(f"{source.keys[index]}: {error}")
    if not seen:
        listed = "; ".join([*source.notes, *reasons[:3]])
        raise WhymaskError(
            f"{source.name}: none of {len(reasons)} sampled images could be read ({listed}); images that Pillow opens "
            "were expected; give a reader= for other formats"
        )
    return seen


def _look_at(raw: RawImage) -> _Look:
    if isinstance(raw, Image.Image) and (mode := _plain_mode(raw)) not in ("I", "F"):
        is_turned = raw.getexif().get(ORIENTATION, 1) >= 5 and raw.format != "TIFF"  # of which Pillow turns the size
        width, height = raw.size[::-1] if is_turned else raw.size
        return _Look(height, width, 3 if mode == "RGB" else 1, 16 if mode == "I;16" else 8)
    pixels = native_pixels(raw)
    height, width, channels = pixels.shape
    if pixels.dtype in TOP:
        return _Look(height, width, channels, 8 * pixels.dtype.itemsize)
    return _Look(height, width, channels, 0, float(pixels.min()), float(pixels.max()))


def _value_range(seen: list[_Look]) -> tuple[float, float]:
    others = [look for look in seen if look.bits == 0]
    if not others:
        return (0.0, 65535.0) if any(look.bits == 16 for look in seen) else (0.0, 255.0)
    low, high = min(look.low for look in others), max(look.high for look in others)
    return low, high if high > low else low + 1.0


def _usual_channels(seen: list[_Look]) -> int:
    """The commonest number of channels; grey among colour counts as colour."""
    counts = Counter(look.channels for look in seen)
    return 3 if set(counts) == {1, 3} else counts.most_common(1)[0][0]


def _chosen_size(
    given: int | tuple[int, int] | None, native: tuple[int, int] | None, shorter: int, multiple_of: int
) -> tuple[int, int]:
    if given is not None:
        size = (given, given) if isinstance(given, int) else (given[0], given[1])
        if any(side < 1 or side % multiple_of for side in size):
            near = max(1, round(max(size) / multiple_of)) * multiple_of
            raise WhymaskError(
                f"an image size of {size[0]} x {size[1]} pixels; multiples of the patch, {multiple_of} pixels, were "
                f"expected; give {near}, say"
            )
        return size
    sides = native if native and max(native) <= LARGEST_NATIVE_SIDE else (min(LARGEST_NATIVE_SIDE, shorter),) * 2
    return sides[0] // multiple_of * multiple_of, sides[1] // multiple_of * multiple_of


def _plain_mode(image: Image.Image) -> str:
    """The mode among L, RGB, I;16, I and F that an image is brought to."""
    if image.mode in ("1", "L", "LA", "La"):
        return "L"
    if image.mode.startswith("I;16"):
        return "I;16"
    return image.mode if image.mode in ("I", "F") else "RGB"


def _pixels_of_image(image: Image.Image, alpha: Alpha) -> np.ndarray:
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    mode = _plain_mode(image)
    if mode in ("L", "RGB") and alpha == "channel":
        return np.asarray(image.convert("RGBA"))
    if mode in ("L", "RGB") and alpha == "white" and image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert(mode)
    if mode in ("L", "RGB") and image.mode != mode:
        if image.mode in ("La", "RGBa") or (image.mode == "P" and "transparency" in image.info):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        image = image.convert(mode)
    pixels = np.asarray(image)
    if mode == "I;16":
        pixels = pixels.astype(np.uint16)  # from either byte order
    return native_pixels(pixels)


def _match_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[2] == channels:
        return pixels
    if (pixels.shape[2], channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    if (pixels.shape[2], channels) == (3, 1):
        grey = (pixels @ LUMINANCE)[..., None]
        return np.rint(grey).astype(pixels.dtype) if pixels.dtype.kind in "ui" else grey
    raise WhymaskError(
        f"an image of {pixels.shape[2]} channels; {channels} were expected; only grey to colour and back is converted"
    )


def _resize(image: Image.Image, store: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """`image` resized (bicubic, antialiased) until it just covers `store` (H, W), and of that the middle.

    Sides are rounded, and the middle is placed, so that its centre crop of `size` is the one that torchvision's and
    timm's Resize and CenterCrop make of the whole image in one step.
    """
    if store[0] == store[1]:  # torchvision: the shorter side, the other one cut off to a whole number
        shorter = min(image.height, image.width)
        height, width = (int(store[0] * side / shorter) for side in (image.height, image.width))
    else:  # timm's ResizeKeepRatio
        ratio = min(image.height / store[0], image.width / store[1])
        height, width = (round(side / ratio) for side in (image.height, image.width))
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    top = _middle(height, size[0]) - _middle(store[0], size[0])
    left = _middle(width, size[1]) - _middle(store[1], size[1])
    return image.crop((left, top, left + store[1], top + store[0]))


def _middle(side: int, crop: int) -> int:
    """Where torchvision's CenterCrop begins."""
    return round((side - crop) / 2)
