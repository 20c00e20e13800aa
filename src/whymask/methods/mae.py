"""Masked autoencoder: hide most of an image, encode the rest, predict the hidden pixels.

On a ViT as in He et al., "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377); on a CNN by masked
convolution as in Woo et al., "ConvNeXt V2" (FCMAE, arXiv 2301.00808), with the simplest decoder, a linear map.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from whymask import masks
from whymask.encoders import Encoder, EncoderConfig, encoder_class
from whymask.encoders.cnn import CNNEncoder
from whymask.encoders.vit import ViTEncoder, initialise_transformer, sincos_positions
from whymask.errors import WhymaskError
from whymask.linear import speed_up
from whymask.masks import indices, take, to_squares
from whymask.methods.base import MaskedConfig, Method, Size, fill_in, standardised
from whymask.randomness import seeded


@dataclass(frozen=True)
class MAEConfig(MaskedConfig):
    """Defaults: ViT 75 % hidden, uniformly, as the paper found best; CNN 50 %, as FCMAE's 60 % lower because 3x3
    windows see less of the surroundings (on glyphs 50 and 65 % do equally well).

    Source: ViT-B 83.6 %, ViT-L 85.9 % fine-tuned on ImageNet after 1600 epochs; with decoder "cross" ViT-B 83.7 % after
    800.
    """

    normalise_targets: bool | None = None
    """Predict each square's pixels after subtracting its mean and dividing by its standard deviation (ViT, as the
    paper's best recipe) or as they are (CNN: on glyphs the features are better for it)."""
    decoder: Literal["self", "cross"] | None = None
    """ViT only. self: the paper's, in which all tokens attend to each other; cross: CrossMAE's (arXiv 2401.14391), in
    which each decoded place attends to the encoder's tokens alone. Default: self."""
    decoder_width: int | None = None
    """ViT only: width of the decoder's tokens; half of the encoder's, at least 64."""
    decoder_depth: int | None = None
    """ViT only: blocks of the decoder; 4 for encoders of 12 or more blocks, else 2."""
    decoder_heads: int | None = None
    """ViT only: attention heads of the decoder; of width 32 each."""
    decode_share: float = 1.0
    """ViT only: share of the hidden squares that is decoded and scored in a step, drawn anew each time. Below 1 a step
    costs less and estimates the same loss from fewer squares."""

    def derived(self, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        masking: dict[str, Any] = {"mask": "uniform", "mask_block": 1}
        if encoder_class(encoder.name).kind != "vit":
            return masking | {"mask_ratio": 0.5, "normalise_targets": False}
        assert encoder.width and encoder.depth
        width = self.decoder_width or max(64, encoder.width // 2 // 32 * 32)
        heads = next(n for n in range(max(1, width // 32), 0, -1) if width % n == 0)
        depth = 4 if encoder.depth >= 12 else 2
        decoder = {"decoder": "self", "decoder_width": width, "decoder_depth": depth, "decoder_heads": heads}
        return masking | {"mask_ratio": 0.75, "normalise_targets": True} | decoder

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        super().check(encoder, size)
        if not 0 < self.decode_share <= 1:
            raise WhymaskError(f"decode_share {self.decode_share}; it must lie in (0, 1], 1 decodes all hidden squares")
        width, heads, depth = self.decoder_width, self.decoder_heads, self.decoder_depth
        if encoder_class(encoder.name).kind != "vit":
            given = {"decoder": self.decoder, "decoder_width": width, "decoder_depth": depth, "decoder_heads": heads}
            unused = [key for key, value in given.items() if value is not None]
            unused += ["decode_share"] if self.decode_share != 1 else []
            if unused:
                raise WhymaskError(f"the CNN's decoder is linear and has no {', '.join(unused)}; leave it out")
        elif not width or width < 4 or width % 4 or not heads or heads < 1 or width % heads or not depth or depth < 1:
            raise WhymaskError(
                f"decoder of width {width}, depth {depth}, {heads} heads; the width must be a multiple of 4 "
                f"and of the number of heads, and all must be positive"
            )


class MAE(Method):
    """encoder -> decoder -> mean squared error at hidden squares."""

    Config = MAEConfig
    encoders = ("cnn", "vit")
    source = "2111.06377"

    def __init__(self, encoder: Encoder, config: MAEConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        with seeded(seed, "decoder"):
            self.decoder: TokenDecoder | CrossDecoder | LinearDecoder
            if isinstance(encoder, CNNEncoder):
                self.decoder = LinearDecoder(encoder)
            else:
                kind = CrossDecoder if self.config.decoder == "cross" else TokenDecoder
                self.decoder = kind(self.encoder, self.config)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """One mask, or with decode_share < 1 a second one with the hidden squares that are decoded and scored."""
        hidden = self.config.hide(batch, self.encoder.grid, generator)
        if self.config.decode_share == 1:
            return (hidden,)
        return hidden, masks.subset(hidden, self.config.decode_share, generator)

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
        """What the decoder reads: features, or those of every block for the decoder "cross"."""
        if self.config.decoder != "cross":
            return self.encoder(images, hidden)
        *outputs, last = self.encoder.outputs(images, hidden)
        return [*outputs, self.encoder.net.norm(last)]

    @torch.no_grad()
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        chosen = indices(hidden)[1]
        predictions = self.decoder(self.encode(images, hidden), hidden, chosen)
        return fill_in(images, predictions, chosen, self.encoder.unit, self.config.normalise_targets)


class TokenDecoder(nn.Module):
    """The paper's light transformer: visible tokens and a mask token at each decoded place -> pixels of those places.

    Tokens carry their place in the (fixed, sin-cos) position embedding, so their order is free: visible ones stand
    first, decoded ones last, and only these pass the final norm and the prediction.
    """

    positions: Tensor

    def __init__(self, encoder: ViTEncoder, config: MAEConfig) -> None:
        super().__init__()
        width, heads, depth = config.decoder_width, config.decoder_heads, config.decoder_depth
        assert width and heads and depth
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


class CrossDecoder(nn.Module):
    """CrossMAE's: each decoded place is a query that reads the visible tokens; places do not see each other.

    Every block reads its own learnt mix of the encoder's blocks, normalised. The last of these is the encoder's
    normalised output, so that the final norm that fine-tuning uses is pretrained too. (The paper's code mixes the
    embedded patches in as well, and has no such norm.)
    """

    positions: Tensor

    def __init__(self, encoder: ViTEncoder, config: MAEConfig) -> None:
        super().__init__()
        width, heads, depth = config.decoder_width, config.decoder_heads, config.decoder_depth
        assert width and heads and depth and encoder.config.depth
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


class LinearDecoder(nn.Module):
    """A linear map from each position of the CNN's last layer to the pixels under it, as a 1x1 convolution.

    Positions under which everything is hidden hold a learnt mask token.
    """

    def __init__(self, encoder: CNNEncoder) -> None:
        super().__init__()
        self.unit, self.stride, self.size = encoder.unit, encoder.stride, encoder.size
        self.visible, self.whole = partial(encoder.visible_in, -1), encoder.whole
        self.mask_token = nn.Parameter(torch.zeros(1, encoder.dim, 1, 1))
        self.predict = nn.Conv2d(encoder.dim, encoder.channels * self.stride**2, 1)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Tensor, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Features (B, D, h', w') and decoded squares (B, n) -> pixels (B, n, C * unit * unit)."""
        filled = self.whole(torch.where(self.visible(hidden), features, self.mask_token))
        pixels = F.pixel_shuffle(self.predict(filled), self.stride)
        pixels = pixels[:, :, : self.size[0], : self.size[1]]  # the last positions reach beyond images of odd sizes
        return take(to_squares(pixels, self.unit), chosen)
