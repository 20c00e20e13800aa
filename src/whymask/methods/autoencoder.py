"""What the masked autoencoders share: hide squares, encode the rest, decode the pixels of the hidden ones."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask import masks
from whymask.encoders.base import Size
from whymask.encoders.vit import ViTConfig
from whymask.errors import WhymaskError
from whymask.masks import indices, take, to_squares
from whymask.methods.base import MaskedConfig, Method, fill_in, standardised


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(MaskedConfig):
    """`normalise_targets`: what is predicted is each square's pixels minus their mean, divided by their deviation."""

    normalise_targets: bool


class Autoencoder(Method):
    """encoder -> decoder -> mean squared error. Of what `encode` gives, the mask, and the numbers (B, n) of the squares
    that are asked for, a `decoder` makes pixels (B, n, C * unit * unit)."""

    config: AutoencoderConfig
    decoder: nn.Module

    def forward(self, images: Tensor, hidden: Tensor, scored: Tensor | None = None) -> dict[str, Tensor]:
        """The loss is the mean over the scored squares' pixels. Every sample must hide, and score, equally many
        squares, so that samples weigh the same."""
        chosen = indices(hidden if scored is None else scored)[1]
        predictions = self.decoder(self.encode(images, hidden), hidden, chosen)
        targets = take(to_squares(images, self.encoder.unit), chosen)
        if self.config.normalise_targets:
            targets = standardised(targets)
        return {"loss": F.mse_loss(predictions.float(), targets.float())}

    def encode(self, images: Tensor, hidden: Tensor) -> Any:
        """What the decoder reads: the features of what is visible."""
        return self.encoder(images, hidden)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        chosen = indices(hidden)[1]
        predictions = self.decoder(self.encode(images, hidden), hidden, chosen)
        return fill_in(images, predictions, chosen, self.encoder.unit, self.config.normalise_targets)


@dataclass(frozen=True, kw_only=True)
class TokensConfig(AutoencoderConfig):
    """On a ViT the decoder is a transformer too; in a step it decodes `decode_share` of the hidden squares."""

    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    decode_share: float

    @classmethod
    def derived(cls, asked: Any, encoder: ViTConfig, size: Size) -> dict[str, Any]:
        width = asked.decoder_width or max(64, encoder.width // 2 // 32 * 32)
        return {
            "mask": "uniform",
            "mask_block": 1,
            "mask_ratio": 0.75,
            "normalise_targets": True,
            "decoder_width": width,
            "decoder_depth": 4 if encoder.depth >= 12 else 2,
            "decoder_heads": next(n for n in range(max(1, width // 32), 0, -1) if width % n == 0),
        }

    def check(self, encoder: ViTConfig, size: Size) -> None:
        super().check(encoder, size)
        if not 0 < self.decode_share <= 1:
            raise WhymaskError(f"decode_share {self.decode_share}; it must lie in (0, 1], 1 decodes all hidden squares")
        width, heads, depth = self.decoder_width, self.decoder_heads, self.decoder_depth
        if width < 4 or width % 4 or heads < 1 or width % heads or depth < 1:
            raise WhymaskError(
                f"decoder of width {width}, depth {depth}, {heads} heads; the width must be a multiple of 4 "
                f"and of the number of heads, and all must be positive"
            )


class TokenAutoencoder(Autoencoder):
    """An autoencoder of a ViT."""

    config: TokensConfig

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """One mask, or with decode_share < 1 a second one with the hidden squares that are decoded and scored."""
        hidden = self.config.hide(batch, self.encoder.grid, generator)
        if self.config.decode_share == 1:
            return (hidden,)
        return hidden, masks.subset(hidden, self.config.decode_share, generator)
