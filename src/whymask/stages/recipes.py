"""How a classifier is trained, and what the field adds to that when there are many labels."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from whymask.data.prepare import Prepared
from whymask.data.strong import Strong
from whymask.encoders import EncoderConfig
from whymask.encoders.pyramids import usual_head
from whymask.errors import WhymaskError
from whymask.later import LATER
from whymask.report.text import plural
from whymask.stages.settings import FinetuneTrainingSettings, HeadName, PretrainTrainingSettings
from whymask.tasks import TASKS, LossConfig, Task
from whymask.training.optimisation import TrainingConfig

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

NOTHING: dict[str, Any] = RECIPES["few"] | {"class_weights": "none", "sampler": "shuffled", "bins": 0}
NOTHING |= {"head": None, "dice": 0.0, "score_threshold": 0.05, "nms": 0.5}
"""What changes nothing."""
TASKS_OWN = frozenset[str]().union(*(task.takes for task in TASKS.values()))
"""Settings that not every task takes."""


@dataclass(frozen=True, kw_only=True)
class FinetuneTrainingConfig(TrainingConfig):
    """`FinetuneTrainingSettings` of which nothing is left open: the recipe's defaults are filled in."""

    train: Literal["all", "head"]
    recipe: Literal["few", "many"]
    drop_path: float
    mixup: float
    cutmix: float
    rand_augment: str
    random_erasing: float
    label_smoothing: float
    class_weights: Literal["none", "balanced"] = field(default="none", metadata=LATER)
    sampler: Literal["shuffled", "balanced"] = field(default="shuffled", metadata=LATER)
    bins: int = field(default=0, metadata=LATER)
    head: HeadName | None = field(default=None, metadata=LATER)
    score_threshold: float = field(default=0.05, metadata=LATER)
    nms: float = field(default=0.5, metadata=LATER)
    dice: float = field(default=0.0, metadata=LATER)

    @property
    def loss(self) -> LossConfig:
        return LossConfig(self.label_smoothing, self.class_weights, self.bins, self.dice)

    def strong(self, prepared: Prepared) -> Strong | None:
        """The augmentation beyond crops and flips."""
        if not self.rand_augment and not self.random_erasing:
            return None
        mean = tuple(255 * value for value in prepared.images.preprocessing.mean)
        return Strong(self.rand_augment, self.random_erasing, mean)

    def text(self) -> str:
        """The recipe in a line, with what is left out of it."""
        own = {key: getattr(self, key) for key in NOTHING}
        added = ", ".join(f"{key} {value}" for key, value in own.items() if value != NOTHING[key]) or "nothing added"
        missing = ", ".join(key for key, usual in RECIPES[self.recipe].items() if usual and not own[key])
        text = (
            f"recipe {self.recipe}: {plural(self.epochs, 'epoch')}, {added}{'; without ' if missing else ''}{missing}"
        )
        return text.replace("_", " ")


def resolve_pretraining(asked: PretrainTrainingSettings, images: int) -> TrainingConfig:
    """The epochs and the learning rate filled in, for so many unlabelled images."""
    return TrainingConfig(**(vars(asked) | {"epochs": asked.epochs_for(images), "learning_rate": asked.peak}))


def resolve_finetuning(
    asked: FinetuneTrainingSettings, labels: int, prepared: Prepared, encoder: EncoderConfig
) -> FinetuneTrainingConfig:
    """Every None filled in, for `labels` labelled images and this kind of encoder.

    What a recipe asks for and the images, their task or the encoder do not allow is left out; where it was given, that
    is an error.

    Raises:
        WhymaskError: for drop_path of a network without residual branches, rand_augment of images that are not 8-bit
            with 1 or 3 channels, or in words that timm does not read, or what the task does not take.
    """
    Strong(asked.rand_augment or "")
    epochs = asked.epochs_for(labels)
    enough = labels / max(1, len(prepared.task.names)) >= MANY and epochs >= LONG
    name: Literal["few", "many"] = ("many" if enough else "few") if asked.recipe == "auto" else asked.recipe
    recipe = RECIPES[name] | _left_out(asked, prepared.task)
    prep = prepared.images.preprocessing
    if prep.dtype != np.uint8 or prep.channels not in (1, 3):
        if asked.rand_augment:
            raise WhymaskError(
                f"rand_augment works on 8-bit images with 1 or 3 channels; these have {prep.channels} channels and "
                f"are stored as {prep.dtype}; leave it out"
            )
        recipe["rand_augment"] = ""
    if not encoder.has_branches():
        if asked.drop_path:
            raise WhymaskError(f"encoder {encoder.name!r} has no residual branches to drop; leave drop_path out")
        recipe["drop_path"] = 0.0
    if prepared.task.is_dense:
        recipe |= _of_dense(asked, prepared.task, encoder, prep.size)
    given = {key: value for key, value in vars(asked).items() if value is not None}
    settled = {"epochs": epochs, "recipe": name, "learning_rate": asked.peak}
    return FinetuneTrainingConfig(**(recipe | given | settled))


def _of_dense(
    asked: FinetuneTrainingSettings, task: Task, encoder: EncoderConfig, size: tuple[int, int]
) -> dict[str, Any]:
    """What a dense task has instead: a head of its own, of a frozen encoder's pixels a linear one, and nothing that
    changes images alone."""
    for name in ("rand_augment", "random_erasing"):
        if value := getattr(asked, name):
            raise WhymaskError(f"{name} {value} changes images, and not where their labels lie; leave it out")
    if asked.head not in (None, *task.heads):
        raise WhymaskError(f"head {asked.head} was given; {task.name} has {' and '.join(task.heads)}; choose one")
    if task.targets == "boxes":
        head = task.heads[0]
    else:
        head = "linear" if asked.train == "head" else usual_head(encoder, size)
    return {"rand_augment": "", "random_erasing": 0.0, "head": head}


def _left_out(asked: FinetuneTrainingSettings, task: Task) -> dict[str, Any]:
    """Nothing of what the task does not take."""
    for name in sorted(TASKS_OWN - task.takes):
        if (value := getattr(asked, name)) not in (None, NOTHING[name]):
            raise WhymaskError(f"{name} {value} was given; {task.name} has no such setting; leave it out")
    return {name: NOTHING[name] for name in TASKS_OWN - task.takes}
