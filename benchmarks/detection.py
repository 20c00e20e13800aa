"""A training step of our Faster R-CNN beside torchvision's own: the same layers, first weights, images and objects.

Both are given images of their network's size and look for as many boxes: torchvision's own anchors, 2000 proposals, as
many regions an image as ours learns from, a pyramid of 256 channels (ours has `WIDEST` unless it is told otherwise).
Theirs takes a list of images and objects and brings them to one size, ours a batch as the loop makes it; ours has
timm's network behind an encoder, theirs torchvision's.
"""

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from benchmarks.mae_step import new_encoder, step_of
from benchmarks.measure import Effort, Row, against, interleaved
from whymask.encoders import EncoderSettings
from whymask.randomness import torch_generator
from whymask.stages import detect
from whymask.stages.detect import Anchors, Detector, Rules

ORIGIN = "torchvision fasterrcnn_resnet50_fpn"
WIDTH = 256
"""Channels of torchvision's pyramid."""
ANCHORS = Anchors((32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0))
"""torchvision's: the default of `FasterRCNN`."""
RULES = Rules(0.05, 0.5)


@dataclass(frozen=True)
class DetectionSizes:
    """Images of `side` pixels, `batch` a step, each with so many objects of so many classes; `network` is a ResNet."""

    side: int = 128
    batch: int = 4
    objects: int = 6
    classes: int = 20
    network: str = "resnet50"

    def __str__(self) -> str:
        return (
            f"Faster R-CNN, {self.network}, pyramid of {WIDTH}, {self.side}x{self.side}, batch {self.batch}, "
            f"{self.objects} objects an image, {detect.REGIONS} regions"
        )


QUICK = DetectionSizes(side=64, batch=2, objects=2, classes=2, network="resnet18")


def detection_rows(effort: Effort, sizes: DetectionSizes) -> list[Row]:
    """detector-step: the same mathematics as the peer."""
    ours, peer = detectors(sizes)
    images, objects = scenes(sizes)
    theirs = as_torchvisions(images, objects)
    works = {
        "ours": step_of(ours, lambda: total(ours(images, objects)), sizes.batch),
        "peer": step_of(peer, lambda: total(peer(*theirs)), sizes.batch),
    }
    values = against(interleaved(works, effort), "ours", "peer")
    setting = f"{sizes}, float32, threads: {torch.get_num_threads()}"
    return [Row(name="detector-step", peer=ORIGIN, unit="images/s", setting=setting, **values)]


def detectors(sizes: DetectionSizes) -> tuple[Detector, FasterRCNN]:
    """Ours, and torchvision's with its weights."""
    ours, peer = our_detector(sizes), torchvisions(sizes)
    body, head = peer.backbone, ours.head
    body.body.load_state_dict(ours.encoder.net.state_dict())
    body.fpn.load_state_dict(head.backbone.pyramid.state_dict())
    peer.rpn.load_state_dict(head.rpn.state_dict())
    peer.roi_heads.load_state_dict(head.roi_heads.state_dict())
    return ours, peer


def our_detector(sizes: DetectionSizes) -> Detector:
    encoder = new_encoder(EncoderSettings(sizes.network), sizes.side, 3)
    with patch.object(detect, "WIDEST", WIDTH):
        return Detector(encoder, sizes.classes, "faster-rcnn", ANCHORS, RULES)


def torchvisions(sizes: DetectionSizes) -> FasterRCNN:
    """fasterrcnn_resnet50_fpn without weights, or the same of another ResNet, which leaves images as they are."""
    as_ours: dict[str, Any] = {
        "num_classes": sizes.classes + 1,
        "min_size": sizes.side,
        "max_size": sizes.side,
        "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3,
        "box_batch_size_per_image": detect.REGIONS,
    }
    if sizes.network == "resnet50":
        return fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, **as_ours)
    body = resnet_fpn_backbone(backbone_name=sizes.network, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    return FasterRCNN(body, **as_ours)


def scenes(sizes: DetectionSizes) -> tuple[Tensor, Tensor]:
    """Images (B, 3, side, side) and objects (B, M, 8) as `boxes.COLUMNS` has them."""
    generator = torch_generator("bench")
    images = torch.randn(sizes.batch, 3, sizes.side, sizes.side, generator=generator)
    objects = torch.zeros(sizes.batch, sizes.objects, 8)
    shape = (sizes.batch, sizes.objects, 2)
    corners = torch.rand(shape, generator=generator) * sizes.side / 2
    sides = (0.1 + 0.4 * torch.rand(shape, generator=generator)) * sizes.side
    objects[..., :4] = torch.cat([corners, corners + sides], dim=-1)
    objects[..., 4] = torch.randint(sizes.classes, shape[:2], generator=generator)
    return images, objects


def as_torchvisions(images: Tensor, objects: Tensor) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The same as torchvision takes it; its class 0 is what is no object."""
    return list(images), [{"boxes": one[:, :4], "labels": one[:, 4].long() + 1} for one in objects]


def drawn_alike(model: Any, *given: Any) -> dict[str, Tensor]:
    """The losses of either, of the same regions: torchvision's own draws its images' size before them."""

    def begin(*call: Any) -> None:
        torch.manual_seed(0)

    handle = getattr(model, "head", model).rpn.register_forward_pre_hook(begin)
    try:
        return model(*given)
    finally:
        handle.remove()


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
