"""How a run is stopped: after the step that it is in, in all processes that train together."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from whymask.data.moving import Moves
from whymask.fabric import Fabric
from whymask.ranks import total

LAG = {"cuda": 8}
"""By type of device, how many steps later what was agreed is read: the device then waits for nobody."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a polite kill: the run has saved a checkpoint and can be continued."""


@dataclass
class Stop:
    requested: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@dataclass(frozen=True)
class Asked:
    """What is to be done after a step: `stop` where any process was told to; `save` and `read` by the first one's
    clock."""

    stop: bool = False
    save: bool = False
    read: bool = False


class Meeting:
    """Makes all processes that train together do the same after the same step, at one exchange a step.

    On a GPU what was agreed is read `LAG` steps later, by all after the same step.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric, self.lag = fabric, LAG.get(fabric.device.type, 0)
        self._underway: deque[tuple[Tensor, Any]] = deque()
        self._ask: Callable[[], Asked] = Asked

    def means(self, values: Mapping[str, Tensor], ask: Callable[[], Asked]) -> dict[str, Tensor]:
        """Those of scalars over all processes; with them goes what each one asks for."""
        self._ask = ask
        if self.fabric.world_size == 1:
            return dict(values)
        asked, first = ask(), self.fabric.is_global_zero
        flags = torch.tensor([asked.stop, first and asked.save, first and asked.read]).to(values["loss"].dtype)
        sums = total(torch.cat([torch.stack([*values.values()]), Moves(self.fabric.device)(flags)]))
        self._underway.append(_sent(sums[-len(flags) :]))
        return dict(zip(values, sums[: len(values)] / self.fabric.world_size, strict=True))

    def agreed(self, is_last: bool) -> Asked:
        """What all do now; nothing is left open after the last step."""
        if self.fabric.world_size == 1:
            return self._ask()
        found = Asked()
        while self._underway and (is_last or len(self._underway) > self.lag) and found == Asked():
            flags, event = self._underway.popleft()
            if event is not None:
                event.synchronize()
            found = Asked(*(flag > 0 for flag in flags.tolist()))
        if found != Asked():
            self._underway.clear()  # who still asks does so again
        return found


def _sent(flags: Tensor) -> tuple[Tensor, Any]:
    """They, on the CPU once the event, if there is one, has come."""
    if not flags.is_cuda:
        return flags, None
    there = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True).copy_(flags, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return there, event


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
