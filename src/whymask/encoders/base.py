"""What every encoder offers, and the config from which it is built."""

import math
from dataclasses import asdict, dataclass, fields
from itertools import takewhile
from typing import Any, ClassVar

import timm
import torch
from torch import Tensor, nn

from whymask.data.preprocessing import Preprocessing
from whymask.encoders.branches import branches_of
from whymask.encoders.recomputing import blocks_of, recompute
from whymask.encoders.settings import EncoderSettings, Pool
from whymask.encoders.timm_names import sketch
from whymask.errors import WhymaskError

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class EncoderConfig:
    """A network for images of one size, everything decided. Each kind of encoder has its own, made by `resolve`; its
    fields are those settings that the kind has."""

    name: str
    kind: ClassVar[str]
    layer_decay: ClassVar[float] = 1.0
    """Usual layer-wise learning-rate decay when the network is fine-tuned after pretraining."""
    channels_last: ClassVar[bool] = False
    """Whether the network is mostly convolutions, which a GPU computes fastest in this memory format."""
    patchwise: ClassVar[bool] = False
    """Whether every mask square is one position of the features, a token from the first layer to the last."""

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "EncoderConfig":
        """The config for images of `size`. Raises WhymaskError when the settings do not fit the images."""
        raise NotImplementedError

    def check_channels(self, size: Size, channels: int) -> None:
        """Raise WhymaskError where the network sees no images of so many channels."""

    def build(self, size: Size, channels: int) -> "Encoder":
        """The network, its weights drawn from torch's generator."""
        raise NotImplementedError

    @property
    def square(self) -> int:
        """Side of a mask square in pixels."""
        raise NotImplementedError

    def layers(self, size: Size) -> list[tuple[int, int]]:
        """(width, stride in pixels) of each of the encoder's `outputs`; the last is that of the features."""
        raise NotImplementedError

    @property
    def timm_name(self) -> str:
        """With it, and `timm_kwargs`, timm builds the network."""
        return self.name

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        raise NotImplementedError

    def notes(self, size: Size) -> list[str]:
        """What a user should know of how the network was fitted to the images, a sentence each."""
        return []

    def grid(self, size: Size) -> tuple[int, int]:
        """(gh, gw): how many mask squares images of `size` have."""
        return size[0] // self.square, size[1] // self.square

    def stride(self, size: Size) -> int:
        """Pixels, a side, that a position of the features stands for."""
        return self.layers(size)[-1][1]

    def alike(self, size: Size) -> int:
        """How many of the last `outputs` have the width and the stride of the last one."""
        layers = self.layers(size)
        return len(list(takewhile(lambda layer: layer == layers[-1], reversed(layers))))

    def upper(self, size: Size) -> int:
        """How many of the last `outputs` are usually averaged to a teacher's target: all that are alike."""
        return self.alike(size)

    def has_branches(self) -> bool:
        """Whether the network has residual branches that drop path can leave out. No memory is taken for weights."""
        return bool(branches_of(sketch(self.timm_name)))

    def asked(self) -> EncoderSettings:
        """The settings that ask for exactly this, for files and comparisons that all kinds share."""
        return EncoderSettings(**asdict(self))


class Encoder(nn.Module):
    """A timm network that can be shown only a part of an image.

    `encoder(images)` is the network's own `forward_features`; `encoder(images, hidden)` computes nothing from the
    hidden pixels: whatever they hold, even NaN, every output and gradient is the same to the last bit.

    Attributes:
        config: what it was built from.
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

    config: EncoderConfig
    transform: Preprocessing
    origin: str | None = None

    def __init__(self, config: EncoderConfig, size: Size, channels: int) -> None:
        super().__init__()
        self.config = config
        self.size = size
        self.channels = channels
        self.unit = config.square
        self.grid = config.grid(size)
        self.dim, self.stride = config.layers(size)[-1]
        self.timm_name, self.timm_kwargs = config.timm_name, config.timm_kwargs(size, channels)
        self.net: Any = timm.create_model(self.timm_name, **self.timm_kwargs)
        self.layers = 0

    @property
    def kind(self) -> str:
        return self.config.kind

    @property
    def positions(self) -> tuple[int, int]:
        """(h', w') of the features of whole images."""
        return -(-self.size[0] // self.stride), -(-self.size[1] // self.stride)

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """Features of images (B, C, h, w), of which the squares where `hidden` (B, gh, gw) is True are not seen.

        With a `token`, made by `mask_token`, hidden squares are not left out: they hold the token, and the features are
        those of the whole grid.
        """
        raise NotImplementedError

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        """The output of every block or layer in turn, as `forward` computes them, before any final norm."""
        raise NotImplementedError

    def final(self, output: Tensor) -> Tensor:
        """The last of the `outputs` as features."""
        return output

    def as_map(self, output: Tensor) -> Tensor:
        """One of several `outputs` of whole images as (B, D, h', w')."""
        return output

    def mask_token(self) -> nn.Parameter:
        """A new learnable token for hidden squares, with small random values; here (1, C, unit, unit), for the pixels
        of one (`with_token`)."""
        return nn.Parameter(torch.randn(1, self.channels, self.unit, self.unit) * 0.02)

    def with_token(self, images: Tensor, visible: Tensor, token: Tensor) -> Tensor:
        """The images, of which pixels that are not `visible`, (B, 1, h, w), are those of the token."""
        return torch.where(visible, images, token.to(images.dtype).repeat(1, 1, *self.grid))

    def rows(self, features: Tensor) -> Tensor:
        """Features of the whole grid as (B, N, D): positions row by row, without a class token."""
        raise NotImplementedError

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        """Of which of the N positions everything is hidden: BoolTensor (B, N) from a mask (B, gh, gw)."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """Features of a whole image -> (B, D), what a classifier's head is put on: the network's own pooling."""
        return self.net.forward_head(features, pre_logits=True)

    def use_pool(self, pool: Pool) -> None:
        """Makes `pool` read something else from now on. Raises WhymaskError where there is no choice."""
        raise WhymaskError(f"encoder {self.config.name!r} pools in one way; leave 'pool' out (given: {pool})")

    def use_recomputing(self, on: bool = True) -> None:
        """Makes blocks compute again, on the way back, what they would keep for it: less memory, the same bits, about a
        third more time. Raises WhymaskError where the network cannot."""
        blocks = blocks_of(self.net)
        if on and not blocks:
            raise WhymaskError(f"encoder {self.config.name!r} cannot compute its layers again; leave --recompute out")
        for block in blocks:
            recompute(block, getattr(self.net, "masking", None), on)

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


def check_known(asked: EncoderSettings, kind: type[EncoderConfig]) -> None:
    """Raises WhymaskError when a setting is given that this kind of encoder does not have."""
    own = {field.name for field in fields(kind)}
    has = [field.name for field in fields(asked) if field.name in own - {"name"}]
    for name, value in vars(asked).items():
        if name not in own and value is not None:
            raise WhymaskError(
                f"encoder {asked.name!r} has no setting {name!r} (given: {value}); it has {', '.join(has)}; "
                f"leave {name!r} out"
            )


def check_fixed(asked: EncoderSettings, **own: int) -> None:
    """Raises WhymaskError when a setting is given that the name has decided otherwise."""
    for name, value in own.items():
        if getattr(asked, name) not in (None, value):
            raise WhymaskError(
                f"{asked.name} has {name} {value}, {getattr(asked, name)} was given; leave {name!r} out, or choose "
                f"another name"
            )


def square_side(size: Size) -> int:
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


def check_divides(name: str, side: int, size: Size) -> None:
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
