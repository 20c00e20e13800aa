"""What Pillow opens in part, or not at all, by the packages of the extra `formats`.

HEIC becomes one of Pillow's own formats. DICOM, TIFF and PNG are read as arrays where Pillow gives nothing, the upper 8
bits of 16, or an array (H, W, C) as H pages of W x C pixels. Whatever Pillow reads whole stays with it.
"""

import io
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

import numpy as np
from PIL import Image

from whymask.data.pixels import ORIENTATION, TURNED, Translucent, top_of
from whymask.errors import WhymaskError

PACKAGES = {
    ".heic": "pillow_heif",
    ".heif": "pillow_heif",
    ".hif": "pillow_heif",
    ".dcm": "pydicom",
    ".dicom": "pydicom",
    ".tif": "tifffile",
    ".tiff": "tifffile",
    ".png": "imagecodecs",
}
"""By suffix, the package that reads what Pillow does not."""
EXTRA = "pip install 'whymask[formats]'"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_BANDS = 64
"""Channels up to which the last side of a TIFF's array is taken for them."""


@cache
def has(package: str) -> bool:
    return find_spec(package) is not None


@cache
def register() -> None:
    """Let Pillow open HEIC, where the package is there."""
    if has("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()


def suffixes() -> frozenset[str]:
    """Of files that are read here and that Pillow does not know."""
    return frozenset({".dcm", ".dicom"} if has("pydicom") else ())


def wanting(names: Iterable[str]) -> list[str]:
    """The suffixes, of those given, that a package which is not there would read."""
    return sorted({name for name in names if name in PACKAGES and not has(PACKAGES[name])} - {".tif", ".tiff", ".png"})


def there() -> list[str]:
    """The packages that are there: files are read otherwise than without them, whatever their names."""
    return sorted(filter(has, {*PACKAGES.values()}))


def loses_depth(image: Image.Image) -> bool:
    """Whether Pillow gives 8 of the 16 bits of colours that an image holds."""
    raw_modes = (str(tile[3]) for tile in getattr(image, "tile", ()))
    return not image.mode.startswith("I;16") and any(";16" in mode and "BGR" not in mode for mode in raw_modes)


def read_whole(data: bytes, image: Image.Image | None) -> np.ndarray | None:
    """(H, W, C), or (F, H, W, C) of several pages, where Pillow, which opened `image` or nothing, would show less.

    None where it shows all, or where the package is not there.
    """
    if data[128:132] == b"DICM":
        return _dicom(data) if has("pydicom") else None
    if data.startswith(TIFF) and has("tifffile") and (image is None or loses_depth(image) or _is_array(image)):
        return _tiff(data)
    if image is not None and image.format == "PNG" and loses_depth(image) and has("imagecodecs"):
        return _png(data, image)
    return None


def advice(data: bytes) -> str | None:
    """What to say of data that nothing opened; None where no package would."""
    if data[128:132] == b"DICM" and not has("pydicom"):
        return f"a DICOM file; {EXTRA} reads it"
    if data[4:8] == b"ftyp" and not has("pillow_heif"):
        return f"not an image that Pillow can open; if it is HEIC, {EXTRA} reads it"
    if data.startswith(TIFF) and not has("tifffile"):
        return f"a TIFF that Pillow cannot open; {EXTRA} may read it"
    return None


def _is_array(image: Image.Image) -> bool:
    """Whether the pages of a TIFF are the rows of an array (H, W, C), which tifffile writes so and says."""
    height, width = image.size[1], image.size[0]
    said = str(getattr(image, "tag_v2", {}).get(270, ""))
    pages = getattr(image, "n_frames", 1)
    return said.startswith('{"shape"') and _has_bands_last((pages, height, width))


def _has_bands_last(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] <= MOST_BANDS and 4 * shape[2] <= min(shape[:2])


def _tiff(data: bytes) -> np.ndarray:
    """The first series of a TIFF: samples last, all else than height and width pages."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series = file.series[0]
        pixels, axes, page = series.asarray(), series.axes, series.keyframe
        if series.kind == "shaped" and "S" not in axes and _has_bands_last(pixels.shape):
            return pixels
        opaque = page.samplesperpixel - sum(int(extra) in (1, 2) for extra in page.extrasamples)
        orientation = int(page.tags[274].value) if 274 in page.tags else 1
        is_inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    if not {"Y", "X"} <= {*axes}:
        raise WhymaskError(f"a TIFF of the axes {axes}; height and width were expected; convert it, or give a --reader")
    others = [place for place, axis in enumerate(axes) if axis not in "YXS"]
    inner = [axes.index(axis) for axis in "YXS" if axis in axes]
    pixels = np.transpose(pixels, (*others, *inner))
    pixels = pixels.reshape(-1, *pixels.shape[len(others) :])
    pixels = pixels if "S" in axes else pixels[..., None]
    if is_inverted and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if 1 in map(int, page.extrasamples):
        pixels = _straight(pixels, opaque)
    upright = _alone([_turned(frame, orientation) for frame in pixels])
    is_colour = opaque < pixels.shape[-1] or page.photometric == tifffile.PHOTOMETRIC.RGB
    return Translucent.of(upright, opaque) if is_colour else upright


def _png(data: bytes, image: Image.Image) -> np.ndarray:
    """Colours of 16 bits, and transparency where a channel says it."""
    import imagecodecs

    pixels = np.asarray(imagecodecs.png_decode(data))
    colours = 3 if pixels.shape[-1] >= 3 else 1
    return Translucent.of(_turned(pixels, int(image.getexif().get(ORIENTATION, 1))), colours)


def _straight(pixels: np.ndarray, opaque: int) -> np.ndarray:
    """Colours that were multiplied by their transparency, without it."""
    top = top_of(pixels.dtype)
    share = pixels[..., opaque : opaque + 1] / top
    colours = (pixels[..., :opaque] / np.where(share > 0, share, 1)).clip(0, top)
    rounded = (np.rint(colours) if pixels.dtype.kind in "ui" else colours).astype(pixels.dtype)
    return np.concatenate([rounded, pixels[..., opaque:]], axis=-1)


def _dicom(data: bytes) -> np.ndarray:
    """Stored values through the modality's own table or line (of CT, Hounsfield units); bright is bright."""
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    dataset = pydicom.dcmread(io.BytesIO(data))
    pixels = pixel_array(dataset)
    kind = dataset.get("PhotometricInterpretation")
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    elif int(dataset.get("SamplesPerPixel", 1)) == 1:
        if kind == "MONOCHROME1":
            pixels = (-1 if dataset.PixelRepresentation else 2**dataset.BitsStored - 1) - pixels
        pixels = np.asarray(apply_modality_lut(pixels, dataset))[..., None]
    return _alone(list(pixels)) if pixels.ndim == 4 else pixels


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return TURNED[orientation](pixels) if orientation in TURNED else pixels


def _alone(frames: list[np.ndarray]) -> np.ndarray:
    return frames[0] if len(frames) == 1 else np.stack(frames)
