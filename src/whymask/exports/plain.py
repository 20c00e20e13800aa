"""Segmentation and detection networks as plain modules of torch, torchvision and timm, also without whymask.

`code_of` writes the classes below, and those of the head, into a file that imports nothing of whymask.
"""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from whymask.encoders import Encoder
from whymask.encoders.cnn import CNNEncoder
from whymask.encoders.own import REGISTERED
from whymask.encoders.plain_cnn import ConvLayer, PlainCNN
from whymask.encoders.pyramids import (
    FPN,
    GROUPS,
    WIDEST,
    Linear,
    Pyramid,
    SimplePyramid,
    group_norm,
    levels_of,
    levels_seen,
    strides_of,
)
from whymask.encoders.swin import SwinEncoder
from whymask.encoders.vit import ViTEncoder
from whymask.encoders.whole import WholeEncoder
from whymask.stages.detect import FINEST, HEADS, MOST_FOUND, REGIONS, Anchors, Detector, Maps, Rules
from whymask.stages.segment import Segmenter

CODES = {"maps": "segmenter.py", "boxes": "detector.py"}
"""The file of Python, by the task's targets."""
HEADER = """import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
"""

MAKING = """import sys

import timm
from safetensors.torch import load_file

sys.path.insert(0, "{folder}")
from {file} import {imported}

net = {network}
net.load_state_dict(load_file("{folder}/encoder/encoder.safetensors"))
head = {head}
head.load_state_dict(load_file("{folder}/head.safetensors"))
model = {model}(PlainMaps(net{form}), head{size})
"""


class PlainMaps(nn.Module):
    """Images (B, C, h, w), normalised -> maps (B, D, h', w') of `net`, which has timm's interface, the finest first.

    `points` name its modules whose outputs are the finer maps. The coarsest is what `forward_features` gives: a map,
    or tokens, of which the first `prefix` are none of the `grid` (h', w') of positions. Of `channels_last` maps are
    (B, h', w', D).
    """

    def __init__(
        self,
        net: nn.Module,
        points: Sequence[str],
        grid: tuple[int, int],
        prefix: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.points = net, points
        self.grid, self.prefix, self.channels_last = grid, prefix, channels_last

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        handles = [
            self.net.get_submodule(point).register_forward_hook(lambda *call: maps.append(call[2]))
            for point in self.points
        ]
        try:
            maps.append(self.net.forward_features(images))  # type: ignore[operator]
        finally:
            for handle in handles:
                handle.remove()
        return [self.as_map(each) for each in maps[:-1]] + [self.whole(self.as_map(maps[-1]))]

    def as_map(self, output: Tensor) -> Tensor:
        """As (B, D, h', w')."""
        if output.ndim == 3:
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return output.movedim(-1, 1) if self.channels_last else output

    def whole(self, x: Tensor) -> Tensor:
        """With positions, zero, for what is left of images that the network cuts off."""
        missing = [side - there for side, there in zip(self.grid, x.shape[-2:], strict=True)]
        return F.pad(x, (0, missing[1], 0, missing[0])) if any(missing) else x


class PlainSegmenter(nn.Module):
    """Images (B, C, h, w), normalised -> logits (B, k, h, w)."""

    def __init__(self, maps: PlainMaps, head: nn.Module) -> None:
        super().__init__()
        self.maps, self.head = maps, head
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.head(self.maps(images)), size=images.shape[-2:], mode="bilinear")


class PlainBackbone(nn.Module):
    """Of a torchvision detector: images (B, C, h, w) -> the maps of the pyramid, by name."""

    def __init__(self, maps: PlainMaps, pyramid: Any) -> None:
        super().__init__()
        self.maps, self.pyramid, self.out_channels = maps, pyramid, pyramid.out_channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        return self.pyramid(self.maps(images))


def plain_detector(maps: PlainMaps, head: Any, size: tuple[int, int]) -> Any:
    """torchvision's own detector, in eval mode, of images of that `size` (h, w), normalised: a list of (C, h, w) -> a
    dict of boxes, scores and labels for each."""
    head.backbone = PlainBackbone(maps, head.backbone)
    head.transform = GeneralizedRCNNTransform(*size, [0.0], [1.0], size_divisible=1, fixed_size=size[::-1])
    return head.eval()


def plain(model: Segmenter | Detector) -> Any:
    """The same network without masked forms, with its weights, in eval mode."""
    encoder = model.encoder
    net: Any = timm.create_model(encoder.timm_name, **encoder.timm_kwargs)
    net.load_state_dict(encoder.net.state_dict())
    maps = PlainMaps(net, **_form(encoder))
    if isinstance(model, Segmenter):
        return PlainSegmenter(maps, model.head)
    return plain_detector(maps, copy.deepcopy(model.head), encoder.size)


def is_plain(encoder: Encoder) -> bool:
    """Whether the code of the network itself is timm's, or goes with it."""
    return encoder.timm_name not in ("two_layer", REGISTERED)


def code_of(model: Segmenter | Detector) -> str:
    """A file of Python with every class that the network is made of, but timm's and torchvision's."""
    own: list[Any] = [ConvLayer, PlainCNN] if isinstance(model.encoder.net, PlainCNN) else []
    numbers = {"GROUPS": GROUPS, "WIDEST": WIDEST}
    if isinstance(model, Segmenter):
        heads: list[Any] = [Linear] if model.kind == "linear" else [group_norm, SimplePyramid, strides_of, Pyramid, FPN]
        parts = [*own, *heads, PlainMaps, PlainSegmenter]
    else:
        numbers |= {"MOST_FOUND": MOST_FOUND, "FINEST": FINEST, "REGIONS": REGIONS}
        heads = [group_norm, SimplePyramid, strides_of, Pyramid, Maps, Anchors, Rules, HEADS[model.kind]]
        parts = [*own, *heads, PlainMaps, PlainBackbone, plain_detector]
    first = f"{_title(model)}\n\n{HEADER}\n{', '.join(numbers)} = {', '.join(map(str, numbers.values()))}"
    return "\n\n".join(part.strip() + "\n" for part in [first, *map(inspect.getsource, parts)])


def _title(model: Segmenter | Detector) -> str:
    what = "segmentation" if isinstance(model, Segmenter) else "detection"
    return f'"""A {what} network of timm\'s and torchvision\'s modules, as whymask trained it."""'


def making(model: Segmenter | Detector) -> str:
    """Python code that makes `model` of that file and of the weights beside it; {folder} is where they lie."""
    encoder = model.encoder
    is_own = isinstance(encoder.net, PlainCNN)
    given = [f"{key}={value!r}" for key, value in encoder.timm_kwargs.items()]
    network = f"PlainCNN({', '.join(given)})"
    if not is_own:
        network = f"timm.create_model({', '.join([repr(encoder.timm_name), *given])})"
    levels = levels_seen(encoder)
    if isinstance(model, Segmenter):
        name, file, size, needed = "PlainSegmenter", CODES["maps"], "", [type(model.head).__name__]
        head = f"{needed[0]}({levels}, {model.head.classes.out_channels})"
    else:
        name, file, size = "plain_detector", CODES["boxes"], f", {encoder.size}"
        needed = [HEADS[model.kind].__name__, "Anchors", "Rules"]
        head = f"{needed[0]}({levels}, {model.classes}, {model.anchors}, {model.rules})"
    return MAKING.format(
        folder="{folder}",
        file=file.removesuffix(".py"),
        imported=", ".join([*["PlainCNN"] * is_own, *needed, "PlainMaps", name]),
        network=network,
        head=head,
        model=name,
        form="".join(f", {key}={value!r}" for key, value in _form(encoder).items()),
        size=size,
    )


def _form(encoder: Encoder) -> dict[str, Any]:
    """What `PlainMaps` is told of the encoder's outputs."""
    *finer, _ = levels_of(encoder.config, encoder.size)
    form: dict[str, Any] = {"points": (), "grid": encoder.positions}
    if isinstance(encoder, CNNEncoder):
        return form | {"points": tuple(encoder.net.feature_info[number]["module"] for number in finer)}
    if isinstance(encoder, SwinEncoder):
        return form | {"points": tuple(f"layers.{number}" for number in finer), "channels_last": True}
    if isinstance(encoder, ViTEncoder):
        return form | {"prefix": encoder.prefix}
    if isinstance(encoder, WholeEncoder):
        return form | {"prefix": encoder.shapes.prefix, "channels_last": encoder.shapes.layout == "channels last"}
    return form
