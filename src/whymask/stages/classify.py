"""Classification: an encoder, pretrained or not, and a linear head, trained together on labelled images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from whymask.data.batches import Augment, Batch, in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder, load_encoder, load_strictly, read_tensors, save_encoder
from whymask.errors import WhymaskError
from whymask.randomness import seeded
from whymask.runs import RunFolder, read_json, write_arrays, write_bytes, write_json
from whymask.stages.metrics import metrics
from whymask.training.device import batches_on
from whymask.training.loop import Task, fit
from whymask.training.optimisation import Optimisation

EVALUATION_BATCH = 256
HEAD = "head.safetensors"


@dataclass(frozen=True)
class Finetuning(Optimisation):
    """How a classifier is trained: the same for a pretrained encoder and for one from scratch, but for what an arm
    of a study sets (learning rate, layer decay)."""

    epochs: int | None = None
    """Passes over the labelled images; default: 20,000 image passes, but at least 8 and at most 40 epochs."""
    batch_size: int = 32
    """Images a step."""

    def epochs_for(self, images: int) -> int:
        return self.epochs or int(np.clip(round(20_000 / images), 8, 40))


class Classifier(nn.Module):
    """Linear head on the pooled features of an encoder: images (B, C, h, w) -> logits (B, k)."""

    def __init__(self, encoder: Encoder, classes: int, seed: int = 0):
        super().__init__()
        self.encoder = encoder
        with seeded(seed, "head"):
            self.head = nn.Linear(encoder.dim, classes)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder.pool(self.encoder(images)))


def classification_task(
    fabric: Fabric,
    prepared: Prepared,
    rows: np.ndarray,
    encoder: Encoder,
    training: Finetuning,
    augment: Augment | None,
    seed: int,
    extra_operations: float = 0.0,
) -> Task:
    """A classifier over labelled `rows`. `extra_operations` lengthens the schedule until it costs that much more."""
    batches = batches_on(fabric, prepared.images, rows, training.batch_size, augment, seed)
    model = Classifier(encoder, len(prepared.classes), seed).to(fabric.device)
    task = Task(model, cross_entropy, batches, training.epochs_for(len(rows)) * batches.steps_per_epoch)
    if extra_operations == 0:
        return task
    return replace(task, steps=task.steps + round(extra_operations / task.operations_per_image() / batches.batch_size))


def train_classifier(
    fabric: Fabric,
    prepared: Prepared,
    task: Task,
    test: np.ndarray,
    training: Finetuning,
    *,
    seed: int,
    run: RunFolder,
    label: str,
) -> dict[str, Any]:
    """Train, test once on `test` after the last step, and leave the classifier and result.json in `run`.

    Returns {"stage", "seed", "metrics": {...}, "operations", "images_seen", "seconds", ...}; also written are
    encoder/, head.safetensors and predictions.npz (log_probabilities float32 (n, k), labels, rows).
    """
    model = task.model
    assert isinstance(model, Classifier)
    per_image = task.operations_per_image()
    fitted = fit(fabric, task, training, seed=seed, run=run, label=label)
    log_probabilities = predict(model, prepared, test)
    labels, tags = prepared.images.labels[test], prepared.images.tags
    result = {
        "stage": "classify",
        "seed": seed,
        "metrics": metrics(log_probabilities, labels, None if tags is None else tags[test]),
        "labelled_images": len(task.batches.rows),
        "operations": per_image * fitted["images_seen"],
        "operations_per_image": per_image,
        **fitted,
    }
    if fabric.is_global_zero:
        save_classifier(model, prepared, run.path)
        predictions = {"log_probabilities": log_probabilities, "labels": labels, "rows": test}
        write_arrays(run.path / "predictions.npz", predictions)
        run.finish(result)
        run.drop_checkpoints()
    fabric.barrier()
    return result


def cross_entropy(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
    return {"loss": F.cross_entropy(model(batch.images), batch.labels)}


@torch.inference_mode()
def predict(model: Classifier, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Natural log probabilities float32 (n, k) of `rows`, without augmentation."""
    model.eval()
    device = model.head.weight.device
    batches = in_order(prepared.images, rows, EVALUATION_BATCH, device)
    parts = [model(batch.images).float().log_softmax(dim=1).cpu() for batch in batches]
    return torch.cat(parts).numpy()


def save_classifier(model: Classifier, prepared: Prepared, folder: Path) -> None:
    """encoder/, and beside it the head's weights and the names of its classes."""
    save_encoder(model.encoder, prepared.images.preprocessing, folder / "encoder")
    write_bytes(folder / HEAD, tensors_to_bytes({k: v.cpu() for k, v in model.head.state_dict().items()}))
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
