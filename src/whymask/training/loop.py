"""The one training loop, which every stage uses.

It keeps no state but the weights, the optimiser's moments and the number of finished steps: every random draw
belongs to its step, so a run that was killed and resumed ends with the same bits as one that was not.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from whymask.data.batches import Batch, Batches
from whymask.disk import write_json
from whymask.energy import Meter
from whymask.errors import WhymaskError
from whymask.fabric import Fabric
from whymask.progress import Steps
from whymask.randomness import derive
from whymask.runs import RunFolder
from whymask.training.compiling import Compiled, Compiling, compiled, planned
from whymask.training.device import products_for, scaler_of
from whymask.training.log import Given, Log
from whymask.training.memory import told
from whymask.training.optimisation import TrainingConfig, ema_at, make_optimiser, rate_at
from whymask.training.sharding import beside_shards, gather_into, is_sharded, whole
from whymask.training.state import State, resume
from whymask.training.stopping import Asked, Meeting, Stop, stop_signal
from whymask.training.stopping import Interrupted as Interrupted

LossOf = Callable[[nn.Module, Batch, int], Mapping[str, Tensor]]
"""(model, batch, step) -> {"loss": scalar, and further scalars to log}."""

Watch = Callable[[Mapping[str, float], Mapping[str, float]], str | None]
"""(first line of metrics, this line) -> what is wrong, if anything; said once."""

Validate = Callable[[int], Mapping[str, float] | None]
"""Metrics of the model as it is now, after so many steps, on images that it does not learn from; None where it is left
out this time. It changes nothing but the model's mode."""

Keep = Callable[[Mapping[str, Tensor]], None]
"""Keeps the model's state that would be left if training ended now, the moving average where there is one. It changes
nothing."""

SECONDS_BETWEEN_CHECKPOINTS = 60.0
VALIDATIONS = 10
"""Of a run, in equal distances, the last after the last step."""


@dataclass(frozen=True)
class Training:
    """What is to be learnt: a model, its loss, its batches, and for how many steps; how often it is validated, by
    default `validations` times, the last after the last step; and after how many steps, from 0 on, it is kept."""

    model: nn.Module
    loss_of: LossOf
    batches: Batches
    steps: int
    watch: Watch | None = None
    validate: Validate | None = None
    validations: int = VALIDATIONS
    validate_every: int | None = None
    keep_after: Mapping[int, Keep] = field(default_factory=dict)

    def keep(self, done: int, state: State) -> None:
        if done in self.keep_after:
            self.keep_after[done](state.result())

    def validates_after(self, done: int) -> bool:
        if self.validate is None:
            return False
        if self.validate_every is not None:
            return done % self.validate_every == 0 or done == self.steps
        return done * self.validations // self.steps > (done - 1) * self.validations // self.steps

    def operations_per_image(self) -> float:
        """Multiplications and additions of one image's forward and backward pass in matrix products, convolutions and
        attention, as PyTorch counts them for the shapes that really run. One step is run on a copy of the model. What
        detectors do besides (regions pooled, boxes found twice left out) is not counted."""
        model: Any = copy.deepcopy(self.model).train()
        model.encoder.use_recomputing(False)  # what is computed twice counts once
        with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
            torch.manual_seed(0)  # of what is drawn there may be more or less
            self.loss_of(model, self.batches(0), 0)["loss"].backward()
        return counter.get_total_flops() / self.batches.share

    def operations(self) -> float:
        """Those of all steps, over all processes."""
        return self.operations_per_image() * self.steps * self.batches.batch_size


def fit(
    fabric: Fabric,
    training: Training,
    config: TrainingConfig,
    *,
    seed: int,
    run: RunFolder,
    label: str,
    compiling: Compiling = "auto",
) -> dict[str, Any]:
    """Train `training.model` in place, continuing from the run's last whole checkpoint.

    Returns {"loss", "steps", "images_seen", "seconds", "data_wait"}, "joules" where one process computed, on a GPU that
    tells what it took, and "compiled", whether and why, where that was to be decided.
    Raises Interrupted on SIGINT or SIGTERM, in all processes where one of them is sent it, after saving a checkpoint,
    and WhymaskError on a non-finite loss or gradient: the last good checkpoint stays, and nonfinite.json names the
    images and the seed of the step.
    """
    sharded = is_sharded(fabric)
    model: Any = copy.deepcopy(training.model.cpu()) if sharded else training.model
    batches, steps = training.batches, training.steps
    wrapped = fabric.setup_module(model)
    optimiser = make_optimiser(model, config)
    wrapped_optimiser: Any = fabric.setup_optimizers(optimiser)
    average = {} if config.ema is None else {k: v.clone() for k, v in model.state_dict().items()}
    scaler = scaler_of(fabric)
    state = State(model, optimiser, average, scaler)
    log = Log(run if fabric.is_global_zero else None, steps, batches)
    meeting = Meeting(fabric)
    clock = log.clock
    withholds = fabric.device.type in ("cpu", "cuda")  # whose fused AdamW leaves out a step without asking the device
    first = resume(fabric, run, state, log)
    training.keep(first, state)
    model.train()
    meter = Meter(fabric.device if fabric.world_size == 1 else torch.device("cpu"))
    last_saved = time.monotonic()
    with (
        Steps(label, steps, quiet=not fabric.is_global_zero) as bar,
        stop_signal() as stop,
        batches.ahead(range(first, steps)),
        told(fabric, training, run),
        products_for(fabric),
        compiled(model, planned(compiling, fabric.device.type, training)) as forward,
    ):
        for step in range(first, steps):
            began = time.perf_counter()
            rate = rate_at(step, steps, config)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            values, waited = forward.step(partial(_gradients, fabric, wrapped, training, step, seed, forward))
            if scaler is not None:
                scaler.unscale_(optimiser)
            norm = whole(clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], config.clip))
            done = step + 1
            values = meeting.means(values, partial(_asked, stop, log, done, last_saved, config))
            log.keep(Given(step, rate, batches.rows_of(step), values, norm, scaler is not None))
            if scaler is None and withholds:
                optimiser.found_inf = (~(values["loss"].isfinite() & norm.isfinite())).float()  # type: ignore[attr-defined]
            elif scaler is None:
                _read(log, run, seed, is_timed=True)
            with beside_shards(fabric):
                wrapped_optimiser.step()  # a scaler leaves out such a step by itself
            wrapped_optimiser.zero_grad()
            if hasattr(model, "after_step"):
                model.after_step(step, steps)
            state.update_average(ema_at(step, config))

            clock.seconds += time.perf_counter() - began
            clock.waiting += waited
            clock.images += batches.batch_size
            agreed = meeting.agreed(is_last=done == steps)
            validates = training.validates_after(done)
            saves = agreed.stop or agreed.save or done == steps or _is_numbered(done, config)
            if validates or saves or agreed.read or log.is_full(done):
                _read(log, run, seed)
                if training.watch is not None and log.means:
                    log.warn(training.watch(log.first, log.means))
            bar.update(done, _note(log))
            training.keep(done, state)
            if sharded and validates:
                gather_into(training.model, model, fabric.device)
            if fabric.is_global_zero and training.validate is not None and validates:
                with forward.aside():
                    log.validated(done, training.validate(done))
                model.train()
            if saves:
                clock.took(meter.since())
            if saves and (fabric.is_global_zero or sharded):
                checkpoint = state.checkpoint(done, log)
                if fabric.is_global_zero:
                    run.save_checkpoint(checkpoint)
                last_saved = time.monotonic()
            if agreed.stop:
                fabric.barrier()  # a process that ends ends the others, who may be writing
                raise Interrupted(f"stopped after step {done} of {steps}; the same command continues {run.path}")
    state.use_average()
    if sharded:
        gather_into(training.model, model, fabric.device)
    return {
        **({"compiled": forward.plan.text} if forward.plan.text else {}),
        "loss": log.last_loss,
        "steps": steps,
        "images_seen": clock.images,
        "seconds": clock.seconds,
        **({} if clock.joules is None else {"joules": clock.joules}),
        "data_wait": clock.data_wait,
        "warning": training.watch(log.first, log.means) if training.watch is not None else None,
    }


def _gradients(
    fabric: Fabric, wrapped: Any, training: Training, step: int, seed: int, forward: Compiled
) -> tuple[dict[str, Tensor], float]:
    """Those of a step's batch, part by part; the means of what the parts gave, and the seconds waited for data."""
    torch.manual_seed(derive(seed, "step", step))
    parts, waited = training.batches.parts, 0.0
    given: list[Mapping[str, Tensor]] = []
    for part in range(parts):
        began = time.perf_counter()
        batch = training.batches(step * parts + part)
        waited += time.perf_counter() - began
        with fabric.no_backward_sync(wrapped, enabled=part < parts - 1):
            losses = training.loss_of(wrapped, batch, step)
            fabric.backward(losses["loss"] if parts == 1 else losses["loss"] / parts)
        given.append(forward.kept(losses))
    if parts == 1:
        return dict(given[0]), waited
    return {name: torch.stack([values[name] for values in given]).mean() for name in given[0]}, waited


def _asked(stop: Stop, log: Log, done: int, last_saved: float, config: TrainingConfig) -> Asked:
    """What this process asks for after `done` steps, of what is not decided by their number."""
    is_old = config.checkpoint_every is None and time.monotonic() - last_saved > SECONDS_BETWEEN_CHECKPOINTS
    return Asked(stop.requested, is_old, log.is_due())


def _is_numbered(done: int, config: TrainingConfig) -> bool:
    return config.checkpoint_every is not None and done % config.checkpoint_every == 0


def _note(log: Log) -> str:
    clock = log.clock
    told = "" if log.latest is None else f"loss {log.latest:.4f}, "
    return f"{told}{clock.rate:.0f} images/s, data wait {clock.data_wait:.1%}"


def _read(log: Log, run: RunFolder, seed: int, *, is_timed: bool = False) -> None:
    """Raises WhymaskError where one of the steps that were not read yet was not finite."""
    bad = log.read(is_timed)
    if bad is None:
        return
    where, loss = run.path / "nonfinite.json", str(log.latest)
    if log.run is not None:
        write_json(where, {"step": bad.step, "seed": seed, "loss": loss, "rows": bad.rows.tolist()})
    raise WhymaskError(
        f"the loss or its gradient was not finite at step {bad.step} (loss {loss}). The last good checkpoint is kept "
        f"in {run.path}, and {where.name} lists the batch's images. Lower the learning rate, or look at these images."
    )
