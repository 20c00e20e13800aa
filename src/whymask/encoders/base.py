"""What every encoder offers, and the settings from which it is built."""

import math
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Annotated, Any, ClassVar, Literal

import timm
import tyro
from torch import Tensor, nn

from whymask.data.preprocessing import Preprocessing
from whymask.encoders.branches import branches_of
from whymask.encoders.timm_names import sketch
from whymask.errors import WhymaskError


@dataclass(frozen=True)
class EncoderConfig:
    """Which network, and how large. None is derived from the images' size by `resolve`."""

    name: Annotated[str, tyro.conf.arg(name="encoder")] = "auto"
    """"vit" (Dosovitskiy et al., arXiv 2010.11929), "cnn" (plain, 3x3 convolutions), "two-layer" (the paper's own,
    arXiv 2206.03826); the name of a timm network, such as resnet18, convnextv2_atto or vit_tiny_patch16_224 ("whymask
    list" says which can be pretrained); or "auto": the CNN, which is the kind of network of the paper's theory, learns
    from few labels and runs on a CPU, or what the method fits where that is not the CNN."""
    width: int | None = None
    """ViT: token width, 192 when not given. CNN: channels of the first layer, 32 when not given. Two-layer:
    kernels, 256 when not given. A timm name has its own; of a Swin the first stage's can be given."""
    depth: int | None = None
    """ViT only: number of blocks, 12 when not given. The CNN's depth follows from the image size."""
    heads: int | None = None
    """ViT only: attention heads; when not given of width 64 each, or 32 in networks narrower than 192."""
    patch: int | None = None
    """ViT, Swin and two-layer: side of a patch in pixels, and but for Swin of a mask square; when not given, 8 to 16
    patches a side (ViT) or 4 to 8 (two-layer). A timm name has its own, but for images that hold too few of them."""
    unit: int | None = None
    """CNN and Swin: side of a mask square in pixels; 4 for images up to 64 pixels, larger ones have 8 to 16 a side
    (CNN), or that of a position of the last map (Swin)."""
    output_stride: int | None = None
    """timm CNNs: pixels a side that a position of the last map stands for, 8, 16 or 32; further strides become
    dilations. 8 for images below 64 pixels when not given, else 32."""
    pool: Literal["mean", "token"] | None = None
    """ViT only: what a classifier reads, the mean over patches (the default) or the class token."""

    @property
    def square(self) -> int:
        """Pixels that an image's sides must be multiples of: a patch's or mask square's side, 4 where none is given."""
        return self.unit or self.patch or 4

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(gh, gw): how many mask squares images of `size` (height, width) have."""
        return size[0] // self.square, size[1] // self.square


class Encoder(nn.Module):
    """A timm network that can be shown only a part of an image.

    `encoder(images)` is the network's own `forward_features`; `encoder(images, hidden)` computes nothing from the
    hidden pixels: whatever they hold, even NaN, every output and gradient is the same to the last bit.

    Attributes:
        config: the resolved settings.
        size: (height, width) of the images in pixels; channels: of the images.
        unit: side of a mask square in pixels; grid: (gh, gw), number of mask squares.
        stride: pixels a position of the features stands for, a side; a ViT's patch.
        dim: width D of the features and of the pooled features.
        net: the timm network, without classifier (num_classes = 0). `net.state_dict()` loads strictly into
            `timm.create_model(timm_name, **timm_kwargs)`.
        layers: number of layer groups, see `layer_of`.
        transform: of a loaded encoder, the preprocessing that it was trained with: raw image -> (C, h, w).
        origin: where its weights came from, and under which licence, if somebody else began them; saved with them.
    """

    kind: ClassVar[str]
    layer_decay: ClassVar[float] = 1.0
    """Usual layer-wise learning-rate decay when it is fine-tuned after pretraining."""
    patchwise: ClassVar[bool] = False
    """Whether every mask square is one position of the features, a token from the first layer to the last."""
    timm_name: str
    timm_kwargs: dict[str, Any]
    transform: Preprocessing
    origin: str | None = None

    def __init__(self, config: EncoderConfig, size: tuple[int, int], channels: int, unit: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.size = size
        self.channels = channels
        self.unit = unit
        self.stride = self.stride_of(config, size)
        self.grid = config.grid(size)
        self.dim = dim
        self.timm_name, self.timm_kwargs = self.network(config, size, channels)
        self.net: Any = timm.create_model(self.timm_name, **self.timm_kwargs)
        self.layers = 0

    @classmethod
    def resolve(cls, config: EncoderConfig, size: tuple[int, int]) -> EncoderConfig:
        """Fills in what is None. Raises WhymaskError when the settings do not fit the images."""
        raise NotImplementedError

    @classmethod
    def network(cls, config: EncoderConfig, size: tuple[int, int], channels: int) -> tuple[str, dict[str, Any]]:
        """Name and keyword arguments with which timm builds the network of a resolved config."""
        raise NotImplementedError

    @classmethod
    def notes(cls, config: EncoderConfig, size: tuple[int, int]) -> list[str]:
        """What a user should know of how a resolved config was fitted to the images."""
        return []

    @classmethod
    def layers_of(cls, config: EncoderConfig, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(width, stride in pixels) of each of the `outputs` of a resolved config, for CNNs and the like."""
        raise NotImplementedError

    @classmethod
    def alike(cls, config: EncoderConfig, size: tuple[int, int]) -> int:
        """How many of the last `outputs` have the width and the stride of the last one."""
        layers = cls.layers_of(config, size)
        return len(list(takewhile(lambda layer: layer == layers[-1], reversed(layers))))

    @classmethod
    def upper(cls, config: EncoderConfig, size: tuple[int, int]) -> int:
        """How many of the last `outputs` are usually averaged to a teacher's target: all that are alike."""
        return cls.alike(config, size)

    @classmethod
    def has_branches(cls, config: EncoderConfig) -> bool:
        """Whether it has residual branches that drop path can leave out. No memory is taken for weights."""
        return bool(branches_of(sketch(config.name)))

    @classmethod
    def stride_of(cls, config: EncoderConfig, size: tuple[int, int]) -> int:
        """Pixels, a side, that a position of the features stands for."""
        return config.square

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """Features of images (B, C, h, w), of which the squares where `hidden` (B, gh, gw) is True are not seen.

        With a `token`, made by `mask_token`, hidden squares are not left out: they hold the token, and the features are
        those of the whole grid.
        """
        raise NotImplementedError

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        """The output of every block or layer in turn, as `forward` computes them, before any final norm."""
        raise NotImplementedError

    def mask_token(self) -> nn.Parameter:
        """A new learnable token for hidden squares, with small random values."""
        raise NotImplementedError

    def rows(self, features: Tensor) -> Tensor:
        """Features of the whole grid as (B, N, D): positions row by row, without a class token."""
        raise NotImplementedError

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        """Of which of the N positions everything is hidden: BoolTensor (B, N) from a mask (B, gh, gw)."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """Features of a whole image -> (B, D), what a classifier's head is put on: the network's own pooling."""
        return self.net.forward_head(features, pre_logits=True)

    def use_pool(self, pool: Literal["mean", "token"]) -> None:
        """Makes `pool` read something else from now on. Raises WhymaskError where there is no choice."""
        raise WhymaskError(f"encoder {self.config.name!r} pools in one way; leave 'pool' out (given: {pool})")

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        """Features of whole images, as `forward` gives them, by way of `point`, a module that changes nothing: it is
        passed the map (B, D, h', w') at which evidence is read, by what reaches it on the way back."""
        return point(self(images))

    def mean_over_positions(self, output: Tensor) -> Tensor:
        """One of the `outputs` of whole images -> (B, D)."""
        return output.mean(dim=(2, 3))

    def layer_of(self, name: str) -> int:
        """The layer group of a parameter, named as in `named_parameters()`: 0 at the input, `layers` at the output.

        For layer-wise learning-rate decay (BEiT, arXiv 2106.08254) a parameter's factor is
        ``decay ** (layers - layer_of(name))``; the classifier's head has factor 1.
        """
        raise NotImplementedError


def check_fixed(config: EncoderConfig, **own: int) -> None:
    """Raises WhymaskError when a setting is given that the name has decided otherwise."""
    for name, value in own.items():
        if getattr(config, name) not in (None, value):
            raise WhymaskError(
                f"{config.name} has {name} {value}, {getattr(config, name)} was given; leave {name!r} out, or choose "
                f"another name"
            )


def reject_unused(config: EncoderConfig, used: tuple[str, ...]) -> None:
    """Raises WhymaskError when a setting is given that the named encoder does not have."""
    for field in fields(config):
        if field.name not in ("name", *used) and getattr(config, field.name) is not None:
            raise WhymaskError(
                f"encoder {config.name!r} has no setting {field.name!r} (given: {getattr(config, field.name)}); "
                f"it has {', '.join(used)}; leave {field.name!r} out"
            )


def square_side(size: tuple[int, int]) -> int:
    """A side for patches or mask squares, in pixels: it divides the size, and the shorter side holds 8 to 16 of them.

    Of several, the one that can be halved most often, so that squares meet the borders of a CNN's coarser positions;
    then the largest. Where none divides the size, the nearest below.
    """
    shorter, common = min(size), math.gcd(*size)
    divisors = [d for d in range(1, common + 1) if common % d == 0]
    fitting = [d for d in divisors if shorter / 16 <= d <= shorter / 8]
    if not fitting:
        return max(d for d in divisors if d <= max(shorter / 8, 1))
    return max(fitting, key=lambda d: (d & -d, d))


def check_divides(name: str, side: int, size: tuple[int, int]) -> None:
    """Raises WhymaskError unless images of this size can be cut into squares of `side` pixels, at least two of them."""
    height, width = size
    if side < 1 or side > min(size):
        raise WhymaskError(
            f"{name} of {side} pixels; images are {height}x{width}: choose a {name} between 1 and {min(size)}, "
            f"or a larger image size"
        )
    if height % side or width % side:
        nearest = (round(height / side) * side, round(width / side) * side)
        raise WhymaskError(
            f"{name} of {side} pixels does not divide images of {height}x{width}; choose a {name} that divides both "
            f"(such as {square_side(size)}) or an image size such as {nearest[0]}x{nearest[1]}"
        )
    if height * width == side * side:
        raise WhymaskError(f"{name} of {side} pixels covers the whole image of {height}x{width}; choose a smaller one")
