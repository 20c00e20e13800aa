"""What processes that compute each batch together must do together: count over all of it, and draw for all of it.

Each process, a rank, has its own share of every batch. In one process all of this is what it was given.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

SECONDS_TO_COME = 60
SECONDS_TO_ASK = 3
_is_apart = False


@contextmanager
def apart() -> Iterator[None]:
    """Within, this process computes as if it were alone, whatever the others do meanwhile."""
    global _is_apart
    _is_apart = True
    try:
        yield
    finally:
        _is_apart = False


def world() -> int:
    """How many processes compute together."""
    if _is_apart:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(x: Tensor) -> Tensor:
    """The sum of all ranks' x, without a gradient."""
    if world() == 1:
        return x
    summed = x.detach().clone()
    dist.all_reduce(summed)
    return summed


def gathered(x: Tensor) -> Tensor:
    """Every rank's x, of one shape, (world, *x.shape), without a gradient."""
    if world() == 1:
        return x.detach()[None]
    rows = x.new_zeros((world(), *x.shape))
    rows[dist.get_rank()] = x.detach()
    dist.all_reduce(rows)  # a sum with zeros: every backend has it
    return rows


def weighted(mean: Tensor, count: int) -> Tensor:
    """A mean over so many rows of this rank, such that the mean over ranks of this is that over all ranks' rows."""
    if world() == 1:
        return mean
    counts = total(torch.tensor(float(count), dtype=torch.float64, device="cpu" if not mean.is_cuda else mean.device))
    return mean * (count * world() / counts).to(mean)


def drawn(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...], groups: int = 1) -> Tensor:
    """This rank's part of what `draw` draws for all ranks' batch: as one process would draw it, from the same state.

    Args:
        shape: of this rank's part; its rows are `groups` after one another, such as masks, each of all its images.
    """
    count = world()
    if count == 1:
        return draw(shape)
    rows, *rest = shape
    whole = draw((rows * count, *rest)).view(groups, count, rows // groups, *rest)
    return whole[:, dist.get_rank()].reshape(shape)


def last_before(x: Tensor) -> Tensor:
    """The row that stands before this rank's first in the whole batch, (1, ...); before the first one the last."""
    last = gathered(x[-1])
    return last[(dist.get_rank() - 1) % world()][None] if world() > 1 else last


def all_come(place: str) -> bool:
    """Whether all ranks come to this place, within SECONDS_TO_COME: such as to the failure of the same work."""
    return world() == 1 or _met(place, SECONDS_TO_COME)


def once(tell: Callable[[], None]) -> None:
    """Let the rank that comes first tell why all end. The last thing that a rank does: it may wait a little for others,
    whose question it answers."""
    if world() == 1:  # they do not know of each other yet: once a machine
        if os.environ.get("LOCAL_RANK", "0") == "0":
            tell()
        return
    is_told = False
    with suppress(RuntimeError):  # who would answer has ended
        is_told = _store().add("told", 1) > 1
    if not is_told:
        tell()
    _met("end", SECONDS_TO_ASK)


def _met(place: str, seconds: float) -> bool:
    store, keys = _store(), [f"{place} {rank}" for rank in range(world())]
    try:
        store.set(keys[dist.get_rank()], "")
        store.wait(keys, timedelta(seconds=seconds))
    except RuntimeError:
        return False
    return True


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()
