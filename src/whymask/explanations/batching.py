"""How many images a network is shown at once: on a GPU as many as fit."""

from collections.abc import Callable

import torch
from torch import Tensor

BATCH = 256
"""Images in memory at once on a CPU, however many maskings there are."""
SHARE = 0.25
"""Of a GPU's free memory that a batch may take."""
MOST = 8192
"""On a GPU."""
TRIED = 16
"""Images by which it is told what each of them takes there."""


def fitting(device: torch.device, compute: Callable[..., object], *given: Tensor) -> int:
    """How many rows of `given` at once `compute(*given)` is to get: on a CPU `BATCH`; on a GPU as many as take `SHARE`
    of its free memory, by what a few of them take, from 1 to `MOST`."""
    if device.type != "cuda":
        return BATCH
    few = [x[:TRIED] for x in given]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    compute(*few)
    each = (torch.cuda.max_memory_allocated(device) - before) / max(1, len(few[0]))
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST, int(SHARE * free / max(1.0, each))))
