"""Classification: an encoder, pretrained or not, and a linear head, trained together on labelled images."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from whymask.data.batches import Batch, in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder, EncoderConfig, load_encoder, load_strictly, read_tensors, save_encoder
from whymask.encoders.branches import branches_of, drop_branches
from whymask.errors import WhymaskError
from whymask.randomness import seeded
from whymask.runs import read_json, write_arrays, write_bytes, write_json
from whymask.stages.augment import augment_of
from whymask.stages.context import Context
from whymask.stages.metrics import metrics
from whymask.stages.recipes import FinetuneTrainingConfig
from whymask.stages.record import RunRecord
from whymask.stages.settings import AugmentName
from whymask.training.device import batches_on
from whymask.training.loop import LossOf, Training, fit

EVALUATION_BATCH = 256
HEAD = "head.safetensors"


class Classifier(nn.Module):
    """Linear head on the pooled features of an encoder: images (B, C, h, w) -> logits (B, k).

    With `frozen`, the encoder stays as it is, in eval mode, and the head reads its features through a batch norm
    without parameters: the linear probe of MAE (arXiv 2111.06377, A.1).
    """

    def __init__(self, encoder: Encoder, classes: int, seed: int = 0, frozen: bool = False):
        super().__init__()
        self.encoder = encoder
        self.frozen = frozen
        with seeded(seed, "head"):
            self.head = nn.Linear(encoder.dim, classes)
        nn.init.zeros_(self.head.bias)
        self.norm = nn.BatchNorm1d(encoder.dim, affine=False, eps=1e-6) if frozen else nn.Identity()
        if frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.encoder.pool(self.encoder(images))))


@dataclass(frozen=True, kw_only=True)
class ClassifierJob:
    """One classifier that is to be trained, and tested once.

    Attributes:
        arm, budget, origin, method, method_settings, partial, about: as in `RunRecord`.
        seed: of the head's first weights, the order, and all augmentation.
        rows, test: rows of the images that it learns from, and is tested on.
        config: of the encoder; `build` makes it with its first weights, once the run is known not to be finished.
        further_operations: counts by how many the schedule is lengthened, where it is.
        change: of the loss, such as hiding parts of the images.
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

    def record(self, data: str) -> RunRecord:
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
            training=asdict(self.training),
            about=self.about,
        )


def train_classifier(
    context: Context, job: ClassifierJob, folder: Path, label: str, *, alone: bool = False
) -> dict[str, Any]:
    """Train, test once after the last step, and leave the classifier and result.json in `folder`.

    A finished run is kept as it is; `alone` as in `Context.open`.

    Returns {"stage", "seed", "metrics": {...}, "operations", "images_seen", "seconds", ...}; also written are
    encoder/, head.safetensors and predictions.npz (log_probabilities float32 (n, k), labels, rows). Raises WhymaskError
    where `folder` holds another run, or the job does not fit the images, the encoder or their number.
    """
    run = context.open(folder, job.record(context.fingerprint), alone=alone)
    if run.result is not None:
        return run.result
    fabric, prepared = context.fabric, context.prepared
    training = classifier_training(context, job)
    per_image = training.operations_per_image()
    fitted = fit(fabric, training, job.training, seed=job.seed, run=run, label=label)
    model: Any = training.model
    log_probabilities = predict(model, prepared, job.test)
    labels, tags = prepared.images.labels[job.test], prepared.images.tags
    result = {
        "stage": "classify",
        "seed": job.seed,
        "metrics": metrics(log_probabilities, labels, None if tags is None else tags[job.test]),
        "labelled_images": len(job.rows),
        "training": {key: value for key, value in asdict(job.training).items() if value is not None},
        "operations": per_image * fitted["images_seen"],
        "operations_per_image": per_image,
        **fitted,
    }
    if fabric.is_global_zero:
        save_classifier(model, prepared, run.path)
        predictions = {"log_probabilities": log_probabilities, "labels": labels, "rows": job.test}
        write_arrays(run.path / "predictions.npz", predictions)
        run.finish(result)
        run.drop_checkpoints()
    fabric.barrier()
    return result


def classifier_training(context: Context, job: ClassifierJob) -> Training:
    """The job's classifier with its first weights, its loss and its batches."""
    config, prepared = job.training, context.prepared
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
    )
    if config.train == "head" and batches.share == 1:
        raise WhymaskError(
            "train head with one image a step: a batch norm needs at least 2; give more labels or a larger batch_size"
        )
    classes = len(prepared.classes)
    model = Classifier(encoder, classes, job.seed, frozen=config.train == "head").to(context.fabric.device)
    loss = job.change(loss_of(config, classes))
    training = Training(model, loss, batches, config.epochs * batches.steps_per_epoch)
    if job.further_operations is None:
        return training
    further = round(job.further_operations() / training.operations_per_image() / batches.batch_size)
    return replace(training, steps=training.steps + further)


def loss_of(training: FinetuneTrainingConfig, classes: int) -> LossOf:
    """Cross-entropy with smoothed labels, each batch mixed by mixup or cutmix."""
    mixes: list[nn.Module] = []
    if training.mixup:
        mixes.append(v2.MixUp(alpha=training.mixup, num_classes=classes))
    if training.cutmix:
        mixes.append(v2.CutMix(alpha=training.cutmix, num_classes=classes))

    def cross_entropy(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        images, labels = batch.images, batch.labels
        if mixes:
            images, labels = mixes[int(torch.randint(len(mixes), ()))](images, labels)
        return {"loss": F.cross_entropy(model(images), labels, label_smoothing=training.label_smoothing)}

    return cross_entropy


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
def predict(model: Classifier, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Natural log probabilities float32 (n, k) of `rows`, without augmentation."""
    model.eval()
    device = model.head.weight.device
    batches = in_order(prepared.images, rows, EVALUATION_BATCH, device)
    parts = [model(batch.images).float().log_softmax(dim=1).cpu() for batch in batches]
    return torch.cat(parts).numpy()


def save_classifier(model: Classifier, prepared: Prepared, folder: Path) -> None:
    """encoder/, and beside it the head's weights and the names of its classes.

    What a frozen encoder's batch norm does to features is written into the head's weights: it is linear too.
    """
    save_encoder(model.encoder, prepared.images.preprocessing, folder / "encoder")
    weight, bias = model.head.weight.detach().cpu(), model.head.bias.detach().cpu()
    if isinstance(model.norm, nn.BatchNorm1d):
        assert model.norm.running_mean is not None and model.norm.running_var is not None
        weight = weight / (model.norm.running_var.cpu() + model.norm.eps).sqrt()
        bias = bias - weight @ model.norm.running_mean.cpu()
    write_bytes(folder / HEAD, tensors_to_bytes({"weight": weight.contiguous(), "bias": bias}))
    write_json(folder / "head.json", {"classes": list(prepared.classes)})


def load_classifier(folder: Path) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier that `train_classifier` left in `folder`, in eval mode, and its class names.

    Raises WhymaskError when there is none.
    """
    if not (folder / "head.json").exists():
        raise WhymaskError(f"{folder} holds no classifier (no head.json). Give a finished fine-tuning run or a study.")
    classes = tuple(read_json(folder / "head.json")["classes"])
    model = Classifier(load_encoder(folder), len(classes))
    load_strictly(model.head, read_tensors(folder / HEAD), folder / HEAD)
    return model.eval(), classes
