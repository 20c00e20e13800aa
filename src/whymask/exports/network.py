"""What is exported: a network of timm with its weights, how it sees images, and what is known of its training."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from whymask.encoders import Encoder, load_encoder
from whymask.errors import WhymaskError
from whymask.methods import Method
from whymask.methods.files import kept_method, load_method
from whymask.runs import read_json
from whymask.stages.apply import network_of
from whymask.stages.classify import Classifier, load_classifier
from whymask.stages.record import told_by

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """Attributes:
    source: the run folder; study: that of the study it belongs to.
    classifier: with a head, of a fine-tuning run; method: of a pretraining run, with its decoder.
    labels: class names, or numbers where names must not leave.
    about: of the run's folder: config (the fields of a `RunRecord`), provenance and result.
    """

    source: Path
    study: Path | None
    encoder: Encoder
    classifier: Classifier | None
    method: Method | None
    method_name: str | None
    labels: tuple[str, ...]
    about: dict[str, Any]
    names: bool

    @property
    def title(self) -> str:
        kind = f"classifier of {len(self.labels)} classes" if self.classifier else "encoder"
        return f"{self.encoder.timm_name} {kind}"

    @property
    def mode(self) -> str:
        """Pillow's name of the images that it sees."""
        return "L" if self.encoder.channels == 1 else "RGB"

    @property
    def is_timms(self) -> bool:
        """Whether timm itself can build the network."""
        return self.encoder.timm_name not in ("plain_cnn", "two_layer")

    def network(self) -> Any:
        """The plain network of timm: images (B, C, h, w), normalised -> logits (B, k), or pooled features (B, D)."""
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
        """What whymask itself computes: logits, or pooled features."""
        if self.classifier is not None:
            return self.classifier(images)
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


def gather(run: Path, cell: str | None, names: bool) -> Exported:
    """The network of `run`, from its files. Raises WhymaskError where there is none."""
    folder = network_of(run, cell)
    if not (folder / "result.json").exists():
        raise WhymaskError(f"{folder} is no finished run (no result.json); give one, or a finished study")
    classifier, classes = load_classifier(folder) if (folder / "head.json").exists() else (None, ())
    encoder = load_encoder(folder) if classifier is None else classifier.encoder
    kept = kept_method(folder)
    method = None if kept is None else load_method(folder, copy.deepcopy(encoder))
    stored = read_json(folder / "config.json")
    about = {
        "result": read_json(folder / "result.json"),
        "config": told_by(stored) if "config" in stored else {},
        "provenance": stored.get("provenance", {}),
    }
    labels = classes if names else tuple(str(number) for number in range(len(classes)))
    study = run if (run / "study.json").exists() else None
    return Exported(folder, study, encoder, classifier, method, kept and kept[0], labels, about, names)
