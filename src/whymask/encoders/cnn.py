"""CNNs that can be shown only a part of an image: the plain one, and timm's, by masked forms of their layers."""

import copy
import operator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from whymask.encoders.base import Encoder, EncoderConfig, Size, check_divides, square_side
from whymask.encoders.masked import hiding, mask_layers, showing
from whymask.encoders.masked_forms import Visibility, coarsen
from whymask.encoders.plain_cnn import plain_network
from whymask.encoders.refusals import with_reason
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.timm_names import sketch, takes
from whymask.errors import WhymaskError
from whymask.linear import speed_up
from whymask.masks import hides, to_pixels

SMALL = 64
"""Images with a shorter side below this many pixels get the smaller output stride."""


@dataclass(frozen=True)
class PlainCNNConfig(EncoderConfig):
    """Of `PlainCNN`, whose depth follows from the images' size: `width` channels at first, mask squares of `unit`."""

    kind = "cnn"
    channels_last = True

    width: int
    unit: int

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "PlainCNNConfig":
        width = asked.width if asked.width is not None else 32
        if width < 1:
            raise WhymaskError(f"CNN of width {width}; the first layer needs at least 1 channel, such as 32")
        return cls(asked.name, width, mask_unit(asked, size))

    def build(self, size: Size, channels: int) -> "CNNEncoder":
        return CNNEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.unit

    def layers(self, size: Size) -> list[tuple[int, int]]:
        plain = plain_network(self.width, size)
        return list(zip(plain["widths"], accumulate(plain["strides"], operator.mul), strict=True))

    @property
    def timm_name(self) -> str:
        return "plain_cnn"

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        return {"in_chans": channels, "num_classes": 0, **plain_network(self.width, size)}


@dataclass(frozen=True)
class TimmCNNConfig(EncoderConfig):
    """Of a CNN of timm, whose last map has positions of `output_stride` pixels; mask squares are of `unit` pixels."""

    kind = "cnn"
    channels_last = True

    unit: int
    output_stride: int

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "TimmCNNConfig":
        config = cls(asked.name, mask_unit(asked, size), fitting_stride(asked, size))
        config.layers(size)  # what the network itself refuses is refused now
        return config

    def build(self, size: Size, channels: int) -> "CNNEncoder":
        return CNNEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.unit

    def layers(self, size: Size) -> list[tuple[int, int]]:
        net = sketch(self.name, **self._strided())
        if not hasattr(net, "feature_info") or getattr(net, "head_hidden_size", net.num_features) != net.num_features:
            raise WhymaskError(f"{self.name} has no feature maps of its classifier's width; choose another encoder")
        layers = [(info["num_chs"], info["reduction"]) for info in net.feature_info]
        return [*layers[:-1], (net.num_features, layers[-1][1])]

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        return {"in_chans": channels, "num_classes": 0, **self._strided()}

    def notes(self, size: Size) -> list[str]:
        if self.output_stride == 32:
            return []
        height, width = (-(-side // self.stride(size)) for side in size)
        return [f"{self.name} has output stride {self.output_stride}: its last map has {height}x{width} positions"]

    def _strided(self) -> dict[str, Any]:
        """Not every network of timm takes the argument; 32 is what they are without it."""
        return {} if self.output_stride == 32 else {"output_stride": self.output_stride}


class CNNEncoder(Encoder):
    """A dense CNN, by masked forms of its layers where a mask is given. Features (B, D, h', w'), zero where
    all is hidden.

    A position stands for `stride` pixels a side from its own place on; whether a last one is there for what is left of
    images whose size is no multiple of that is the network's choice, as in timm.

    Attributes:
        widths, strides: of the layers whose maps are `outputs`, each stride relative to the layer before.
    """

    def __init__(self, config: EncoderConfig, size: Size, channels: int) -> None:
        super().__init__(config, size, channels)
        layers = config.layers(size)
        self.widths = [width for width, _ in layers]
        self.strides = [after // before for before, after in pairwise([1, *(stride for _, stride in layers)])]
        speed_up(self.net)
        with with_reason(self.net, self.timm_name):
            mask_layers(self.net, self.timm_name)
            self.origins, self.sizes = trial(self.net, self.timm_name, torch.zeros(2, channels, *size))
        groups = group_parameters(self.net, self.net.group_matcher(coarse=False), reverse=True)
        self.group_of: dict[str, int] = dict(groups)
        self.layers = max(self.group_of.values()) + 1

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        shown, visible = self._shown(images, hidden, token)
        with hiding(self.net, visible):
            return self.net.forward_features(shown)

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        shown, visible = self._shown(images, hidden, token)
        with hiding(self.net, visible):
            return maps_of(self.net, shown)

    def visible_in(self, layer: int, hidden: Tensor) -> Tensor:
        """Under which positions of a layer's output some pixel is visible: BoolTensor (B, 1, h', w')."""
        return self._visible_at(self.sizes[layer], ~to_pixels(hidden, self.unit))

    def rows(self, features: Tensor) -> Tensor:
        return self.whole(features).flatten(2).transpose(1, 2)

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return self.whole(~self.visible_in(-1, hidden)).flatten(1)

    def whole(self, x: Tensor) -> Tensor:
        """A map of the last layer with a position, zero, for what is left of images that the network cuts off."""
        missing = [-(-side // self.stride) - there for side, there in zip(self.size, x.shape[-2:], strict=True)]
        return nn.functional.pad(x, (0, missing[1], 0, missing[0])) if any(missing) else x

    def pool(self, features: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Features -> (B, D), by the network's own pooling; with a mask over visible positions only."""
        if hidden is None:
            return super().pool(features)
        with hiding(self.net, self.visible_in(-1, hidden)):
            return super().pool(features)

    def layer_of(self, name: str) -> int:
        return self.group_of[name.removeprefix("net.")]

    def _shown(self, images: Tensor, hidden: Tensor | None, token: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The network's input, and what its layers may see of it."""
        if hidden is None or not hides(hidden):
            return images, None
        visible = ~to_pixels(hidden, self.unit)
        if token is None:
            return images.masked_fill(~visible, 0), visible  # not a product: NaN * 0 is NaN
        return self.with_token(images, visible, token), None

    def _visible_at(self, size: Size, visible: Tensor) -> Tensor:
        if size == (visible.shape[2], visible.shape[3]):
            return visible
        if size not in self.origins:
            return visible.flatten(1).any(dim=1)[:, None, None, None]  # a single position
        before, stride = self.origins[size]
        return coarsen(self._visible_at(before, visible), stride, size)


def maps_of(net: Any, images: Tensor) -> list[Tensor]:
    """What the layers of the network's feature_info put out, the last one's replaced by the features."""
    maps: list[Tensor] = []
    handles = [
        net.get_submodule(info["module"]).register_forward_hook(lambda *call: maps.append(call[2]))
        for info in list(net.feature_info)[:-1]
    ]
    try:
        features = net.forward_features(images)
    finally:
        for handle in handles:
            handle.remove()
    return [*maps, features]


@torch.no_grad()
def trial(net: Any, name: str, images: Tensor) -> tuple[dict[Size, tuple[Size, int]], list[Size]]:
    """One masked forward pass: from which size, by which stride, maps of each size come, and the sizes of `maps_of`.

    Raises WhymaskError where a layer has no masked form for these images."""
    visibility = Visibility(torch.ones_like(images[:, :1], dtype=torch.bool))
    training = net.training
    net.eval()
    try:
        with showing(net, visibility):
            maps = maps_of(net, images)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:  # whatever networks raise
        raise WhymaskError(
            f"{name} cannot be shown a part of images of {images.shape[2]}x{images.shape[3]} pixels ({error}); choose "
            f"another size or encoder"
        ) from error
    net.train(training)
    return visibility.origins, [(x.shape[2], x.shape[3]) for x in maps]


def check_masked_forms(name: str) -> None:
    """Raises WhymaskError where the network of timm, at its own size, has a layer without a masked form. No weights are
    made."""
    channels, *size = sketch(name).pretrained_cfg["input_size"]
    with with_reason(sketch(name), name):
        TimmCNNConfig.resolve(EncoderSettings(name), (size[0], size[1]))
        net = copy.deepcopy(sketch(name))
        mask_layers(net, name)
        trial(net, name, torch.zeros(1, channels, *size, device="meta"))


def fitting_stride(asked: EncoderSettings, size: Size) -> int:
    """The output stride: the given one, or 8 for small images, as at 32 a position would be a whole image."""
    if asked.output_stride is None:
        small = min(size) < SMALL and takes(asked.name, output_stride=8)
        return 8 if small else 32
    is_usual = asked.output_stride == 32  # which timm is not told, as some networks have no other
    if not is_usual and not (asked.output_stride in (8, 16) and takes(asked.name, output_stride=asked.output_stride)):
        raise WhymaskError(
            f"output_stride {asked.output_stride} of {asked.name}; it is 8, 16 or 32, where timm lets it be chosen"
        )
    return asked.output_stride


def mask_unit(asked: EncoderSettings, size: Size) -> int:
    """Side of a mask square in pixels: the given one, or 4 where that divides images of 16 to 64 pixels, else such that
    there are 8 to 16 squares a side."""
    if asked.unit is not None:
        unit = asked.unit
    else:
        unit = 4 if 16 <= min(size) <= 64 and size[0] % 4 == size[1] % 4 == 0 else square_side(size)
    check_divides("mask unit", unit, size)
    return unit
