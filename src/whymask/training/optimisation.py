"""AdamW, its parameter groups, and a cosine schedule with warm-up."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from whymask.later import LATER


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """`TrainingSettings` of which nothing is left open; without `ema` the last weights are the result, without
    `checkpoint_every` a checkpoint is made about once a minute."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    beta2: float = 0.999
    warmup: float = 0.1
    clip: float = 3.0
    layer_decay: float = 1.0
    ema: float | None = None
    checkpoint_every: int | None = None
    accumulate: int = field(default=1, metadata=LATER)
    recompute: bool = field(default=False, metadata=LATER)


def rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """Learning rate of step 0..steps-1: linear warm-up, then half a cosine down to 0."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def ema_at(step: int, config: TrainingConfig) -> float | None:
    """Decay of the moving average at step 0, 1, ...: that of TensorFlow's ExponentialMovingAverage with num_updates."""
    return None if config.ema is None else min(config.ema, (1 + step) / (10 + step))


def make_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over `model`, one group for each (layer, decayed or not). Fused: one kernel for all tensors."""
    return torch.optim.AdamW(
        list(_groups(model, config)),
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
        fused=True,
    )


def _groups(model: nn.Module, config: TrainingConfig) -> Iterator[dict[str, Any]]:
    encoder: Any = model.encoder
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if name.startswith("encoder."):
            scale = config.layer_decay ** (encoder.layers - encoder.layer_of(name.removeprefix("encoder.")))
        decays = sum(side > 1 for side in parameter.shape) > 1 and not name.endswith(("pos_embed", "token"))
        decay = config.weight_decay if decays else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    for (scale, decay), parameters in groups.items():
        yield {"params": parameters, "weight_decay": decay, "scale": scale}
