"""Encoders: one file a kind of network over timm's models; how they are asked for, built, saved and loaded."""

from typing import TYPE_CHECKING

from whymask.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "settings": ["EncoderSettings"],
        "base": ["Encoder", "EncoderConfig"],
        "build": ["ENCODERS", "build_encoder", "config_class", "kinds", "resolve"],
        "files": ["load_encoder", "load_strictly", "save_encoder"],
    },
)

if TYPE_CHECKING:
    from whymask.encoders.base import Encoder as Encoder
    from whymask.encoders.base import EncoderConfig as EncoderConfig
    from whymask.encoders.build import ENCODERS as ENCODERS
    from whymask.encoders.build import build_encoder as build_encoder
    from whymask.encoders.build import config_class as config_class
    from whymask.encoders.build import kinds as kinds
    from whymask.encoders.build import resolve as resolve
    from whymask.encoders.files import load_encoder as load_encoder
    from whymask.encoders.files import load_strictly as load_strictly
    from whymask.encoders.files import save_encoder as save_encoder
    from whymask.encoders.settings import EncoderSettings as EncoderSettings
