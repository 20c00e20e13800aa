"""data2vec: predict, from the masked image, what a teacher makes of the whole image.

Baevski et al., "data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language" (arXiv
2202.03555), on a ViT; on a CNN the same with feature maps, the framework of the theory of Pan, Zhou and Yan (arXiv
2206.03826), which had it on ResNet-50. The targets are contextual: a feature of one place tells of the whole image.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.base import Size
from whymask.errors import WhymaskError
from whymask.methods.base import MaskedConfig, Method, block_side, masks_by_kind
from whymask.methods.settings import Data2VecSettings
from whymask.methods.teacher import Teacher, TeacherConfig, compare, decay_at
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class Data2VecConfig(TeacherConfig, MaskedConfig):
    """See `Data2VecSettings`."""

    top_layers: int
    beta: float

    @classmethod
    def derived(cls, asked: Any, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        masking = masks_by_kind(encoder, size, mask="block", mask_block=block_side(encoder, size))
        return masking | {"mask_ratio": 0.6, "top_layers": encoder.upper(size)}

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        super().check(encoder, size)
        most = encoder.alike(size)
        if not 1 <= self.top_layers <= most:
            raise WhymaskError(
                f"top_layers {self.top_layers}; the {encoder.name} has {most} blocks of the last one's size: "
                f"choose 1 to {most}"
            )
        if not 0 <= self.beta < math.inf:
            raise WhymaskError(f"beta {self.beta}; it must be 0 (the absolute error) or more")


class Data2Vec(Method):
    """student(masked image) -> linear head -> smooth L1 to the teacher's averaged features at hidden positions."""

    Settings = Data2VecSettings
    Config = Data2VecConfig
    encoders = ("cnn", "vit", "swin", "own")
    one_graph = ("vit",)
    source = "2202.03555"
    config: Data2VecConfig

    def __init__(self, encoder: Encoder, config: Data2VecConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        self.teacher = Teacher(encoder)
        with seeded(seed, "decoder"):
            self.mask_token = encoder.mask_token()
            self.head = nn.Linear(encoder.dim, encoder.dim)
        self.loss = partial(F.smooth_l1_loss, beta=self.config.beta)

    def forward(self, images: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        chosen = self.hidden_rows(hidden)  # (n,) of B * N
        features = self.encoder.rows(self.encoder(images, hidden, self.mask_token))
        predictions = self.head(features.flatten(0, 1)[chosen])
        targets, count = self.targets(images).flatten(0, 1)[chosen], features.shape[1]
        return compare(predictions, targets, chosen % count, count, self.loss)

    def look(self, *masks: Tensor) -> None:
        super().look(*masks)
        self.hidden_rows(masks[0])

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """(B, N, D): the mean of the teacher's last `top_layers` outputs, each normalised over D without parameters."""
        teacher = self.teacher.encoder
        outputs = teacher.outputs(images)[-self.config.top_layers :]
        normalised = [F.layer_norm(teacher.rows(x).float(), (teacher.dim,)) for x in outputs]
        return torch.stack(normalised).mean(dim=0)

    def after_step(self, step: int, steps: int) -> None:
        self.teacher.follow(self.encoder, decay_at(step, steps, 0.9998, 0.9998, self.config.decay))
