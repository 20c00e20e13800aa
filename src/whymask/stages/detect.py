"""A network that says where objects are, and of which class: an encoder, pretrained or not, a pyramid of its maps, and
torchvision's detectors on it.

Several processes that share a batch learn with FCOS what one learns. Faster R-CNN draws at random which regions of an
image it learns from, and each process draws for its own images: as much is learnt, of other regions. A batch in parts
(--accumulate) has losses that are means of its parts: of FCOS over positions within objects, of which a part may show
few. Neither changes what a run is when it goes on after a stop.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from whymask.data.batches import Batch
from whymask.disk import read_json, read_tensors, write_tensors
from whymask.encoders import Encoder, load_encoder, load_strictly
from whymask.encoders.pyramids import WIDEST, Pyramid, levels_seen, maps_of, strides_of
from whymask.randomness import seeded
from whymask.ranks import total, world
from whymask.tasks import Objective, Task, task_from
from whymask.training.loop import LossOf

MOST_FOUND = 100
"""Detections that are kept of an image, as COCO counts them."""
FINEST = 8
"""Stride of the finest map that FCOS looks at, pixels, where there are coarser ones."""
PARTS = (0.1, 0.5, 0.9)
"""Quantiles of height over width that are the shapes of anchors."""
SMALLEST = 4.0
"""Side of the smallest anchor, pixels."""
REGIONS = 128
"""Of an image, that Faster R-CNN learns from at a step (torchvision's own: 512, of images of 800 pixels)."""

Kind = Literal["fcos", "faster-rcnn"]


@dataclass(frozen=True)
class Anchors:
    """Boxes that Faster R-CNN looks for at each position: a side for each map, pixels, and heights over widths."""

    sides: tuple[float, ...]
    shapes: tuple[float, ...]


@dataclass(frozen=True)
class Rules:
    """When a detection counts: from which score on, and of boxes of a class that share more than `nms` of what they
    cover (intersection over union), only the best."""

    score_threshold: float
    nms: float


class Detector(nn.Module):
    """An encoder with torchvision's FCOS (arXiv 1904.01355) or Faster R-CNN (arXiv 1506.01497) on a pyramid of its
    maps.

    In eval mode ``model(images)`` of (B, C, h, w) is float32 (B, MOST_FOUND, 6): left, top, right, bottom in pixels,
    score, class, the best first; beyond what was found the class is -1 and the score 0. In training ``model(images,
    objects)``, of float32 (B, M, 8) as `boxes.COLUMNS` says, or their bits as int32, is a dict of losses; objects that
    are ignored are not learnt.

    Where things are is computed in float32 also where the rest is in 16 bits, of which bf16 has 8 for a number: from
    256 pixels on it would tell even ones alone.

    With `frozen` the encoder stays as it is, in eval mode.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        kind: Kind,
        anchors: Anchors | None,
        rules: Rules,
        seed: int = 0,
        frozen: bool = False,
    ):
        super().__init__()
        self.encoder, self.classes, self.kind, self.anchors, self.rules = encoder, classes, kind, anchors, rules
        self.frozen = frozen
        with seeded(seed, "head"):
            self.head = HEADS[kind](levels_seen(encoder), classes, anchors, rules)
        if isinstance(self.head, FCOS):
            self.head.head = CountedHead(self.head.head)
        _keep_precise(self.head)
        self._tell = _tell
        self.is_one_graph = self.draws_alike = False
        if frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor, objects: Tensor | None = None) -> Any:
        return self._tell(self, self.head.backbone(maps_of(self.encoder, images)), images, objects)

    def compile(self, *given: Any, **settings: Any) -> None:
        """The encoder and the pyramid: of what is told of their maps shapes are others in every step."""
        self._tell = torch.compiler.disable(_tell)
        super().compile(*given, **settings)

    def target(self, objects: Tensor) -> dict[str, Tensor]:
        """What torchvision's detectors are told of an image, whose classes (M, 8) are counted from `first_class`."""
        known = objects[(objects[:, 4] >= 0) & (objects[:, 5] == 0)]
        return {"boxes": known[:, :4], "labels": known[:, 4].long() + self.first_class}

    def found(self, given: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """What torchvision's detectors say of each image, as one tensor."""
        made = torch.zeros(len(given), MOST_FOUND, 6, device=given[0]["boxes"].device)
        made[..., 5] = -1
        for image, one in enumerate(given):
            parts = (one["boxes"], one["scores"][:, None], one["labels"][:, None] - self.first_class)
            made[image, : len(one["boxes"])] = torch.cat([part.float() for part in parts], dim=1)
        return made

    @property
    def first_class(self) -> int:
        """Faster R-CNN's 0 is what is no object."""
        return 0 if self.kind == "fcos" else 1


def _tell(model: Detector, levels: "OrderedDict[str, Tensor]", images: Tensor, objects: Tensor | None) -> Any:
    """What `model` says of the maps of a pyramid."""
    shown = ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images))
    targets = None if objects is None else [model.target(one) for one in objects.view(torch.float32)]
    if isinstance(model.head, FCOS):
        given = _of_fcos(model.head, levels, shown, targets)
    else:
        given = _of_faster_rcnn(model.head, levels, shown, targets)
    return given if model.training else model.found(given)


class Maps(Pyramid):
    """The backbone of a torchvision detector: maps of an encoder -> those of the pyramid, and one of half the size."""

    def __init__(self, levels: Sequence[tuple[int, int]], first: int = 0):
        super().__init__(levels[first:], WIDEST)
        self.first, self.out_channels, self.coarser = first, WIDEST, LastLevelMaxPool()
        self.names = [str(number) for number in range(len(self.strides))]

    def forward(self, maps: Sequence[Tensor]) -> "OrderedDict[str, Tensor]":
        levels, names = self.coarser(self.pyramid_of(maps[self.first :]), [], [*self.names])
        return OrderedDict(zip(names, levels, strict=True))


class CountedHead(FCOSHead):
    """FCOS's head, whose losses are means over the positions within objects of all processes' images."""

    def __init__(self, head: FCOSHead):
        nn.Module.__init__(self)
        self.box_coder = head.box_coder
        self.classification_head, self.regression_head = head.classification_head, head.regression_head

    def compute_loss(
        self, targets: Any, head_outputs: Any, anchors: list[Tensor], matched_idxs: list[Tensor]
    ) -> dict[str, Tensor]:
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        if world() == 1:
            return losses
        within = torch.cat(matched_idxs).ge(0).sum()
        share = within.clamp(min=1) * world() / total(within).clamp(min=1)
        return {name: loss * share for name, loss in losses.items()}


def fcos(levels: Sequence[tuple[int, int]], classes: int, anchors: Anchors | None, rules: Rules) -> FCOS:
    coarse = [number for number, (_, stride) in enumerate(levels) if stride >= FINEST]
    maps = Maps(levels, coarse[0] if len(coarse) > 1 else 0)
    strides = [*maps.strides, 2 * maps.strides[-1]]
    points = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
    head = FCOS(
        maps,
        classes,
        anchor_generator=points,
        score_thresh=rules.score_threshold,
        nms_thresh=rules.nms,
        detections_per_img=MOST_FOUND,
    )
    nn.init.ones_(head.head.regression_head.bbox_reg.bias)  # at 0 a side may stay 0 for ever, behind its ReLU
    return head


def faster_rcnn(levels: Sequence[tuple[int, int]], classes: int, anchors: Anchors | None, rules: Rules) -> FasterRCNN:
    assert anchors is not None
    maps = Maps(levels)
    return FasterRCNN(
        maps,
        classes + 1,
        rpn_anchor_generator=AnchorGenerator(
            tuple((side,) for side in anchors.sides), (anchors.shapes,) * len(anchors.sides)
        ),
        box_roi_pool=MultiScaleRoIAlign(maps.names, 7, sampling_ratio=2),
        box_batch_size_per_image=REGIONS,
        box_score_thresh=rules.score_threshold,
        box_nms_thresh=rules.nms,
        box_detections_per_img=MOST_FOUND,
    )


def _keep_precise(head: FCOS | FasterRCNN) -> None:
    """Anchors, and what networks say of boxes and scores, are float32."""
    if isinstance(head, FCOS):
        anchors, tellers = head.anchor_generator, [head.head]
    else:
        anchors, tellers = head.rpn.anchor_generator, [head.rpn.head, head.roi_heads.box_predictor]
    anchors.register_forward_pre_hook(_of_float32)
    for teller in tellers:
        teller.register_forward_hook(_in_float32)


def _of_float32(generator: nn.Module, given: tuple[ImageList, list[Tensor]]) -> tuple[ImageList, list[Tensor]]:
    """Of maps anchors are told the sides, and the kind of numbers to be."""
    images, maps = given
    return images, [x[:1, :1].float() for x in maps]


def _in_float32(teller: nn.Module, given: Any, told: Any) -> Any:
    return tree_map(Tensor.float, told)


HEADS = {"fcos": fcos, "faster-rcnn": faster_rcnn}


def _of_fcos(
    head: FCOS, maps: "OrderedDict[str, Tensor]", shown: ImageList, targets: list[dict[str, Tensor]] | None
) -> Any:
    """What `FCOS.forward` does with images that are of one size already."""
    levels = list(maps.values())
    outputs, anchors = head.head(levels), head.anchor_generator(shown, levels)
    counts = [level.shape[-2] * level.shape[-1] for level in levels]
    if head.training:
        assert targets is not None
        return head.compute_loss(targets, outputs, anchors, counts)
    by_level = {name: list(values.split(counts, dim=1)) for name, values in outputs.items()}
    return head.postprocess_detections(by_level, [list(one.split(counts)) for one in anchors], shown.image_sizes)


def _of_faster_rcnn(
    head: FasterRCNN, levels: "OrderedDict[str, Tensor]", shown: ImageList, targets: list[dict[str, Tensor]] | None
) -> Any:
    """What `FasterRCNN.forward` does with images that are of one size already."""
    regions, of_regions = head.rpn(shown, levels, targets)
    found, of_boxes = head.roi_heads(levels, regions, shown.image_sizes, targets)
    return of_regions | of_boxes if head.training else found


def anchors_for(boxes: np.ndarray, maps: int) -> Anchors:
    """Of the objects (n, 4) that are learnt from, in pixels that the network sees: quantiles of their sides, one
    for each of so many maps, the finest first, and of their shapes."""
    if not len(boxes):
        return Anchors(tuple(SMALLEST * 2**level for level in range(maps)), (1.0,))
    widths, heights = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).T.astype(np.float64)
    sides = np.quantile(np.sqrt(widths * heights), (np.arange(maps) + 0.5) / maps)
    return Anchors(
        tuple(round(float(side), 2) for side in np.maximum(sides, SMALLEST)),
        tuple(round(float(shape), 3) for shape in np.quantile(heights / widths, PARTS)),
    )


def maps_looked_at(encoder: Encoder) -> int:
    """Of how many maps Faster R-CNN has anchors."""
    return len(strides_of(levels_seen(encoder))) + 1


def loss_of_objects(objective: Objective) -> LossOf:
    def loss(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        losses = model(batch.images, batch.labels.view(torch.int32))  # or mixed precision would round boxes
        return {"loss": objective(losses, batch.labels), **{name: value.detach() for name, value in losses.items()}}

    return loss


def save_detector(model: Detector, task: Task, path: Path) -> None:
    """The head's weights as safetensors, and beside them which head it is and what its outputs mean."""
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.head.state_dict().items()}
    about = {"head": model.kind, "anchors": model.anchors and asdict(model.anchors), **asdict(model.rules)}
    write_tensors(path, state, task.to_dict() | about)


def load_detector(folder: Path, path: Path) -> tuple[Detector, Task]:
    """The network whose head `save_detector` wrote, in eval mode, and its task."""
    about: dict[str, Any] = read_json(path.with_suffix(".json"))
    task, anchors = task_from(about), about["anchors"]
    model = Detector(
        load_encoder(folder),
        len(task.names),
        about["head"],
        anchors and Anchors(tuple(anchors["sides"]), tuple(anchors["shapes"])),
        Rules(about["score_threshold"], about["nms"]),
    )
    load_strictly(model.head, read_tensors(path), path)
    return model.eval(), task
