"""What a run says of itself: lines of metrics.jsonl, and how fast it is."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whymask.data.batches import Batches
from whymask.progress import say
from whymask.runs import RunFolder

LINES_PER_RUN = 200
SECONDS_BETWEEN_READINGS = 1.0
MOST_OVERFLOWS = 30
"""Steps in a row whose scaled gradient may be infinite, each of which halves the scale, of 65,536 at first."""


@dataclass(frozen=True)
class Given:
    """What a step gave: its learning rate, the rows of its images, and, still on the device, the scalars to log and the
    gradient's norm; of a scaled loss it may be infinite now and then, which lowers the scale."""

    step: int
    rate: float
    rows: np.ndarray
    values: Mapping[str, Tensor]
    norm: Tensor
    is_scaled: bool = False

    def tensors(self) -> list[Tensor]:
        return [*self.values.values(), self.norm]


def read_together(scalars: list[Tensor]) -> list[float]:
    """The numbers of scalars, tensors of one value, which may lie on devices: by one question a device and type."""
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for scalar in scalars:
        kinds.setdefault((scalar.device, scalar.dtype), []).append(scalar.reshape(()))
    told = {kind: iter(torch.stack(alike).tolist()) for kind, alike in kinds.items()}
    return [next(told[scalar.device, scalar.dtype]) for scalar in scalars]


@dataclass
class Clock:
    """Time spent, images seen and energy taken, over all sessions of a run."""

    seconds: float = 0.0
    waiting: float = 0.0
    images: int = 0
    joules: float | None = 0.0  # None where the device did not tell, in one session at least

    def took(self, joules: float | None) -> None:
        self.joules = None if joules is None or self.joules is None else self.joules + joules

    @property
    def data_wait(self) -> float:
        """Share of the time that the loop waited for data."""
        return self.waiting / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds if self.seconds else 0.0


class Log:
    """Writes about LINES_PER_RUN lines of means to metrics.jsonl, of what steps gave. That lies on the device until a
    line is full, a second has passed, or a checkpoint is made: then all of it is read at once.

    Attributes:
        latest: the loss that was read last.
    """

    def __init__(self, run: RunFolder | None, steps: int, batches: Batches):
        self.run, self.steps, self.clock = run, steps, Clock()
        self.every = max(1, steps // LINES_PER_RUN)
        self.steps_per_epoch = batches.steps_per_epoch
        self.sums: dict[str, float] = {}
        self.count = 0
        self.last_loss: float | None = None
        self.first: dict[str, float] = {}
        self.means: dict[str, float] = {}
        self.warning: str | None = None
        self.unread: list[Given] = []
        self.overflows = 0
        self.latest: float | None = None
        self._last_read = time.monotonic()

    def unwritten(self) -> dict[str, Any]:
        """What a resumed run needs to write the same lines: the sums of a line that is not full yet."""
        return {
            "sums": self.sums,
            "count": self.count,
            "last_loss": self.last_loss,
            "first": self.first,
            "means": self.means,
            "warning": self.warning,
        }

    def restore(self, notes: Mapping[str, Any]) -> None:
        vars(self.clock).update({"joules": None} | notes["clock"])  # absent, as is "log", from older checkpoints
        vars(self).update(notes.get("log", {}))

    def keep(self, given: Given) -> None:
        """Take what a step gave, unread."""
        self.unread.append(given)

    def is_due(self) -> bool:
        """Whether nothing was read for a second."""
        return time.monotonic() - self._last_read > SECONDS_BETWEEN_READINGS

    def is_full(self, done: int) -> bool:
        """Whether a line is full after `done` steps."""
        return done % self.every == 0 or done == self.steps

    def read(self, is_timed: bool = False) -> Given | None:
        """Count in the values of all steps that were kept, up to the first whose loss or gradient is not finite, if
        there is one, which is returned. The last one may have made a line, whose means are then in `means`.
        `is_timed`: within a step, whose seconds are counted in any case."""
        began = time.perf_counter()
        unread, self.unread = self.unread, []
        numbers = iter(read_together([tensor for given in unread for tensor in given.tensors()]))
        if not is_timed:  # the device came to the end of these steps meanwhile
            self.clock.seconds += time.perf_counter() - began
        self._last_read = time.monotonic()
        for given in unread:
            values, norm = {name: next(numbers) for name in given.values}, next(numbers)
            self.latest = values["loss"]
            self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
            if not math.isfinite(self.latest) or self.overflows > (MOST_OVERFLOWS if given.is_scaled else 0):
                return given
            self._add(given, values if not math.isfinite(norm) else values | {"gradient_norm": norm})
        return None

    def _add(self, given: Given, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        done = given.step + 1
        if not self.is_full(done):
            return
        self.means = {name: total / self.count for name, total in self.sums.items()}
        self.first = self.first or self.means
        self.last_loss = self.means["loss"]
        self.sums, self.count = {}, 0
        if self.run is not None:
            self.run.log(
                {"step": done, "steps": self.steps, "epoch": round(done / self.steps_per_epoch, 4)}
                | self.means
                | {"lr": given.rate, "images_per_second": self.clock.rate, "data_wait": self.clock.data_wait}
                | {"seconds": round(self.clock.seconds, 3)}
            )

    def validated(self, done: int, metrics: Mapping[str, float] | None) -> None:
        """Write what a validation after `done` steps said, on a line of its own."""
        if self.run is not None and metrics is not None:
            epoch = round(done / self.steps_per_epoch, 4)
            self.run.log({"step": done, "epoch": epoch, "validation": dict(metrics)})

    def warn(self, warning: str | None) -> None:
        """Say what is wrong, the first time that something is."""
        if warning and self.warning is None:
            self.warning = warning
            if self.run is not None:
                say(f"warning: {warning}")
