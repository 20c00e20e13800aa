"""Masked autoencoder: hide most of an image, encode the rest, predict the hidden pixels.

On a ViT as in He et al., "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377); on a CNN by masked
convolution as in Woo et al., "ConvNeXt V2" (FCMAE, arXiv 2301.00808), with the simplest decoder, a linear map.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from whymask import masks
from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.cnn import CNNEncoder
from whymask.encoders.masked import coarsen
from whymask.encoders.vit import ViTEncoder, initialise_transformer, sincos_positions
from whymask.errors import WhymaskError
from whymask.linear import speed_up
from whymask.masks import from_squares, indices, take, to_squares
from whymask.randomness import derive


@dataclass(frozen=True)
class MAEConfig:
    """Settings of MAE. None is derived from the encoder by `resolve`."""

    mask_ratio: float | None = None
    """Share of the squares that is hidden. ViT 0.75, as the paper found best; CNN 0.5, as FCMAE's 0.6 lower because 3x3
    windows see less of the surroundings (on glyphs 0.5 and 0.65 do equally well)."""
    normalise_targets: bool | None = None
    """Predict each square's pixels after subtracting its mean and dividing by its standard deviation (ViT, as the
    paper's best recipe) or as they are (CNN: on glyphs the features are better for it)."""
    decoder_width: int | None = None
    """ViT only: width of the decoder's tokens; half of the encoder's, at least 64."""
    decoder_depth: int | None = None
    """ViT only: blocks of the decoder; 4 for encoders of 12 or more blocks, else 2."""
    decoder_heads: int | None = None
    """ViT only: attention heads of the decoder; of width 32 each."""
    decode_share: float = 1.0
    """ViT only: share of the hidden squares that is decoded and scored in a step, drawn anew each time. Below 1 a step
    costs less and estimates the same loss from fewer squares."""

    def resolve(self, encoder: EncoderConfig) -> "MAEConfig":
        """Fills in what is None for a resolved encoder. Raises WhymaskError for settings that do not fit it."""
        given = {key: value for key, value in vars(self).items() if value is not None}
        if encoder.name == "vit":
            assert encoder.width and encoder.depth
            width = self.decoder_width or max(64, encoder.width // 2 // 32 * 32)
            heads = next(n for n in range(max(1, width // 32), 0, -1) if width % n == 0)
            depth = 4 if encoder.depth >= 12 else 2
            derived: dict[str, Any] = {"mask_ratio": 0.75, "normalise_targets": True}
            derived |= {"decoder_width": width, "decoder_depth": depth, "decoder_heads": heads}
        else:
            derived = {"mask_ratio": 0.5, "normalise_targets": False}
            unused = [key for key in given if key.startswith("decoder") or (key == "decode_share" and given[key] != 1)]
            if unused:
                raise WhymaskError(f"the CNN's decoder is linear and has no {', '.join(unused)}; leave it out")
        config = replace(self, **(derived | given))
        config.check()
        return config

    def check(self) -> None:
        assert self.mask_ratio is not None
        masks.hidden_count(2, self.mask_ratio)
        if not 0 < self.decode_share <= 1:
            raise WhymaskError(f"decode_share {self.decode_share}; it must lie in (0, 1], 1 decodes all hidden squares")
        width, heads, depth = self.decoder_width, self.decoder_heads, self.decoder_depth
        if width is not None and (
            width < 4 or width % 4 or not heads or heads < 1 or width % heads or not depth or depth < 1
        ):
            raise WhymaskError(
                f"decoder of width {width}, depth {depth}, {heads} heads; the width must be a multiple of 4 "
                f"and of the number of heads, and all must be positive"
            )


class MAE(nn.Module):
    """encoder -> decoder -> mean squared error at hidden squares.

    Args:
        encoder: built by `whymask.encoders.build_encoder`; trained in place.
        config: settings; `self.config` is the resolved form.
        seed: of the decoder's initial weights.
    """

    Config = MAEConfig

    def __init__(self, encoder: Encoder, config: MAEConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        self.config = (config or MAEConfig()).resolve(encoder.config)
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "decoder"))
            self.decoder: TokenDecoder | LinearDecoder
            if isinstance(encoder, ViTEncoder):
                self.decoder = TokenDecoder(encoder, self.config)
            else:
                assert isinstance(encoder, CNNEncoder)
                self.decoder = LinearDecoder(encoder)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The masks of a step, on the CPU: what `forward` takes after the images. (B, gh, gw) each, True = hidden.

        One mask, or with decode_share < 1 a second one with the hidden squares that are decoded and scored.
        """
        assert self.config.mask_ratio is not None
        hidden = masks.uniform(batch, self.encoder.grid, self.config.mask_ratio, generator)
        if self.config.decode_share == 1:
            return (hidden,)
        return hidden, masks.subset(hidden, self.config.decode_share, generator)

    def forward(self, images: Tensor, hidden: Tensor, scored: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of images (B, C, h, w) under masks (B, gh, gw): the mean over the scored squares' pixels.

        Every sample must hide, and score, equally many squares, so that samples weigh the same.
        """
        chosen = indices(hidden if scored is None else scored)[1]
        predictions = self.decoder(self.encoder(images, hidden), hidden, chosen)
        targets = take(to_squares(images, self.encoder.unit), chosen)
        if self.config.normalise_targets:
            mean, deviation = square_statistics(targets)
            targets = (targets - mean) / deviation
        return {"loss": F.mse_loss(predictions.float(), targets.float())}

    @torch.no_grad()
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Images (B, C, h, w) with their hidden squares replaced by the predictions; visible squares as they are.

        Where targets are normalised, a prediction says nothing of its square's mean and contrast: both are then taken
        from the true hidden square, which the network has not seen.
        """
        chosen = indices(hidden)[1]
        squares = to_squares(images, self.encoder.unit)
        predictions = self.decoder(self.encoder(images, hidden), hidden, chosen).to(squares.dtype)
        if self.config.normalise_targets:
            mean, deviation = square_statistics(take(squares, chosen))
            predictions = predictions * deviation + mean
        filled = squares.scatter(1, chosen.unsqueeze(2).expand_as(predictions), predictions)
        return from_squares(filled, self.encoder.unit, self.encoder.size)


def square_statistics(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each square's pixels, (B, n, 1) each; the variance is unbiased, plus 1e-6."""
    variance, mean = torch.var_mean(squares, dim=2, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


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
        speed_up(self)
        initialise_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Tensor, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Features (B, 1 + n_visible, D) and decoded places (B, n) -> pixels (B, n, C * unit * unit)."""
        visible = indices(hidden)[0] + 1  # the class token's position is the first
        seen = self.embed(features) + self.positions[F.pad(visible, (1, 0))]
        unseen = self.mask_token + self.positions[chosen + 1]
        tokens = self.blocks(torch.cat([seen, unseen], dim=1))
        return self.predict(self.norm(tokens[:, seen.shape[1] :]))


class LinearDecoder(nn.Module):
    """A linear map from each position of the CNN's last layer to the pixels under it, as a 1x1 convolution.

    Positions under which everything is hidden hold a learnt mask token.
    """

    def __init__(self, encoder: CNNEncoder) -> None:
        super().__init__()
        self.unit, self.stride, self.strides = encoder.unit, encoder.stride, encoder.timm_kwargs["strides"]
        self.size = encoder.size
        self.mask_token = nn.Parameter(torch.zeros(1, encoder.dim, 1, 1))
        self.predict = nn.Conv2d(encoder.dim, encoder.channels * self.stride**2, 1)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Tensor, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Features (B, D, h', w') and decoded squares (B, n) -> pixels (B, n, C * unit * unit)."""
        visible = ~masks.to_pixels(hidden, self.unit)
        for stride in self.strides:
            visible = coarsen(visible, stride)
        pixels = F.pixel_shuffle(self.predict(torch.where(visible, features, self.mask_token)), self.stride)
        pixels = pixels[:, :, : self.size[0], : self.size[1]]  # the last positions reach beyond images of odd sizes
        return take(to_squares(pixels, self.unit), chosen)
