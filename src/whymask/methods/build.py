"""The methods by name, and the one place where what is asked of a method becomes what is built."""

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from whymask.encoders import Encoder, EncoderConfig, EncoderSettings, config_class
from whymask.encoders.base import Size
from whymask.encoders.build import why_whole
from whymask.encoders.own import OwnTokensConfig
from whymask.encoders.whole import WholeConfig
from whymask.errors import WhymaskError
from whymask.methods.base import Method, MethodConfig
from whymask.methods.crossmae import CrossMAE
from whymask.methods.data2vec import Data2Vec
from whymask.methods.data2vec2 import Data2Vec2
from whymask.methods.fcmae import FCMAE
from whymask.methods.ijepa import IJEPA
from whymask.methods.mae import MAE
from whymask.methods.maskfeat import MaskFeat
from whymask.methods.settings import MethodSettings, setting_of
from whymask.methods.simmim import SimMIM
from whymask.methods.spark import SparK
from whymask.methods.two_layer import TwoLayerMethod

METHODS: dict[str, type[Method]] = {
    "mae": MAE,
    "crossmae": CrossMAE,
    "fcmae": FCMAE,
    "data2vec": Data2Vec,
    "data2vec2": Data2Vec2,
    "simmim": SimMIM,
    "maskfeat": MaskFeat,
    "spark": SparK,
    "ijepa": IJEPA,
    "two-layer": TwoLayerMethod,
}


def method_of(name: str) -> type[Method]:
    """The method of this name. Raises WhymaskError, naming the nearest, where there is none."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, cutoff=0.3) or list(METHODS)
        raise WhymaskError(f"unknown method {name!r}; nearest: {', '.join(near)} (all: {', '.join(METHODS)})")
    return METHODS[name]


def asked_of(settings: Any) -> MethodSettings:
    """What `settings` ask of their method; the defaults of a method that was added to METHODS later."""
    asked = getattr(settings, setting_of(settings.method), None)
    return method_of(settings.method).Settings() if asked is None else asked


def encoder_for(name: str, asked: EncoderSettings) -> EncoderSettings:
    """The encoder's settings, "auto" replaced by the encoder that the method takes first.

    Raises:
        WhymaskError: when method and encoder do not fit each other; the encoders that fit are named.
    """
    if asked.name == "auto":
        return replace(asked, name=method_of(name).encoders[0])
    check_fits(name, asked.name, config_class(asked.name).kind)
    return asked


def check_fits(name: str, encoder: str, kind: str) -> None:
    """Raises WhymaskError when the method does not fit this encoder, of this kind."""
    fitting = method_of(name).encoders
    if kind == WholeConfig.kind:
        raise WhymaskError(
            f"method {name!r} hides parts of images, which {encoder} cannot be shown: {why_whole(encoder)}. It can be "
            f"fine-tuned, probed and applied, from scratch or from public weights"
        )
    if kind not in fitting:
        own = kind == OwnTokensConfig.kind
        of_kind = ", which can be shown mask tokens alone" if own else "" if kind == encoder else f", a {kind}"
        raise WhymaskError(
            f"method {name!r} does not fit encoder {encoder!r}{of_kind}; it pretrains {' or '.join(fitting)}: give "
            f"one of these as the encoder, or another method ('whymask list' shows which fit)"
        )


def resolve_method(name: str, asked: MethodSettings, encoder: EncoderConfig, size: Size) -> MethodConfig:
    """Every setting of the method decided, for an encoder and images of `size` (height, width) in pixels.

    Raises:
        WhymaskError: for an unknown name, an encoder or a setting that does not fit, or a setting out of its range.
    """
    check_fits(name, encoder.name, encoder.kind)
    return method_of(name).form(encoder.kind, asked).Config.resolve(asked, encoder, size)


def settings_for(name: str, config: MethodConfig) -> MethodSettings:
    """The settings of the method `name` that ask for exactly this, for files and comparisons."""
    return config.asked(method_of(name).Settings)


def build_method(name: str, encoder: Encoder, config: MethodConfig, seed: int) -> Method:
    """The method over `encoder`, with weights of its own drawn from `seed`; `config` as resolved for this name."""
    return method_of(name).form(encoder.kind, config)(encoder, config, seed)
