"""What `experiments.defaults` tries: data sets, encoders, methods and lengths of pretraining."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whymask.disk import write_bytes
from whymask.encoders import EncoderSettings
from whymask.stages.settings import SCRATCH


@dataclass(frozen=True)
class DataSet:
    """Images with classes. `images`: how many of the training images, the first ones of a mixed order; None for all."""

    folder: str
    labels_per_class: int
    images: int | None = None


DATA = {
    "tiny-imagenet-50-3000": DataSet("tiny-imagenet-50", 5, 3_000),
    "clothing-small": DataSet("clothing-small", 20),
    "cifar10-jpeg": DataSet("cifar10-jpeg", 20),
    "fashion-mnist": DataSet("fashion-mnist", 20),
    "tiny-imagenet-50": DataSet("tiny-imagenet-50", 5),
}
"""200 or 250 labels each, of 980 to 60,000 images of 28 to 96 pixels."""

ENCODERS = {
    "cnn": EncoderSettings("cnn"),
    "resnet18": EncoderSettings("resnet18"),
    "convnext_atto": EncoderSettings("convnext_atto"),
    "vit-96x4": EncoderSettings("vit", width=96, depth=4, heads=3),
    "vit-ti": EncoderSettings("vit", width=192, depth=12, heads=3),
    "resnet50": EncoderSettings("resnet50"),
    "vit-s": EncoderSettings("vit", width=384, depth=12, heads=6),
}
"""ViTs at the patches that fit the images."""

METHODS = {
    SCRATCH: ENCODERS,
    "mae": ENCODERS,
    "spark": ("cnn", "resnet18", "convnext_atto", "resnet50"),
    "simmim": ("cnn", "resnet18", "vit-96x4", "vit-ti", "vit-s"),
    "data2vec2": ("vit-96x4", "vit-ti", "vit-s"),
    "ijepa": ("vit-96x4", "vit-ti", "vit-s"),
}
"""Which encoders each is tried with, at the method's defaults. mae on a CNN is fcmae."""

OPERATIONS = (1e13, 1e14, 1e15)
"""Of a pretraining, counted as PyTorch counts them: about 2, 20 and 200 minutes of a core of 100 GFLOP/s."""
SEEDS = 3
TUNING = 1.5
"""An encoder is not tried with so few operations that fine-tuning alone costs more than this many times as much."""


@dataclass(frozen=True)
class Trial:
    """One network: pretrained (or not) and fine-tuned, with one seed."""

    data: str
    encoder: str
    method: str
    operations: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.operations:.0e}/{self.data}/{self.encoder}/{self.method}/{self.seed}".replace("e+", "e")

    @classmethod
    def of(cls, name: str) -> "Trial":
        return next(trial for trial in all_trials() if trial.name == name)


def all_trials() -> Iterator[Trial]:
    """Every trial, the cheap lengths first, and of each whole seeds one after the other."""
    for operations in OPERATIONS:
        for seed in range(SEEDS):
            for method, encoders in METHODS.items():
                for encoder in encoders:
                    yield from (Trial(data, encoder, method, operations, seed) for data in DATA)


def source_of(data: str, shared: Path, out: Path) -> Path:
    """The folder to read; where only the first images count, one with files of these alone is made."""
    images, folder = DATA[data].images, shared / DATA[data].folder
    if images is None:
        return folder
    from pyarrow import parquet

    made = out / "data" / data
    for file in sorted(folder.glob("*.parquet")):
        target = made / file.name
        if not target.exists():
            table = parquet.read_table(file)
            write_parquet(target, table[:images] if file.name.startswith("train") else table)
    return made


def write_parquet(path: Path, table: Any) -> None:
    """The file, whole or not at all."""
    from pyarrow import BufferOutputStream, parquet

    parquet.write_table(table, sink := BufferOutputStream())
    write_bytes(path, sink.getvalue().to_pybytes())
