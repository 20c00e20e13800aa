"""Networks that people start from, as timm builds them, narrow and shallow, under names of their own."""

from typing import Any

from timm.models import model_entrypoint, register_model

from whymask.encoders import EncoderSettings

NARROW: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
OF = {
    "small_eva02": "eva02_base_patch14_224",
    "small_dinov3": "vit_small_patch16_dinov3_qkvb",
    "small_dinov3_plus": "vit_small_plus_patch16_dinov3_qkvb",
    "small_rope_mixed": "vit_small_patch16_rope_mixed_ape_224",
    "small_pe_core": "vit_pe_core_small_patch16_384",
    "small_rope_gap": "vit_medium_patch16_rope_reg1_gap_256",
    "small_dinov2": "vit_small_patch14_dinov2",
    "small_dinov2_reg4": "vit_small_patch14_reg4_dinov2",
    "small_siglip": "vit_base_patch16_siglip_224",
    "small_clip": "vit_base_patch32_clip_quickgelu_224",
    "small_gap": "vit_medium_patch16_reg4_gap_256",
    "small_beit": "beit_base_patch16_224",
    "small_beit8": "beit_base_patch16_224",
}
"""Small names, and the networks of timm that they narrow."""

CNNS: dict[str, tuple[str, dict[str, Any]]] = {
    "small_resnet": ("resnet50", {"layers": (1, 2, 1, 1), "channels": (4, 8, 12, 16)}),
    "small_resnet_basic": ("resnet18", {"layers": (1, 2, 1, 1), "channels": (64, 8, 12, 16)}),
    "small_convnext": ("convnext_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
    "small_convnextv2": ("convnextv2_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
    "small_convnextv2_conv": ("convnextv2_atto", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
}
WINDOWS: dict[str, Any] = {"embed_dim": 32, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4}
SWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "small_swin": ("swin_tiny_patch4_window7_224", WINDOWS),
    "small_swinv2": ("swinv2_tiny_window8_256", WINDOWS),
}


def _register(name: str, large: str, narrow: dict[str, Any]) -> None:
    entry = model_entrypoint(large)

    def small(pretrained: bool = False, **kwargs: Any) -> Any:
        return entry(pretrained, **narrow | kwargs)

    small.__name__, small.__module__ = name, entry.__module__
    register_model(small)


for _name, _large in OF.items():
    _register(_name, _large, NARROW | ({"patch_size": 8} if _name.endswith("8") else {}))
for _name, (_large, _narrow) in (CNNS | SWINS).items():
    _register(_name, _large, _narrow)

SMALL_TIMM = {name: EncoderSettings(name) for name in OF}
