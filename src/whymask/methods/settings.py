"""What is asked of each method: the flags of the command line. Free of torch.

A method's own file says what is derived where a setting is None, and holds its config, which is what it is built from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from whymask.errors import WhymaskError
from whymask.flags import readable, words_of
from whymask.keywords import with_keywords


@readable
@dataclass(frozen=True)
class MethodSettings:
    """Settings of a method. What is None follows from the encoder."""

    def __post_init__(self) -> None:
        """Raises WhymaskError when a setting that is one of several words is another one."""
        for name, hint in get_type_hints(type(self)).items():
            words, given = words_of(hint), getattr(self, name)
            if words and given is not None and given not in words:
                raise WhymaskError(f"{name} {given!r}; it is one of {', '.join(words)}")


@readable
@dataclass(frozen=True)
class MaskedSettings(MethodSettings):
    """How squares are hidden. The class that inherits this says what its paper does."""

    mask_ratio: float | tuple[float, float] | None = None
    """Share of the squares that is hidden; or two numbers, between which each batch's share is drawn (R2MAE,
    arXiv 2509.21650). Default: the method's own."""
    mask: Literal["uniform", "block", "inverse-block"] | None = None
    """uniform: every square alike, in aligned groups of mask_block; block: blocks of mask_block anywhere are hidden;
    inverse-block: such blocks stay visible. Default: the method's own."""
    mask_block: int | None = None
    """Side of a block, or of an aligned group, in mask squares. Default: the method's own."""


@readable
@dataclass(frozen=True)
class TeacherSettings(MethodSettings):
    """How the teacher follows the student."""

    decay: float | None = None
    """Decay of the teacher's moving average, fixed. Default: the paper's, which may rise over the run, but never so
    much that the averaging horizon 1 / (1 - decay) exceeds 5 % of the run's steps."""


@readable
@dataclass(frozen=True)
class MAESettings(MaskedSettings):
    """Defaults: ViT 75 % hidden, uniformly, as the paper found best; CNN 50 %, as FCMAE's 60 % lower because 3x3
    windows see less of the surroundings (on glyphs 50 and 65 % do equally well).

    Source: ViT-B 83.6 %, ViT-L 85.9 % fine-tuned on ImageNet after 1600 epochs; with decoder "cross" ViT-B 83.7 % after
    800.
    """

    normalise_targets: bool | None = None
    """Predict each square's pixels after subtracting its mean and dividing by its standard deviation (ViT, as the
    paper's best recipe) or as they are (CNN: on glyphs the features are better for it)."""
    decoder: Literal["self", "cross"] | None = None
    """ViT only. self: the paper's, in which all tokens attend to each other; cross: CrossMAE's (arXiv 2401.14391), in
    which each decoded place attends to the encoder's tokens alone, as with the method crossmae. Default: self."""
    decoder_width: int | None = None
    """ViT only: width of the decoder's tokens; half of the encoder's, at least 64."""
    decoder_depth: int | None = None
    """ViT only: blocks of the decoder; 4 for encoders of 12 or more blocks, else 2."""
    decoder_heads: int | None = None
    """ViT only: attention heads of the decoder; of width 32 each."""
    decode_share: float = 1.0
    """ViT only: share of the hidden squares that is decoded and scored in a step, drawn anew each time. Below 1 a step
    costs less and estimates the same loss from fewer squares."""


@readable
@dataclass(frozen=True)
class CrossMAESettings(MaskedSettings):
    """Defaults: those of mae on a ViT. The paper decodes a share of the hidden squares.

    Source: ViT-B 83.7 % fine-tuned on ImageNet after 800 epochs.
    """

    normalise_targets: bool = True
    """Predict each square's pixels after subtracting its mean and dividing by its standard deviation, or as they
    are."""
    decoder_width: int | None = None
    """Width of the decoder's tokens; half of the encoder's, at least 64."""
    decoder_depth: int | None = None
    """Blocks of the decoder; 4 for encoders of 12 or more blocks, else 2."""
    decoder_heads: int | None = None
    """Attention heads of the decoder; of width 32 each."""
    decode_share: float = 1.0
    """Share of the hidden squares that is decoded and scored in a step, drawn anew each time. Below 1 a step costs less
    and estimates the same loss from fewer squares."""


@readable
@dataclass(frozen=True)
class FCMAESettings(MaskedSettings):
    """Defaults: 50 % hidden, lower than the paper's 60 % because 3x3 windows see less of the surroundings (on glyphs 50
    and 65 % do equally well)."""

    normalise_targets: bool = False
    """Predict each square's pixels after subtracting its mean and dividing by its standard deviation, or as they are:
    on glyphs the features are better for it."""


@readable
@dataclass(frozen=True)
class Data2VecSettings(TeacherSettings, MaskedSettings):
    """Defaults: 60 % hidden in blocks on a ViT, the top half of the blocks, at most 6, as the paper's for ImageNet.
    Blocks are of 2 x 2 patches, where BEiT's have 16 or more of 196; and the mean over blocks is not normalised again,
    which the paper's code does and the paper does not say.

    Source: ViT-B 84.2 % fine-tuned on ImageNet after 800 epochs.
    """

    top_layers: int | None = None
    """How many of the last blocks' outputs are averaged to the target. ViT: half of them, at most 6. CNN: those whose
    maps have the size and width of the last one's."""
    beta: float = 2.0
    """Where the smooth L1 loss turns from square to linear."""


@readable
@dataclass(frozen=True)
class Data2Vec2Settings(TeacherSettings, MaskedSettings):
    """Defaults, as the paper's for ImageNet: 80 % hidden around visible blocks of 3 x 3 patches, the last 10 of 12
    blocks. On grids of less than 8 patches a side 60 % and single patches, as 3 visible patches of 16 taught nothing on
    glyphs.

    Source: ViT-L 86.8 % fine-tuned on ImageNet after 150 epochs; MAE's accuracy in 16.4 times less pretraining time.
    """

    top_layers: int | None = None
    """How many of the last blocks' outputs are averaged to the target; all but the first sixth."""
    masks: int = 2
    """Masks of an image for each pass of the teacher, which share a step's batch size between them. 16 in the paper,
    whose runs are of 375,000 steps; with fewer, a batch has more images."""
    target_norm: Literal["layer", "instance"] = "layer"
    """How a block's output is normalised before the mean. layer: each patch over the channels, as in data2vec;
    instance: each channel over the image's patches, as in the paper's code, which leaves only what tells patches of an
    image apart: on glyphs, whose patches do not tell of their neighbours, little could be learnt from it."""
    decoder_depth: int | None = None
    """Convolutions of the decoder: 6 for encoders of 12 or more blocks, else 3."""
    class_weight: float = 0.01
    """Weight of the class token's loss, a mean over images; without such a token there is none. (The paper's code sums
    it over a batch's masked images.)"""


@readable
@dataclass(frozen=True)
class SimMIMSettings(MaskedSettings):
    """Defaults, as the paper's: 60 % hidden. Its mask patches of 32 of 224 pixels, a seventh of a side, are groups of
    2 x 2 patches on a ViT where the grid has 14 patches a side or more.

    Source: ViT-B 83.8 %, Swin-B 84.0 % fine-tuned on ImageNet after 800 epochs.
    """


@readable
@dataclass(frozen=True)
class MaskFeatSettings(MaskedSettings):
    """Defaults: 40 % hidden, 9 bins, cells of half a patch, as the paper's for images; blocks are of 2 x 2 patches.
    Gradients are central differences, as scikit-image's, where the paper's code has Sobel filters.

    Source: ViT-B 84.0 %, ViT-L 85.7 % fine-tuned on ImageNet after 1600 epochs.
    """

    bins: int = 9
    """Bins of the gradient's direction, over half a turn."""
    cell: int | None = None
    """Side, in pixels, of the cell that a histogram is made of; half of a patch, or of a CNN's position."""


@readable
@dataclass(frozen=True)
class SparKSettings(MaskedSettings):
    """Defaults, as the paper's: 60 % hidden, in groups as large as a position of the last map.

    Source: ResNet-50 80.6 %, ConvNeXt-B 84.8 % fine-tuned on ImageNet after 1600 epochs.
    """

    normalise_targets: bool = True
    """Predict the pixels of each hidden group of squares after subtracting their mean and dividing by their standard
    deviation."""
    decoder_width: int | None = None
    """Channels of the decoder at the lowest resolution, halved at every doubling; 3/8 of the encoder's, as the paper's
    768 of ResNet-50's 2048."""


@readable
@dataclass(frozen=True)
class IJEPASettings(TeacherSettings):
    """Defaults, as the paper's for ImageNet.

    The student is what is kept; the paper evaluates the teacher.

    Source, linear classifier on frozen features: ViT-B/16 72.9 % (600 epochs), ViT-L/16 77.5 %, ViT-H/14 79.3 %.
    """

    targets: int = 4
    """Target blocks of an image; each is predicted by itself."""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """Area of a target, as a share of the grid's; drawn for each batch."""
    target_aspect: tuple[float, float] = (0.75, 1.5)
    """Height / width of a target; drawn for each batch."""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """Area of the context block, before the targets are taken out of it."""
    predictor_width: int | None = None
    """Width of the predictor's tokens; half of the encoder's (384 for ViT-B, as in the paper), at least 64."""
    predictor_depth: int | None = None
    """Blocks of the predictor; half of the encoder's, as the paper's 6 of ViT-B's 12."""


@readable
@dataclass(frozen=True)
class TwoLayerSettings(MethodSettings):
    """Defaults as in the theory lab. The paper states no number for this network on images."""

    mask_ratio: float = 0.5
    """Share of the patches that is hidden, 1 - theta; each independently."""
    objective: Literal["teacher", "pixels"] = "teacher"
    """teacher: the features of the whole image by kernels tau times as large; pixels: the hidden patches' pixels."""
    tau: float = 2 ** (1 / 3)
    """Scale of the teacher's kernels; growth needs more than 1. Only for the teacher's objective."""


SETTINGS: dict[str, type[MethodSettings]] = {
    "mae": MAESettings,
    "crossmae": CrossMAESettings,
    "fcmae": FCMAESettings,
    "data2vec": Data2VecSettings,
    "data2vec2": Data2Vec2Settings,
    "simmim": SimMIMSettings,
    "maskfeat": MaskFeatSettings,
    "spark": SparKSettings,
    "ijepa": IJEPASettings,
    "two-layer": TwoLayerSettings,
}
"""Of the methods in `whymask.methods.METHODS`, which may have more, added by a program of its own."""


def setting_of(name: str) -> str:
    """The name of the settings' field, and of the flags, that holds a method's settings."""
    return name.replace("-", "_")


PerMethod = make_dataclass(
    "PerMethod",
    [(setting_of(name), settings, field(default_factory=settings)) for name, settings in SETTINGS.items()],
    frozen=True,
    kw_only=True,
)
"""Base of settings: one field a method, with what is asked of it."""

P = TypeVar("P")


def with_method(settings: P, given: Mapping[str, Any]) -> P:
    """`with_keywords` of settings that are `PerMethod`: of the methods' settings, those of the one that is meant."""
    method = given.get("method", getattr(settings, "method"))  # noqa: B009
    return with_keywords(settings, given, [setting_of(name) for name in SETTINGS if name != method])
