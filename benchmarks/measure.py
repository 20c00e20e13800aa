"""How rates are measured: contenders take turns, so that whatever else the machine does meets all of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

Work = Callable[[], float]
"""Does one piece of work and returns how much that was: images, say, or operations."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: in each of `blocks` blocks every contender works for at least `seconds`, 4 s together."""

    blocks: int = 5
    seconds: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of bench.json. Rates are medians over the blocks; `ratio` is the median of the blocks' ratios."""

    name: str
    ours: float
    peer: str | None = None  # what ours is compared with
    peer_rate: float | None = None
    ratio: float | None = None  # ours / peer, above 1: ours is faster
    share: float | None = None  # of the machine's fp32 matrix-product rate, counting necessary operations only
    unit: str
    setting: str


Rates = dict[str, list[float]]
"""Contender -> work a second, one value a block."""


def interleaved(works: dict[str, Work], effort: Effort, clock: Callable[[], float] = time.perf_counter) -> Rates:
    """Work a second of each contender in each block, after one warm-up call each.

    `clock` is wall time, or `time.process_time` for rates a core: processor time summed over threads.
    """
    for work in works.values():
        work()
    rates: Rates = {name: [] for name in works}
    for _ in range(effort.blocks):
        for name, work in works.items():
            start, done = clock(), 0.0
            while done == 0 or clock() - start < effort.seconds:
                done += work()
            rates[name].append(done / (clock() - start))
    return rates


def against(rates: Rates, ours: str, peer: str) -> dict[str, float]:
    """The fields "ours", "peer_rate" and "ratio" of a Row."""
    ratios = [mine / other for mine, other in zip(rates[ours], rates[peer], strict=True)]
    return {"ours": median(rates[ours]), "peer_rate": median(rates[peer]), "ratio": median(ratios)}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, PyTorch computes on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
