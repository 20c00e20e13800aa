"""A timm vision transformer that embeds and encodes visible patches only (MAE, arXiv 2111.06377)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from whymask.encoders.base import Encoder, EncoderConfig, check_divides, reject_unused, square_side
from whymask.errors import WhymaskError
from whymask.linear import linear, speed_up
from whymask.masks import indices, take, to_squares


class ViTEncoder(Encoder):
    """ViT with a class token, mean pooling and a position embedding that starts as the 2-D sin-cos one and is learnt.

    Without a mask features are (B, 1 + N, D), with one (B, 1 + n_visible, D) in ascending order; the class token is
    first. The final norm is applied to every token, and the pooled feature is the mean of the normalised patch tokens
    (timm: global_pool "avg", fc_norm False). The paper renews the norm and moves it behind the mean when fine-tuning;
    here one set of weights serves the decoder, fine-tuning and timm alike.
    """

    kind = "vit"
    fields_used = ("width", "depth", "heads", "patch")
    timm_name = "vit_tiny_patch16_224"

    @classmethod
    def resolve(cls, config: EncoderConfig, size: tuple[int, int]) -> EncoderConfig:
        reject_unused(config, cls.fields_used)
        width = 192 if config.width is None else config.width
        most = max(1, width // (64 if width >= 192 else 32))
        heads = next(n for n in range(most, 0, -1) if width % n == 0) if config.heads is None else config.heads
        depth = 12 if config.depth is None else config.depth
        patch = square_side(size) if config.patch is None else config.patch
        if width < 4 or heads < 1 or depth < 1 or width % 4 or width % heads:
            raise WhymaskError(
                f"ViT of width {width}, depth {depth}, {heads} heads; the width must be a multiple of 4 and of the "
                f"number of heads, and all must be positive, such as width 128, depth 5, 4 heads"
            )
        check_divides("patch", patch, size)
        return replace(config, name=cls.kind, width=width, depth=depth, heads=heads, patch=patch)

    @classmethod
    def network(cls, config: EncoderConfig, size: tuple[int, int], channels: int) -> dict[str, Any]:
        return {
            "img_size": list(size),
            "patch_size": config.patch,
            "in_chans": channels,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "num_classes": 0,
            "global_pool": "avg",
            "fc_norm": False,
        }

    def __init__(self, config: EncoderConfig, size: tuple[int, int], channels: int) -> None:
        assert config.patch and config.width and config.depth
        super().__init__(config, size, channels, unit=config.patch, dim=config.width)
        self.layers = config.depth + 1
        speed_up(self.net)
        initialise_transformer(self.net)
        weight = self.net.patch_embed.proj.weight
        nn.init.xavier_uniform_(weight.view(len(weight), -1))
        nn.init.normal_(self.net.cls_token, std=0.02)
        with torch.no_grad():
            self.net.pos_embed.copy_(sincos_positions(self.grid, self.dim))

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        if hidden is None:
            return self.net.forward_features(images)
        return self.net.norm(self.net.blocks(self._tokens(images, hidden, token)))

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        tokens = self._tokens(images, hidden, token)
        return [tokens := block(tokens) for block in self.net.blocks]

    def mask_token(self) -> nn.Parameter:
        """(1, 1, D), put in the place of a hidden patch's embedding; its position is added."""
        return nn.Parameter(torch.randn(1, 1, self.dim) * 0.02)

    def _tokens(self, images: Tensor, hidden: Tensor | None, token: Tensor | None) -> Tensor:
        """Embedded patches, (B, 1 + n, D): all, or the visible ones, or all with `token` in the hidden ones' place."""
        embed, positions = self.net.patch_embed.proj, self.net.pos_embed[0]
        patches = to_squares(images, self.unit)  # (B, N, C * p * p)
        if hidden is not None and token is not None:
            patches = patches.masked_fill(hidden.flatten(1).unsqueeze(2), 0)  # not a product: NaN * 0 is NaN
        elif hidden is not None:
            visible, _ = indices(hidden)
            patches = take(patches, visible)  # hidden pixels end here
        tokens = linear(patches, embed.weight.flatten(1), embed.bias)  # the strided convolution, patch by patch
        if hidden is not None and token is not None:
            tokens = torch.where(hidden.flatten(1).unsqueeze(2), token.to(tokens.dtype), tokens)
        if hidden is None or token is not None:
            tokens = tokens + positions[1:]
        else:
            tokens = tokens + positions[1:].index_select(0, visible.flatten()).view_as(tokens)
        first = (self.net.cls_token + positions[:1]).expand(len(images), -1, -1)
        return torch.cat([first, tokens], dim=1)

    def rows(self, features: Tensor) -> Tensor:
        return features[:, 1:]

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(1)

    def layer_of(self, name: str) -> int:
        parts = name.removeprefix("net.").split(".")
        if parts[0] == "blocks":
            return int(parts[1]) + 1
        return self.layers if parts[0] == "norm" else 0


def initialise_transformer(module: nn.Module) -> None:
    """Draws linear layers from Xavier's uniform distribution, biases 0, as MAE does (arXiv 2111.06377, A.1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """The fixed 2-D position embedding of MAE: (1, 1 + gh * gw, width), zero for the class token, rows first.

    A quarter of the width each: sine and cosine of the column, sine and cosine of the row, at wavelengths from
    2 pi to 10000 * 2 pi patches in geometric progression.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float64), torch.arange(grid[1], dtype=torch.float64), indexing="ij"
    )
    angles = [axis.flatten().outer(frequencies) for axis in (column, row)]
    patches = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), patches.float()])[None]
