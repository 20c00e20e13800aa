"""FCMAE: a masked autoencoder of a CNN, by masked convolution.

Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders" (arXiv 2301.00808), with the
simplest decoder, a linear map, where the paper has a ConvNeXt block. It is what `mae` means on a CNN.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.base import Size
from whymask.encoders.cnn import CNNEncoder
from whymask.masks import take, to_squares
from whymask.methods.autoencoder import Autoencoder, AutoencoderConfig
from whymask.methods.settings import FCMAESettings
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class FCMAEConfig(AutoencoderConfig):
    """See `FCMAESettings`."""

    speaker: ClassVar[str] = "the CNN's decoder is linear and"

    @classmethod
    def derived(cls, asked: Any, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        return {"mask": "uniform", "mask_block": 1, "mask_ratio": 0.5, "normalise_targets": False}


class FCMAE(Autoencoder):
    """masked encoder -> linear decoder -> mean squared error at hidden squares."""

    Settings = FCMAESettings
    Config = FCMAEConfig
    encoders = ("cnn",)
    source = "2301.00808"
    encoder: CNNEncoder

    def __init__(self, encoder: Encoder, config: FCMAEConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        with seeded(seed, "decoder"):
            self.decoder: LinearDecoder = LinearDecoder(self.encoder)


class LinearDecoder(nn.Module):
    """A linear map from each position of the CNN's last layer to the pixels under it, as a 1x1 convolution.

    Positions under which everything is hidden hold a learnt mask token.
    """

    def __init__(self, encoder: CNNEncoder) -> None:
        super().__init__()
        self.unit, self.stride, self.size = encoder.unit, encoder.stride, encoder.size
        self.visible, self.whole = partial(encoder.visible_in, -1), encoder.whole
        self.mask_token = nn.Parameter(torch.zeros(1, encoder.dim, 1, 1))
        self.predict = nn.Conv2d(encoder.dim, encoder.channels * self.stride**2, 1)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Tensor, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Features (B, D, h', w') and decoded squares (B, n) -> pixels (B, n, C * unit * unit)."""
        filled = self.whole(torch.where(self.visible(hidden), features, self.mask_token))
        pixels = F.pixel_shuffle(self.predict(filled), self.stride)
        pixels = pixels[:, :, : self.size[0], : self.size[1]]  # the last positions reach beyond images of odd sizes
        return take(to_squares(pixels, self.unit), chosen)
