"""Methods of pretraining. One file is one method, read top to bottom: mask -> encode -> decode -> loss.

A method is a `Method` over an encoder that it does not build. `draw(batch, generator)` gives the masks of a step,
`forward(images, *masks)` a dict with "loss" and what else is worth logging; `METHODS` names them.
"""

from typing import TYPE_CHECKING

from whymask.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "settings": ["MaskedSettings", "MethodSettings", "PerMethod", "SETTINGS", "setting_of"],
        "base": ["MaskedConfig", "Method", "MethodConfig"],
        "build": ["METHODS", "asked_of", "build_method", "encoder_for", "method_of", "resolve_method", "settings_for"],
        "files": ["load_method", "save_method"],
    },
)

if TYPE_CHECKING:
    from whymask.methods.base import MaskedConfig as MaskedConfig
    from whymask.methods.base import Method as Method
    from whymask.methods.base import MethodConfig as MethodConfig
    from whymask.methods.build import METHODS as METHODS
    from whymask.methods.build import asked_of as asked_of
    from whymask.methods.build import build_method as build_method
    from whymask.methods.build import encoder_for as encoder_for
    from whymask.methods.build import method_of as method_of
    from whymask.methods.build import resolve_method as resolve_method
    from whymask.methods.build import settings_for as settings_for
    from whymask.methods.files import load_method as load_method
    from whymask.methods.files import save_method as save_method
    from whymask.methods.settings import SETTINGS as SETTINGS
    from whymask.methods.settings import MaskedSettings as MaskedSettings
    from whymask.methods.settings import MethodSettings as MethodSettings
    from whymask.methods.settings import PerMethod as PerMethod
    from whymask.methods.settings import setting_of as setting_of
