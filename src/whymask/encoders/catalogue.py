"""Which networks of timm can be pretrained: proven, untested or impossible."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import timm.layers
import torch
from torch import nn

from whymask.encoders.build import config_class, resolve
from whymask.encoders.cnn import trial
from whymask.encoders.masked import mask_layers
from whymask.encoders.masked_forms import FORMS
from whymask.encoders.refusals import with_reason
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.timm_names import PROVEN, family, sketch
from whymask.errors import WhymaskError

PROVEN_MODULES = ("timm.models._efficientnet_blocks", *(f"timm.models.{name}" for name in PROVEN))
PROVEN_PARTS = (
    nn.Sequential,
    timm.layers.ClassifierHead,
    timm.layers.GlobalResponseNormMlp,
    timm.layers.Mlp,
    timm.layers.NormMlpClassifierHead,
    timm.layers.SelectAdaptivePool2d,
)
"""What the containers of the proven CNNs do between their layers keeps zeros and mixes no positions."""


@dataclass(frozen=True)
class Support:
    """Whether a network can be pretrained: its `kind` of encoder, "proven", "untested" or "impossible" as `status`, and
    why it is impossible.

    proven: of a family that the tests hold; untested: every layer has a masked form, but what the network's own code
    does between them (a mean over positions, say) has not been looked at.
    """

    name: str
    kind: str
    status: str
    reason: str = ""


def support_of(name: str) -> Support:
    """Whether the timm network `name` can be an encoder, from its layers; no weights are made.

    Raises WhymaskError for a name that timm does not have.
    """
    kind = config_class(name).kind
    try:
        channels, *size = sketch(name).pretrained_cfg["input_size"]
        resolve(EncoderSettings(name), (size[0], size[1]), channels)
        if kind == "cnn":
            net = copy.deepcopy(sketch(name))
            with with_reason(net, name):
                mask_layers(net, name)
                trial(net, name, torch.zeros(1, channels, *size, device="meta"))
    except WhymaskError as error:
        return Support(name, kind, "impossible", str(error))
    parts = _parts(sketch(name)) if kind == "cnn" else ()
    known = all(part.__module__ in PROVEN_MODULES or part in PROVEN_PARTS for part in parts)
    return Support(name, kind, "proven" if known and family(name) in PROVEN else "untested")


def _parts(module: nn.Module) -> Iterator[type]:
    """The classes of the layers' containers, whose own code runs between the masked layers."""
    if type(module) not in FORMS and any(module.children()):
        yield type(module)
        for child in module.children():
            yield from _parts(child)
