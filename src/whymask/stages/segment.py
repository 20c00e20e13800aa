"""A network that says of each pixel of which class it is: an encoder, pretrained or not, and a head on its maps."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whymask.disk import read_json, read_tensors, write_tensors
from whymask.encoders import Encoder, load_encoder, load_strictly
from whymask.encoders.pyramids import HEADS, at_size, levels_seen, maps_of
from whymask.randomness import seeded
from whymask.tasks import Task, task_from


class Segmenter(nn.Module):
    """A head on the maps of an encoder: images (B, C, h, w) -> logits (B, k, h, w), bilinear from the head's own size.

    With `frozen` the encoder stays as it is, in eval mode. `kind` is a name of `encoders.pyramids.HEADS`.
    """

    def __init__(self, encoder: Encoder, outputs: int, kind: str, seed: int = 0, frozen: bool = False):
        super().__init__()
        self.encoder, self.kind, self.frozen = encoder, kind, frozen
        with seeded(seed, "head"):
            self.head = HEADS[kind](levels_seen(encoder), outputs)
        self.is_one_graph = False
        self.draws_alike = True
        if frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return at_size(self.head(maps_of(self.encoder, images)), images.shape[-2:])


def save_head(model: Segmenter, task: Task, path: Path) -> None:
    """The head's weights as safetensors, and beside them which head it is and what its outputs mean."""
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.head.state_dict().items()}
    write_tensors(path, state, task.to_dict() | {"head": model.kind})


def load_segmenter(folder: Path, path: Path) -> tuple[Segmenter, Task]:
    """The network whose head `save_head` wrote, in eval mode, and its task."""
    about: dict[str, Any] = read_json(path.with_suffix(".json"))
    task = task_from(about)
    model = Segmenter(load_encoder(folder), len(task.names), about["head"])
    load_strictly(model.head, read_tensors(path), path)
    return model.eval(), task
