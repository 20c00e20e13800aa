"""Why a network of timm cannot be shown a part of an image, where its own layers tell."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from whymask.errors import WhymaskError

SIGNS = {
    r"HybridEmbed": "embeds more than its own square patch: none can be left out",
    r"Rotary|Rope": "turns queries and keys by where each patch lies, which has no form here with patches left out",
    r"RelPos|RelativePosition": "weighs attention by how far positions lie apart, which has no form here with gaps",
    r"mlp_tokens|linear_tokens|SpatialGating": "mixes all positions, whose number is its width: none can be left out",
    r"(?<!Kernel)(?<!Channel)(?<!Split)(Attention|Attn)\b": "mixes positions by attention: hidden ones would be seen",
}
"""What the class of a layer, or its own name, tells of it: the most telling first."""
CAN = "vision_transformer, deit and swin_transformer"


def mixing(net: Any, name: str) -> str | None:
    """What to say of a network, called `name`, whose layers mix positions in a way that has no masked form, and that
    is none of the transformers which are shown only their visible patches; None of one whose layers do not tell."""
    layers = [(where, type(layer).__name__) for where, layer in net.named_modules() if where]
    for sign, what in SIGNS.items():
        for where, kind in layers:
            if re.search(sign, f"{where.rpartition('.')[2]} {kind}"):
                return (
                    f"layer {where} of {name}, a {kind}, {what}; of such networks only timm's {CAN} can be shown a "
                    "part of an image: choose one of them, such as vit_small_patch16_224, or a CNN"
                )
    return None


@contextmanager
def with_reason(net: Any, name: str) -> Iterator[None]:
    """Within, a WhymaskError about a layer or size is raised as what keeps the network from being an encoder at all,
    where `mixing` knows it."""
    try:
        yield
    except WhymaskError as error:
        told = mixing(net, name)
        if told is None:
            raise
        raise WhymaskError(told) from error
