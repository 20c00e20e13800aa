"""What can be done with a network of timm: whether it can be pretrained is proven, untested or impossible."""

from collections.abc import Iterator
from dataclasses import dataclass

import timm.layers
from torch import nn

from whymask.encoders.build import ENCODERS, config_class, resolve, why_whole
from whymask.encoders.masked_forms import FORMS
from whymask.encoders.own import config_of, reason_unmasked
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.timm_names import PROVEN, family, sketch
from whymask.errors import WhymaskError
from whymask.functions import is_named

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

STARTS = ("scratch", "init", "frozen")
"""New weights, and public ones that are fine-tuned or only read."""
PRETRAINED = ("pretrain", "continue")
"""Weights that are pretrained on one's own images, from new or public ones."""


@dataclass(frozen=True)
class Support:
    """Whether a network can be pretrained: its `kind` of encoder, "proven", "untested", "impossible" or "unusable" as
    `status`, and why it is not.

    proven: of a family that the tests hold; untested: every layer has a masked form, but what the network's own code
    does between them (a mean over positions, say) has not been looked at, or it is one's own, of which `reason` is why
    it sees mask tokens; impossible: it sees whole images only, so it can be trained on labels, from scratch or from
    public weights, and applied; unusable: not even that.
    """

    name: str
    kind: str
    status: str
    reason: str = ""

    @property
    def starts(self) -> tuple[str, ...]:
        """From which weights a classifier on it may start."""
        if self.status == "unusable":
            return ()
        return STARTS if self.status == "impossible" else (*STARTS, *PRETRAINED)


def support_of(name: str) -> Support:
    """Whether the network `name`, of whymask, of timm or of one's own, can be an encoder, from its layers; of timm's no
    weights are made.

    Raises WhymaskError for a name that there is not.
    """
    if is_named(name):
        return Support(name, config_of(name).kind, "untested", reason_unmasked(name))
    kind = config_class(name).kind
    if name in ENCODERS:
        return Support(name, kind, "proven")
    try:
        channels, *size = sketch(name).pretrained_cfg["input_size"]
        side = sketch(name).patch_embed.patch_size[0] if kind == "vit" else 1
        resolve(EncoderSettings(name), (size[0] // side * side, size[1] // side * side), channels)
    except WhymaskError as error:
        return Support(name, kind, "unusable", str(error))
    if why := why_whole(name):
        return Support(name, kind, "impossible", why)
    parts = _parts(sketch(name)) if kind == "cnn" else ()
    known = all(part.__module__ in PROVEN_MODULES or part in PROVEN_PARTS for part in parts)
    return Support(name, kind, "proven" if known and family(name) in PROVEN else "untested")


def _parts(module: nn.Module) -> Iterator[type]:
    """The classes of the layers' containers, whose own code runs between the masked layers."""
    if type(module) not in FORMS and any(module.children()):
        yield type(module)
        for child in module.children():
            yield from _parts(child)
