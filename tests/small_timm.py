"""Networks that people start from, as timm builds them, narrow and shallow, under names of their own."""

from typing import Any

from timm.models import model_entrypoint, register_model

from whymask.encoders import EncoderSettings

NARROW: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
OF = {
    "small_eva02": "eva02_base_patch14_224",
    "small_dinov3": "vit_small_patch16_dinov3_qkvb",
    "small_dinov3_plus": "vit_small_plus_patch16_dinov3",
    "small_rope_mixed": "vit_small_patch16_rope_mixed_ape_224",
    "small_pe_core": "vit_pe_core_small_patch16_384",
    "small_rope_gap": "vit_medium_patch16_rope_reg1_gap_256",
    "small_dinov2": "vit_small_patch14_dinov2",
    "small_dinov2_reg4": "vit_small_patch14_reg4_dinov2",
    "small_siglip": "vit_base_patch16_siglip_224",
    "small_clip": "vit_base_patch32_clip_quickgelu_224",
    "small_gap": "vit_medium_patch16_reg4_gap_256",
    "small_beit": "beit_base_patch16_224",
}
"""Small names, and the networks of timm that they narrow."""


def _register(name: str, large: str) -> None:
    entry = model_entrypoint(large)

    def small(pretrained: bool = False, **kwargs: Any) -> Any:
        return entry(pretrained, **NARROW | kwargs)

    small.__name__, small.__module__ = name, entry.__module__
    register_model(small)


for _name, _large in OF.items():
    _register(_name, _large)

SMALL_TIMM = {name: EncoderSettings(name) for name in OF}
