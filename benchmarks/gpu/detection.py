"""A training step of a detection network: ours as the loop places it, and torchvision's own."""

import copy
from typing import Any

import torch
from torch import Tensor

from benchmarks.detection import DetectionSizes, as_torchvisions, detectors, drawn_alike, scenes, total
from benchmarks.gpu.checks import HALF, check, relative
from benchmarks.gpu.place import Place
from benchmarks.gpu.steps import Figures, timed
from whymask.training.device import placed


def our_detection_step(place: Place) -> Figures:
    """In channels_last on a GPU."""
    sizes = place.scale.detector
    ours, peer = detectors(sizes)
    images, objects = there(place, sizes)
    checked = [same_losses(place, ours, peer, images, objects)]
    model: Any = placed(ours, place.device)
    return timed(place, model, sizes.batch, lambda nothing: total(model(images, objects)), [None], checked)


def torchvisions_detection_step(place: Place, layout: torch.memory_format) -> Figures:
    sizes = place.scale.detector
    ours, peer = detectors(sizes)
    images, objects = there(place, sizes)
    checked = [same_losses(place, ours, peer, images, objects)]
    model: Any = peer.to(place.device, memory_format=layout)
    theirs = as_torchvisions(images, objects)
    return timed(place, model, sizes.batch, lambda nothing: total(model(*theirs)), [None], checked)


def there(place: Place, sizes: DetectionSizes) -> tuple[Tensor, Tensor]:
    images, objects = scenes(sizes)
    return images.to(place.device), objects.to(place.device)


def same_losses(place: Place, ours: Any, peer: Any, images: Tensor, objects: Tensor) -> str:
    """On the device both have one loss, in float32 and of one layout. A region whose score rounds otherwise may be
    another one."""
    images, objects = images[: place.scale.checked], objects[: place.scale.checked]
    losses = []
    with place.products(rounded=False), torch.no_grad():
        for model, given in ((ours, (images, objects)), (peer, as_torchvisions(images, objects))):
            losses.append(total(drawn_alike(copy.deepcopy(model).train().to(place.device), *given)))
    return check("loss off torchvision's by", relative(losses[0], losses[1]), HALF)
