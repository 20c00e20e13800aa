"""SparK: a CNN sees the visible squares by masked convolution; a light U-shaped decoder fills in the hidden ones.

Tian et al., "Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling" (arXiv 2301.03580).
Unlike a linear decoder, it reads the maps of every resolution, so that the last layer need not carry where edges are.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.base import Size
from whymask.encoders.cnn import CNNEncoder
from whymask.encoders.masked_norm import BatchNorm2d, norm_visible
from whymask.errors import WhymaskError
from whymask.masks import indices, once, take, to_squares
from whymask.methods.base import MaskedConfig, Method, fill_in, standardised, whole_positions
from whymask.methods.settings import SparKSettings
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class SparKConfig(MaskedConfig):
    """See `SparKSettings`."""

    normalise_targets: bool
    decoder_width: int

    @classmethod
    def derived(cls, asked: Any, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        width, _ = encoder.layers(size)[-1]
        return whole_positions(encoder, size) | {"mask_ratio": 0.6, "decoder_width": max(1, width * 3 // 8)}

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        super().check(encoder, size)
        if self.decoder_width < 1:
            raise WhymaskError(f"decoder of width {self.decoder_width}; it needs at least 1 channel, such as 48")


class SparK(Method):
    """masked encoder -> maps of every resolution, holes filled with tokens -> U-shaped decoder -> squared error."""

    Settings = SparKSettings
    Config = SparKConfig
    encoders = ("cnn",)
    source = "2301.03580"
    config: SparKConfig
    encoder: CNNEncoder

    def __init__(self, encoder: Encoder, config: SparKConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        self.group = self.config.mask_block if self.config.mask == "uniform" else 1  # squares a side, hidden together
        self.cell = encoder.unit * self.group  # pixels a side, normalised together
        with seeded(seed, "decoder"):
            self.decoder = UDecoder(self.encoder, self.config.decoder_width)

    def forward(self, images: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        chosen = self.cells_hidden(hidden)
        predictions = take(to_squares(self.predict(images, hidden), self.cell), chosen)
        targets = take(to_squares(images, self.cell), chosen)
        if self.config.normalise_targets:
            targets = standardised(targets)
        return {"loss": F.mse_loss(predictions.float(), targets.float())}

    def cells_hidden(self, hidden: Tensor) -> Tensor:
        """Long (B, n): the numbers of the hidden cells."""
        return once(hidden, "cells", lambda hidden: indices(hidden[:, :: self.group, :: self.group])[1])

    def look(self, *masks: Tensor) -> None:
        super().look(*masks)
        self.cells_hidden(masks[0])

    def predict(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Pixels of the whole image, (B, C, h, w), normalised where the targets are."""
        outputs = self.encoder.outputs(images, hidden)
        visible = [self.encoder.visible_in(layer, hidden) for layer in self.decoder.layers]
        maps = [outputs[layer] for layer in self.decoder.layers]
        return fitted(self.decoder(maps, visible), self.encoder.size)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        chosen = self.cells_hidden(hidden)
        predictions = take(to_squares(self.predict(images, hidden), self.cell), chosen)
        return fill_in(images, predictions, chosen, self.cell, self.config.normalise_targets)


class UDecoder(nn.Module):
    """From the lowest resolution up: double, add the encoder's map of that resolution, until pixels are reached."""

    def __init__(self, encoder: CNNEncoder, width: int) -> None:
        super().__init__()
        self.layers = last_of_each_resolution(encoder.strides)
        doublings = encoder.stride.bit_length() - 1
        widths = [max(1, width // 2**i) for i in range(doublings + 1)]
        self.fillings = nn.ModuleList(
            Filling(encoder.widths[layer], wide, 1 if i == 0 else 3)  # kernels as the paper's code has them
            for i, (layer, wide) in enumerate(zip(self.layers, widths, strict=False))
        )
        self.steps = nn.ModuleList(Doubling(wide, narrow) for wide, narrow in pairwise(widths))
        self.predict = nn.Conv2d(widths[-1], encoder.channels, 1)

    def forward(self, maps: list[Tensor], visible: list[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), the lowest resolution first, and what is visible in them -> (B, C, h, w), about."""
        filled = [fill(x, seen) for fill, x, seen in zip(self.fillings, maps, visible, strict=True)]
        x = filled[0]
        for i, step in enumerate(self.steps, start=1):
            x = step(x)
            if i < len(filled):
                x = fitted(x, filled[i].shape[-2:]) + filled[i]
        return self.predict(x)


def fitted(x: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) -> (B, C, *size): of odd sizes the doubled map is a little larger, or smaller, than what it was."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, size[1] - width, 0, size[0] - height))  # less than zero cuts off


def last_of_each_resolution(strides: list[int]) -> list[int]:
    """The layers behind which the resolution is halved, and the last one; the lowest resolution first."""
    return [i for i, following in enumerate([*strides[1:], 2]) if following > 1][::-1]


class Filling(nn.Module):
    """A map with holes -> one without: batch norm over what is visible, a learnt token in the holes, a convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(1, inputs, 1, 1) * 0.02)
        self.norm = BatchNorm2d(inputs)
        self.project = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        normal = norm_visible(x, visible, self.norm, self.norm)
        return self.project(torch.where(visible, normal, self.mask_token.to(normal.dtype)))


class Doubling(nn.Module):
    """Twice the resolution: transposed convolution, then two convolutions with batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(inputs, inputs, 4, stride=2, padding=1),
            nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
            BatchNorm2d(inputs),
            nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
