"""Detection networks: torchvision's own, on our encoders; what they learn, and what they are made of."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from tiny import new_encoder
from whymask import EncoderSettings
from whymask.encoders.pyramids import maps_of
from whymask.stages.detect import MOST_FOUND, Anchors, Detector, Kind, Rules, anchors_for, maps_looked_at

SIZE = (32, 48)
ENCODERS = {
    "cnn": EncoderSettings("cnn", width=4),
    "resnet": EncoderSettings("test_resnet"),
    "vit": EncoderSettings("vit", width=32, depth=2, heads=2, patch=8),
    "swin": EncoderSettings("swin_tiny_patch4_window7_224", width=32),
}
BOXES = np.array([[2.0, 3, 14, 12], [20, 8, 46, 30], [30, 2, 40, 10]])


def network(name: str, kind: Kind, *, frozen: bool = False, least: float = 0.05) -> Detector:
    encoder = new_encoder(ENCODERS[name], SIZE, 3)
    anchors = anchors_for(BOXES, maps_looked_at(encoder)) if kind == "faster-rcnn" else None
    return Detector(encoder, 2, kind, anchors, Rules(least, 0.5), frozen=frozen)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def objects() -> Tensor:
    """Of two images: two objects, and one beside a crowd."""
    rows = torch.zeros(2, 2, 8)
    rows[0, :, :4] = torch.from_numpy(BOXES[:2])
    rows[1, :, :4] = torch.from_numpy(BOXES[1:])
    rows[0, 1, 4] = 1
    rows[1, 1, 5] = 1
    return rows


class WholeNetwork(nn.Module):
    """The backbone of torchvision's own network: our encoder's maps and pyramid, from images on."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model, self.out_channels = model, model.head.backbone.out_channels

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        return self.model.head.backbone(maps_of(self.model.encoder, x))


class AsTheyAre(nn.Module):
    """In the place of torchvision's transform: images are neither resized nor normalised."""

    def forward(self, images: list[Tensor], targets: Any) -> tuple[ImageList, Any]:
        return ImageList(torch.stack(images), [SIZE] * len(images)), targets

    def postprocess(self, found: Any, *sizes: Any) -> Any:
        return found


def torchvisions(model: Detector) -> Any:
    """The same detector, by torchvision's own forward."""
    head: Any = model.head
    own = type(head).__new__(type(head))
    nn.Module.__init__(own)
    own.__dict__ |= {key: value for key, value in head.__dict__.items() if not key.startswith("_modules")}
    own._modules = dict(head._modules)
    own.backbone = WholeNetwork(model)
    own.transform = AsTheyAre()
    return own


@pytest.mark.parametrize("kind", ["fcos", "faster-rcnn"])
@pytest.mark.parametrize("name", list(ENCODERS))
def test_it_is_torchvisions_network_to_the_bit(name: str, kind: Kind) -> None:
    """Losses and detections are those of torchvision's own forward."""
    model = network(name, kind, least=0)
    own = torchvisions(model)
    first = 0 if kind == "fcos" else 1
    targets = [
        {"boxes": one[known, :4], "labels": one[known, 4].long() + first}
        for one in objects()
        for known in [one[:, 5] == 0]
    ]
    torch.manual_seed(1)
    losses = model.train()(images(), objects())
    torch.manual_seed(1)
    expected = own.train()(list(images()), targets)
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[key], expected[key]) for key in losses)
    with torch.inference_mode():
        found, theirs = model.eval()(images()), own.eval()(list(images()))
    assert found.shape == (2, MOST_FOUND, 6)
    for one, their in zip(found, theirs, strict=True):
        count = len(their["boxes"])
        assert count > 0
        assert torch.equal(one[:count, :4], their["boxes"])
        assert torch.equal(one[:count, 4], their["scores"])
        assert torch.equal(one[:count, 5], their["labels"].float() - first)
        assert (one[count:, 5] == -1).all() and not one[count:, :5].any()
        assert (one[:count, 4].diff() <= 0).all()


@pytest.mark.parametrize("kind", ["fcos", "faster-rcnn"])
def test_what_is_ignored_or_none_is_not_learnt(kind: Kind) -> None:
    model = network("cnn", kind).train()

    def losses(rows: Tensor) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return model(images(), rows)

    expected, other = losses(objects()), objects()
    other[1, 1] = torch.tensor([0.0, 0, 48, 32, 1, 2, 9, 1])
    more = torch.cat([other, torch.full((2, 3, 8), -1.0)], dim=1)
    for rows in (other, more):
        assert all(torch.equal(value, expected[key]) for key, value in losses(rows).items())
    other[1, 1, 5] = 0
    assert any(not torch.equal(value, expected[key]) for key, value in losses(other).items())


@pytest.mark.parametrize("kind", ["fcos", "faster-rcnn"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_encoder_learns_unless_it_is_frozen(kind: Kind, frozen: bool) -> None:
    """Also of images without objects."""
    model = network("resnet", kind, frozen=frozen).train()
    empty = objects()
    empty[..., 4] = -1
    for rows in (objects(), empty):
        model.zero_grad()
        sum(model(images(), rows).values()).backward()
        assert all(parameter.grad is not None for parameter in model.head.parameters())
        moved = [parameter.grad is not None for parameter in model.encoder.parameters()]
        assert not any(moved) if frozen else all(moved)
    assert model.encoder.training is not frozen


def test_anchors_are_what_is_learnt_from() -> None:
    sides = np.array([4.0, 10, 20, 40])
    boxes = np.stack([np.zeros(4), np.zeros(4), sides, sides * 2], axis=1)
    anchors = anchors_for(boxes, 4)
    assert anchors.shapes == (2.0, 2.0, 2.0)
    assert list(anchors.sides) == sorted(anchors.sides)
    assert anchors.sides[0] >= 4 * 2**0.5 and anchors.sides[-1] <= 40 * 2**0.5 + 0.01
    assert anchors_for(np.empty((0, 4)), 3) == Anchors((4.0, 8.0, 16.0), (1.0,))
