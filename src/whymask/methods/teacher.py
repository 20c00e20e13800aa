"""A teacher: the moving average of the student's weights, whose features of the whole image are the targets."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from whymask.encoders import Encoder
from whymask.encoders.base import Size
from whymask.errors import WhymaskError
from whymask.methods.base import MethodConfig
from whymask.ranks import total, weighted, world

HORIZON = 0.05
"""Most steps that a teacher averages over, as a share of the run's: the papers' decays are meant for runs of 1e5 steps,
in which the teacher follows the student; in a run of 500 it would stay the random network that it began as."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(MethodConfig):
    """`decay`: of the teacher's moving average, fixed; None is the paper's, see `decay_at`."""

    decay: float | None = None

    def check(self, encoder: Any, size: Size) -> None:
        super().check(encoder, size)
        if self.decay is not None and not 0 <= self.decay < 1:
            raise WhymaskError(f"teacher decay {self.decay}; it must lie in [0, 1), 0 being the student itself")


class Teacher(nn.Module):
    """A copy of the student's encoder without gradients. In train mode batch norm uses the batch's own statistics, as
    the student's does."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder: Any = copy.deepcopy(encoder).requires_grad_(False)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, decay: float) -> None:
        """weights <- decay * weights + (1 - decay) * the student's; integers are copied."""
        own, student = ([*map(_here, (*of.parameters(), *of.buffers()))] for of in (self.encoder, encoder))
        pairs = list(zip(own, student, strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs.data for _, theirs in floats], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _here(tensor: Tensor) -> Tensor:
    """The shard of this process, where processes have a shard each: the teacher's is divided as the student's."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def decay_at(step: int, steps: int, start: float, end: float, fixed: float | None) -> float:
    """The decay after step 0..steps-1: from `start` to `end` in a line over the run, bounded by HORIZON; or `fixed`."""
    if fixed is not None:
        return fixed
    planned = start + (end - start) * (step + 1) / steps
    return max(0.0, min(planned, 1 - 1 / (HORIZON * steps)))


def compare(
    predictions: Tensor, targets: Tensor, places: Tensor, count: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """The loss, and what tells a teacher that has collapsed to the same features for every image.

    Args:
        predictions, targets: (n, D), rows of all images.
        places: long (n,), the position in its image of each row, of `count` positions.

    Returns {"loss"; "target_std", "prediction_std": root mean square difference of a value to its mean over the images
    that have a row at the same place; "mean_loss": the loss of predicting each place's mean target}.
    """
    targets = targets.float()
    rows = len(targets)
    result = {"loss": weighted(loss(predictions.float(), targets), rows)}
    with torch.no_grad():
        means, spread = mean_by_place(targets, places, count), predictions.detach().float()
        result["target_std"] = spread_around(targets, means)
        result["prediction_std"] = spread_around(spread, mean_by_place(spread, places, count))
        result["mean_loss"] = weighted(loss(means, targets), rows)
    return result


def spread_around(values: Tensor, means: Tensor) -> Tensor:
    """Root mean square difference, over all ranks' rows (n, D)."""
    if world() == 1:
        return (values - means).square().mean().sqrt()
    squares, count = total(torch.stack([(values - means).square().sum(), values.new_tensor(values.numel())]))
    return (squares / count).sqrt()


def mean_by_place(values: Tensor, places: Tensor, count: int) -> Tensor:
    """For each row of values (n, D), the mean of all ranks' rows of the same one of `count` places, (n, D)."""
    sums = values.new_zeros(count, values.shape[1]).index_add_(0, places, values)
    rows = values.new_zeros(count).index_add_(0, places, values.new_ones(len(values)))
    sums, rows = total(sums), total(rows)
    return (sums / rows.clamp(min=1).unsqueeze(1)).index_select(0, places)


def collapse(first: Mapping[str, float], now: Mapping[str, float]) -> str | None:
    """What to say when the targets of a teacher differ between images by less than half of what they did at first."""
    if now.get("target_std", 1.0) >= first.get("target_std", 0.0) / 2:
        return None
    return (
        f"the teacher's features are collapsing: they differ between images by {now['target_std']:.3g} (root mean "
        f"square), {first['target_std']:.3g} at first. What is pretrained so is of little use; lower the learning "
        f"rate, or raise the teacher's decay"
    )
