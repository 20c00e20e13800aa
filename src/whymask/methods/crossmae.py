"""CrossMAE: a masked autoencoder whose decoded places read what is visible, and do not see each other.

Fu et al., "Rethinking Patch Dependence for Masked Autoencoders" (arXiv 2401.14391), on a ViT. Also
`mae` with the decoder "cross".
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from whymask.encoders import Encoder
from whymask.encoders.vit import ViTEncoder, initialise_transformer, sincos_positions
from whymask.linear import speed_up
from whymask.methods.autoencoder import TokenAutoencoder, TokensConfig
from whymask.methods.settings import CrossMAESettings
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class CrossMAEConfig(TokensConfig):
    """See `CrossMAESettings`."""

    decoder: ClassVar[str] = "cross"


class CrossMAE(TokenAutoencoder):
    """encoder -> decoder in which each hidden place reads the visible ones alone -> mean squared error there."""

    Settings = CrossMAESettings
    Config = CrossMAEConfig
    encoders = ("vit",)
    source = "2401.14391"
    config: CrossMAEConfig
    encoder: ViTEncoder

    def __init__(self, encoder: Encoder, config: CrossMAEConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        with seeded(seed, "decoder"):
            self.decoder: CrossDecoder = CrossDecoder(self.encoder, self.config)

    def encode(self, images: Tensor, hidden: Tensor) -> list[Tensor]:
        """The output of every block, the last one normalised."""
        *outputs, last = self.encoder.outputs(images, hidden)
        return [*outputs, self.encoder.net.norm(last)]


class CrossDecoder(nn.Module):
    """CrossMAE's: each decoded place is a query that reads the visible tokens; places do not see each other.

    Every block reads its own learnt mix of the encoder's blocks, normalised. The last of these is the encoder's
    normalised output, so that the final norm that fine-tuning uses is pretrained too. (The paper's code mixes the
    embedded patches in as well, and has no such norm.)
    """

    positions: Tensor

    def __init__(self, encoder: ViTEncoder, config: CrossMAEConfig) -> None:
        super().__init__()
        width, heads, depth = config.decoder_width, config.decoder_heads, config.decoder_depth
        sources = encoder.config.depth
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.mix = nn.Parameter(torch.randn(depth, sources) / sources**0.5)
        self.blocks = nn.ModuleList(CrossBlock(width, heads, encoder.dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, encoder.channels * encoder.unit**2)
        self.register_buffer("positions", sincos_positions(encoder.grid, width)[0], persistent=False)
        speed_up(self)
        initialise_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: list[Tensor], hidden: Tensor, chosen: Tensor) -> Tensor:
        """Features of each block (B, P + n_visible, D) and decoded places (B, n) -> pixels (B, n, C * unit * unit)."""
        queries = self.mask_token + self.positions[chosen + 1]
        mixed = torch.einsum("ji,i...->j...", self.mix.to(features[0].dtype), torch.stack(features))
        for block, source in zip(self.blocks, mixed, strict=True):
            queries = block(queries, source)
        return self.predict(self.norm(queries))


class CrossBlock(nn.Module):
    """x + attention of norm(x) to norm(source), then x + mlp(norm(x)); keys and values come from the source's width."""

    def __init__(self, width: int, heads: int, source_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.source_norm = nn.LayerNorm(source_width, eps=1e-6)
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(source_width, 2 * width)
        self.project = nn.Linear(width, width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """(B, n, width), (B, m, D) -> (B, n, width)."""
        key, value = self.key_value(self.source_norm(source)).chunk(2, dim=2)
        heads = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(self.norm1(x)), key, value)
        )
        read = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + self.project(read)
        return x + self.mlp(self.norm2(x))
