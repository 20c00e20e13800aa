"""Every method on every encoder that it fits, at a size for tests."""

from dataclasses import dataclass, field
from typing import Any

from whymask.encoders import EncoderConfig, build_encoder
from whymask.methods import METHODS, Method

SMALL = {
    "vit": EncoderConfig("vit", width=32, depth=2, heads=2, patch=4),
    "cnn": EncoderConfig("cnn", width=8),
    "swin": EncoderConfig("swin_tiny_patch4_window7_224", width=32, patch=2, unit=4),
    "two-layer": EncoderConfig("two-layer", width=16),
}


@dataclass(frozen=True)
class Case:
    """A method, the kind of encoder that it trains, and settings that are not the method's own."""

    method: str
    encoder: str
    settings: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    f"{name}-{kind}": Case(name, kind) for name, method in METHODS.items() for kind in method.encoders
}
CASES["mae-vit-cross"] = Case("mae", "vit", {"decoder": "cross", "decode_share": 0.5})
CASES["two-layer-pixels"] = Case("two-layer", "two-layer", {"objective": "pixels"})


def build(
    case: Case | str, size: tuple[int, int] = (32, 32), channels: int = 1, seed: int = 0, **settings: Any
) -> Method:
    """The case's method with a small encoder; `settings` come before the case's own."""
    case = CASES[case] if isinstance(case, str) else case
    method: Any = METHODS[case.method]
    encoder = build_encoder(SMALL[case.encoder], size, channels, seed)
    return method(encoder, method.Config(**(case.settings | settings)), seed)
