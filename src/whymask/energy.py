"""The energy that a GPU took, by its own counter."""

from collections.abc import Callable
from functools import cache

import torch


class Meter:
    """What a device takes from now on, whoever computes on it."""

    def __init__(self, device: torch.device):
        self.read = joules_of(device)
        self.last = self.read() if self.read is not None else 0.0

    def since(self) -> float | None:
        """Joules since it was asked last; None where the device does not tell."""
        if self.read is None:
            return None
        before, self.last = self.last, self.read()
        return self.last - before


@cache
def joules_of(device: torch.device) -> Callable[[], float] | None:
    """A function that gives all that an NVIDIA GPU (Volta or newer, no part of one) has taken since its driver was
    loaded, in joules, as NVML counts. None for other devices, and where nvidia-ml-py is not installed."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:  # of a part of a GPU, an older one, or a driver that keeps it to itself
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
