"""timm's networks by name: which kind of encoder each becomes, and whether it is proven to."""

from functools import cache
from typing import Any

import timm
import torch
from timm.models import is_model, model_entrypoint

from whymask.errors import WhymaskError

PROVEN = {
    "vision_transformer": "vit",
    "deit": "vit",
    "eva": "eva",
    "swin_transformer": "swin",
    "swin_transformer_v2": "swin",
    "resnet": "cnn",
    "convnext": "cnn",
    "efficientnet": "cnn",
}
"""Modules of timm, and the form of encoder that their networks become; a test proves each. Networks of other modules
are tried as CNNs."""


def family(name: str) -> str:
    """timm's module of the network `name`, such as "resnet"."""
    return model_entrypoint(name).__module__.rpartition(".")[2]


def is_timm(name: str) -> bool:
    """Whether timm itself has the network: not those that whymask registers there."""
    return bool(is_model(name)) and model_entrypoint(name).__module__.startswith("timm.")


def form_of(name: str) -> str:
    return PROVEN.get(family(name), "cnn")


@cache
def sketch(name: str, **settings: Any) -> Any:
    """The network without weights, to ask for its shapes. Raises WhymaskError where timm refuses the settings."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, num_classes=0, **settings)
    except Exception as error:  # timm's networks raise whatever their authors liked
        raise WhymaskError(
            f"timm cannot build {name!r} with {settings} ({type(error).__name__}: {error}); choose another encoder"
        ) from error


def takes(name: str, **settings: Any) -> bool:
    """Whether timm builds the network with these settings."""
    try:
        sketch(name, **settings)
    except WhymaskError:
        return False
    return True
