"""Training batches from both forms of the store, beside the usual pipeline: Pillow and torchvision, image by image.

Rates are a core: images by processor time, PyTorch on one thread.
"""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import skimage.data
import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks.measure import Effort, Row, Work, against, interleaved, threads
from whymask.data.batches import Batches
from whymask.data.crops import Augment
from whymask.data.derive import derive, statistics
from whymask.data.forms import FORMS
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.source import Source
from whymask.data.store import open_images
from whymask.randomness import numpy_generator

SHARED = Path(__file__).parents[2] / "shared" / "data"
BATCH = 128
UNIT = "images/s per core"


def small_rows(effort: Effort, images: int) -> list[Row]:
    """loader-32, encoded-32 and decode-32: images that are small already."""
    files, name = jpegs("cifar10-jpeg", images, sides=(32, 32))
    return rows_of(files, name, 32, effort)


def large_rows(effort: Effort, images: int) -> list[Row]:
    """loader-224, encoded-224 and decode-224: photographs."""
    files, name = jpegs("clothing-small", images, sides=(400, 888))
    return rows_of(files, name, 224, effort)


def rows_of(files: list[bytes], name: str, size: int, effort: Effort) -> list[Row]:
    source = source_of(files, name)
    prep = derive(source, DataSettings(size=size, channels=3))
    with TemporaryDirectory() as folder, threads(1):
        decoding = {"store": store_building(source, prep, Path(folder)), "Pillow": pillow_decoding(files)}
        decode = interleaved(decoding, effort, time.process_time)
        forms = {name: open_images(source, prep, Path(folder), form=form) for name, form in FORMS.items()}
        mean, std = statistics(forms["decoded"].images)
        prep = replace(prep, mean=mean, std=std)
        augment, batch = Augment(), min(BATCH, len(files))
        loading = {
            name: our_batches(
                Batches(
                    replace(images, preprocessing=prep),
                    np.arange(len(files)),
                    batch_size=batch,
                    seed=0,
                    augment=augment,
                )
            )
            for name, images in forms.items()
        }
        loading["peer"] = usual_batches(files, size, augment, mean, std)
        load = interleaved(loading, effort, time.process_time)
        share = forms["encoded"].nbytes / forms["decoded"].nbytes
    stored = f"stored at {prep.store[0]}x{prep.store[1]}"
    crops = f"random resized crop {augment.min_scale:g}-1, flip, normalise, batch {batch}"
    return [
        Row(
            name=f"loader-{size}",
            peer="Pillow + torchvision v2",
            unit=UNIT,
            setting=f"{name}, {stored}; {crops}",
            **against(load, "decoded", "peer"),
        ),
        Row(
            name=f"encoded-{size}",
            peer="Pillow + torchvision v2",
            unit=UNIT,
            setting=f"the same from an encoded store of {share:.3g} times the room",
            **against(load, "encoded", "peer"),
        ),
        Row(
            name=f"decode-{size}",
            peer="Pillow decoding alone",
            unit=UNIT,
            setting=f"{name}, once: decoded, hashed, resized, {stored}",
            **against(decode, "store", "Pillow"),
        ),
    ]


def source_of(files: list[bytes], name: str) -> Source:
    keys = [f"{name}#{row}" for row in range(len(files))]
    return Source(name, keys, lambda row: Image.open(io.BytesIO(files[row])), name, np.full(len(files), -1))


def store_building(source: Source, prep: Preprocessing, folder: Path) -> Work:
    """Each call builds a new store of all images."""
    numbers = count()

    def build() -> float:
        with TemporaryDirectory(dir=folder) as cache:
            return len(open_images(replace(source, stamp=str(next(numbers))), prep, Path(cache)))

    return build


def pillow_decoding(files: list[bytes]) -> Work:
    def decode() -> float:
        for file in files:
            Image.open(io.BytesIO(file)).convert("RGB").load()
        return len(files)

    return decode


def our_batches(batches: Batches) -> Work:
    steps = count()
    return lambda: len(batches(next(steps)))


def usual_batches(files: list[bytes], size: int, augment: Augment, mean: Any, std: Any) -> Work:
    """What a training script usually does for each image of a batch."""
    transform: Callable = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(augment.min_scale, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    endless = cycle(files)
    batch = min(BATCH, len(files))

    def load() -> float:
        chosen = islice(endless, batch)
        return len(torch.stack([transform(Image.open(io.BytesIO(file)).convert("RGB")) for file in chosen]))

    return load


def jpegs(dataset: str, images: int, sides: tuple[int, int]) -> tuple[list[bytes], str]:
    """JPEG files and what they are: the first of a shared dataset, or crops of scikit-image's photographs."""
    found = sorted((SHARED / dataset).glob("train*.parquet"))
    if found:
        column = parquet.read_table(found[0], columns=["image"]).column("image").slice(0, images)
        return [row["bytes"] for row in column.to_pylist()], f"{dataset}, {len(column):,} JPEGs"
    generator = numpy_generator("bench", dataset)
    files = [encoded_crop(generator, sides) for _ in range(images)]
    return files, f"crops of scikit-image's photographs, {images:,} JPEGs"


def encoded_crop(generator: np.random.Generator, sides: tuple[int, int]) -> bytes:
    photos = (skimage.data.astronaut, skimage.data.coffee, skimage.data.rocket)
    photo = photos[generator.integers(len(photos))]()
    height, width = (generator.integers(min(sides[0], side), min(sides[1], side) + 1) for side in photo.shape[:2])
    top, left = generator.integers(photo.shape[0] - height + 1), generator.integers(photo.shape[1] - width + 1)
    file = io.BytesIO()
    Image.fromarray(photo[top : top + height, left : left + width]).save(file, "JPEG", quality=90)
    return file.getvalue()
