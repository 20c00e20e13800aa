"""A timm vision transformer that embeds and encodes visible patches only (MAE, arXiv 2111.06377)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from whymask.encoders.base import Encoder, EncoderConfig, Size, check_divides, check_fixed, square_side
from whymask.encoders.settings import EncoderSettings, Pool
from whymask.encoders.timm_names import sketch
from whymask.errors import WhymaskError
from whymask.linear import linear, speed_up
from whymask.masks import indices, take, to_squares


@dataclass(frozen=True)
class ViTConfig(EncoderConfig):
    """Of whymask's own ViT, "vit", or of a timm name, which has width, depth and heads of its own."""

    kind = "vit"
    layer_decay = 0.75
    patchwise = True

    width: int
    depth: int
    heads: int
    patch: int
    pool: Pool

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "ViTConfig":
        if asked.name != "vit":
            return resolve_named(asked, size)
        width = 192 if asked.width is None else asked.width
        most = max(1, width // (64 if width >= 192 else 32))
        heads = next(n for n in range(most, 0, -1) if width % n == 0) if asked.heads is None else asked.heads
        depth = 12 if asked.depth is None else asked.depth
        patch = square_side(size) if asked.patch is None else asked.patch
        if width < 4 or heads < 1 or depth < 1 or width % 4 or width % heads:
            raise WhymaskError(
                f"ViT of width {width}, depth {depth}, {heads} heads; the width must be a multiple of 4 and of the "
                f"number of heads, and all must be positive, such as width 128, depth 5, 4 heads"
            )
        check_divides("patch", patch, size)
        return cls(asked.name, width, depth, heads, patch, asked.pool or "mean")

    def build(self, size: Size, channels: int) -> "ViTEncoder":
        return ViTEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.patch

    def layers(self, size: Size) -> list[tuple[int, int]]:
        return [(self.width, self.patch)] * self.depth

    def upper(self, size: Size) -> int:
        """Half of the blocks, at most 6, as data2vec (arXiv 2202.03555) has it for ImageNet."""
        return max(1, min(6, self.depth // 2))

    @property
    def timm_name(self) -> str:
        return "vit_tiny_patch16_224" if self.name == "vit" else self.name

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        kwargs = {
            "img_size": list(size),
            "patch_size": self.patch,
            "in_chans": channels,
            "num_classes": 0,
            "global_pool": POOLS[self.pool],
            "fc_norm": self.pool == "normed-mean",
        }
        if self.name == "vit":
            return kwargs | {"embed_dim": self.width, "depth": self.depth, "num_heads": self.heads}
        return kwargs | ({"dynamic_img_size": False} if sketch(self.name).dynamic_img_size else {})

    def notes(self, size: Size) -> list[str]:
        if self.name == "vit" or sketch(self.name).patch_embed.patch_size[0] == self.patch:
            return []
        height, width = self.grid(size)
        return [f"{self.name} has patches of {self.patch} pixels here, {height}x{width} of them"]


class ViTEncoder(Encoder):
    """timm's VisionTransformer: with a class token or not, registers, a distillation token. The position embedding
    starts as the 2-D sin-cos one and is learnt.

    Without a mask features are (B, P + N, D), with one (B, P + n_visible, D) in ascending order; the P = `prefix`
    tokens that are no patches are first. The final norm is applied to every token, and the pooled feature is the mean
    of the normalised patch tokens (timm: global_pool "avg", fc_norm False) or the class token. The paper renews the
    norm and moves it behind the mean when fine-tuning; here one set of weights serves the decoder, fine-tuning and timm
    alike. Of the pool "normed-mean" features are not normalised; "attention" is a layer of the network, which
    pretraining does not touch.
    """

    config: ViTConfig
    recomputes = False

    def __init__(self, config: ViTConfig, size: Size, channels: int) -> None:
        super().__init__(config, size, channels)
        self.layers = config.depth + 1
        self.prefix: int = self.net.num_prefix_tokens
        speed_up(self.net)
        initialise_transformer(self.net)
        weight = self.net.patch_embed.proj.weight
        nn.init.xavier_uniform_(weight.view(len(weight), -1))
        if self.net.cls_token is not None:
            nn.init.normal_(self.net.cls_token, std=0.02)
        if self.net.pos_embed is not None:
            start = sincos_positions(self.grid, self.dim)[0, 1:]
            with torch.no_grad():
                self.net.pos_embed.zero_()[0, -len(start) :].copy_(start)

    def use_pool(self, pool: Pool) -> None:
        """Makes `pool` read the mean over patches or the class token from now on; the weights stay."""
        check_pool(pool, self.net, self.config.name)
        if pool != self.config.pool and LAYERED & {pool, self.config.pool}:
            raise WhymaskError(
                f"pool {pool!r}; {self.config.name} was built to pool by {self.config.pool!r}, which is part of its "
                f"weights: leave 'pool' out"
            )
        self.config = replace(self.config, pool=pool)
        self.net.global_pool = self.timm_kwargs["global_pool"] = POOLS[pool]

    def blocks(self, hidden: Tensor | None = None) -> Iterable[Callable[[Tensor], Tensor]]:
        """The blocks, as they act on the tokens of all patches, or of those that `hidden` shows."""
        return self.net.blocks

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        if hidden is None:
            return self.net.forward_features(images)
        return self.final(self.outputs(images, hidden, token)[-1])

    def final(self, output: Tensor) -> Tensor:
        return self.net.norm(output)

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        tokens = self.tokens(images, hidden, token)
        blocks = self.blocks(hidden if token is None else None)
        if not (self.recomputes and torch.is_grad_enabled()):
            return [tokens := block(tokens) for block in blocks]
        return [tokens := checkpoint(block, tokens, use_reentrant=False) for block in blocks]

    def use_recomputing(self, on: bool = True) -> None:
        self.recomputes = on
        self.net.set_grad_checkpointing(on)  # of whole images

    def mask_token(self) -> nn.Parameter:
        """(1, 1, D), put in the place of a hidden patch's embedding; its position is added."""
        return nn.Parameter(torch.randn(1, 1, self.dim) * 0.02)

    def tokens(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """What the first block is given, (B, P + n, D): all patches embedded, or the visible ones, or all with `token`
        in the hidden ones' place."""
        patches = to_squares(images, self.unit)  # (B, N, C * p * p)
        visible = indices(hidden)[0] if hidden is not None and token is None else None
        if visible is not None:
            patches = take(patches, visible)  # hidden pixels end here
        elif hidden is not None:
            patches = patches.masked_fill(hidden.flatten(1).unsqueeze(2), 0)  # not a product: NaN * 0 is NaN
        embed = self.net.patch_embed
        tokens = linear(patches, embed.proj.weight.flatten(1), embed.proj.bias)  # the strided convolution, by patch
        tokens = embed.norm(tokens)
        if hidden is not None and token is not None:
            tokens = torch.where(hidden.flatten(1).unsqueeze(2), token.to(tokens.dtype), tokens)
        blank = tokens.new_zeros(1, self.grid[0] * self.grid[1], self.dim)
        first, positions = self.places(blank).tensor_split([self.prefix])
        if visible is not None:
            positions = positions.index_select(0, visible.flatten()).view_as(tokens)
        tokens = torch.cat([first.expand(len(images), -1, -1), tokens + positions], dim=1)
        return self.net.norm_pre(tokens)

    def places(self, blank: Tensor) -> Tensor:
        """Of patches that are blank, (1, N, D), all tokens with their positions, (P + N, D)."""
        return self.net._pos_embed(blank)[0]

    def as_map(self, output: Tensor) -> Tensor:
        return self.rows(output).transpose(1, 2).unflatten(2, self.grid)

    def rows(self, features: Tensor) -> Tensor:
        return features[:, self.prefix :]

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(1)

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        """By way of what the last block is given: behind it the gradient is the same at all patches, or reaches only
        the class token."""
        *before, last = self.blocks()
        tokens = reduce(lambda tokens, block: block(tokens), before, self.tokens(images))
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        grid = point(patches.transpose(1, 2).unflatten(2, self.grid))
        tokens = torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)
        return self.net.norm(last(tokens))

    def mean_over_positions(self, output: Tensor) -> Tensor:
        return output[:, self.prefix :].mean(dim=1)

    def layer_of(self, name: str) -> int:
        parts = name.removeprefix("net.").split(".")
        if parts[0] == "blocks":
            return int(parts[1]) + 1
        return self.layers if parts[0] in ("norm", "fc_norm", "attn_pool") else 0


POOLS = {"mean": "avg", "token": "token", "attention": "map", "normed-mean": "avg"}
"""timm's names."""

LAYERED = {"attention", "normed-mean"}
"""Pools that are layers with weights."""

FEWEST = 4
"""Patches a side that a timm name's own patch size must give; else the patches are made smaller."""


def resolve_named(asked: EncoderSettings, size: Size, kind: type[ViTConfig] = ViTConfig) -> ViTConfig:
    """The config of the timm network that is asked for. Raises WhymaskError if it has more than patches and tokens."""
    net = sketch(asked.name)
    check_tokens(net, asked.name)
    own = {"width": net.embed_dim, "depth": len(net.blocks), "heads": net.blocks[0].attn.num_heads}
    check_fixed(asked, **own)
    side = net.patch_embed.patch_size[0]
    patch = asked.patch or (side if min(size) >= FEWEST * side else min(side, square_side(size)))
    check_divides("patch", patch, size)
    pool: Pool = asked.pool or ("token" if hasattr(net, "dist_token") else "mean")
    check_pool(pool, net, asked.name)
    return kind(asked.name, **own, patch=patch, pool=pool)


def check_tokens(net: Any, name: str) -> None:
    """Raises WhymaskError unless the network's blocks take tokens of its own square patches, and nothing else."""
    embed = net.patch_embed
    if type(embed) is not PatchEmbed or len(set(embed.patch_size)) > 1:
        raise WhymaskError(
            f"layer patch_embed of {name}, a {type(embed).__name__}, embeds more than its own square "
            f"patch, so patches cannot be left out; choose another encoder, such as vit_tiny_patch16_224"
        )
    if not hasattr(net.blocks[0], "attn"):
        raise WhymaskError(
            f"layer blocks.0 of {name}, a {type(net.blocks[0]).__name__}, has no attention of a known form; choose "
            f"another encoder, such as vit_tiny_patch16_224"
        )


def pool_of(net: Any) -> Pool:
    """How a transformer of timm pools."""
    if getattr(net, "attn_pool", None) is not None:
        return "attention"
    if net.global_pool == "token":
        return "token"
    return "mean" if isinstance(getattr(net, "fc_norm", None), nn.Identity | None) else "normed-mean"


def check_pool(pool: str, net: Any, name: str) -> None:
    """Raises WhymaskError when the network has not the token, or nothing but the token, that `pool` reads."""
    if pool not in POOLS:
        raise WhymaskError(f"pool {pool!r}; it is one of {', '.join(POOLS)}")
    if pool == "token" and net.cls_token is None:
        raise WhymaskError(f"pool 'token'; {name} has no class token: choose 'mean'")
    if pool != "token" and hasattr(net, "dist_token"):
        raise WhymaskError(f"pool {pool!r}; {name} reads its class and distillation tokens: choose 'token'")


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
