"""The kinds of encoders by name, and the one place where what is asked of an encoder becomes what is built."""

from dataclasses import replace
from difflib import get_close_matches
from functools import cache

import timm

from whymask.encoders.base import Encoder, EncoderConfig, Size, check_known
from whymask.encoders.cnn import PlainCNNConfig, TimmCNNConfig, check_masked_forms
from whymask.encoders.eva import EvaConfig
from whymask.encoders.own import OwnTokensConfig, config_of
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.swin import SwinConfig
from whymask.encoders.timm_names import form_of, is_timm, sketch
from whymask.encoders.two_layer import TwoLayerConfig
from whymask.encoders.vit import ViTConfig, check_tokens
from whymask.encoders.whole import WholeConfig
from whymask.errors import WhymaskError
from whymask.functions import is_named
from whymask.randomness import reseeding, seeded

ENCODERS: dict[str, type[EncoderConfig]] = {"cnn": PlainCNNConfig, "vit": ViTConfig, "two-layer": TwoLayerConfig}
"""whymask's own names; any other name is a network of timm."""
DEFAULT = "cnn"
WHY_DEFAULT = (
    "in trials with 1e13 operations of pretraining, on five sets of images and 200 or 250 labels, nothing was shown to "
    "be ahead of it from scratch in balanced accuracy: resnet18 from scratch by +0.015 (-0.008 to +0.038), a ViT of "
    "width 96 with mae by -0.018 (-0.091 to +0.055), itself with mae by +0.001 (-0.008 to +0.009)"
)
"""docs/results/defaults: intervals over data sets. A test holds the numbers equal."""


def why_default(asked: EncoderSettings, config: EncoderConfig) -> list[str]:
    """A line on why it is this encoder, where nobody asked for one and it is the default."""
    is_default = asked.name == "auto" and config.name == DEFAULT
    return [f"encoder {DEFAULT} by default: {WHY_DEFAULT}"] if is_default else []


OF_TIMM: dict[str, type[EncoderConfig]] = {
    "cnn": TimmCNNConfig,
    "vit": ViTConfig,
    "swin": SwinConfig,
    "eva": EvaConfig,
}
"""What timm's networks become, by `form_of` their names; those that cannot be shown a part of an image become a
`WholeConfig`."""


def kinds() -> list[str]:
    """The names of all kinds that can be pretrained."""
    every: list[type[EncoderConfig]] = [*OF_TIMM.values(), *ENCODERS.values(), OwnTokensConfig]
    return list(dict.fromkeys(config.kind for config in every))


def config_class(name: str) -> type[EncoderConfig]:
    """The kind of the encoder `name`. Raises WhymaskError, with the nearest names, for one that does not exist."""
    if is_named(name):
        return config_of(name)
    if name in ENCODERS or name == "auto":
        return ENCODERS["cnn" if name == "auto" else name]
    if is_timm(name):
        return WholeConfig if why_whole(name) else OF_TIMM[form_of(name)]
    near = get_close_matches(name, [*ENCODERS, *filter(is_timm, timm.list_models())], cutoff=0.3) or list(ENCODERS)
    raise WhymaskError(
        f"unknown encoder {name!r}; nearest: {', '.join(near)} (all: auto, {', '.join(ENCODERS)}, and timm's names)"
    )


@cache
def why_whole(name: str) -> str | None:
    """Why the network of timm cannot be shown a part of an image; None of one that can. No weights are made."""
    kind = OF_TIMM[form_of(name)].kind
    try:
        if kind == "vit":
            check_tokens(sketch(name), name)
        elif kind == "cnn":
            check_masked_forms(name)
    except WhymaskError as error:
        return str(error)
    return None


def resolve(asked: EncoderSettings, size: Size, channels: int) -> EncoderConfig:
    """Every setting decided, for images of `size` (height, width) in pixels and `channels`.

    Raises:
        WhymaskError: for an unknown name, a setting that the encoder does not have, or one that does not fit the size.
    """
    if channels < 1:
        raise WhymaskError(f"images of {channels} channels; at least 1 is needed")
    if asked.name == "auto":
        asked = replace(asked, name=DEFAULT)
    kind = config_class(asked.name)
    check_known(asked, kind)
    config = kind.resolve(asked, size)
    config.check_channels(size, channels)
    return config


def build_encoder(config: EncoderConfig, size: Size, channels: int, seed: int) -> Encoder:
    """A new encoder with weights drawn from `seed`: the same seed and config give the same weights, also those that a
    network of one's own draws by NumPy's or Python's global generator."""
    with seeded(seed, "encoder"), reseeding() as seed_others:
        seed_others(seed, "encoder")
        return config.build(size, channels)
