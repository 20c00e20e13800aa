"""The forms in which a store keeps its images: decoded, one array that is mapped into memory, or encoded, as JPEG or
PNG files one behind another, of photos an eighth of the room, which are decoded each time they are asked for."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from whymask.data.preprocessing import Preprocessing
from whymask.disk import damaged, sync_file

QUALITY = 95
"""Of a JPEG; colours have half the resolution (4:2:0)."""
ALONE = 4
"""Images that are decoded without threads."""


Row = tuple[np.dtype, tuple[int, ...]]
Packed = np.ndarray | Sequence[bytes]
"""Of n images: themselves, or a file of each."""


class Form(ABC):
    """What a store holds beside its hashes and its index."""

    name: str
    files: tuple[str, ...]  # the first holds the images

    @abstractmethod
    def is_exact(self, preprocessing: Preprocessing) -> bool:
        """Whether what is read is what was written, to the bit."""

    @abstractmethod
    def rows(self, preprocessing: Preprocessing) -> dict[str, Row | None]:
        """The files that grow with each image: type and shape of a row of an .npy; None for plain bytes."""

    @abstractmethod
    def pack(self, images: np.ndarray) -> Packed:
        """What is written of images (n, H, W, C); called by several threads."""

    @abstractmethod
    def joined(self, packed: Packed) -> bytes | memoryview:
        """What the file of images gets of these."""

    def beside(self, packed: Packed, size: int) -> dict[str, bytes | memoryview]:
        """What the other files that grow get, where that of the images had `size` bytes before."""
        return {}

    def finish(self, folder: Path, preprocessing: Preprocessing) -> None:  # noqa: B027 nothing in most forms
        """Write what does not grow."""

    @abstractmethod
    def open(self, folder: Path) -> Any:
        """The images (N, H, W, C), which rows are taken of as of an array. Raises OSError and ValueError."""


class Decoded(Form):
    """images.npy."""

    name, files = "decoded", ("images.npy",)

    def is_exact(self, preprocessing: Preprocessing) -> bool:
        return True

    def rows(self, preprocessing: Preprocessing) -> dict[str, Row | None]:
        return {"images.npy": (preprocessing.dtype, (*preprocessing.store, preprocessing.channels))}

    def pack(self, images: np.ndarray) -> Packed:
        return images

    def joined(self, packed: Packed) -> bytes | memoryview:
        return np.asarray(packed).data

    def open(self, folder: Path) -> np.ndarray:
        return np.load(folder / "images.npy", mmap_mode="r")


class Encoded(Form):
    """images.bin, the images; ends.npy, int64 (N,), where each ends; shape.npy: (H, W, C) and bytes a value."""

    name, files = "encoded", ("images.bin", "ends.npy", "shape.npy")

    def is_exact(self, preprocessing: Preprocessing) -> bool:
        return not _is_jpeg(preprocessing.channels, preprocessing.dtype)

    def rows(self, preprocessing: Preprocessing) -> dict[str, Row | None]:
        return {"images.bin": None, "ends.npy": (np.dtype(np.int64), ())}

    def pack(self, images: np.ndarray) -> Packed:
        return [encode(image) for image in images]

    def joined(self, packed: Packed) -> bytes | memoryview:
        return b"".join(packed)

    def beside(self, packed: Packed, size: int) -> dict[str, bytes | memoryview]:
        return {"ends.npy": (size + np.cumsum([len(image) for image in packed], dtype=np.int64)).data}

    def finish(self, folder: Path, preprocessing: Preprocessing) -> None:
        with (folder / "shape.npy").open("wb") as file:
            np.save(file, [*preprocessing.store, preprocessing.channels, preprocessing.dtype.itemsize])
            sync_file(file)

    def open(self, folder: Path) -> "EncodedImages":
        return EncodedImages(folder)


FORMS: dict[str, Form] = {form.name: form for form in (Decoded(), Encoded())}


class EncodedImages:
    """Images (N, H, W, C) of an encoded store; ``images[rows]`` decodes them, by threads, into an array."""

    ndim = 4

    def __init__(self, folder: Path) -> None:
        self.ends = np.load(folder / "ends.npy")
        *sides, width = np.load(folder / "shape.npy").tolist()
        self.shape = (len(self.ends), *sides)
        self.dtype = np.dtype(f"u{width}")
        size = (folder / "images.bin").stat().st_size
        if size != (self.ends[-1] if len(self.ends) else 0):
            raise ValueError(f"{size} bytes of images where ends.npy counts {self.ends[-1]}")
        self.path = folder / "images.bin"
        self.bytes = np.memmap(self.path, mode="r")

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self._image(int(chosen))
        return self.take(chosen, 0, np.empty((len(chosen), *self.shape[1:]), self.dtype))

    def take(self, chosen: np.ndarray, axis: int, out: np.ndarray, mode: str = "raise") -> np.ndarray:
        """``np.take(images, rows, axis=0, out=out)``."""

        def place(at: int) -> None:
            out[at] = self._image(int(chosen[at]))

        if len(chosen) <= ALONE:
            for at in range(len(chosen)):
                place(at)
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(place, range(len(chosen))))
        return out

    def _image(self, row: int) -> np.ndarray:
        start = int(self.ends[row - 1]) if row else 0
        try:
            return decode(bytes(self.bytes[start : self.ends[row]]), self.shape[1:], self.dtype)
        except (OSError, ValueError, SyntaxError) as error:
            raise damaged(self.path, f"image {row}: {error}") from error


def encode(image: np.ndarray) -> bytes:
    """An image (H, W, C) of 8-bit grey or colour as JPEG; any other as PNG, its channels below each other."""
    file = io.BytesIO()
    height, width, channels = image.shape
    if _is_jpeg(channels, image.dtype):
        Image.fromarray(image if channels == 3 else image[..., 0]).save(file, "JPEG", quality=QUALITY)
    else:
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0)).reshape(channels * height, width)
        Image.fromarray(planes).save(file, "PNG", compress_level=1)
    return file.getvalue()


def decode(data: bytes, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The image (H, W, C) of `encode`."""
    height, width, channels = shape
    is_jpeg = _is_jpeg(channels, dtype)
    kind = JpegImageFile if is_jpeg else PngImageFile  # not by Image.open, which refuses what is very large
    with kind(io.BytesIO(data)) as image:
        pixels = np.asarray(image).astype(dtype, copy=False)
    if is_jpeg:
        return pixels.reshape(shape)
    return np.moveaxis(pixels.reshape(channels, height, width), 0, -1)


def _is_jpeg(channels: int, dtype: np.dtype) -> bool:
    return dtype == np.uint8 and channels in (1, 3)


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not tell."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
