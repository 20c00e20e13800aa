"""Every method on every encoder that it fits, at a size for tests."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tiny import new_encoder
from whymask.encoders import Encoder, EncoderSettings
from whymask.methods import METHODS, Method, build_method, resolve_method
from whymask.randomness import derive, torch_generator

SMALL = {
    "vit": EncoderSettings("vit", width=32, depth=2, heads=2, patch=4),
    "cnn": EncoderSettings("cnn", width=8),
    "swin": EncoderSettings("swin_tiny_patch4_window7_224", width=32, patch=2, unit=4),
    "two-layer": EncoderSettings("two-layer", width=16),
}


@dataclass(frozen=True)
class Case:
    """A method, the kind of encoder that it trains, and settings that are not the method's own."""

    method: str
    encoder: str
    settings: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    f"{name}-{kind}": Case(name, kind) for name, method in METHODS.items() for kind in method.encoders if kind in SMALL
}
"""But for one's own networks: encoders/test_own.py."""
CASES["mae-vit-cross"] = Case("mae", "vit", {"decoder": "cross", "decode_share": 0.5})
CASES["two-layer-pixels"] = Case("two-layer", "two-layer", {"objective": "pixels"})
WITH_TEACHER = ("data2vec-cnn", "data2vec-vit", "data2vec2-vit", "ijepa-vit")


def build(
    case: Case | str, size: tuple[int, int] = (32, 32), channels: int = 1, seed: int = 0, **settings: Any
) -> Method:
    """The case's method with a small encoder; `settings` come before the case's own."""
    case = CASES[case] if isinstance(case, str) else case
    encoder = new_encoder(SMALL[case.encoder], size, channels, seed)
    return new_method(case.method, encoder, seed, **(case.settings | settings))


def new_method(name: str, encoder: Encoder, seed: int = 0, **settings: Any) -> Method:
    """The method over this encoder, with new weights of its own."""
    asked = METHODS[name].Settings(**settings)
    return build_method(name, encoder, resolve_method(name, asked, encoder.config, encoder.size), seed)


def losses_of(model: Method, images: Tensor, step: int = 0) -> dict[str, Tensor]:
    """One forward pass with the masks, and the noise that a method draws, of `step`."""
    masks = model.draw(len(images), torch_generator(0, "mask", step))
    torch.manual_seed(derive(0, "step", step))
    return model(images, *masks)
