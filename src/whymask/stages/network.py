"""The network of a task: an encoder and what is put on it, made, kept and opened again."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from whymask.data.preprocessing import Preprocessing
from whymask.data.store import ImageSet
from whymask.disk import read_json, read_tensors, write_tensors
from whymask.encoders import Encoder, load_encoder, load_strictly, save_encoder
from whymask.encoders.masked_norm import BatchNorm1d
from whymask.errors import WhymaskError
from whymask.randomness import seeded
from whymask.stages.detect import Detector, Rules, anchors_for, load_detector, maps_looked_at, save_detector
from whymask.stages.recipes import FinetuneTrainingConfig
from whymask.stages.segment import Segmenter, load_segmenter, save_head
from whymask.tasks import Objective, Task, task_from

HEAD = "head.safetensors"


class Classifier(nn.Module):
    """Linear head on the pooled features of an encoder: images (B, C, h, w) -> outputs (B, k), what a task's objective
    makes of them.

    With `frozen`, the encoder stays as it is, in eval mode, and the head reads its features through a batch norm
    without parameters: the linear probe of MAE (arXiv 2111.06377, A.1).
    """

    def __init__(self, encoder: Encoder, outputs: int, seed: int = 0, frozen: bool = False):
        super().__init__()
        self.encoder = encoder
        self.frozen = frozen
        with seeded(seed, "head"):
            self.head = nn.Linear(encoder.dim, outputs)
        nn.init.zeros_(self.head.bias)
        self.norm = BatchNorm1d(encoder.dim, affine=False, eps=1e-6) if frozen else nn.Identity()
        self.is_one_graph = encoder.kind in ("cnn", "vit")
        self.draws_alike = True
        if frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.encoder.pool(self.encoder(images))))


Network = Classifier | Segmenter | Detector


def network_for(
    config: FinetuneTrainingConfig,
    encoder: Encoder,
    objective: Objective,
    images: ImageSet,
    rows: np.ndarray,
    seed: int,
) -> Network:
    """What the task puts on the encoder, with its first weights; of a detector also what the `rows` of images that it
    learns from say of boxes to look for."""
    frozen = config.train == "head"
    if config.head is None:
        return Classifier(encoder, objective.width, seed, frozen)
    if config.head == "linear" or config.head == "fpn":
        return Segmenter(encoder, objective.width, config.head, seed, frozen)
    anchors = None
    if config.head == "faster-rcnn":
        objects = images.objects_of(rows)
        learnt = objects[(objects[..., 4] >= 0) & (objects[..., 5] == 0)]
        anchors = anchors_for(learnt[:, :4], maps_looked_at(encoder))
    rules = Rules(config.score_threshold, config.nms)
    return Detector(encoder, objective.width, config.head, anchors, rules, seed, frozen)


def save_network(model: Network, task: Task, objective: Objective, prep: Preprocessing, folder: Path) -> None:
    """encoder/, and beside it the head's weights and what they mean: the task with its names.

    What a frozen encoder's batch norm does to features, and the objective to outputs, is written into the head's
    weights: it is linear too.
    """
    save_encoder(model.encoder, prep, folder / "encoder")
    if isinstance(model, Segmenter):
        save_head(model, task, folder / HEAD)
        return
    if isinstance(model, Detector):
        save_detector(model, task, folder / HEAD)
        return
    weight, bias = model.head.weight.detach().cpu(), model.head.bias.detach().cpu()
    if isinstance(model.norm, nn.BatchNorm1d):
        seen = model.norm.state_dict()
        weight = weight / (seen["running_var"].cpu() + model.norm.eps).sqrt()
        bias = bias - weight @ seen["running_mean"].cpu()
    weight, bias = objective.fold(weight, bias)
    write_tensors(folder / HEAD, {"weight": weight, "bias": bias}, task.to_dict() | objective.about())


def load_network(folder: str | Path) -> tuple[Network, Task]:
    """The network that a fine-tuning run, or an export as safetensors, left in `folder`, in eval mode, and its task.

    Of whole images its outputs are (B, k), one for each of the task's names; of a segmentation (B, k, h, w); of
    objects as `Detector` says.
    ``model.encoder.transform``, the Preprocessing that it was trained with, turns a raw image into its input. Raises
    WhymaskError when there is none.
    """
    folder = Path(folder)
    kept = folder / "head.json"
    targets = task_from(read_json(kept)).targets if kept.exists() else "labels"
    if targets == "labels":
        return load_classifier(folder)
    return (load_segmenter if targets == "maps" else load_detector)(folder, folder / HEAD)


def load_classifier(folder: str | Path) -> tuple[Classifier, Task]:
    """The network of whole images that `train_classifier` left in `folder`, in eval mode, and its task.

    Its outputs (B, k), one for each of the task's names, are what `Task.kept` and `Task.shown` take.

    Raises WhymaskError when there is none.
    """
    folder = Path(folder)
    if not (folder / "head.json").exists():
        raise WhymaskError(f"{folder} holds no classifier (no head.json). Give a finished fine-tuning run or a study.")
    task = task_from(read_json(folder / "head.json"))
    if task.is_dense:
        raise WhymaskError(f"{folder} holds a {task.outputs.network}; a classifier of whole images was expected")
    model = Classifier(load_encoder(folder), len(task.names))
    load_strictly(model.head, read_tensors(folder / HEAD), folder / HEAD)
    return model.eval(), task
