"""SimMIM: hidden squares are mask tokens in the encoder, and one layer predicts their pixels.

Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling" (arXiv 2111.09886), on a ViT; on a CNN, of which the
paper has no recipe, the token takes the place of a hidden square's pixels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whymask import masks
from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.base import Size
from whymask.masks import to_pixels
from whymask.methods.base import MaskedConfig, Method, masks_by_kind
from whymask.methods.settings import SimMIMSettings
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class SimMIMConfig(MaskedConfig):
    """See `SimMIMSettings`."""

    @classmethod
    def derived(cls, asked: Any, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        grid = encoder.grid(size)
        side = 2 if min(grid) >= 14 and grid[0] % 2 == grid[1] % 2 == 0 else 1
        return masks_by_kind(encoder, size, mask="uniform", mask_block=side) | {"mask_ratio": 0.6}


class SimMIM(Method):
    """encoder(image with mask tokens) -> linear head -> mean absolute error at hidden pixels."""

    Settings = SimMIMSettings
    Config = SimMIMConfig
    encoders = ("cnn", "vit", "swin", "own")
    one_graph = ("vit",)
    source = "2111.09886"
    config: SimMIMConfig

    def __init__(self, encoder: Encoder, config: SimMIMConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        with seeded(seed, "decoder"):
            self.mask_token = encoder.mask_token()
            self.head = nn.Linear(encoder.dim, encoder.channels * encoder.stride**2)

    def forward(self, images: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        scored = to_pixels(hidden, self.encoder.unit)
        errors = (self.predict(images, hidden).float() - images.float()).abs().masked_fill(~scored, 0)
        return {"loss": errors.sum() / (scored.sum() * images.shape[1])}

    def predict(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Pixels of the whole image, (B, C, h, w)."""
        rows = self.encoder.rows(self.encoder(images, hidden, self.mask_token))
        return masks.cover(self.head(rows), self.encoder.stride, self.encoder.size)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        predicted = self.predict(images, hidden).to(images.dtype)
        return torch.where(to_pixels(hidden, self.encoder.unit), predicted, images)
