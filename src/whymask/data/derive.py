"""What the images of a source say of how to prepare them: size, channels, range of values, mean and deviation."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image

from whymask.data.decoding import reason_of
from whymask.data.pixels import frame_count, native_pixels, plain_mode, size_of
from whymask.data.preprocessing import TOP, Preprocessing
from whymask.data.readers import why_unread
from whymask.data.settings import Alpha, DataSettings, Frames
from whymask.data.source import RawImage, Source
from whymask.errors import WhymaskError

LARGEST_NATIVE_SIDE = 96  # images of one size up to here are used as they are; others are brought to at most this
CROP_SHARE = 0.875  # side of the evaluation crop over side of the stored image, as timm's crop_pct
WHOLE_STEP = 16  # pixels that divide the sides of images that are seen whole: so a CNN can halve them four times
LARGEST_FOUND_SIDE = 192  # the shorter side of images with boxes is at most this: small objects must stay visible
SAMPLE = 200  # images that `derive` looks at
MOST_SEEN = 0.9  # share of an image from which on it is not said that the rest is cut off
USUAL = DataSettings()


def derive(
    source: Source, asked: DataSettings = USUAL, multiple_of: int = 1, seen: list["_Look"] | None = None
) -> Preprocessing:
    """Size, channels and value range for `source`, without mean and std, from up to 200 evenly spaced images.

    Size, channels, and what becomes of transparency and frames may be `asked` for. `seen`: those `looks` at the images,
    where they were taken already.

    Images that share one size with no side above 96 pixels keep it (rounded down to a multiple of `multiple_of`,
    the side of a patch); others become squares of the median shorter side, at most 96. Where the result is not the
    size of all images, they are stored 1 / 0.875 larger and the network sees the centre.

    Images with label maps are seen whole: as they are where they share one size with no side above 96, else in the
    median shape, the shorter side about 96 at most; of images of another shape the middle. So are images with boxes,
    the shorter side about 192 at most; those of another shape are padded.
    """
    seen = looks(source, asked.alpha, asked.frames) if seen is None else seen
    sides = {(look.height, look.width) for look in seen}
    shorter = int(median(min(look.height, look.width) for look in seen))
    if shorter < multiple_of:
        raise WhymaskError(
            f"{source.name}: images of {shorter} pixels (median shorter side); at least one patch of {multiple_of} "
            "pixels was expected; give a smaller patch"
        )
    native = next(iter(sides)) if len(sides) == 1 else None
    if source.maps is None and source.boxes is None:
        chosen = _chosen_size(asked.size, native, shorter, multiple_of)
        store = chosen if chosen == native else (round(chosen[0] / CROP_SHARE), round(chosen[1] / CROP_SHARE))
    else:
        most = LARGEST_NATIVE_SIDE if source.boxes is None else LARGEST_FOUND_SIDE
        fits = native is not None and max(native) <= most and not any(n % multiple_of for n in native)
        whole = native if fits else _whole_size(seen, multiple_of, most)
        chosen = store = _chosen_size(asked.size or whole, native, shorter, multiple_of)
    low, high = _value_range(seen)
    channels = asked.channels or _usual_channels(seen, asked.frames)
    return Preprocessing(
        chosen,
        store,
        channels,
        low,
        high,
        alpha=asked.alpha,
        frames=asked.frames,
        tile=asked.tile,
        overlap=asked.overlap,
        pads=source.boxes is not None,
    )


def cut_off(seen: list["_Look"], preprocessing: Preprocessing) -> list[str]:
    """What to say where less than MOST_SEEN of an image of another shape lies in the square that is kept."""
    if preprocessing.pads:
        return []
    height, width = preprocessing.store
    ratios = [look.height * width / (look.width * height) for look in seen]
    shares = [min(ratio, 1 / ratio) for ratio in ratios]
    narrow = sum(share < MOST_SEEN for share in shares)
    if not narrow:
        return []
    return [
        f"{narrow:,} of {len(seen):,} images looked at are of another shape: their middle is seen, in the median "
        f"{median(shares):.0%} of an image (--size HEIGHTxWIDTH or --tile sees more)"
    ]


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
    bits: int  # 8, 16, or 0 for other numbers
    low: float = 0.0  # the range of values, of 16 bits and other numbers
    high: float = 0.0


def looks(source: Source, alpha: Alpha = "drop", frames: Frames = "first") -> list[_Look]:
    """Looks at an evenly spaced sample of readable images; of ordinary files only the header is decoded."""
    seen, reasons = [], []
    for index in source.sample(SAMPLE):
        try:
            seen.append(_look_at(source.read(index), alpha, frames))
        except Exception as error:  # a damaged image, whatever its decoder raises; the store lists it as skipped
            reasons.append(f"{source.keys[index]}: {reason_of(error)}")
    if not seen:
        raise WhymaskError(why_unread(source, len(reasons), reasons))
    return seen


def _look_at(raw: RawImage, alpha: Alpha, frames: Frames) -> _Look:
    is_one = frames != "channels" or frame_count(raw) == 1
    if isinstance(raw, Image.Image) and (mode := plain_mode(raw)) in ("L", "RGB") and is_one:
        return _Look(*size_of(raw), 4 if alpha == "channel" else 3 if mode == "RGB" else 1, 8)
    pixels = native_pixels(raw, alpha, frames)
    height, width, channels = pixels.shape
    if pixels.dtype == np.uint8:
        return _Look(height, width, channels, 8)
    bits = 16 if pixels.dtype == np.uint16 else 0
    return _Look(height, width, channels, bits, float(pixels.min()), float(pixels.max()))


def _value_range(seen: list[_Look]) -> tuple[float, float]:
    """Of the values that become 0 and 1: of 8 bits 0 to 255; of 16 bits 0 to the largest number of as many bits as the
    largest value has, more than 8 at least; of other numbers the smallest and the largest."""
    if {look.bits for look in seen} == {8}:
        return 0.0, 255.0
    others = [look for look in seen if look.bits == 0]
    if not others:
        bits = max(9, *(int(look.high).bit_length() for look in seen))
        return 0.0, float(2**bits - 1)
    low, high = min(look.low for look in others), max(look.high for look in others)
    return low, high if high > low else low + 1.0


def _usual_channels(seen: list[_Look], frames: Frames) -> int:
    """The commonest number of channels; grey among colour counts as colour, unless channels are frames."""
    counts = Counter(look.channels for look in seen)
    return 3 if set(counts) == {1, 3} and frames != "channels" else counts.most_common(1)[0][0]


def _whole_size(seen: list["_Look"], multiple_of: int, most: int) -> tuple[int, int]:
    """Of the median shape, the shorter side about `most` where it is longer; both sides multiples of `multiple_of`, or
    of WHOLE_STEP where that says nothing."""
    step = multiple_of if multiple_of > 1 else WHOLE_STEP
    ratio = median(look.width / look.height for look in seen)
    shorter = min(most, int(median(min(look.height, look.width) for look in seen)))
    height, width = (shorter, shorter * ratio) if ratio >= 1 else (shorter / ratio, shorter)
    return max(1, round(height / step)) * step, max(1, round(width / step)) * step


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
