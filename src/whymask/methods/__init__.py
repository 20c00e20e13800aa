"""Methods of pretraining. One file is one method, read top to bottom: mask -> encode -> decode -> loss.

A method is a `Method` over an encoder that it does not build. `draw(batch, generator)` gives the masks of a step,
`forward(images, *masks)` a dict with "loss" and what else is worth logging; `METHODS` names them.
"""

from dataclasses import field, make_dataclass, replace
from difflib import get_close_matches
from typing import Any

from whymask.encoders import EncoderConfig, encoder_class
from whymask.errors import WhymaskError
from whymask.methods.base import MaskedConfig, Method, MethodConfig
from whymask.methods.data2vec import Data2Vec, Data2VecConfig
from whymask.methods.data2vec2 import Data2Vec2, Data2Vec2Config
from whymask.methods.ijepa import IJEPA, IJEPAConfig
from whymask.methods.mae import MAE, MAEConfig
from whymask.methods.maskfeat import MaskFeat, MaskFeatConfig
from whymask.methods.simmim import SimMIM, SimMIMConfig
from whymask.methods.spark import SparK, SparKConfig
from whymask.methods.two_layer import TwoLayerConfig, TwoLayerMethod

__all__ = [
    "IJEPA",
    "MAE",
    "METHODS",
    "Data2Vec",
    "Data2Vec2",
    "Data2Vec2Config",
    "Data2VecConfig",
    "IJEPAConfig",
    "MAEConfig",
    "MaskFeat",
    "MaskFeatConfig",
    "MaskedConfig",
    "Method",
    "MethodConfig",
    "PerMethod",
    "SimMIM",
    "SimMIMConfig",
    "SparK",
    "SparKConfig",
    "TwoLayerConfig",
    "TwoLayerMethod",
    "config_of",
    "encoder_for",
    "method_of",
    "setting_of",
]

METHODS: dict[str, type[Method]] = {
    "mae": MAE,
    "data2vec": Data2Vec,
    "data2vec2": Data2Vec2,
    "simmim": SimMIM,
    "maskfeat": MaskFeat,
    "spark": SparK,
    "ijepa": IJEPA,
    "two-layer": TwoLayerMethod,
}


def setting_of(name: str) -> str:
    """The name of the settings' field, and of the flags, that holds a method's config."""
    return name.replace("-", "_")


PerMethod = make_dataclass(
    "PerMethod",
    [(setting_of(name), method.Config, field(default_factory=method.Config)) for name, method in METHODS.items()],
    frozen=True,
    kw_only=True,
)
"""Base of settings: one field a method, with its config."""


def config_of(settings: Any) -> MethodConfig:
    """The config of `settings.method`: the settings' own, or the defaults of a method that was added to METHODS
    later."""
    return getattr(settings, setting_of(settings.method), None) or method_of(settings.method).Config()


def method_of(name: str) -> type[Method]:
    """The method of this name. Raises WhymaskError, naming the nearest, where there is none."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, cutoff=0.3) or list(METHODS)
        raise WhymaskError(f"unknown method {name!r}; nearest: {', '.join(near)} (all: {', '.join(METHODS)})")
    return METHODS[name]


def encoder_for(name: str, config: EncoderConfig) -> EncoderConfig:
    """The encoder's settings, "auto" replaced by the encoder that the method takes first.

    Raises:
        WhymaskError: when method and encoder do not fit each other; the encoders that fit are named.
    """
    fitting = method_of(name).encoders
    if config.name == "auto":
        return replace(config, name=fitting[0])
    kind = encoder_class(config.name).kind
    if kind not in fitting:
        of_kind = "" if kind == config.name else f", a {kind}"
        raise WhymaskError(
            f"method {name!r} does not fit encoder {config.name!r}{of_kind}; it pretrains {' or '.join(fitting)}: give "
            f"one of these as the encoder, or another method ('whymask list' shows which fit)"
        )
    return config
