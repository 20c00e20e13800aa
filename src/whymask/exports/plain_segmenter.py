"""A segmentation network as plain modules of torch, torchvision and timm, also where whymask is not installed.

`code_of` writes the classes below, and those of the head, into a file that imports nothing of whymask.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

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
)
from whymask.encoders.swin import SwinEncoder
from whymask.encoders.vit import ViTEncoder
from whymask.encoders.whole import WholeEncoder
from whymask.stages.segment import Segmenter

CODE = "segmenter.py"
HEADER = """import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
"""

MAKING = """import sys

import timm
from safetensors.torch import load_file

sys.path.insert(0, "{folder}")
from segmenter import {imported}

net = {network}
net.load_state_dict(load_file("{folder}/encoder/encoder.safetensors"))
head = {head}
head.load_state_dict(load_file("{folder}/head.safetensors"))
model = PlainSegmenter(net, head{form}).eval()
"""


class PlainSegmenter(nn.Module):
    """Images (B, C, h, w), normalised -> logits (B, k, h, w): `head` on the maps of `net`, which has timm's interface.

    `points` name its modules whose outputs are the finer maps. The coarsest is what `forward_features` gives: a map,
    or tokens, of which the first `prefix` are none of the `grid` (h', w') of positions. Of `channels_last` maps are
    (B, h', w', D).
    """

    def __init__(
        self,
        net: nn.Module,
        head: nn.Module,
        points: Sequence[str],
        grid: tuple[int, int],
        prefix: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.head, self.points = net, head, points
        self.grid, self.prefix, self.channels_last = grid, prefix, channels_last

    def forward(self, images: Tensor) -> Tensor:
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
        logits = self.head([self.as_map(each) for each in maps[:-1]] + [self.whole(self.as_map(maps[-1]))])
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear")

    def as_map(self, output: Tensor) -> Tensor:
        """As (B, D, h', w')."""
        if output.ndim == 3:
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return output.movedim(-1, 1) if self.channels_last else output

    def whole(self, x: Tensor) -> Tensor:
        """With positions, zero, for what is left of images that the network cuts off."""
        missing = [side - there for side, there in zip(self.grid, x.shape[-2:], strict=True)]
        return F.pad(x, (0, missing[1], 0, missing[0])) if any(missing) else x


def plain(model: Segmenter) -> PlainSegmenter:
    """The same network without masked forms, with its weights, in eval mode."""
    encoder = model.encoder
    net: Any = timm.create_model(encoder.timm_name, **encoder.timm_kwargs)
    net.load_state_dict(encoder.net.state_dict())
    return PlainSegmenter(net, model.head, **_form(encoder)).eval()


def is_plain(encoder: Encoder) -> bool:
    """Whether the code of the network itself is timm's, or goes with it."""
    return encoder.timm_name not in ("two_layer", REGISTERED)


def code_of(model: Segmenter) -> str:
    """A file of Python with every class that the network is made of, but timm's."""
    heads = [Linear] if model.kind == "linear" else [group_norm, SimplePyramid, Pyramid, FPN]
    own = [ConvLayer, PlainCNN] if isinstance(model.encoder.net, PlainCNN) else []
    said = '"""A segmentation network of timm\'s and torchvision\'s modules, as whymask trained it."""\n'
    first = f"{said}\n{HEADER}\nGROUPS, WIDEST = {GROUPS}, {WIDEST}"
    parts = [first, *map(inspect.getsource, [*own, *heads, PlainSegmenter])]
    return "\n\n".join(part.strip() + "\n" for part in parts)


def making(model: Segmenter) -> str:
    """Python code that makes `model` of that file and of the weights beside it; {folder} is where they lie."""
    encoder = model.encoder
    is_own = isinstance(encoder.net, PlainCNN)
    given = [f"{key}={value!r}" for key, value in encoder.timm_kwargs.items()]
    network = f"PlainCNN({', '.join(given)})"
    if not is_own:
        network = f"timm.create_model({', '.join([repr(encoder.timm_name), *given])})"
    form = "".join(f", {key}={value!r}" for key, value in _form(encoder).items())
    return MAKING.format(
        folder="{folder}",
        imported=", ".join(["PlainCNN"] * is_own + [type(model.head).__name__, "PlainSegmenter"]),
        network=network,
        head=f"{type(model.head).__name__}({levels_seen(encoder)}, {model.head.classes.out_channels})",
        form=form,
    )


def _form(encoder: Encoder) -> dict[str, Any]:
    """What `PlainSegmenter` is told of the encoder's outputs."""
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
