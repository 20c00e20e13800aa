"""AdamW, its parameter groups, and a cosine schedule with warm-up."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whymask.encoders import Encoder
from whymask.errors import WhymaskError


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained, in any stage."""

    epochs: int | None = None
    """Passes over the training images; the stage says what the default is."""
    batch_size: int = 128
    """Images a step. Fewer images than this make one batch."""
    learning_rate: float = 1e-3
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = 0.05
    """AdamW's decay; biases, norms, positions and tokens are left out."""
    beta2: float = 0.999
    """AdamW's averaging of squared gradients; 0.95 is usual for mask reconstruction (arXiv 2111.06377)."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises from 0; then it falls as a cosine to 0."""
    clip: float = 3.0
    """Largest norm of the gradient; a larger one is scaled down."""
    layer_decay: float = 1.0
    """Each layer below the head learns this factor slower (arXiv 2106.08254); 1 = all alike."""
    ema: float | None = None
    """Decay of a moving average of the weights, which then is the result; none = the last weights. At step t at most
    (1 + t) / (10 + t), so that a short run's average forgets its first weights."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; default: about one a minute."""

    def __post_init__(self) -> None:
        """Raises WhymaskError for a setting out of its range."""
        ranges: dict[str, tuple[bool, str]] = {
            "epochs": (self.epochs is None or self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "beta2": (0 <= self.beta2 < 1, "from 0 to below 1"),
            "warmup": (0 <= self.warmup <= 1, "a share from 0 to 1"),
            "clip": (self.clip > 0, "above 0"),
            "layer_decay": (0 < self.layer_decay <= 1, "above 0 and at most 1"),
            "ema": (self.ema is None or 0 <= self.ema < 1, "from 0 to below 1, such as 0.999"),
            "checkpoint_every": (self.checkpoint_every is None or self.checkpoint_every >= 1, "at least 1 step"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise WhymaskError(f"{name} {getattr(self, name)} was given; {expected} was expected; change it")


def rate_at(step: int, steps: int, optimisation: Optimisation) -> float:
    """Learning rate of step 0..steps-1: linear warm-up, then half a cosine down to 0."""
    warm = max(1, round(optimisation.warmup * steps))
    if step < warm:
        return optimisation.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, steps - warm)
    return optimisation.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def ema_at(step: int, optimisation: Optimisation) -> float | None:
    """Decay of the moving average at step 0, 1, ...: that of TensorFlow's ExponentialMovingAverage with num_updates."""
    return None if optimisation.ema is None else min(optimisation.ema, (1 + step) / (10 + step))


def make_optimiser(model: nn.Module, optimisation: Optimisation) -> torch.optim.AdamW:
    """AdamW over `model`, one group for each (layer, decayed or not). Fused: one kernel for all tensors."""
    return torch.optim.AdamW(
        list(_groups(model, optimisation)),
        lr=optimisation.learning_rate,
        betas=(0.9, optimisation.beta2),
        fused=True,
    )


def _groups(model: nn.Module, optimisation: Optimisation) -> Iterator[dict[str, Any]]:
    encoder = model.encoder
    assert isinstance(encoder, Encoder)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if name.startswith("encoder."):
            scale = optimisation.layer_decay ** (encoder.layers - encoder.layer_of(name.removeprefix("encoder.")))
        decay = optimisation.weight_decay if _is_matrix(name, parameter) else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    for (scale, decay), parameters in groups.items():
        yield {"params": parameters, "weight_decay": decay, "scale": scale}


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.squeeze().ndim > 1 and not name.endswith(("pos_embed", "token"))
