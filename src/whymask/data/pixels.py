"""The pixels that a picture has, whatever its mode, orientation, transparency and frames.

Nothing is scaled or resized here: 8 bits stay 8 bits. What Pillow decodes is the first frame, turned as EXIF says.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from whymask.data.settings import Alpha, Frames
from whymask.data.source import RawImage
from whymask.errors import WhymaskError

ORIENTATION = 0x0112  # the EXIF tag
FRAMES = "whymask_frames"
"""In `Image.info` of a picture that was reduced: how many frames its file has."""
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}
"""What makes pixels (H, W, ...) upright, by the value of the tag."""


class Translucent(np.ndarray):
    """Colours (..., C) whose channels from `opaque` on say how opaque those before them are; all are, where there is no
    such channel."""

    opaque: int

    @classmethod
    def of(cls, pixels: np.ndarray, opaque: int) -> np.ndarray:
        found = pixels.view(cls)
        found.opaque = opaque
        return found

    def __array_finalize__(self, of: Any) -> None:
        self.opaque = getattr(of, "opaque", 0)

    def colours(self, alpha: Alpha) -> np.ndarray:
        """What is seen, as `alpha` says; (..., C) of the same type."""
        pixels, top = np.asarray(self), top_of(self.dtype)
        colours, has_alpha = pixels[..., : self.opaque], self.opaque < pixels.shape[-1]
        if alpha == "channel":
            return pixels if has_alpha else np.concatenate([pixels, np.full_like(pixels[..., :1], top)], axis=-1)
        if alpha == "drop" or not has_alpha:
            return colours
        share = pixels[..., self.opaque : self.opaque + 1] / top
        laid = share * colours + (1 - share) * top
        return (np.rint(laid) if pixels.dtype.kind in "ui" else laid).astype(pixels.dtype)


def top_of(dtype: np.dtype) -> float:
    """The value that is wholly opaque."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def native_pixels(raw: RawImage, alpha: Alpha = "drop", frames: Frames = "first") -> np.ndarray:
    """Pixels as the picture has them: (H, W, C); uint8, uint16, or another real type for what is neither.

    What is done with the transparency of Pillow's images says `alpha`; "channel" gives four to every 8-bit one. Of
    several `frames` the first is seen, or all of them, one behind another, as channels; an array (F, H, W, C) is F of
    them. Raises WhymaskError for arrays that are no image, for values that are not finite, and for frames as channels
    that are not alike.
    """
    count = frame_count(raw) if frames == "channels" else 1
    if count > 1:
        return _as_channels([_of_one(frame_of(raw, number), alpha) for number in range(count)])
    return _of_one(frame_of(raw, 0) if isinstance(raw, np.ndarray) and raw.ndim == 4 else raw, alpha)


def frame_count(raw: RawImage) -> int:
    """How many frames or pages there are; of a phone's MPO, whose further ones are previews, the picture alone."""
    if isinstance(raw, Image.Image):
        return 1 if raw.format == "MPO" else int(raw.info.get(FRAMES, getattr(raw, "n_frames", 1)))
    return len(raw) if np.ndim(raw) == 4 else 1


def frame_of(raw: RawImage, number: int) -> RawImage:
    """One frame; of Pillow's images this one itself, at that frame."""
    if isinstance(raw, Image.Image):
        if number and FRAMES in raw.info:
            raise WhymaskError("a further frame of a picture of more than 179 million pixels; give --tile, such as 512")
        raw.seek(number)
        raw.load()  # before which a GIF's mode may be that of the frame before
        return raw
    return raw[number] if np.ndim(raw) == 4 else raw


def size_of(raw: RawImage) -> tuple[int, int]:
    """Height and width, upright; of Pillow's images from the header."""
    if isinstance(raw, Image.Image):
        is_turned = (
            raw.getexif().get(ORIENTATION) in (5, 6, 7, 8) and raw.format != "TIFF"
        )  # of which Pillow turns the size
        return raw.size if is_turned else raw.size[::-1]
    height, width = native_pixels(raw).shape[:2]
    return height, width


def plain_mode(image: Image.Image) -> str:
    """The mode among L, RGB, I;16, I and F that an image is brought to."""
    if image.mode in ("1", "L", "LA", "La"):
        return "L"
    if image.mode.startswith("I;16"):
        return "I;16"
    return image.mode if image.mode in ("I", "F") else "RGB"


def _as_channels(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames (H, W, C) side by side; where some are in colour, grey ones are repeated to three."""
    channels = max(frame.shape[2] for frame in frames)
    alike = [frame if frame.shape[2] == channels else np.repeat(frame, 3, axis=2) for frame in frames]
    forms = {(frame.shape, frame.dtype.str) for frame in alike}
    if len(forms) > 1:
        told = " and ".join(f"{shape} of type {np.dtype(kind)}" for (shape, kind) in sorted(forms)[:2])
        raise WhymaskError(f"frames of {told}; as channels they must be alike; give --frames all, or first")
    return np.concatenate(alike, axis=2)


def _of_one(raw: RawImage, alpha: Alpha) -> np.ndarray:
    if isinstance(raw, Image.Image):
        return _of_image(raw, alpha)
    pixels = raw.colours(alpha) if isinstance(raw, Translucent) else np.asarray(raw)
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


def _of_image(image: Image.Image, alpha: Alpha) -> np.ndarray:
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    mode = plain_mode(image)
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
    return _of_one(pixels, alpha)
