"""Images in archives, as WebDataset has them."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whymask.data.source import Source

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(IMAGES[number % len(IMAGES)]).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            data = data.encode() if isinstance(data, str) else data
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def samples(numbers: Sequence[int], **texts: Any) -> dict[str, bytes | str]:
    """A PNG each, and members of these kinds, made of the number."""
    members: dict[str, bytes | str] = {}
    for number in numbers:
        members[f"{number:04d}.png"] = png(number)
        members |= {f"{number:04d}.{kind}": of(number) for kind, of in texts.items()}
    return members


def write_shards(folder: Path, stem: str = "train", count: int = 3) -> Path:
    """Four samples a shard."""
    for shard in range(count):
        rows = range(4 * shard, 4 * shard + 4)
        write_tar(folder / f"{stem}-{shard:06d}.tar", samples(rows, cls=lambda n: str(n % 2)))
    return folder


def pixels(source: Source) -> np.ndarray:
    return np.stack([np.asarray(source.read(row)) for row in range(len(source))])
