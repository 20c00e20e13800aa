"""I-JEPA: from a context block, predict a teacher's features of several target blocks.

Assran et al., "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture" (arXiv 2301.08243),
on a ViT. Where paper and code differ, this follows the code: the teacher's features are layer-normed, the loss is
smooth L1. Its ViT has no class token; ours keeps timm's, which the context sees and nothing predicts.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from whymask import masks
from whymask.encoders import Encoder
from whymask.encoders.base import Size
from whymask.encoders.vit import ViTConfig, ViTEncoder, initialise_transformer, sincos_positions
from whymask.errors import WhymaskError
from whymask.linear import speed_up
from whymask.masks import indices, take
from whymask.methods.base import Method
from whymask.methods.settings import IJEPASettings
from whymask.methods.teacher import Teacher, TeacherConfig, compare, decay_at
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class IJEPAConfig(TeacherConfig):
    """See `IJEPASettings`."""

    targets: int
    target_scale: tuple[float, float]
    target_aspect: tuple[float, float]
    context_scale: tuple[float, float]
    predictor_width: int
    predictor_depth: int

    @classmethod
    def derived(cls, asked: Any, encoder: ViTConfig, size: Size) -> dict[str, Any]:
        multiple = 4 * encoder.heads
        width = max(-(-64 // multiple), encoder.width // 2 // multiple) * multiple
        return {"predictor_width": width, "predictor_depth": max(1, encoder.depth // 2)}

    def check(self, encoder: ViTConfig, size: Size) -> None:
        super().check(encoder, size)
        for name in ("target_scale", "target_aspect", "context_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name != "target_aspect" and high > 1):
                raise WhymaskError(f"{name} from {low} to {high}; expected shares above 0, the smaller one first")
        if self.targets < 1 or self.predictor_depth < 1:
            raise WhymaskError(f"{self.targets} targets, predictor of depth {self.predictor_depth}; at least 1 of each")
        if self.predictor_width < 1 or self.predictor_width % (4 * encoder.heads):
            raise WhymaskError(
                f"predictor of width {self.predictor_width}; it must be a multiple of 4 times the encoder's "
                f"{encoder.heads} heads"
            )
        grid = encoder.grid(size)
        for seed in range(8):  # the targets' sizes vary from batch to batch
            self.hide(128, grid, torch.Generator().manual_seed(seed))

    def hide(self, batch: int, grid: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, ...]:
        return masks.multiblock(
            batch,
            grid,
            generator,
            targets=self.targets,
            target_scale=self.target_scale,
            target_aspect=self.target_aspect,
            context_scale=self.context_scale,
        )


class IJEPA(Method):
    """student(context) -> predictor, one target block at a time -> smooth L1 to the teacher's features there."""

    Settings = IJEPASettings
    Config = IJEPAConfig
    encoders = ("vit",)
    one_graph = ("vit",)
    source = "2301.08243"
    draws_alike = False  # sizes of blocks are drawn for each step
    config: IJEPAConfig
    encoder: ViTEncoder

    def __init__(self, encoder: Encoder, config: IJEPAConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        self.teacher = Teacher(encoder)
        with seeded(seed, "decoder"):
            self.predictor = Predictor(self.encoder, self.config)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return self.config.hide(batch, self.encoder.grid, generator)

    def forward(self, images: Tensor, hidden: Tensor, *targets: Tensor) -> dict[str, Tensor]:
        places = torch.cat([indices(target)[1] for target in targets])  # (T * B, n), target by target
        predictions = self.predictor(self.encoder(images, hidden), hidden, places, len(targets))
        wanted = take(self.targets(images).repeat(len(targets), 1, 1), places)
        count = hidden[0].numel()
        return compare(predictions.flatten(0, 1), wanted.flatten(0, 1), places.flatten(), count, F.smooth_l1_loss)

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """(B, N, D): the teacher's features of the whole image, normalised over D without parameters."""
        return F.layer_norm(self.encoder.rows(self.teacher.encoder(images)).float(), (self.encoder.dim,))

    def after_step(self, step: int, steps: int) -> None:
        self.teacher.follow(self.encoder, decay_at(step, steps, 0.996, 1.0, self.config.decay))


class Predictor(nn.Module):
    """A narrow transformer: the context's tokens, and a mask token at each place of one target -> features there."""

    positions: Tensor

    def __init__(self, encoder: ViTEncoder, config: IJEPAConfig) -> None:
        super().__init__()
        width, depth = config.predictor_width, config.predictor_depth
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        heads = encoder.config.heads
        self.embed = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(*[Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)])
        self.norm = norm(width)
        self.predict = nn.Linear(width, encoder.dim)
        self.register_buffer("positions", sincos_positions(encoder.grid, width)[0], persistent=False)
        self.prefix = encoder.prefix
        speed_up(self)
        initialise_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, context: Tensor, hidden: Tensor, places: Tensor, targets: int) -> Tensor:
        """Context (B, P + n_visible, D), mask (B, gh, gw), places (targets * B, n) -> (targets * B, n, D)."""
        visible = indices(hidden)[0] + 1  # 0 is the place of the class token and its like
        seen = self.embed(context) + self.positions[F.pad(visible, (self.prefix, 0))]
        asked = self.mask_token + self.positions[places + 1]
        tokens = self.blocks(torch.cat([seen.repeat(targets, 1, 1), asked], dim=1))
        return self.predict(self.norm(tokens[:, seen.shape[1] :]))
