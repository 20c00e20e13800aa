"""Masked autoencoder: hide most of an image, encode the rest, predict the hidden pixels.

He et al., "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377), on a ViT. On a CNN the method of this
name is FCMAE (fcmae.py), and with the decoder "cross" it is CrossMAE (crossmae.py).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from whymask.encoders import Encoder
from whymask.encoders.vit import ViTEncoder, initialise_transformer, sincos_positions
from whymask.linear import speed_up
from whymask.masks import indices
from whymask.methods.autoencoder import TokenAutoencoder, TokensConfig
from whymask.methods.base import Method
from whymask.methods.crossmae import CrossMAE
from whymask.methods.fcmae import FCMAE
from whymask.methods.settings import MAESettings
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class MAEConfig(TokensConfig):
    """See `MAESettings`."""

    decoder: ClassVar[str] = "self"


class MAE(TokenAutoencoder):
    """encoder -> decoder -> mean squared error at hidden squares; on a CNN it is fcmae."""

    Settings = MAESettings
    Config = MAEConfig
    encoders = ("cnn", "vit")
    one_graph = ("vit",)
    forms = {"cnn": FCMAE}
    source = "2111.06377"
    config: MAEConfig
    encoder: ViTEncoder

    def __init__(self, encoder: Encoder, config: MAEConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        with seeded(seed, "decoder"):
            self.decoder: TokenDecoder = TokenDecoder(self.encoder, self.config)

    @classmethod
    def form(cls, kind: str, settings: Any) -> type[Method]:
        """CrossMAE where its decoder is asked for."""
        own = super().form(kind, settings)
        return CrossMAE if own is cls and getattr(settings, "decoder", None) == "cross" else own


class TokenDecoder(nn.Module):
    """The paper's light transformer: visible tokens and a mask token at each decoded place -> pixels of those places.

    Tokens carry their place in the (fixed, sin-cos) position embedding, so their order is free: visible ones stand
    first, decoded ones last, and only these pass the final norm and the prediction.
    """

    positions: Tensor

    def __init__(self, encoder: ViTEncoder, config: MAEConfig) -> None:
        super().__init__()
        width, heads, depth = config.decoder_width, config.decoder_heads, config.decoder_depth
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(*[Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)])
        self.norm = norm(width)
        self.predict = nn.Linear(width, encoder.channels * encoder.unit**2)
        self.register_buffer("positions", sincos_positions(encoder.grid, width)[0], persistent=False)
        self.prefix = encoder.prefix
        speed_up(self)
        initialise_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Tensor, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Features (B, P + n_visible, D) and decoded places (B, n) -> pixels (B, n, C * unit * unit)."""
        visible = indices(hidden)[0] + 1  # 0 is the place of the class token and its like
        seen = self.embed(features) + self.positions[F.pad(visible, (self.prefix, 0))]
        unseen = self.mask_token + self.positions[chosen + 1]
        tokens = self.blocks(torch.cat([seen, unseen], dim=1))
        return self.predict(self.norm(tokens[:, seen.shape[1] :]))
