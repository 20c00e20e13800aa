"""How many images of a step fit the device's memory: found beforehand, or told where a step did not fit."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from whymask.data.batches import Batches
from whymask.devices import lost_another
from whymask.errors import DeviceLostError, WhymaskError
from whymask.fabric import Fabric
from whymask.ranks import apart
from whymask.runs import RunFolder

GIB = 2**30
LOST = r"CUDA error|CUDA driver error|cuDNN error|CUBLAS_STATUS"
"""In what PyTorch says of a GPU that computes no more; a process cannot use it again."""
ASKED = ("cuda",)
"""Types of devices whose memory is asked. A CPU's is not: what does not fit there is swapped, or ends the process."""
RESERVE = 0.2
"""Of what is free before the first step, left for what a trial does not hold: stored images that lie there (a tenth),
batches made ahead, and gaps between tensors."""
MOMENTS = 4
"""Copies of the weights that training holds beside a pass: AdamW's two, an average, and the buckets of gradients that
several processes send each other."""
LARGEST = 4096
"""Images a step; the masked autoencoder's batch on ImageNet."""
FEWEST_STEPS = 20
"""An epoch, below which larger batches are worth less than more steps."""


@contextmanager
def told(fabric: Fabric, training: Any, run: RunFolder) -> Iterator[None]:
    """Within, a device that runs out of memory is a WhymaskError that says of what batch, and what fits; one that is
    lost, one that says what is kept in `run`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        batches = training.batches
        height, width = batches.images.preprocessing.size
        raise WhymaskError(
            f"a step with {batches.share} images of {height}x{width} does not fit the memory of {device_text(fabric)}; "
            f"{_advice(fabric, training)}; --recompute, a smaller --batch-size or encoder need less too"
        ) from error
    except RuntimeError as error:
        if lost_another(error) or not re.search(LOST, str(error)):
            raise
        step = run.last_step()
        kept = "no checkpoint was written yet" if step is None else f"the checkpoint after step {step} is kept"
        raise DeviceLostError(
            f"the GPU was lost while it trained ({str(error).splitlines()[0]}); {kept} in {run.path}. The same command "
            f"goes on from there; nvidia-smi, and the system's log (Xid), say whether the GPU is well"
        ) from error


def largest_batch(fabric: Fabric, training: Any, default: int, masks: int = 1) -> int:
    """The largest batch, of the default's halves and doubles, of which a forward and backward pass fits beside
    `RESERVE` and `MOMENTS`: at most `LARGEST` images, and at least `FEWEST_STEPS` an epoch, unless that is below the
    default. Several processes take the smallest of what each of them found.

    Args:
        training: a trial's, whose weights nobody needs afterwards.
        masks: an image, of a method that sees several in a step: the batch counts them all.

    Raises WhymaskError where not one image fits.
    """
    model, batches = training.model.train(), training.batches
    unit = masks * batches.world * batches.parts
    most = min(LARGEST, masks * len(batches.rows) // FEWEST_STEPS)
    size = unit * 2 ** max(0, int(math.log2(default / unit)))
    with _held(fabric, model), apart():  # of several processes some may be at the end of their memory
        if _fits(fabric, training, batches.cut(batch_size=size // masks)):
            while 2 * size <= most and _fits(fabric, training, batches.cut(batch_size=2 * size // masks)):
                size *= 2
        else:
            size //= 2
            while size >= unit and not _fits(fabric, training, batches.cut(batch_size=size // masks)):
                size //= 2
    found: Any = fabric.all_reduce(torch.tensor(float(size), device=fabric.device), reduce_op="min")
    if int(found) < unit:
        raise WhymaskError(
            f"not one image fits the memory of {device_text(fabric)}; give smaller images (--size), a smaller encoder, "
            f"or --recompute"
        )
    return int(found)


def device_text(fabric: Fabric) -> str:
    """Its name and memory."""
    if fabric.device.type != "cuda":
        return "this device"
    free, whole = torch.cuda.mem_get_info(fabric.device)
    return f"{torch.cuda.get_device_name(fabric.device)} ({whole / GIB:.0f} GiB, of which {free / GIB:.1f} are free)"


@contextmanager
def _held(fabric: Fabric, model: torch.nn.Module) -> Iterator[None]:
    """Within, so much of the memory is taken as a run needs beside a pass."""
    learnt = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    needed = MOMENTS * learnt + int(RESERVE * free_memory(fabric))
    try:
        held = torch.empty(needed, dtype=torch.uint8, device=fabric.device)
    except torch.OutOfMemoryError as error:
        raise WhymaskError(
            f"the weights and AdamW's moments do not fit the memory of {device_text(fabric)}; give a smaller encoder"
        ) from error
    yield
    del held


def free_memory(fabric: Fabric) -> int:
    """Bytes."""
    return torch.cuda.mem_get_info(fabric.device)[0]


def _advice(fabric: Fabric, training: Any) -> str:
    """The smallest number of parts that fits, tried on the spot; of several processes the next larger one."""
    share, parts = training.batches.share, training.batches.parts
    possible = [n for n in range(2, share + 1) if share % n == 0]
    if not possible:
        return "not one image fits; give smaller images (--size)"
    if fabric.world_size > 1:
        return f"give --accumulate {parts * possible[0]}"
    for n in possible:
        if _fits(fabric, training, training.batches.cut(parts=parts * n)):
            return f"{share // n} at a time fit: give --accumulate {parts * n}, which makes the same step in parts"
    return "not one image fits; give smaller images (--size)"


def _fits(fabric: Fabric, training: Any, batches: Batches) -> bool:
    """Whether a forward and backward pass of the first part of these batches does. Gradients are lost."""
    training.model.zero_grad(set_to_none=True)
    if fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        with fabric.autocast():
            training.loss_of(training.model, batches(0), 0)["loss"].backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        training.model.zero_grad(set_to_none=True)
    return True
