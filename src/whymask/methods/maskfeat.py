"""MaskFeat: hidden squares are mask tokens in the encoder, and one layer predicts their histograms of gradients.

Wei et al., "Masked Feature Prediction for Self-Supervised Visual Pre-Training" (arXiv 2112.09133), on a ViT; on a CNN
the token takes the place of a hidden square's pixels. A histogram keeps the edges and drops brightness and exact place.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.base import Size
from whymask.errors import WhymaskError
from whymask.masks import to_squares
from whymask.methods.base import MaskedConfig, Method, block_side, masks_by_kind
from whymask.methods.settings import MaskFeatSettings
from whymask.randomness import seeded
from whymask.ranks import weighted


@dataclass(frozen=True, kw_only=True)
class MaskFeatConfig(MaskedConfig):
    """See `MaskFeatSettings`."""

    bins: int
    cell: int

    @classmethod
    def derived(cls, asked: Any, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        stride = encoder.stride(size)
        masking = masks_by_kind(encoder, size, mask="block", mask_block=block_side(encoder, size))
        return masking | {"mask_ratio": 0.4, "cell": stride // 2 if stride % 2 == 0 else stride}

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        super().check(encoder, size)
        stride = encoder.stride(size)
        if self.bins < 2:
            raise WhymaskError(f"{self.bins} bins; a histogram of directions needs at least 2, such as 9")
        if self.cell < 1 or stride % self.cell:
            raise WhymaskError(f"cell of {self.cell} pixels; it must divide the {stride} pixels of a patch or position")


class MaskFeat(Method):
    """encoder(image with mask tokens) -> linear head -> mean squared error to hidden positions' histograms."""

    Settings = MaskFeatSettings
    Config = MaskFeatConfig
    encoders = ("cnn", "vit", "swin", "own")
    source = "2112.09133"
    config: MaskFeatConfig

    def __init__(self, encoder: Encoder, config: MaskFeatConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        cells = (encoder.stride // self.config.cell) ** 2
        with seeded(seed, "decoder"):
            self.mask_token = encoder.mask_token()
            self.head = nn.Linear(encoder.dim, encoder.channels * self.config.bins * cells)

    def forward(self, images: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        chosen = self.hidden_rows(hidden)  # (n,) of B * N
        rows = self.encoder.rows(self.encoder(images, hidden, self.mask_token)).flatten(0, 1)
        loss = F.mse_loss(self.head(rows[chosen]).float(), self.targets(images).flatten(0, 1)[chosen])
        return {"loss": weighted(loss, len(chosen))}

    def look(self, *masks: Tensor) -> None:
        super().look(*masks)
        self.hidden_rows(masks[0])

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """(B, N, C * bins * cells): each position's histograms, every cell and channel's of length 1."""
        stride, (height, width) = self.encoder.stride, images.shape[-2:]
        whole = F.pad(images.float(), (0, -width % stride, 0, -height % stride), mode="replicate")
        histograms = F.normalize(hog(whole, self.config.cell, self.config.bins), dim=2)
        return to_squares(histograms.flatten(1, 2), stride // self.config.cell)


def hog(images: Tensor, cell: int, bins: int = 9) -> Tensor:
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), unnormalised, as scikit-image makes them.

    Gradients are central differences, 0 across the border; directions count modulo half a turn, and each pixel gives
    its gradient's length to one bin.

    Args:
        images: float (B, C, h, w), h and w multiples of `cell`.

    Returns:
        float (B, C, bins, h / cell, w / cell), the mean over a cell's pixels.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    turn = torch.rad2deg(torch.atan2(down, right)) % 180
    bin_of = (turn * (bins / 180)).long() % bins
    length = torch.hypot(down, right)
    votes = torch.zeros(*images.shape[:2], bins, *images.shape[2:], dtype=images.dtype, device=images.device)
    votes.scatter_(2, bin_of.unsqueeze(2), length.unsqueeze(2))
    batch, channels, _, height, width = votes.shape
    return F.avg_pool2d(votes.flatten(1, 2), cell).view(batch, channels, bins, height // cell, width // cell)
