"""What is exported: a network of timm with its weights, how it sees images, and what is known of its training."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from whymask.disk import read_json
from whymask.encoders import Encoder, load_encoder
from whymask.errors import WhymaskError
from whymask.exports.plain import plain
from whymask.methods import Method
from whymask.methods.files import kept_method, load_method
from whymask.stages.detect import Detector
from whymask.stages.network import Classifier, load_network
from whymask.stages.record import RunRecord, read_record
from whymask.stages.segment import Segmenter
from whymask.stages.settings import A_RUN
from whymask.stages.taken import network_of, study_of
from whymask.tasks import Task

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """Attributes:
    source: the run folder; study: that of the study it belongs to.
    classifier: with a head, of a fine-tuning run, or `placing`, which says what is where in an image; method: of a
        pretraining run, with its decoder.
    task: of the head, with numbers for the names of its classes or targets where names must not leave.
    record, result, provenance: what the run's folder says of it.
    """

    source: Path
    study: Path | None
    encoder: Encoder
    classifier: Classifier | None
    placing: Segmenter | Detector | None
    method: Method | None
    method_name: str | None
    task: Task | None
    record: RunRecord
    result: dict[str, Any]
    provenance: dict[str, Any]
    names: bool

    @property
    def title(self) -> str:
        return f"{self.encoder.timm_name} {self.kind}"

    @property
    def kind(self) -> str:
        """ "encoder", or "classifier of 3 classes"."""
        task = self.task
        return f"{task.outputs.network} of {len(task.names)} {task.names_are}" if task else "encoder"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes or targets; none of an encoder."""
        return self.task.names if self.task else ()

    @property
    def gives(self) -> str:
        """ "features", "logits" or "values": what it makes of images."""
        return self.task.outputs.name if self.task else "features"

    @property
    def mode(self) -> str:
        """Pillow's name of the images that it sees."""
        return "L" if self.encoder.channels == 1 else "RGB"

    @property
    def is_timms(self) -> bool:
        """Whether timm itself can build the network."""
        return self.encoder.timm_name not in ("plain_cnn", "two_layer", "own_network")

    def network(self) -> Any:
        """The plain network of timm: images (B, C, h, w), normalised -> outputs (B, k), or pooled features (B, D); of a
        segmentation network `PlainSegmenter`, and of a detection network torchvision's."""
        if self.placing is not None:
            return plain(self.placing)
        encoder = self.encoder
        net: Any = timm.create_model(encoder.timm_name, **(encoder.timm_kwargs | {"num_classes": len(self.labels)}))
        state = {key: tensor.clone() for key, tensor in encoder.net.state_dict().items()}
        net.load_state_dict(state, strict=self.classifier is None)
        if self.classifier is not None:
            heads = net.get_classifier()
            for head in heads if isinstance(heads, tuple) else (heads,):
                own = head.state_dict()  # of a few networks a 1x1 convolution
                head.load_state_dict({key: t.view_as(own[key]) for key, t in self.classifier.head.state_dict().items()})
        return net.eval()

    @torch.inference_mode()
    def output(self, images: Tensor) -> Tensor:
        """What whymask itself computes: a head's outputs, or pooled features."""
        network = self.classifier or self.placing
        if network is not None:
            return network(images)
        return self.encoder.pool(self.encoder(images))

    def check(self, target: str, images: Tensor, found: Tensor) -> None:
        """Raises WhymaskError where what was written computes something else from `images`."""
        expected = self.output(images)
        found = found.detach()
        error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        if not error <= TOLERANCE:
            raise WhymaskError(
                f"the {target} export differs from the network by {error:.1e}; nothing was left; report this"
            )

    def sample(self) -> Tensor:
        """Two images of noise (2, C, h, w)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(2, self.encoder.channels, *self.encoder.size, generator=generator)

    def refuse_places(self, target: str) -> None:
        """Raises WhymaskError where the network says what is where, for which this target has no form."""
        if self.placing is None or (target == "onnx" and isinstance(self.placing, Segmenter)):
            return
        others = "--to onnx or --to safetensors" if isinstance(self.placing, Segmenter) else "--to safetensors"
        raise WhymaskError(
            f"--to {target}: {target} has no form for a {self.kind} here; use {others}, whose card opens it with "
            "torch, torchvision and timm alone; --encoder-alone writes its encoder, without the head"
        )


def gather(run: Path, cell: str | None, names: bool, encoder_alone: bool = False) -> Exported:
    """The network of `run`, from its files, or its encoder alone. Raises WhymaskError where there is none."""
    folder = network_of(run, cell, "encoder")
    if not (folder / "result.json").exists():
        raise WhymaskError(f"{folder} holds no finished run, for it has no result.json; {A_RUN}")
    with_head = (folder / "head.json").exists() and not encoder_alone
    network, task = load_network(folder) if with_head else (None, None)
    encoder = load_encoder(folder) if network is None else network.encoder
    classifier = network if isinstance(network, Classifier) else None
    placing = None if isinstance(network, Classifier) else network
    kept = kept_method(folder)
    method = None if kept is None else load_method(folder, copy.deepcopy(encoder))
    record, result = read_record(folder), read_json(folder / "result.json")
    provenance = read_json(folder / "config.json").get("provenance", {})
    if task is not None and not names:
        task = replace(task, names=tuple(str(number) for number in range(len(task.names))))
    study = study_of(folder)
    method_name = kept and kept[0]
    return Exported(
        folder, study, encoder, classifier, placing, method, method_name, task, record, result, provenance, names
    )
