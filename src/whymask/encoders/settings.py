"""What is asked of an encoder. Free of torch, so that the command line can tell its flags at once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from whymask.flags import readable

HUB = "hf-hub:"
"""Before the name of a repository of the Hugging Face hub, as timm writes it."""
OF_TIMM = r"[a-z][a-z0-9_]*(\d[a-z0-9_]*|\.\w+)"
"""What names of timm's weights look like: "resnet18.a1_in1k"."""

NAMED = r"(?P<network>[a-z][a-z0-9_]*(\.\w+)?)=(?P<file>.+)"
"""NETWORK=FILE: weights beside which nothing says of which network of timm they are."""


def is_name(origin: str) -> bool:
    """Whether weights of timm or of the hub may have that name, which is no file's."""
    return not Path(origin).exists() and (origin.startswith(HUB) or bool(re.fullmatch(OF_TIMM, origin)))


def network_and_file(origin: str) -> tuple[str | None, str]:
    """Of NETWORK=FILE; of anything else None and itself."""
    named = None if Path(origin).exists() else re.fullmatch(NAMED, origin)
    return (named["network"], named["file"]) if named else (None, origin)


Pool = Literal["mean", "token", "attention", "normed-mean"]


@readable
@dataclass(frozen=True)
class EncoderSettings:
    """Which network, and how large. What is None follows from the images' size: `whymask.encoders.resolve`."""

    name: Annotated[str, tyro.conf.arg(name="encoder")] = "auto"
    """"vit" (Dosovitskiy et al., arXiv 2010.11929), "cnn" (plain, 3x3 convolutions), "two-layer" (the paper's own,
    arXiv 2206.03826); the name of a timm network, such as resnet18, convnextv2_atto or vit_tiny_patch16_224 ("whymask
    list" says which can be pretrained); or "auto": the CNN, which is the kind of network of the paper's theory, runs on
    a CPU, and in trials was shown to be behind nothing that was tried (docs/results/defaults), or what the method fits
    where that is not the CNN."""
    width: int | None = None
    """ViT: token width, 192 when not given. CNN: channels of the first layer, 32 when not given. Two-layer:
    kernels, 256 when not given. A timm name has its own; of a Swin the first stage's can be given."""
    depth: int | None = None
    """ViT only: number of blocks, 12 when not given. The CNN's depth follows from the image size."""
    heads: int | None = None
    """ViT only: attention heads; when not given of width 64 each, or 32 in networks narrower than 192."""
    patch: int | None = None
    """ViT, Swin and two-layer: side of a patch in pixels, and but for Swin of a mask square; when not given, 8 to 16
    patches a side (ViT) or 4 to 8 (two-layer). A timm name has its own, but for images that hold too few of them."""
    unit: int | None = None
    """CNN and Swin: side of a mask square in pixels; 4 for images up to 64 pixels, larger ones have 8 to 16 a side
    (CNN), or that of a position of the last map (Swin)."""
    output_stride: int | None = None
    """timm CNNs: pixels a side that a position of the last map stands for, 8, 16 or 32; further strides become
    dilations. 8 for images below 64 pixels when not given, else 32."""
    pool: Pool | None = None
    """ViT only: what a classifier reads, the mean over patches, the class token, what the network's own attention pools
    (SigLIP), or the norm of the mean rather than the mean of normalised patches (timm's "gap" networks, EVA-02). The
    mean when not given, but with public weights as they pool."""

    @property
    def square(self) -> int:
        """Pixels that an image's sides must be multiples of: a mask square's or patch's side, 4 where none is given."""
        return self.unit or self.patch or 4
