"""Weights, gradients and moments divided among processes (FSDP2), for a ViT that does not fit one GPU while it trains.

Each block is brought together while it computes. Checkpoints and results hold whole tensors, as without.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.experimental import implicit_replication

from whymask.errors import WhymaskError
from whymask.fabric import Fabric, ModelParallelStrategy


def sharding(processes: int) -> ModelParallelStrategy:
    """Fabric's strategy: every block of a transformer is a unit, and all else one."""
    return ModelParallelStrategy(_shard, data_parallel_size=processes, tensor_parallel_size=1)


def is_sharded(fabric: Fabric) -> bool:
    return isinstance(fabric._strategy, ModelParallelStrategy)


def check_shardable(fabric: Fabric, model: Any, ema: float | None) -> None:
    """Raise WhymaskError for what cannot be trained in shards."""
    if not is_sharded(fabric):
        return
    refused = {
        f"encoder {model.encoder.config.name}": model.encoder.kind != "vit",
        "--ema": ema is not None,
        "--precision 16-mixed": fabric._precision.precision == "16-mixed",
    }
    for what, is_refused in refused.items():
        if is_refused:
            raise WhymaskError(
                f"--shard with {what}; a ViT in 32-true or bf16-mixed, without --ema, was expected; leave --shard out"
            )


def _shard(model: Any, mesh: Any) -> nn.Module:
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "blocks":
            for block in module:
                fully_shard(block, mesh=mesh["data_parallel"])
    return fully_shard(model, mesh=mesh["data_parallel"])


def whole(tensor: Tensor) -> Tensor:
    """All shards together, in every process; all must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_as(target: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, divided as the target is, if it is."""
    if not isinstance(target, DTensor):
        return tensor
    return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements)


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """On the CPU; all processes must ask for it."""
    return {name: whole(tensor.detach()).cpu() for name, tensor in model.state_dict().items()}


def beside_shards(fabric: Fabric) -> AbstractContextManager[None]:
    """Within, plain tensors may stand beside divided ones: each process has the same."""
    return implicit_replication() if is_sharded(fabric) else nullcontext()


def gather_into(plain: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Bring the weights of a divided model together in a plain one, and that to the device."""
    plain.load_state_dict(whole_state(model))
    plain.to(device)
