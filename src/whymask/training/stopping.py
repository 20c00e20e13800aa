"""How a run is stopped: after the step that it is in, in all processes that train together."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from whymask.fabric import Fabric


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a polite kill: the run has saved a checkpoint and can be continued."""


@dataclass
class Stop:
    requested: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def stops(fabric: Fabric, stop: Stop) -> bool:
    """Whether any of the processes that train together was asked to stop: all do so after the same step."""
    if fabric.world_size == 1:
        return stop.requested
    asked: Any = fabric.all_reduce(torch.tensor(float(stop.requested), device=fabric.device), reduce_op="sum")
    return float(asked) > 0


@contextmanager
def stop_signal() -> Iterator[Stop]:
    """Within, SIGINT and SIGTERM ask for a stop after the current step; a second one stops at once."""
    stop = Stop()
    try:
        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
