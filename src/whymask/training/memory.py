"""What to do where a step does not fit the device's memory: how many of its images at a time do, and which flag."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric

from whymask.errors import WhymaskError

GIB = 2**30


@contextmanager
def told(fabric: Fabric, training: Any) -> Iterator[None]:
    """Within, a device that runs out of memory is a WhymaskError that says of what batch, and what fits."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        batches = training.batches
        height, width = batches.images.preprocessing.size
        raise WhymaskError(
            f"a step with {batches.share} images of {height}x{width} does not fit the memory of {_device(fabric)}; "
            f"{_advice(fabric, training)}; --recompute (of a ViT), a smaller --batch-size or encoder need less too"
        ) from error


def _device(fabric: Fabric) -> str:
    if fabric.device.type != "cuda":
        return "this device"
    free, whole = torch.cuda.mem_get_info(fabric.device)
    return f"{torch.cuda.get_device_name(fabric.device)} ({whole / GIB:.0f} GiB, of which {free / GIB:.1f} are free)"


def _advice(fabric: Fabric, training: Any) -> str:
    """The smallest number of parts that fits, tried on the spot; of several processes the next larger one."""
    share, parts = training.batches.share, training.batches.parts
    possible = [n for n in range(2, share + 1) if share % n == 0]
    if not possible:
        return "not one image fits; give smaller images (--size)"
    if fabric.world_size > 1:
        return f"give --accumulate {parts * possible[0]}"
    for n in possible:
        if _fits(fabric, training, parts * n):
            return f"{share // n} at a time fit: give --accumulate {parts * n}, which makes the same step in parts"
    return "not one image fits; give smaller images (--size)"


def _fits(fabric: Fabric, training: Any, parts: int) -> bool:
    """Whether a forward and backward pass of one of so many parts of a batch does. Gradients are lost."""
    training.model.zero_grad(set_to_none=True)
    if fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        with fabric.autocast():
            training.loss_of(training.model, training.batches.in_parts(parts)(0), 0)["loss"].backward()
    except torch.OutOfMemoryError:
        return False
    return True
