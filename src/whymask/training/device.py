"""Where a run computes, and how precisely: chosen by what the device is good at."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from whymask.data.batches import Batches, Draw, Images, Order
from whymask.data.crops import Augment
from whymask.data.own_augment import OwnAugment
from whymask.data.strong import Strong
from whymask.devices import best_device, check_device
from whymask.encoders.masked_norm import count_over_ranks
from whymask.errors import WhymaskError
from whymask.fabric import Fabric
from whymask.progress import say
from whymask.ranks import world
from whymask.tasks.base import Targets
from whymask.training.launch import launched_by
from whymask.training.settings import RuntimeSettings
from whymask.training.sharding import sharding

M = TypeVar("M", bound=nn.Module)

CHANNELS_LAST = ("cuda",)
"""Types of devices on which a CNN is in this memory format."""


def make_fabric(config: RuntimeSettings, *, alone: bool = False) -> Fabric:
    """A launched Fabric for `config`. Raises WhymaskError when the device is not there, where `config` and who started
    the processes differ, and for several processes where what is done is done `alone`."""
    device = config.device if config.device != "auto" else best_device()
    devices, nodes, environment = launched_by(config)
    check_device(device, devices)
    if alone and devices * nodes > 1:
        raise WhymaskError(
            f"{devices * nodes} processes (--devices {devices}, --nodes {nodes}) for what one does alone; leave these "
            f"out, and start it without torchrun or srun"
        )
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if device == "cuda" and torch.cuda.is_bf16_supported(False) else "32-true"
    if precision == "16-mixed" and device == "cpu":
        raise WhymaskError(
            "--precision 16-mixed was given for a CPU, which computes fp16 slowly or not at all; a GPU was expected. "
            "Use --precision 32-true, or --device cuda."
        )
    fabric = Fabric(
        accelerator=device,
        strategy=sharding(devices * nodes) if config.shard and devices * nodes > 1 else "auto",
        devices=devices,
        num_nodes=nodes,
        precision=precision,
        plugins=[environment],
    )
    with _without_infos("lightning_fabric"):
        fabric.launch()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if fabric.world_size > 1:
        os.environ |= {"RANK": str(fabric.global_rank), "WORLD_SIZE": str(fabric.world_size)}  # srun does not say so
        say(f"{fabric.world_size} processes share each batch{f' on {nodes} nodes' if nodes > 1 else ''}")
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # costs a copy
    return fabric


@contextmanager
def _without_infos(package: str) -> Iterator[None]:
    """Within, each of the package's loggers is silent below a warning: every process would say the same."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == package]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def batches_on(
    fabric: Fabric,
    images: Images,
    rows: np.ndarray,
    batch_size: int,
    augment: Augment | OwnAugment | None,
    seed: int,
    strong: Strong | None = None,
    order: Order | None = None,
    draw: Draw | None = None,
    parts: int = 1,
    targets: Targets = "labels",
) -> Batches:
    """Training batches of `rows` for this process: on its device, and its share where several processes train."""
    return Batches(
        images,
        rows,
        batch_size=batch_size,
        seed=seed,
        augment=augment,
        strong=strong,
        order=order,
        draw=draw,
        targets=targets,
        device=fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        parts=parts,
    )


def placed(model: M, device: torch.device, recompute: bool = False) -> M:
    """The model on the device; on a GPU with the convolutions of a CNN in the memory format that is fastest there."""
    encoder: Any = model.encoder
    if recompute:
        encoder.use_recomputing()
    if world() > 1:
        count_over_ranks(model)
    if device.type in CHANNELS_LAST and encoder.config.channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def scaler_of(fabric: Fabric) -> torch.amp.GradScaler | None:
    """What scales the loss, so that small gradients are not zero in fp16; None in other precisions."""
    return getattr(fabric._precision, "scaler", None)


def precision_of(fabric: Fabric) -> str:
    """Fabric's name of the precision in use, such as "32-true"."""
    return fabric._precision.precision


@contextmanager
def products_for(fabric: Fabric) -> Iterator[None]:
    """Within, a GPU multiplies float32 in tf32, of 10 bits, where the rest is computed in 16 bits, and in full with
    --precision 32-true. To be put around training: what is tested, explained or of the theory is not rounded so."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    rounds = fabric.device.type == "cuda" and precision_of(fabric) != "32-true"
    torch.set_float32_matmul_precision("high" if rounds else "highest")
    torch.backends.cudnn.allow_tf32 = rounds
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
