"""What a checkpoint holds: all that training changes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from whymask.fabric import Fabric
from whymask.runs import Checkpoint, RunFolder
from whymask.training.log import Log
from whymask.training.sharding import divided_as, whole


class State:
    """All that training changes: weights and buffers, the optimiser's moments, the moving average, and by what the loss
    is scaled, where it is."""

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: dict[str, Tensor],
        scaler: torch.amp.GradScaler | None = None,
    ):
        self.model, self.optimiser, self.average, self.scaler = model, optimiser, average, scaler
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}

    def checkpoint(self, step: int, log: Log) -> Checkpoint:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for parameter, moments in self.optimiser.state.items():
            tensors |= {f"optimiser.{key}.{self._names[parameter]}": moments[key] for key in moments}
        tensors = {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in tensors.items()}
        notes = {"clock": vars(log.clock), "log": log.unwritten()}
        return Checkpoint(step, tensors, notes | ({"scaler": self.scaler.state_dict()} if self.scaler else {}))

    def restore(self, checkpoint: Checkpoint) -> None:
        own, stored = self.model.state_dict(), _under("model.", checkpoint.tensors)
        self.model.load_state_dict({k: divided_as(own[k], v) if k in own else v for k, v in stored.items()})
        if self.scaler is not None:
            self.scaler.load_state_dict(checkpoint.notes["scaler"])
        for name, tensor in _under("average.", checkpoint.tensors).items():
            self.average[name].copy_(tensor)
        for parameter, name in self._names.items():
            keys = {key: f"optimiser.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
            if keys["step"] in checkpoint.tensors:
                moments = {key: _like(parameter, checkpoint.tensors[stored]) for key, stored in keys.items()}
                self.optimiser.state[parameter] = moments

    @torch.no_grad()
    def update_average(self, decay: float | None) -> None:
        if decay is None:
            return
        now = self.model.state_dict()
        floats = [name for name, tensor in now.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in floats], [now[name] for name in floats], 1 - decay)
        for name in now.keys() - floats:
            self.average[name].copy_(now[name])

    def result(self) -> dict[str, Tensor]:
        """The model's state that is left if training ends here: the moving average, where there is one."""
        return self.average or self.model.state_dict()

    def use_average(self) -> None:
        if self.average:
            self.model.load_state_dict(self.average)


def _like(parameter: Tensor, moments: Tensor) -> Tensor:
    """On the parameter's device, and of moments of its shape in its memory format, which a fused AdamW expects, or
    divided as it is."""
    if moments.shape != parameter.shape:
        return moments.to(parameter.device)
    if isinstance(parameter, DTensor):
        return divided_as(parameter, moments)
    return torch.empty_like(parameter, dtype=moments.dtype, requires_grad=False).copy_(moments)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def resume(fabric: Fabric, run: RunFolder, state: State, log: Log) -> int:
    """Bring `state` and `log` to the last whole checkpoint, if there is one; returns its finished steps. The first of
    the processes that train together reads it, for all."""
    checkpoint = run.load_checkpoint() if fabric.is_global_zero else None
    if fabric.is_global_zero:
        run.forget_after(checkpoint.step if checkpoint else 0)
    if fabric.world_size > 1:
        checkpoint = _sent(fabric, checkpoint)
    if checkpoint is None:
        return 0
    state.restore(checkpoint)
    log.restore(checkpoint.notes)
    return checkpoint.step


def _sent(fabric: Fabric, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The first process's, to all: one tensor after another, by way of the device."""
    about: Any = None
    if checkpoint is not None:
        kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in checkpoint.tensors.items()}
        about = checkpoint.step, checkpoint.notes, kinds
    about = fabric.broadcast(about)
    if about is None:
        return None
    step, notes, kinds = about
    tensors = {}
    for name, (shape, dtype) in kinds.items():
        tensor = torch.empty(shape, dtype=dtype) if checkpoint is None else checkpoint.tensors[name]
        there = tensor.to(fabric.device)
        dist.broadcast(there, 0)
        tensors[name] = there.cpu()
    return Checkpoint(step, tensors, notes)
