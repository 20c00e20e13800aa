"""From the CPU's memory to where a run computes: one thing at a time, or on a GPU by pinned buffers and a stream."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Made = TypeVar("Made")

RESIDENT_SHARE = 0.1
"""Of a GPU's memory that is free before the first step: images that need no more lie there altogether."""
CHUNK = 64 * 2**20
"""Bytes that are brought there at a time."""


class Moves:
    """What it is given, on the device when the call returns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True) if self._is_gpu else tensor.to(self.device)

    def rows(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        """array[rows], there."""
        return self(torch.from_numpy(array[rows]))

    def together(self, make: Callable[["Moves"], Made]) -> tuple[Made, Any]:
        """What `make` makes by these moves, and its arrival, for `arrive`."""
        return make(self), None

    @property
    def _is_gpu(self) -> bool:
        return self.device.type == "cuda"


class Staging(Moves):
    """Moves by pinned buffers that are used again, on a stream of their own: what the GPU computes does not wait for
    them. On a CPU, for tests: the same buffers, without pins and streams.

    Args:
        turns: how often `together` is called before the first call's buffers are written anew; it then waits until
            their copies are made.
    """

    def __init__(self, device: torch.device, turns: int = 2) -> None:
        super().__init__(device)
        self.stream: Any = torch.cuda.Stream(device) if self._is_gpu else None
        self.buffers: dict[tuple[int, int], Tensor] = {}
        self._copied: list[Any] = [torch.cuda.Event() if self._is_gpu else None for _ in range(turns)]
        self._turn = self._place = 0

    def together(self, make: Callable[[Moves], Made]) -> tuple[Made, Any]:
        self._turn, self._place = (self._turn + 1) % len(self._copied), 0
        if self._is_gpu:
            self._copied[self._turn].synchronize()
        with torch.cuda.stream(self.stream):
            made = make(self)
            arrival = torch.cuda.Event() if self._is_gpu else None
            for event in (self._copied[self._turn], arrival):
                if event is not None:
                    event.record(self.stream)
        return made, arrival

    def __call__(self, tensor: Tensor) -> Tensor:
        return self._sent(self._buffer(tensor.dtype, tensor.shape).copy_(tensor))

    def rows(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
        buffer = self._buffer(kind, (len(rows), *array.shape[1:]))
        np.take(array, rows, axis=0, out=buffer.numpy(), mode="clip")  # the mode that writes straight into it
        return self._sent(buffer)

    def _sent(self, buffer: Tensor) -> Tensor:
        return buffer.to(self.device, non_blocking=True, copy=True)

    def _buffer(self, kind: torch.dtype, shape: Iterable[int]) -> Tensor:
        shape = tuple(shape)
        size = int(np.prod(shape)) * kind.itemsize
        key = self._turn, self._place
        self._place += 1
        if key not in self.buffers or len(self.buffers[key]) < size:
            self.buffers[key] = torch.empty(size, dtype=torch.uint8, pin_memory=self._is_gpu)
        return self.buffers[key][:size].view(kind).view(shape)


def arrive(arrival: Any, tensors: Iterable[Tensor]) -> None:
    """Makes what is computed from now on wait for `tensors`, and their memory for it. The CPU does not wait."""
    if arrival is None:
        return
    for tensor in tensors:
        current = torch.cuda.current_stream(tensor.device)
        current.wait_event(arrival)
        tensor.record_stream(current)


class Resident:
    """The stored images of `rows`, all of them on the device: `rows` as in `Moves`, without a copy."""

    def __init__(self, images: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.kept = np.unique(rows)
        kind = torch.from_numpy(np.empty(0, images.dtype)).dtype
        self.pixels = torch.empty((len(self.kept), *images.shape[1:]), dtype=kind, device=device)
        each = max(1, CHUNK // max(1, images[0].nbytes))
        for start in range(0, len(self.kept), each):
            self.pixels[start : start + each].copy_(torch.from_numpy(images[self.kept[start : start + each]]))

    def rows(self, rows: np.ndarray, move: Moves) -> Tensor:
        return self.pixels.index_select(0, move(torch.from_numpy(np.searchsorted(self.kept, rows))))


def fits(images: np.ndarray, rows: np.ndarray, device: torch.device) -> bool:
    """Whether the images of `rows`, bytes, need at most `RESIDENT_SHARE` of the free memory of a GPU."""
    if device.type != "cuda" or images.dtype != np.uint8:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return len(rows) * images[0].nbytes <= RESIDENT_SHARE * free
