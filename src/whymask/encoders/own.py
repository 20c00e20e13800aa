"""One's own networks, by MODULE:NAME of a class or function that makes them.

Such a network is a module with `forward_features`, from images (B, C, h, w) to a map (B, D, h', w') or to tokens (B, N,
D), row by row, a class token before them or none, and their width D as `num_features`. It is called without arguments,
or with `in_chans` where it takes that. Where each of its layers has a masked form, and what its own code does between
them lets nothing hidden through, it is pretrained as a CNN; else by the methods that put mask tokens in the place of
hidden pixels.
"""

import inspect
import math
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from timm.models import register_model
from torch import Tensor, nn

from whymask.encoders.base import Size, check_divides
from whymask.encoders.branches import branches_of
from whymask.encoders.cnn import CNNEncoder, mask_unit, trial
from whymask.encoders.masked import hiding, mask_layers
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.whole import Shapes, WholeConfig, WholeEncoder
from whymask.errors import WhymaskError
from whymask.functions import named
from whymask.masks import hides, to_pixels
from whymask.randomness import reseeding

TRIED = (64, 32, 96, 224)
"""Sides of images, in pixels, of which the first that a network takes tells whether it can be shown a part of them."""
REGISTERED = "own_network"


class OwnNetwork(nn.Module):
    """The network, with the interface of timm's: the mean over positions is pooled unless it has a `forward_head`."""

    def __init__(self, network: str, in_chans: int = 3, num_classes: int = 0) -> None:
        super().__init__()
        asked, make = f"encoder {network}", _maker(network)
        takes = inspect.signature(make).parameters
        if lacking := [name for name, one in takes.items() if _is_asked(one)]:
            raise WhymaskError(f"{asked} cannot be called without {', '.join(lacking)}; give these a default")
        net = make(in_chans=in_chans) if "in_chans" in takes else make()
        if not isinstance(net, nn.Module) or not callable(getattr(net, "forward_features", None)):
            raise WhymaskError(f"{asked} makes a {type(net).__name__}; an nn.Module with forward_features was expected")
        if next(net.parameters(), None) is None:
            raise WhymaskError(f"{asked} makes a {type(net).__name__} without weights; there is nothing to train")
        width = getattr(net, "num_features", None)
        if not isinstance(width, int):
            raise WhymaskError(
                f"{asked} has num_features {width}; the width of its features, a whole number, was expected"
            )
        self.own, self.num_features, self.head_hidden_size, self.num_classes = net, width, width, num_classes
        self.feature_info = [{"num_chs": width, "reduction": 1, "module": "own"}]
        self.global_pool = FastAdaptiveAvgPool(flatten=True)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.own.forward_features(x)  # type: ignore[operator]
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if hasattr(self.own, "forward_head"):
            pooled = self.own.forward_head(x, pre_logits=True)  # type: ignore[operator]
        else:
            pooled = self.global_pool(x) if x.ndim == 4 else x.mean(1)
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^own\."}


def _is_asked(parameter: inspect.Parameter) -> bool:
    """Whether a call needs it."""
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic and parameter.name != "in_chans"


@register_model
def own_network(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> OwnNetwork:
    """For `timm.create_model("own_network", network="module:name", in_chans=...)`, which has no public weights."""
    return OwnNetwork(**kwargs)


@dataclass(frozen=True)
class OwnConfig(WholeConfig):
    """Of a network by its name; mask squares are of `unit` pixels."""

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "OwnConfig":
        usual = cls(asked.name, mask_unit(asked, size))
        stride = usual.stride(size)
        if asked.unit is not None or stride <= usual.unit or size[0] % stride or size[1] % stride:
            return usual
        check_divides("mask unit", stride, size)
        return cls(asked.name, stride)  # a square hides whole positions where it can

    def check_channels(self, size: Size, channels: int) -> None:
        _features(_made(self.name, channels), torch.zeros(2, channels, *size), self.name)

    def shapes(self, size: Size) -> Shapes:
        return shapes(self.name, size)

    @property
    def timm_name(self) -> str:
        return REGISTERED

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        return {"network": self.name, "in_chans": channels, "num_classes": 0}

    def notes(self, size: Size) -> list[str]:
        why = reason_unmasked(self.name)
        return [f"{self.name} can be pretrained with mask tokens alone: {why}"] if why else []

    def has_branches(self) -> bool:
        return bool(branches_of(_made(self.name)))


@dataclass(frozen=True)
class OwnCNNConfig(OwnConfig):
    """Of a network whose layers all have masked forms."""

    kind = "cnn"
    channels_last = True

    def build(self, size: Size, channels: int) -> Any:
        return CNNEncoder(self, size, channels)


@dataclass(frozen=True)
class OwnTokensConfig(OwnConfig):
    """Of any other."""

    kind = "own"

    def build(self, size: Size, channels: int) -> "OwnEncoder":
        return OwnEncoder(self, size, channels)


class OwnEncoder(WholeEncoder):
    """A dense network, in whose images a token takes the place of hidden pixels."""

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        if token is None or hidden is None or not hides(hidden):
            return super().forward(images, hidden)
        self._check_places("where hidden pixels lie among them")
        return super().forward(self.with_token(images, ~to_pixels(hidden, self.unit), token))

    @property
    def positions(self) -> tuple[int, int]:
        self._check_places("where they lie")
        return super().positions

    def _check_places(self, what: str) -> None:
        """Raises WhymaskError, which says `what` is not known, for tokens that no patches make."""
        if self.shapes.layout == "tokens" and grid_of(self.shapes.grid[0] * self.shapes.grid[1], self.size) is None:
            raise WhymaskError(
                f"encoder {self.config.name} gives {self.shapes.grid[0]} tokens of images of "
                f"{self.size[0]}x{self.size[1]} pixels, which no square patches make, with a class token or without: "
                f"{what} is not known; give a map (B, D, h', w')"
            )

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        visible = (~to_pixels(hidden, self.unit)).float()
        return nn.functional.adaptive_max_pool2d(visible, self.shapes.grid).flatten(1) == 0


def config_of(name: str) -> type[OwnConfig]:
    """What the network becomes. Raises WhymaskError where there is none, or it makes no features."""
    return OwnTokensConfig if why_unmasked(name) else OwnCNNConfig


def why_unmasked(name: str) -> str:
    """Why the network cannot be shown a part of an image; "" where it can."""
    return _why_unmasked(name, _maker(name))


def reason_unmasked(name: str) -> str:
    """`why_unmasked`, in the network's own names of its layers and without what to do."""
    return why_unmasked(name).partition(", so the network")[0].replace("own.", "")


@cache
def _why_unmasked(name: str, maker: Any) -> str:
    net, images = _with_images(name)
    try:
        mask_layers(net, name)
        trial(net, name, images)
    except WhymaskError as error:
        return str(error)
    return "what it does between its layers mixes what is hidden with what is not" if _mixes(net, images) else ""


def _mixes(net: OwnNetwork, images: Tensor) -> bool:
    """Whether anything but a layer moves what is seen: of images of which a corner is hidden, positions of which
    nothing is visible must be nothing."""
    visible = torch.ones_like(images[:, :1], dtype=torch.bool)
    visible[..., : images.shape[2] // 2, : images.shape[3] // 2] = False
    with torch.no_grad(), hiding(net.eval(), visible):
        features = net.forward_features(images.masked_fill(~visible, 0))
    shown = nn.functional.adaptive_max_pool2d(visible.float(), features.shape[2:])
    return bool((features * (shown == 0)).any())


def shapes(name: str, size: Size) -> Shapes:
    """What the network makes of images of `size`. Raises WhymaskError where it cannot see such images."""
    return _shapes(name, size, _maker(name))


@cache
def _shapes(name: str, size: Size, maker: Any) -> Shapes:
    net = _made(name)
    features = _features(net, torch.zeros(2, _channels(net), *size), name)
    if features.ndim == 4:
        return Shapes("channels first", (features.shape[2], features.shape[3]), 0, net.num_features)
    grid, prefix = grid_of(features.shape[1], size) or ((features.shape[1], 1), 0)
    return Shapes("tokens", grid, prefix, net.num_features)


def grid_of(tokens: int, size: Size) -> tuple[tuple[int, int], int] | None:
    """How so many tokens lie on an image of `size`, by square patches, and how many others stand before them: none, or
    a class token. None where no patch makes as many."""
    for prefix, patch, rounded in product((0, 1), range(1, max(size) + 1), (math.floor, math.ceil)):
        grid = (rounded(size[0] / patch), rounded(size[1] / patch))
        if grid[0] * grid[1] == tokens - prefix:
            return grid, prefix
    return None


def _features(net: OwnNetwork, images: Tensor, name: str) -> Tensor:
    """Of whole images. Raises WhymaskError where there are none of the width that the network names."""
    try:
        with torch.no_grad():
            features = net.eval().forward_features(images)
    except Exception as error:  # whatever networks raise
        channels, height, width = images.shape[1:]
        raise WhymaskError(
            f"encoder {name} gives no features of images of {height}x{width} pixels and {channels} channels "
            f"({type(error).__name__}: {error}); choose another size or --channels, or let it take in_chans"
        ) from error
    at = {3: 2, 4: 1}.get(features.ndim)
    if at is None or features.shape[at] != net.num_features:
        raise WhymaskError(
            f"encoder {name}: forward_features gives {tuple(features.shape)}; (B, D, h', w') or (B, N, D) with "
            f"D = {net.num_features}, its num_features, was expected"
        )
    return features


def _with_images(name: str) -> tuple[OwnNetwork, Tensor]:
    """The network, and images of the first size of `TRIED` that it takes."""
    told: WhymaskError | None = None
    for side in TRIED:
        net = _made(name)
        images = torch.ones(2, _channels(net), side, side)
        try:
            _features(net, images, name)
            return net, images
        except WhymaskError as error:
            told = told or error
    raise told or AssertionError


def _made(name: str, channels: int = 3) -> OwnNetwork:
    """The network with weights of no account; global generators stay as they are."""
    with torch.random.fork_rng(devices=[]), reseeding():
        return OwnNetwork(name, channels)


def _maker(name: str) -> Any:
    """What makes the network: another one, where a notebook defined it anew."""
    return named(name, f"encoder {name}", "a class or function that makes a network")


def _channels(net: OwnNetwork) -> int:
    """Of the images that the network sees as it was made: those of its first convolution, or 3."""
    first = next((layer for layer in net.modules() if isinstance(layer, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels
