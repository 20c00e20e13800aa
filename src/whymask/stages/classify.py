"""An encoder, pretrained or not, and a linear head, trained together on labelled images, of whatever task."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from whymask.data.batches import Batch, in_order
from whymask.data.prepare import Prepared
from whymask.disk import write_arrays
from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.branches import branches_of, drop_branches
from whymask.errors import WhymaskError
from whymask.functions import is_named, sources
from whymask.later import recorded
from whymask.ranks import last_before, world
from whymask.runs import RunFolder
from whymask.stages.augment import augment_of
from whymask.stages.context import Context
from whymask.stages.detect import (
    Detector,
    loss_of_objects,
)
from whymask.stages.network import Network, network_for, save_network
from whymask.stages.recipes import FinetuneTrainingConfig
from whymask.stages.record import RunRecord
from whymask.stages.settings import AugmentName
from whymask.tasks import Objective, Task
from whymask.tasks.balance import balanced_order
from whymask.training.device import batches_on, placed
from whymask.training.loop import VALIDATIONS, LossOf, Training, fit
from whymask.training.memory import told
from whymask.training.sharding import check_shardable

EVALUATION_BATCH = 256
DETECTION_BATCH = 32
"""Images that are tested together; those in which objects are to be found are large."""
DENSE_OUTPUTS = 2**24
"""Logits of pixels that are computed at a time."""
VALIDATION_SHARE = 0.05
"""Of a training's operations: validations cost at most so much."""
FEWEST_VALIDATED = 30
"""Images; with fewer there is no validation."""


@dataclass(frozen=True, kw_only=True)
class ClassifierJob:
    """One network that is to be trained on labels, and tested once.

    Attributes:
        arm, budget, origin, method, method_settings, partial, about: as in `RunRecord`.
        seed: of the head's first weights, the order, and all augmentation.
        rows, test: rows of the images that it learns from, and is tested on.
        config: of the encoder; `build` makes it with its first weights, once the run is known not to be finished.
        further_operations: counts by how many the schedule is lengthened, where it is.
        change: of the loss, such as hiding parts of the images.
        beside: what else is asked of the trained encoder, for result.json.
        kept: shares of the steps after which the network is kept too, in folders `kept_in` the run's. One process's.
    """

    arm: str
    seed: int
    budget: str
    rows: np.ndarray
    test: np.ndarray
    config: EncoderConfig
    build: Callable[[], Encoder]
    training: FinetuneTrainingConfig
    augment: AugmentName
    origin: str | None = None
    partial: bool = False
    method: str | None = None
    method_settings: dict[str, Any] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    further_operations: Callable[[], float] | None = None
    change: Callable[[LossOf], LossOf] = lambda loss_of: loss_of
    beside: Callable[[Encoder], dict[str, Any]] | None = None
    kept: tuple[float, ...] = ()

    def record(self, data: str) -> RunRecord:
        kept = {"kept": list(self.kept)} if self.kept else {}
        return RunRecord(
            stage="finetune",
            arm=self.arm,
            seed=self.seed,
            data=data,
            budget=self.budget,
            encoder=asdict(self.config.asked()),
            augment=self.augment,
            origin=self.origin,
            partial=self.partial,
            method=self.method,
            method_settings=self.method_settings,
            training=recorded(self.training),
            about=self.about | kept | sources(self.config.name, self.augment),
        )


def train_classifier(
    context: Context, job: ClassifierJob, folder: Path, label: str, *, alone: bool = False, wait: bool = False
) -> dict[str, Any]:
    """Train, test once after the last step, and leave the network and result.json in `folder`.

    A finished run is kept as it is; `alone` and `wait` as in `Context.open`.

    Returns {"stage", "seed", "metrics": {...}, "operations", "images_seen", "seconds", ...}; also written are
    encoder/, the head (see `save_classifier`) and predictions.npz (the task's predictions float32 (n, k), such as
    log_probabilities, labels, rows, and where images come in groups the number of each one's). Raises WhymaskError
    where `folder` holds another run, or the job does not fit the images, the task, the encoder or their number.
    """
    with context.open(folder, job.record(context.fingerprint), alone=alone, wait=wait) as run:
        return context.by_first(lambda: run.result) or _trained(context, job, run, label)


def _trained(context: Context, job: ClassifierJob, run: RunFolder, label: str) -> dict[str, Any]:
    fabric, prepared, task = context.fabric, context.prepared, context.prepared.task
    objective = objective_of(context, job)
    training = with_validation(classifier_training(context, job), context, job)
    training = with_kept(training, context, job, run.path)
    with told(fabric, training, run):
        per_image = training.operations_per_image()
    fitted = fit(fabric, training, job.training, seed=job.seed, run=run, label=label, compiling=context.compiling)
    model: Any = training.model
    predictions = predict(model, task, objective, prepared, job.test)
    result = {
        "stage": "classify",
        "seed": job.seed,
        "metrics": metrics_of(prepared, predictions, job.test),
        "labelled_images": len(job.rows),
        "training": {key: value for key, value in recorded(job.training).items() if value is not None},
        "operations": per_image * fitted["images_seen"],
        "operations_per_image": per_image,
        **fitted,
        **({} if job.beside is None else job.beside(model.encoder)),
    }
    if fabric.is_global_zero:
        save_network(model, task, objective, context.preprocessing, run.path)
        kept = {task.kept_as: predictions, "labels": prepared.images.labels[job.test], "rows": job.test}
        if prepared.groups is not None:  # by number: what they are called is nobody's business
            kept |= {"groups": np.unique(prepared.groups[job.test], return_inverse=True)[1]}
        write_arrays(run.path / "predictions.npz", kept)
        run.finish(result)
        run.drop_checkpoints()
    fabric.barrier()
    return result


def classifier_training(context: Context, job: ClassifierJob) -> Training:
    """The job's network with its first weights, its loss and its batches."""
    config, prepared = job.training, context.prepared
    if prepared.task.is_dense and is_named(job.augment):
        raise WhymaskError(
            f"--augment {job.augment} changes images, and not the {prepared.task.marks} that say what is where in "
            f"them; for {prepared.task.name} crop-flip, crop or none was expected"
        )
    encoder = job.build()
    set_drop_path(encoder, config.drop_path)
    batches = batches_on(
        context.fabric,
        prepared.images,
        job.rows,
        config.batch_size,
        augment_of(job.augment),
        job.seed,
        config.strong(prepared),
        partial(balanced_order, prepared.images.labels, job.rows, job.seed) if config.sampler == "balanced" else None,
        parts=config.accumulate,
        targets=prepared.task.targets,
    )
    if config.train == "head" and batches.share == 1:
        raise WhymaskError(
            "train head with one image a step: a batch norm needs at least 2; give more labels or a larger batch_size"
        )
    objective = objective_of(context, job)
    model = network_for(config, encoder, objective, prepared.images, job.rows, job.seed)
    check_shardable(context.fabric, model, config.ema)
    model = placed(model, context.fabric.device, config.recompute)
    loss = job.change(loss_of_objects(objective) if isinstance(model, Detector) else loss_of(config, objective))
    training = Training(model, loss, batches, config.epochs * batches.steps_per_epoch)
    if job.further_operations is None:
        return training
    further = round(job.further_operations() / training.operations_per_image() / batches.batch_size)
    return replace(training, steps=training.steps + further)


def with_validation(training: Training, context: Context, job: ClassifierJob) -> Training:
    """The training, which tells on its way how good the network is on some of the test images, spread over all, as
    many as `VALIDATION_SHARE` allows. Nothing is chosen by it: it shows whether training has come to its end."""
    seen = training.steps * training.batches.batch_size
    affordable = int(VALIDATION_SHARE * 3 * seen / VALIDATIONS)  # a forward pass is a third of a training step's
    if min(affordable, len(job.test)) < FEWEST_VALIDATED:
        return training
    places = np.linspace(0, len(job.test) - 1, min(affordable, len(job.test))).round().astype(int)
    rows, prepared, objective = job.test[places], context.prepared, objective_of(context, job)

    def validate(done: int) -> Mapping[str, float]:
        model: Any = training.model
        predictions = predict(model, prepared.task, objective, prepared, rows)
        return metrics_of(prepared, predictions, rows) | {"images": len(rows)}

    return replace(training, validate=validate)


def with_kept(training: Training, context: Context, job: ClassifierJob, folder: Path) -> Training:
    """The training, which leaves in the run's `folder` the networks that it would leave if it ended earlier."""
    if not job.kept:
        return training
    task, objective = context.prepared.task, objective_of(context, job)

    def keep(into: Path, state: Mapping[str, Tensor]) -> None:
        network = copy.deepcopy(training.model)
        network.load_state_dict(state)
        save_network(cast(Network, network), task, objective, context.preprocessing, into)

    steps = training.steps
    places = {step_at(share, steps): kept_in(folder, share, steps) for share in job.kept}
    return replace(training, keep_after={step: partial(keep, into) for step, into in places.items()})


def step_at(share: float, steps: int) -> int:
    """The step after which a share of the steps is done, rounded up."""
    return math.ceil(share * steps)


def kept_in(folder: Path, share: float, steps: int) -> Path:
    """Where in the run's `folder` the network lies that it was after a share of its steps; `load_network` opens it."""
    return folder / "kept" / f"after-{step_at(share, steps)}"


def objective_of(context: Context, job: ClassifierJob) -> Objective:
    """What the head learns, made for the labels that it learns from, where the run computes."""
    prepared = context.prepared
    return prepared.task.objective(prepared.images.labels[job.rows], job.training.loss).to(context.fabric.device)


def loss_of(training: FinetuneTrainingConfig, objective: Objective) -> LossOf:
    """The objective, each batch mixed by mixup or cutmix where they are asked for."""
    mixes: list[nn.Module] = []
    if training.mixup:
        mixes.append(v2.MixUp(alpha=training.mixup, num_classes=objective.width))
    if training.cutmix:
        mixes.append(v2.CutMix(alpha=training.cutmix, num_classes=objective.width))

    def loss(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        images, labels = batch.images, batch.labels
        if mixes:
            images, labels = mixed(mixes[int(torch.randint(len(mixes), ()))], images, labels)
        return {"loss": objective(model(images), labels)}

    return loss


def mixed(mix: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each image mixed with the one before it in the whole batch, of which this process may have a share."""
    if world() == 1:
        return mix(images, labels)
    images, labels = mix(*(torch.cat([last_before(x), x]) for x in (images, labels)))
    return images[1:], labels[1:]


def set_drop_path(encoder: Encoder, rate: float) -> None:
    """Makes the residual branches of a timm network be left out at random in training, from 0 in the first block to
    `rate` in the last. Its state and what it computes in eval mode stay the same.

    Raises WhymaskError where a rate is given and the network has no such blocks.
    """
    if rate == 0:
        return
    if not branches_of(encoder.net):
        raise WhymaskError(f"{encoder.timm_name} has no residual branches that can be dropped; leave drop_path out")
    drop_branches(encoder.net, rate)


@torch.inference_mode()
def predict(model: Network, task: Task, objective: Objective, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """The task's predictions float32 (n, k) of `rows`, without augmentation."""
    model.eval()
    device = next(model.parameters()).device
    pixels = len(task.names) * int(np.prod(prepared.images.preprocessing.size)) if task.is_dense else 1
    most = DETECTION_BATCH if task.targets == "boxes" else EVALUATION_BATCH
    batch = min(most, max(1, DENSE_OUTPUTS // pixels))
    batches = in_order(prepared.images, rows, batch, device, task.targets)
    parts = [task.kept(objective.read(model(each.images).float()), each.labels).cpu() for each in batches]
    return torch.cat(parts).numpy()


def metrics_of(prepared: Prepared, predictions: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """The task's metrics of predictions (n, k) of `rows`."""
    labels, tags = prepared.images.labels[rows], prepared.images.tags
    return prepared.task.metrics(predictions, labels, None if tags is None else tags[rows])
