"""Where rows are measured: the device, its clock and its memory."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.scale import Scale

WARM_UP, BLOCKS = 2, 3
STEPS = range(1, 50)
"""Of a block: at least, and below."""


@dataclass(frozen=True)
class Place:
    """A device, and how large what is measured there is."""

    device: torch.device
    scale: Scale

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.is_gpu else "CPU"

    def wait(self) -> None:
        """Until all that was asked of the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def half(self) -> AbstractContextManager[Any]:
        """Within, products are of bf16 where that loses little, as in the loop on a GPU."""
        return torch.autocast(self.device.type, torch.bfloat16)

    @contextmanager
    def products(self, rounded: bool) -> Iterator[None]:
        """Within, products and convolutions of float32 are in tf32, as the loop has them beside bf16, or just that."""
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        torch.backends.cudnn.allow_tf32 = rounded
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]

    def seconds(self, step: Callable[[], Any]) -> float:
        """Of a step, the median of blocks; what it leaves behind is waited for."""
        for _ in range(WARM_UP):
            step()
        least = self._block(step, 1)
        steps = max(STEPS.start, min(STEPS.stop - 1, math.ceil(self.scale.seconds / least)))
        return median(self._block(step, steps) / steps for _ in range(BLOCKS))

    def _block(self, step: Callable[[], Any], steps: int) -> float:
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        self.wait()
        return time.perf_counter() - began

    @contextmanager
    def memory(self) -> Iterator[dict[str, float]]:
        """Within, the peak of the GPU's memory is taken; afterwards it stands in what is given, in GiB."""
        peak: dict[str, float] = {}
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        yield peak
        if self.is_gpu:
            peak["memory"] = torch.cuda.max_memory_allocated(self.device) / 2**30


Around = Callable[[Callable[[], None]], None]
"""How a forward and backward pass is begun: calls what it is given."""


def training(
    model: nn.Module, place: Place, loss_of: Callable[[], torch.Tensor], around: Around = lambda work: work()
) -> Callable[[], None]:
    """A training step: forward in bf16, backward, fused AdamW. It asks the device nothing."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()

    def passes() -> None:
        with place.half():
            loss = loss_of()
        loss.backward()

    def step() -> None:
        around(passes)
        optimiser.step()
        optimiser.zero_grad()

    return step
