"""Images in the form of MNIST: files such as train-images-idx3-ubyte.gz, and labels beside them.

The form is described at http://yann.lecun.com/exdb/mnist: two bytes of 0, the kind of number, the number of dimensions,
their sizes as big-endian 32-bit integers, and the numbers.
"""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whymask.data.arrays import from_named
from whymask.data.settings import LabelSettings
from whymask.data.source import Source
from whymask.data.stamps import stamp_files
from whymask.errors import WhymaskError

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
UBYTE = 8


def is_idx(file: str) -> bool:
    """Whether a file's name is that of images in this form."""
    return IMAGES in Path(file).name.replace(".idx", "-idx")


def from_idx(name: str, root: Path, files: Sequence[str], asked: LabelSettings | None) -> Source:
    """The images of a folder: those of "train" files, and, as test images, those of others ("t10k" or "test")."""
    arrays: dict[str, np.ndarray] = {}
    used: list[str] = []
    for file in sorted(filter(is_idx, files)):
        split = "train" if "train" in Path(file).name else "test"
        if f"{split}_images" in arrays:
            raise WhymaskError(f"{name}: {file} is a second file of {split} images; one of each was expected; move it")
        arrays[f"{split}_images"] = _read(root / file)
        labels = file.replace(IMAGES, LABELS).replace("images.idx3", "labels.idx1")
        used += [file]
        if labels in files:
            arrays[f"{split}_labels"] = _read(root / labels)
            used += [labels]
    stamp = stamp_files([root / file for file in used], used)
    return from_named(name, str(root), arrays, stamp, asked)


def _read(path: Path) -> np.ndarray:
    """The array of bytes in a file, perhaps gzip'ed."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        sizes = np.frombuffer(data, ">u4", data[3], offset=4)
        if data[:2] != b"\0\0" or data[2] != UBYTE:
            raise ValueError("it does not begin as such files do")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
        raise WhymaskError(
            f"{path} is no whole file in the form of MNIST, as its name says ({error}); fetch it again"
        ) from error
