"""What is asked of the stages: how to pretrain, how to fine-tune, what to probe."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings
from whymask.encoders.settings import is_name
from whymask.errors import WhymaskError
from whymask.flags import Flat, readable
from whymask.functions import is_named
from whymask.later import LATER
from whymask.methods import SETTINGS, PerMethod
from whymask.methods.settings import TeacherSettings
from whymask.missing import instead_of
from whymask.tasks.budgets import parse_budget
from whymask.training.settings import RuntimeSettings, TrainingSettings

SCRATCH = "scratch"
TEACHER = "teacher"
"""The folder in a run's where its teacher is kept, as an encoder."""
SURE = 0.9
"""Share of images that should be right, of those that are not marked as unsure."""
HeadName = Literal["linear", "fpn", "fcos", "faster-rcnn"]
OVERLAP = 0.5
"""Of a segmentation network: the share of a window's side that its neighbour sees too."""
A_RUN = "give the folder of a finished run, of a study, or of a study's cell"
"""What every command that takes a network takes."""

AsPretrain, AsFinetune = tyro.conf.arg(name="pretrain"), tyro.conf.arg(name="finetune")
"""Flags of training have the same names in a study and in the command that does it alone: --pretrain.epochs."""

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
Track = Any
"""None, one of these names, a logger of Lightning's or Fabric's interface, or several of both."""

AUGMENTS = ("auto", "none", "crop", "crop-flip")
AugmentName = str
"""One of AUGMENTS, or MODULE:FUNCTION of one's own. crop: a random crop of 40 to 100 % of the area, resized; crop-flip:
and mirrored half the time. auto: crop-flip, but none for glyphs, whose features are patterns of fixed size and
orientation."""


def check_augment(name: AugmentName) -> None:
    """Raises WhymaskError for a name that is none."""
    if name not in AUGMENTS and not is_named(name):
        raise WhymaskError(
            f"--augment {name}: expected {', '.join(AUGMENTS)}, or MODULE:FUNCTION of your own, which makes of an "
            "image, uint8 (C, H, W), what the network sees"
        )


@readable
@dataclass(frozen=True)
class PretrainTrainingSettings(TrainingSettings):
    """How an encoder is pretrained. The recipe is the masked autoencoder's (arXiv 2111.06377), for short runs: a
    higher learning rate than its 1.5e-4 * batch / 256, which is meant for 800 epochs of ImageNet."""

    epochs: int | None = None
    """Passes over the unlabelled images; default: 50,000 image passes, but at least 10 and at most 50 epochs."""
    batch_size: int | Literal["auto"] = 128
    """Masked images a step: a method with several masks an image takes so many fewer images. Fewer than this make one
    batch. auto: the largest that fits the GPU, at most 4,096 and a twentieth of the images; on a CPU the default."""
    beta2: float = 0.95
    """AdamW's averaging of squared gradients."""

    def epochs_for(self, images: int) -> int:
        """`epochs`, or what follows from the number of images."""
        return self.epochs or min(max(round(50_000 / images), 10), 50)


@readable
@dataclass(frozen=True)
class FinetuneTrainingSettings(TrainingSettings):
    """How an encoder and a head are trained on labels: the same for a pretrained encoder and for one from scratch, but
    for what an arm of a study sets (learning rate, layer decay). What is not given is the recipe's."""

    epochs: int | None = None
    """Passes over the labelled images; default: 20,000 image passes, but at least 8 and at most 40 epochs."""
    batch_size: int | Literal["auto"] = 32
    """Images a step. auto: the largest that fits the GPU, at most 4,096 and a twentieth of the images; on a CPU the
    default."""
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
    class_weights: Literal["none", "balanced"] = field(default="none", metadata=LATER)
    """balanced: in the loss, each class weighs as much as any other, however many labelled images it has."""
    sampler: Literal["shuffled", "balanced"] = field(default="shuffled", metadata=LATER)
    """balanced: images of each class come equally often, those of a small class several times an epoch."""
    bins: int = field(default=0, metadata=LATER)
    """Of regression: into how many parts each target's range is cut for a cross-entropy beside the squared error, which
    helps where targets are unevenly spread (arXiv 2308.10603); 0 for none."""
    head: HeadName | None = field(default=None, metadata=LATER)
    """What is put on the encoder. Of segmentation: linear, a class for each position of its last map; fpn, a pyramid of
    its maps. Default: linear for a ViT and on a frozen encoder, fpn where there are several maps or a coarse one. Of
    detection: fcos (default) or faster-rcnn, on a pyramid."""
    score_threshold: float = field(default=0.05, metadata=LATER)
    """Of detection: the score from which on an object counts as found."""
    nms: float = field(default=0.5, metadata=LATER)
    """Of detection: of boxes of a class that share more than this (intersection over union), only the best counts."""
    dice: float = field(default=0.0, metadata=LATER)
    """Of segmentation: the share of the cross-entropy that soft Dice replaces (arXiv 1606.04797), of the images that a
    process sees together."""

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
            if value is not None and not 0 <= value < math.inf:
                raise WhymaskError(f"{name} {value} was given; an alpha of 0 (none) or more was expected; change it")
        if self.recipe not in ("auto", "few", "many"):
            raise WhymaskError(f"recipe {self.recipe!r} was given; expected auto, few or many; choose one")
        if self.class_weights == self.sampler == "balanced":
            raise WhymaskError(
                "class_weights and sampler were both given as balanced; small classes would be favoured twice; give one"
            )
        if not 0 <= self.dice <= 1:
            raise WhymaskError(f"dice {self.dice} was given; a share from 0 to 1 was expected; change it")
        for name, value in {"score_threshold": self.score_threshold, "nms": self.nms}.items():
            if not 0 <= value <= 1:
                raise WhymaskError(f"{name} {value} was given; a number from 0 to 1 was expected; change it")
        if self.bins < 0 or self.bins == 1:
            raise WhymaskError(f"bins {self.bins} was given; 0 (none) or at least 2 was expected; change it")
        if self.train not in ("all", "head"):
            raise WhymaskError(f"train {self.train!r} was given; expected all or head; choose one")

    def epochs_for(self, images: int) -> int:
        """`epochs`, or what follows from the number of images."""
        return self.epochs or min(max(round(20_000 / images), 8), 40)


@readable
@dataclass(frozen=True)
class PretrainSettings(PerMethod):
    """Pretrain an encoder on unlabelled images."""

    method: Literal[tuple(SETTINGS)] = "mae"  # type: ignore[valid-type]
    """How to pretrain; one of `whymask.methods.METHODS`."""
    origin: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Weights to start from: a run, a study or its cell, or a local checkpoint of timm or transformers. Default: new
    weights."""
    cell: str | None = None
    """Which network of the study that --from names; default: the first seed's pretrained encoder."""
    partial: bool = False
    """Start from weights that do not all match; what does not, stays new."""
    seed: int = 0
    """Seed of weights, order, augmentation and masks."""
    augment: AugmentName = "auto"
    """Augmentation: auto, none, crop, crop-flip, or MODULE:FUNCTION of your own. auto: random crops and flips; none for
    glyphs."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    training: Annotated[PretrainTrainingSettings, AsPretrain] = field(default_factory=PretrainTrainingSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        check_augment(self.augment)


@readable
@dataclass(frozen=True)
class FinetuneSettings:
    """Train a classifier on labelled images, from a pretrained encoder or from scratch."""

    origin: Annotated[str, tyro.conf.arg(name="from")] = SCRATCH
    """A run, a study or its cell, a checkpoint or name of timm or the Hugging Face hub, or scratch."""
    cell: str | None = None
    """Which network of the study that --from names; default: the first seed's pretrained encoder."""
    like: str | None = None
    """Take the settings of this run (size, encoder, data, training, budget, seed), so that only where weights start
    from differs. What is given otherwise counts."""
    partial: bool = False
    """Start from weights that do not all match; what does not, stays new."""
    budget: str = "all"
    """How many labels to train on: a number a class (10), a share (1%), or all."""
    seed: int = 0
    """Seed of the label subset, order, augmentation and initial weights."""
    augment: AugmentName = "auto"
    """Augmentation: auto, none, crop, crop-flip, or MODULE:FUNCTION of your own. auto: random crops and flips; none for
    glyphs."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    training: Annotated[FinetuneTrainingSettings, AsFinetune] = field(default_factory=FinetuneTrainingSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        parse_budget(self.budget)
        check_augment(self.augment)


@readable
@dataclass(frozen=True)
class ProbeSettings:
    """Ask what a frozen encoder knows: nearest neighbours, and a linear model, on its features."""

    origin: Annotated[str, tyro.conf.arg(name="from")]
    """A run, a study or its cell, a local checkpoint of timm or transformers, or scratch: random weights, which tell
    what pretraining has to exceed."""
    cell: str | None = None
    """Which network of the study that --from names; default: the first seed's pretrained encoder."""
    like: str | None = None
    """Take the size and encoder of this run, and of a fine-tuned one its data settings, budget and seed too, so that
    only where weights start from differs. What is given otherwise counts."""
    partial: bool = False
    """Take weights that do not all match; what does not, stays new."""
    budget: str = "all"
    """How many labels to use: a number a class (10), a share (1%), or all."""
    seed: int = 0
    """Seed of the label subset, and of the weights from scratch."""
    neighbours: int = 20
    """How many nearest neighbours vote."""
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        parse_budget(self.budget)
        if self.neighbours < 1:
            raise WhymaskError(f"--neighbours {self.neighbours}: at least 1 was expected, such as 20; change it")


def check_track(names: Iterable[str]) -> None:
    """Raises WhymaskError for what is no tracker, or one that is not installed."""
    for name in names:
        if name not in get_args(TrackerName):
            raise WhymaskError(f"--track {name}: expected tensorboard, wandb or mlflow; choose one")
        if find_spec(name) is None:
            raise WhymaskError(f"--track {name} needs {name}; install it: pip install 'whymask[{name}]'")


def check_watch(every: int | None) -> None:
    """Raises WhymaskError for no number of steps."""
    if every is not None and every < 0:
        raise WhymaskError(f"--watch {every}: a number of steps, or 0 for never, was expected; change it")


def check_teacher(method: str, out: Path) -> None:
    """Raises WhymaskError where the method has no teacher that could be kept, or the run in `out` was finished without
    keeping it. Of a method of a program's own only the class tells: `stages.pretrain` asks that."""
    if method in SETTINGS and not issubclass(SETTINGS[method], TeacherSettings):
        raise no_teacher(method)
    if (out / "result.json").exists() and not (out / TEACHER).exists():
        raise WhymaskError(
            f"--keep-teacher: {out} is finished, and its teacher was not kept; pretrain again, into another --out"
        )


def no_teacher(method: str) -> WhymaskError:
    having = [name for name, settings in SETTINGS.items() if issubclass(settings, TeacherSettings)]
    return WhymaskError(
        f"--keep-teacher: {method} has no teacher; {', '.join(having[:-1])} and {having[-1]} have; leave it out"
    )


def check_confidence(asked: float) -> None:
    """Raises WhymaskError for what is no share."""
    if not 0 < asked < 1:
        raise WhymaskError(f"--confidence {asked:g}: expected a share of right images between 0 and 1, such as {SURE}")


def check_overlap(asked: float) -> None:
    """Raises WhymaskError for what is no share of a window, or leaves it where it is."""
    if not 0 <= asked < 1:
        raise WhymaskError(
            f"--window-overlap {asked:g}: expected a share of a window from 0 to below 1, such as {OVERLAP}"
        )


def check_origin(origin: str, flag: str = "--from ") -> None:
    """Raises WhymaskError where there is nothing that weights could be read from, nor a name that they may have."""
    if not Path(origin).exists() and not is_name(origin):
        raise WhymaskError(f"{flag}{origin}: no such file or folder; {A_RUN}, or a checkpoint{instead_of(origin)}")
