"""The one training loop, which every stage uses.

It keeps no state but the weights, the optimiser's moments and the number of finished steps: every random draw
belongs to its step, so a run that was killed and resumed ends with the same bits as one that was not.
"""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from whymask.data.batches import Batch, Batches
from whymask.disk import write_json
from whymask.errors import WhymaskError
from whymask.progress import Steps, say
from whymask.randomness import derive
from whymask.runs import Checkpoint, RunFolder
from whymask.training.optimisation import TrainingConfig, ema_at, make_optimiser, rate_at

LossOf = Callable[[nn.Module, Batch, int], Mapping[str, Tensor]]
"""(model, batch, step) -> {"loss": scalar, and further scalars to log}."""

Watch = Callable[[Mapping[str, float], Mapping[str, float]], str | None]
"""(first line of metrics, this line) -> what is wrong, if anything; said once."""

Validate = Callable[[], Mapping[str, float]]
"""Metrics of the model as it is now, on images that it does not learn from. It changes nothing but the model's mode."""

SECONDS_BETWEEN_CHECKPOINTS = 60.0
LINES_PER_RUN = 200
VALIDATIONS = 10
"""Of a run, in equal distances, the last after the last step."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a polite kill: the run has saved a checkpoint and can be continued."""


@dataclass(frozen=True)
class Training:
    """What is to be learnt: a model, its loss, its batches, and for how many steps."""

    model: nn.Module
    loss_of: LossOf
    batches: Batches
    steps: int
    watch: Watch | None = None
    validate: Validate | None = None

    def operations_per_image(self) -> float:
        """Multiplications and additions of one image's forward and backward pass in matrix products, convolutions and
        attention, as PyTorch counts them for the shapes that really run. One step is run on a copy of the model."""
        with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
            self.loss_of(copy.deepcopy(self.model).train(), self.batches(0), 0)["loss"].backward()
        return counter.get_total_flops() / self.batches.share

    def operations(self) -> float:
        """Those of all steps, over all processes."""
        return self.operations_per_image() * self.steps * self.batches.batch_size


@dataclass
class Clock:
    """Time spent and images seen, over all sessions of a run."""

    seconds: float = 0.0
    waiting: float = 0.0
    images: int = 0

    @property
    def data_wait(self) -> float:
        """Share of the time that the loop waited for data."""
        return self.waiting / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds if self.seconds else 0.0


def fit(
    fabric: Fabric,
    training: Training,
    config: TrainingConfig,
    *,
    seed: int,
    run: RunFolder,
    label: str,
) -> dict[str, Any]:
    """Train `training.model` in place, continuing from the run's last whole checkpoint.

    Returns {"loss", "steps", "images_seen", "seconds", "data_wait"}.
    Raises Interrupted on SIGINT or SIGTERM, in all processes where one of them is sent it, after saving a checkpoint,
    and WhymaskError on a non-finite loss or gradient: the last good checkpoint stays, and nonfinite.json names the
    images and the seed of the step.
    """
    model: Any = training.model
    batches, steps = training.batches, training.steps
    optimiser = make_optimiser(model, config)
    wrapped, wrapped_optimiser = fabric.setup(model, optimiser)
    average = {} if config.ema is None else {k: v.clone() for k, v in model.state_dict().items()}
    state = State(model, optimiser, average)
    log = Log(run if fabric.is_global_zero else None, steps, batches)
    clock = log.clock
    first = _resume(run, state, log)
    model.train()
    last_saved = time.monotonic()
    with (
        Steps(label, steps, quiet=not fabric.is_global_zero) as bar,
        _stop_signal() as stop,
        batches.ahead(range(first, steps)),
    ):
        for step in range(first, steps):
            began = time.perf_counter()
            batch = batches(step)
            waited = time.perf_counter() - began

            rate = rate_at(step, steps, config)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            torch.manual_seed(derive(seed, "step", step))
            losses = training.loss_of(wrapped, batch, step)
            fabric.backward(losses["loss"])
            norm: Any = fabric.clip_gradients(
                wrapped, wrapped_optimiser, max_norm=config.clip, error_if_nonfinite=False
            )
            mean_loss: Any = fabric.all_reduce(losses["loss"].detach())
            loss = float(mean_loss)
            if not (math.isfinite(loss) and math.isfinite(float(norm))):
                _stop_nonfinite(run, batch, step, seed, loss)
            wrapped_optimiser.step()
            wrapped_optimiser.zero_grad()
            if hasattr(model, "after_step"):
                model.after_step(step, steps)
            state.update_average(ema_at(step, config))

            clock.seconds += time.perf_counter() - began
            clock.waiting += waited
            clock.images += batches.batch_size
            if log.add(step, {**losses, "loss": mean_loss}, rate) and training.watch is not None:
                log.warn(training.watch(log.first, log.means))
            bar.update(step + 1, f"loss {loss:.4f}, {clock.rate:.0f} images/s, data wait {clock.data_wait:.1%}")

            done = step + 1
            if fabric.is_global_zero and training.validate is not None and _validates_after(done, steps):
                log.validated(done, training.validate())
                model.train()
            stops = _stops(fabric, stop)
            if fabric.is_global_zero and (stops or done == steps or _is_due(done, last_saved, config)):
                run.save_checkpoint(state.checkpoint(done, log))
                last_saved = time.monotonic()
            if stops:
                fabric.barrier()  # a process that ends ends the others, who may be writing
                raise Interrupted(f"stopped after step {done} of {steps}; the same command continues {run.path}")
    state.use_average()
    return {
        "loss": log.last_loss,
        "steps": steps,
        "images_seen": clock.images,
        "seconds": clock.seconds,
        "data_wait": clock.data_wait,
        "warning": training.watch(log.first, log.means) if training.watch is not None else None,
    }


def _validates_after(done: int, steps: int) -> bool:
    return done * VALIDATIONS // steps > (done - 1) * VALIDATIONS // steps


def _is_due(done: int, last_saved: float, config: TrainingConfig) -> bool:
    if config.checkpoint_every is not None:
        return done % config.checkpoint_every == 0
    return time.monotonic() - last_saved > SECONDS_BETWEEN_CHECKPOINTS


def _stop_nonfinite(run: RunFolder, batch: Batch, step: int, seed: int, loss: float) -> None:
    where = run.path / "nonfinite.json"
    write_json(where, {"step": step, "seed": seed, "loss": str(loss), "rows": batch.rows.tolist()})
    raise WhymaskError(
        f"the loss or its gradient was not finite at step {step} (loss {loss}). The last good checkpoint is kept in "
        f"{run.path}, and {where.name} lists the batch's images. Lower the learning rate, or look at these images."
    )


# what a checkpoint holds -----------------------------------------------------------------------------------


class State:
    """All that training changes: weights and buffers, the optimiser's moments, and the moving average."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]):
        self.model, self.optimiser, self.average = model, optimiser, average
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}

    def checkpoint(self, step: int, log: "Log") -> Checkpoint:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for parameter, moments in self.optimiser.state.items():
            tensors |= {f"optimiser.{key}.{self._names[parameter]}": moments[key] for key in moments}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return Checkpoint(step, tensors, {"clock": vars(log.clock), "log": log.unwritten()})

    def restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(_under("model.", checkpoint.tensors))
        for name, tensor in _under("average.", checkpoint.tensors).items():
            self.average[name].copy_(tensor)
        for parameter, name in self._names.items():
            keys = {key: f"optimiser.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
            if keys["step"] in checkpoint.tensors:
                moments = {key: checkpoint.tensors[stored].to(parameter.device) for key, stored in keys.items()}
                self.optimiser.state[parameter] = moments

    @torch.no_grad()
    def update_average(self, decay: float | None) -> None:
        if decay is None:
            return
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def use_average(self) -> None:
        if self.average:
            self.model.load_state_dict(self.average)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _resume(run: RunFolder, state: State, log: "Log") -> int:
    """Bring `state` and `log` to the last whole checkpoint, if there is one; returns its finished steps."""
    checkpoint = run.load_checkpoint()
    run.forget_after(checkpoint.step if checkpoint else 0)
    if checkpoint is None:
        return 0
    state.restore(checkpoint)
    log.restore(checkpoint.notes)
    return checkpoint.step


# what is logged --------------------------------------------------------------------------------------------


class Log:
    """Writes about LINES_PER_RUN lines of means to metrics.jsonl."""

    def __init__(self, run: RunFolder | None, steps: int, batches: Batches):
        self.run, self.steps, self.clock = run, steps, Clock()
        self.every = max(1, steps // LINES_PER_RUN)
        self.steps_per_epoch = batches.steps_per_epoch
        self.sums: dict[str, float] = {}
        self.count = 0
        self.last_loss: float | None = None
        self.first: dict[str, float] = {}
        self.means: dict[str, float] = {}
        self.warning: str | None = None

    def unwritten(self) -> dict[str, Any]:
        """What a resumed run needs to write the same lines: the sums of a line that is not full yet."""
        return {
            "sums": self.sums,
            "count": self.count,
            "last_loss": self.last_loss,
            "first": self.first,
            "means": self.means,
            "warning": self.warning,
        }

    def restore(self, notes: Mapping[str, Any]) -> None:
        vars(self.clock).update(notes["clock"])
        vars(self).update(notes.get("log", {}))  # absent from checkpoints of older versions

    def add(self, step: int, values: Mapping[str, Tensor], rate: float) -> bool:
        """Count in the values of a step; whether that made a line, whose means are then in `means`."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.count += 1
        done = step + 1
        if done % self.every and done != self.steps:
            return False
        self.means = {name: total / self.count for name, total in self.sums.items()}
        self.first = self.first or self.means
        self.last_loss = self.means["loss"]
        self.sums, self.count = {}, 0
        if self.run is not None:
            self.run.log(
                {"step": done, "epoch": round(done / self.steps_per_epoch, 4)}
                | self.means
                | {"lr": rate, "images_per_second": self.clock.rate, "data_wait": self.clock.data_wait}
            )
        return True

    def validated(self, done: int, metrics: Mapping[str, float]) -> None:
        """Write what a validation after `done` steps said, on a line of its own."""
        if self.run is not None:
            epoch = round(done / self.steps_per_epoch, 4)
            self.run.log({"step": done, "epoch": epoch, "validation": dict(metrics)})

    def warn(self, warning: str | None) -> None:
        """Say what is wrong, the first time that something is."""
        if warning and self.warning is None:
            self.warning = warning
            if self.run is not None:
                say(f"warning: {warning}")


# Ctrl-C ----------------------------------------------------------------------------------------------------


@dataclass
class Stop:
    requested: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def _stops(fabric: Fabric, stop: Stop) -> bool:
    """Whether any of the processes that train together was asked to stop: all do so after the same step."""
    if fabric.world_size == 1:
        return stop.requested
    asked: Any = fabric.all_reduce(torch.tensor(float(stop.requested), device=fabric.device), reduce_op="sum")
    return float(asked) > 0


@contextmanager
def _stop_signal() -> Iterator[Stop]:
    """Within, SIGINT and SIGTERM ask for a stop after the current step; a second one stops at once."""
    stop = Stop()
    try:
        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
