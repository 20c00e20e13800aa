"""data2vec 2.0: data2vec at a fraction of its cost: visible tokens only, a light decoder, many masks a teacher pass.

Baevski et al., "Efficient Self-supervised Learning with Contextualized Target Representations for Vision, Speech and
Language" (arXiv 2212.07525), on a ViT.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.encoders import Encoder
from whymask.encoders.base import Size
from whymask.encoders.vit import ViTConfig, ViTEncoder
from whymask.errors import WhymaskError
from whymask.masks import indices, joined, once, take
from whymask.methods.base import MaskedConfig, Method
from whymask.methods.settings import Data2Vec2Settings
from whymask.methods.teacher import Teacher, TeacherConfig, compare, decay_at
from whymask.randomness import seeded
from whymask.ranks import drawn


@dataclass(frozen=True, kw_only=True)
class Data2Vec2Config(TeacherConfig, MaskedConfig):
    """See `Data2Vec2Settings`."""

    top_layers: int
    masks: int
    target_norm: Literal["layer", "instance"]
    decoder_depth: int
    class_weight: float

    @classmethod
    def derived(cls, asked: Any, encoder: ViTConfig, size: Size) -> dict[str, Any]:
        small = min(encoder.grid(size)) < 8
        ratio, side = (0.6, 1) if small else (0.8, 3)
        masking: dict[str, Any] = {"mask_ratio": ratio, "mask": "inverse-block", "mask_block": side}
        depth = 6 if encoder.depth >= 12 else 3
        return masking | {"top_layers": encoder.depth - encoder.depth // 6, "decoder_depth": depth}

    def check(self, encoder: ViTConfig, size: Size) -> None:
        super().check(encoder, size)
        if not 1 <= self.top_layers <= encoder.depth:
            raise WhymaskError(
                f"top_layers {self.top_layers}; the encoder has {encoder.depth} blocks: choose 1 to {encoder.depth}"
            )
        if self.masks < 1 or self.decoder_depth < 1 or not 0 <= self.class_weight < math.inf:
            raise WhymaskError(
                f"masks {self.masks}, decoder_depth {self.decoder_depth}, class_weight {self.class_weight}; at least "
                f"one mask and one layer are needed, and a weight of 0 or more"
            )


class Data2Vec2(Method):
    """student(visible tokens) -> convolutional decoder over the grid -> squared error to the teacher's features.

    The targets are the blocks' outputs, after the residual. The paper's code takes the MLP's output before it, in a ViT
    that normalises after it; in timm's, which normalises before, that branch collapsed on glyphs (target_std 0.004).
    """

    Settings = Data2Vec2Settings
    Config = Data2Vec2Config
    encoders = ("vit",)
    one_graph = ("vit",)
    source = "2212.07525"
    config: Data2Vec2Config
    encoder: ViTEncoder

    def __init__(self, encoder: Encoder, config: Data2Vec2Config | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        self.teacher = Teacher(encoder)
        self.masks_per_image = self.config.masks
        with seeded(seed, "decoder"):
            self.decoder = GridDecoder(self.encoder, self.config.decoder_depth)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return tuple(self.config.hide(batch, self.encoder.grid, generator) for _ in range(self.config.masks))

    def forward(self, images: Tensor, *masks: Tensor) -> dict[str, Tensor]:
        targets = self.targets(images)  # once, for all masks
        hidden = self.together(masks)
        features = self.encoder(images.repeat(len(masks), 1, 1, 1), hidden)
        places = indices(hidden)[1]
        visible = features[:, self.encoder.prefix :]
        predictions = take(self.decoder(visible, hidden, len(masks)), places).flatten(0, 1)
        wanted = take(targets.repeat(len(masks), 1, 1), places).flatten(0, 1)
        losses = compare(predictions, wanted, places.flatten(), targets.shape[1], F.mse_loss)
        if self.config.class_weight and self.encoder.prefix:
            whole = targets.mean(dim=1).repeat(len(masks), 1)
            losses["class_loss"] = F.mse_loss(features[:, 0].float(), whole)
            losses["loss"] = losses["loss"] + self.config.class_weight * losses["class_loss"]
        return losses

    def together(self, masks: tuple[Tensor, ...]) -> Tensor:
        """(M * B, gh, gw), mask by mask."""
        return once(masks[0], "together", lambda first: joined(masks))

    def look(self, *masks: Tensor) -> None:
        super().look(*masks)
        self.together(masks)

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """(B, N, D): the teacher's last `top_layers` outputs, each normalised; their mean, normalised over D."""
        outputs = [
            self.encoder.rows(x).float() for x in self.teacher.encoder.outputs(images)[-self.config.top_layers :]
        ]
        if self.config.target_norm == "instance":
            normalised = [F.instance_norm(x.transpose(1, 2)).transpose(1, 2) for x in outputs]
        else:
            normalised = [F.layer_norm(x, (self.encoder.dim,)) for x in outputs]
        return F.layer_norm(torch.stack(normalised).mean(dim=0), (self.encoder.dim,))

    def after_step(self, step: int, steps: int) -> None:
        self.teacher.follow(self.encoder, decay_at(step, steps, 0.9998, 0.99999, self.config.decay))


class GridDecoder(nn.Module):
    """Residual grouped convolutions over the grid of tokens, hidden places starting as faint noise."""

    def __init__(self, encoder: ViTEncoder, depth: int) -> None:
        super().__init__()
        width = encoder.dim
        groups = next(n for n in range(16, 0, -1) if width % n == 0)
        self.grid = encoder.grid
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=groups) for _ in range(depth))
        self.predict = nn.Linear(width, width)

    def forward(self, visible: Tensor, hidden: Tensor, masks: int = 1) -> Tensor:
        """Visible tokens (B, n, D) and the mask (B, gh, gw), mask by mask of so many -> predictions of all places,
        (B, N, D)."""
        batch, _, width = visible.shape
        places = indices(hidden)[0].unsqueeze(2).expand_as(visible)
        noisy = partial(torch.randn, device=visible.device, dtype=visible.dtype)
        noise = 0.01 * drawn(noisy, (batch, hidden[0].numel(), width), masks)
        x = noise.scatter(1, places, visible).transpose(1, 2).view(batch, width, *self.grid)
        for layer in self.layers:
            x = x + F.gelu(F.layer_norm(layer(x).permute(0, 2, 3, 1), (width,)).permute(0, 3, 1, 2))
        return self.predict(x.flatten(2).transpose(1, 2))
