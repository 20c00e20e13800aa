"""Counts what a device is asked: on a GPU each question would wait for all work before.

A question is an operation whose result the CPU must see: a number (`float(...)`, `bool(...)`), or a size that depends
on values (`nonzero`, a boolean index).
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NUMBERS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "repeat_interleave.Tensor")


class Questions(TorchDispatchMode):
    """Collects, of this thread, the operations whose result the CPU must see."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, what: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        name = str(what).removeprefix("aten.")
        by = given[1] if len(given) > 1 and isinstance(given[1], list) else []
        by_truth = any(isinstance(part, Tensor) and part.dtype == torch.bool for part in by)
        if name.startswith(NUMBERS) or (name.startswith("index") and by_truth):
            self.asked.append(name)
        return what(*given, **(named or {}))
