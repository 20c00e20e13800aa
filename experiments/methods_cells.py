"""What `experiments.methods` compares: data sets, encoders, forms of methods, and the cells that these make."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from whymask.encoders import EncoderSettings
from whymask.methods import SETTINGS, MethodSettings
from whymask.methods.settings import MAESettings, TwoLayerSettings

SCRATCH = "scratch"
VIT = EncoderSettings("vit", width=96, depth=4, heads=3, patch=8)
ENCODER_SETTINGS = {"cnn": EncoderSettings("cnn"), "vit": VIT, "two-layer": EncoderSettings("two-layer")}
VARIANTS: dict[str, tuple[str, MethodSettings]] = {name: (name, asked()) for name, asked in SETTINGS.items()} | {
    "mae-cross": ("mae", MAESettings(decoder="cross", decode_share=0.5)),
    "two-layer-pixels": ("two-layer", TwoLayerSettings(objective="pixels")),
}
"""What is compared: each method at its defaults, and two forms of methods that differ much."""


@dataclass(frozen=True)
class DataSet:
    """A data set, how many labels are given, and how long is pretrained."""

    source: str
    labels_per_class: int
    seeds: int
    metric: str
    """Of the difference to scratch."""
    pairs: tuple[tuple[str, str], ...]
    """(variant, encoder)."""
    epochs: Callable[[float, str, str], int]
    """(operations a pretraining pass over all images, variant, encoder) -> epochs."""


GLYPH_EPOCHS = {
    "cnn": {"mae": 20, "data2vec": 15, "simmim": 18, "maskfeat": 16, "spark": 6},
    "vit": {"mae": 14, "mae-cross": 14, "data2vec": 9, "data2vec2": 9, "simmim": 11, "maskfeat": 11, "ijepa": 7},
    "two-layer": {"two-layer": 40, "two-layer-pixels": 40},
}
"""About a minute each on one core of the machine that docs/results names."""

CIFAR_OPERATIONS = 8e12
"""Of a pretraining on CIFAR-10, counted as PyTorch counts them, to the nearest epoch: 2 to 5 minutes on one core."""

IMAGES: dict[str, DataSet] = {
    "glyphs": DataSet(
        "glyphs",
        10,
        5,
        "accuracy/single_view",
        tuple((variant, encoder) for encoder, variants in GLYPH_EPOCHS.items() for variant in variants),
        lambda operations, variant, encoder: GLYPH_EPOCHS[encoder][variant],
    ),
    "cifar10-jpeg": DataSet(
        "../shared/data/cifar10-jpeg",
        50,
        3,
        "accuracy",
        (
            *((variant, "vit") for variant in ("mae", "data2vec", "data2vec2", "simmim")),
            ("spark", "cnn"),
            ("two-layer", "two-layer"),
        ),
        lambda operations, variant, encoder: max(1, round(CIFAR_OPERATIONS / operations)),
    ),
}

SHARES = {"data2vec": (0.25, 0.5), "data2vec2": (0.125, 0.25, 0.5)}
"""Shorter runs on glyphs with the ViT: how soon does data2vec2 reach what data2vec reaches?"""
LENGTH_SEEDS = 3


@dataclass(frozen=True)
class Cell:
    """One network. `share` is of the full length of pretraining."""

    data: str
    encoder: str
    variant: str
    seed: int
    share: float = 1.0

    @property
    def name(self) -> str:
        short = "" if self.share == 1 else f"-{self.share:g}"
        return f"{self.data}/{self.encoder}/{self.variant}{short}/{self.seed}"

    @classmethod
    def of(cls, name: str) -> "Cell":
        return next(cell for cell in all_cells() if cell.name == name)


def all_cells() -> Iterator[Cell]:
    """Every cell, whole seeds one after the other."""
    for data, images in IMAGES.items():
        for seed in range(images.seeds):
            for encoder in dict.fromkeys(encoder for _, encoder in images.pairs):
                yield Cell(data, encoder, SCRATCH, seed)
            for variant, encoder in images.pairs:
                yield Cell(data, encoder, variant, seed)
    for seed in range(LENGTH_SEEDS):
        for variant, shares in SHARES.items():
            for share in shares:
                yield Cell("glyphs", "vit", variant, seed, share)
