"""How a classifier is trained, and what the field adds to that when there are many labels."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from whymask.data.prepare import Prepared
from whymask.data.strong import Strong
from whymask.encoders import EncoderConfig
from whymask.errors import WhymaskError
from whymask.training.settings import Optimisation

MANY, LONG = 1000, 100
"""Labels a class, and epochs, from which on the recipe is "many" where none is named: about ImageNet's and the paper's.
At 500 labels a class of CIFAR-10 it costs 7 to 11 points of accuracy, at 8 epochs and at 40 (docs/results/recipes)."""

RECIPES: dict[str, dict[str, Any]] = {
    "few": {
        "drop_path": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "rand_augment": "",
        "random_erasing": 0.0,
        "label_smoothing": 0.0,
    },
    "many": {
        "drop_path": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "rand_augment": "rand-m9-mstd0.5-inc1",
        "random_erasing": 0.25,
        "label_smoothing": 0.1,
    },
}
"""few: crops and flips alone. many: what the masked autoencoder's end-to-end fine-tuning on ImageNet adds (arXiv
2111.06377, table 9; random erasing as in its code). Epochs, learning rate, batch and clipping are the same in both."""


@dataclass(frozen=True)
class Finetuning(Optimisation):
    """How a classifier is trained: the same for a pretrained encoder and for one from scratch, but for what an arm
    of a study sets (learning rate, layer decay). What is not given is the recipe's."""

    epochs: int | None = None
    """Passes over the labelled images; default: 20,000 image passes, but at least 8 and at most 40 epochs."""
    batch_size: int = 32
    """Images a step."""
    train: Literal["all", "head"] = "all"
    """all: fine-tuning. head: the encoder stays as it is, and a linear head behind a batch norm without parameters
    is trained (the linear probe of arXiv 2111.06377)."""
    recipe: Literal["auto", "few", "many"] = "auto"
    """Defaults of the settings below. few: none of them; many: what is usual with many labels and long training; auto:
    many from 1,000 labels a class and 100 epochs on."""
    drop_path: float | None = None
    """Share of images for which the last residual branch is left out, rising from 0 over the blocks (stochastic depth,
    arXiv 1603.09382). few 0, many 0.1."""
    mixup: float | None = None
    """Alpha of mixup (arXiv 1710.09412); with cutmix, each batch gets one of both. few 0 (none), many 0.8."""
    cutmix: float | None = None
    """Alpha of cutmix (arXiv 1905.04899). few 0 (none), many 1."""
    rand_augment: str | None = None
    """timm's description of RandAugment (arXiv 1909.13719), for 8-bit images with 1 or 3 channels. few none (""), many
    rand-m9-mstd0.5-inc1."""
    random_erasing: float | None = None
    """Share of images in which a box is replaced by noise (arXiv 1708.04896). few 0, many 0.25."""
    label_smoothing: float | None = None
    """Share of a label that is spread over all classes (arXiv 1512.00567). few 0, many 0.1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {"drop_path": self.drop_path, "label_smoothing": self.label_smoothing}
        for name, value in shares.items():
            if value is not None and not 0 <= value < 1:
                raise WhymaskError(f"{name} {value} was given; a share from 0 to below 1 was expected; change it")
        if self.random_erasing is not None and not 0 <= self.random_erasing <= 1:
            raise WhymaskError(
                f"random_erasing {self.random_erasing} was given; expected a share from 0 to 1; change it"
            )
        for name, value in {"mixup": self.mixup, "cutmix": self.cutmix}.items():
            if value is not None and not 0 <= value < np.inf:
                raise WhymaskError(f"{name} {value} was given; an alpha of 0 (none) or more was expected; change it")
        if self.recipe not in ("auto", *RECIPES):
            raise WhymaskError(f"recipe {self.recipe!r} was given; expected auto, {' or '.join(RECIPES)}; choose one")
        if self.train not in ("all", "head"):
            raise WhymaskError(f"train {self.train!r} was given; expected all or head; choose one")
        Strong(self.rand_augment or "")  # a description that timm does not read is told now, not after pretraining

    def epochs_for(self, images: int) -> int:
        return self.epochs or int(np.clip(round(20_000 / images), 8, 40))

    def resolve(self, labels: int, prepared: Prepared, encoder: EncoderConfig) -> "Finetuning":
        """Every None filled in, for `labels` labelled images and this kind of encoder.

        What a recipe asks for and the images or the encoder do not allow is left out; where it was given, that is an
        error.

        Raises:
            WhymaskError: for drop_path of a network without residual branches, rand_augment of images that are not
                8-bit with 1 or 3 channels.
        """
        a_class = labels / max(1, len(prepared.classes))
        enough = a_class >= MANY and self.epochs_for(labels) >= LONG
        name = ("many" if enough else "few") if self.recipe == "auto" else self.recipe
        recipe = dict(RECIPES[name])
        prep = prepared.images.preprocessing
        if prep.dtype != np.uint8 or prep.channels not in (1, 3):
            if self.rand_augment:
                raise WhymaskError(
                    f"rand_augment works on 8-bit images with 1 or 3 channels; these have {prep.channels} channels and "
                    f"are stored as {prep.dtype}; leave it out"
                )
            recipe["rand_augment"] = ""
        if not encoder.has_branches():
            if self.drop_path:
                raise WhymaskError(f"encoder {encoder.name!r} has no residual branches to drop; leave drop_path out")
            recipe["drop_path"] = 0.0
        given = {key: value for key in recipe if (value := getattr(self, key)) is not None}
        return replace(self, recipe=name, epochs=self.epochs_for(labels), **(recipe | given))

    def strong(self, prepared: Prepared) -> Strong | None:
        """The augmentation beyond crops and flips of a resolved recipe."""
        if not self.rand_augment and not self.random_erasing:
            return None
        mean = tuple(255 * value for value in prepared.images.preprocessing.mean)
        return Strong(self.rand_augment or "", self.random_erasing or 0.0, mean)

    def text(self) -> str:
        """A resolved recipe in a line, with what is left out of it."""
        own = {key: getattr(self, key) for key in RECIPES[self.recipe]}
        added = ", ".join(f"{key} {value}" for key, value in own.items() if value) or "nothing added"
        missing = ", ".join(key for key, usual in RECIPES[self.recipe].items() if usual and not own[key])
        text = f"recipe {self.recipe}: {self.epochs} epochs, {added}{'; without ' if missing else ''}{missing}"
        return text.replace("_", " ")
