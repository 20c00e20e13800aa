"""timm's EVA transformers, DINOv3's among them: rotary positions (arXiv 2104.09864) for visible patches only.

Queries and keys are turned by angles of each patch's place, in every block. A visible patch keeps the angles of its own
place; class token and registers are not turned.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from whymask.encoders.base import Size
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.vit import ViTConfig, ViTEncoder, resolve_named
from whymask.masks import indices


@dataclass(frozen=True)
class EvaConfig(ViTConfig):
    """Of a timm name."""

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "EvaConfig":
        config = resolve_named(asked, size, cls)
        assert isinstance(config, cls)
        return config

    def build(self, size: Size, channels: int) -> "EvaEncoder":
        return EvaEncoder(self, size, channels)

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        kwargs = super().timm_kwargs(size, channels)
        behind = kwargs.pop("fc_norm")
        return kwargs | {"use_fc_norm": behind, "use_post_transformer_norm": not behind}


class EvaEncoder(ViTEncoder):
    """timm's Eva: SwiGLU or not, layer scale, registers, with positions that are added, rotary, or both."""

    def blocks(self, hidden: Tensor | None = None) -> Iterable[Callable[[Tensor], Tensor]]:
        if self.net.rope is None:
            return super().blocks(hidden)
        rope = self.net.rope
        angles = rope.get_embed(**({} if hasattr(rope, "feat_shape") else {"shape": list(self.grid)}))
        # ([depth, heads,] N, 2 * width of a head)
        if hidden is not None:
            visible = indices(hidden)[0]  # (B, n)
            angles = angles.index_select(-2, visible.flatten()).unflatten(-2, visible.shape)  # ([...,] B, n, ...)
            angles = angles.movedim(-3, -4) if self.net.rope_mixed else angles.unsqueeze(1)
        each = angles if self.net.rope_mixed else [angles] * len(self.net.blocks)
        return [partial(block, rope=turned) for block, turned in zip(self.net.blocks, each, strict=True)]

    def places(self, blank: Tensor) -> Tensor:
        return self.net._pos_embed(blank)[0][0]
