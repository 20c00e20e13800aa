"""What every method is, and the settings that methods share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from whymask import masks
from whymask.encoders import Encoder, EncoderConfig, encoder_class
from whymask.errors import WhymaskError
from whymask.masks import Ratio, from_squares, take, to_squares

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class MethodConfig:
    """Settings of a method. What is None is derived from the encoder by `resolve`."""

    def resolve(self, encoder: EncoderConfig, size: Size) -> Self:
        """Every None filled in, for a resolved encoder and images of `size`.

        Raises:
            WhymaskError: for a setting out of its range, or one that does not fit the encoder.
        """
        given = {key: value for key, value in vars(self).items() if value is not None}
        config = replace(self, **(self.derived(encoder, size) | given))
        config.check_choices()
        config.check(encoder, size)
        return config

    def derived(self, encoder: EncoderConfig, size: Size) -> dict[str, Any]:
        """The values of settings that are not given."""
        return {}

    def check_choices(self) -> None:
        """Raises WhymaskError when a setting that is one of several words is another one."""
        for name, hint in get_type_hints(type(self)).items():
            words = [w for part in (hint, *get_args(hint)) if get_origin(part) is Literal for w in get_args(part)]
            given = getattr(self, name)
            if words and given is not None and given not in words:
                raise WhymaskError(f"{name} {given!r}; it is one of {', '.join(words)}")

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        """Raises WhymaskError when a resolved setting is out of its range or does not fit the encoder."""


@dataclass(frozen=True)
class MaskedConfig(MethodConfig):
    """How squares are hidden. The class that inherits this says what its paper does."""

    mask_ratio: Ratio | None = None
    """Share of the squares that is hidden; or two numbers, between which each batch's share is drawn (R2MAE,
    arXiv 2509.21650). Default: the method's own."""
    mask: Literal["uniform", "block", "inverse-block"] | None = None
    """uniform: every square alike, in aligned groups of mask_block; block: blocks of mask_block anywhere are hidden;
    inverse-block: such blocks stay visible. Default: the method's own."""
    mask_block: int | None = None
    """Side of a block, or of an aligned group, in mask squares. Default: the method's own."""

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        assert self.mask_ratio is not None and self.mask_block is not None
        masks.check_ratio(self.mask_ratio)
        grid = encoder.grid(size)
        masks.check_block(grid, self.mask_block)
        self.hide(1, grid, torch.Generator().manual_seed(0))  # what the sampler itself refuses is refused now

    def hide(self, batch: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
        """BoolTensor (batch, *grid), True = hidden, equally many in every sample."""
        assert self.mask_ratio is not None and self.mask_block is not None
        sampler = {"uniform": masks.uniform, "block": masks.block, "inverse-block": masks.inverse_block}
        return sampler[self.mask or "uniform"](batch, grid, self.mask_ratio, generator, self.mask_block)


def whole_positions(encoder: EncoderConfig, size: Size) -> dict[str, Any]:
    """Mask settings with which whole positions of the encoder's features are hidden, for `derived`.

    A ViT's mask squares are its positions. A CNN's positions are several squares wide: aligned groups of squares as
    large as a position; where these do not divide the grid, blocks of twice their side anywhere.
    """
    stride = encoder_class(encoder.name).stride_of(encoder, size)
    side = max(1, stride // encoder.square)
    grid = encoder.grid(size)
    if grid[0] % side == grid[1] % side == 0 and max(grid) > side:
        return {"mask": "uniform", "mask_block": side}
    return {"mask": "block", "mask_block": max(1, min(2 * side, min(grid) - 1))}


def masks_by_kind(encoder: EncoderConfig, size: Size, **papers: Any) -> dict[str, Any]:
    """Mask settings, for `derived`: the `papers`, which are for a ViT, where every square is a token, else such that
    whole positions are hidden."""
    return papers if encoder_class(encoder.name).patchwise else whole_positions(encoder, size)


def block_side(encoder: EncoderConfig, size: Size) -> int:
    """Side of a ViT's mask blocks: 2 patches, 1 where the grid has less than 3 a side."""
    return 2 if min(encoder.grid(size)) >= 3 else 1


class Method(nn.Module):
    """A way to pretrain an encoder, which it is given and trains in place.

    Args:
        encoder: built by `whymask.encoders.build_encoder`.
        config: settings, a `Config`; `self.config` is the resolved form.
        seed: of the weights that the method adds.

    Raises:
        WhymaskError: when method and encoder do not fit each other, or a setting is out of its range.
    """

    Config: ClassVar[type[MethodConfig]]
    encoders: ClassVar[tuple[str, ...]]
    """Kinds of encoders that fit, the one that "auto" takes first."""
    source: ClassVar[str]
    """The paper's arXiv number."""
    views: int = 1
    """Masks of each image in a step, whose batch has so many fewer images: equally many masked ones are seen."""

    def __init__(self, encoder: Encoder, config: Any = None, seed: int = 0) -> None:
        super().__init__()
        if encoder.kind not in self.encoders:
            raise WhymaskError(
                f"{type(self).__name__} does not fit encoder {encoder.kind!r}; "
                f"it pretrains {' or '.join(self.encoders)}"
            )
        self.config: Any = (config or self.Config()).resolve(encoder.config, encoder.size)
        self.encoder: Any = encoder

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The masks of a step, on the CPU: what `forward` takes after the images. BoolTensors (batch, gh, gw), True =
        hidden. The first says what the student does not see. Here: one mask, by the settings of `MaskedConfig`."""
        return (self.config.hide(batch, self.encoder.grid, generator),)

    forward: Callable[..., dict[str, Tensor]]
    """(images (B, C, h, w), *masks) -> {"loss": scalar, and further scalars that are worth logging}."""

    def hidden_rows(self, hidden: Tensor) -> Tensor:
        """`encoder.rows_hidden`: BoolTensor (B, N). Raises WhymaskError when not one position is wholly hidden."""
        chosen = self.encoder.rows_hidden(hidden)
        if not chosen.any():
            kind, stride, squares = self.encoder.kind, self.encoder.stride, -(-self.encoder.stride // self.encoder.unit)
            raise WhymaskError(
                f"this mask hides no position of the {kind}'s features, {stride} pixels a side, as a whole; "
                f"give a mask_block of {squares} squares, or a larger ratio"
            )
        return chosen

    def after_step(self, step: int, steps: int) -> None:
        """Called after the optimiser's step `step`, counted from 0, of `steps`."""

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor | None:
        """Images (B, C, h, w), hidden squares as the method predicts them; None where it predicts no pixels."""
        return None


def standardised(squares: Tensor) -> Tensor:
    """Squares (B, n, pixels), each minus its mean and divided by its standard deviation."""
    mean, deviation = square_statistics(squares)
    return (squares - mean) / deviation


def fill_in(images: Tensor, predictions: Tensor, chosen: Tensor, unit: int, standard: bool) -> Tensor:
    """Images (B, C, h, w) whose `chosen` squares (B, n) of `unit` pixels are replaced by predictions (B, n, pixels).

    Standardised predictions say nothing of their square's mean and contrast: both are then taken from the true square,
    which the network has not seen.
    """
    squares = to_squares(images, unit)
    predictions = predictions.to(squares.dtype)
    if standard:
        mean, deviation = square_statistics(take(squares, chosen))
        predictions = predictions * deviation + mean
    filled = squares.scatter(1, chosen.unsqueeze(2).expand_as(predictions), predictions)
    return from_squares(filled, unit, (images.shape[2], images.shape[3]))


def square_statistics(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each square's pixels, (B, n, 1) each; the variance is unbiased, plus 1e-6."""
    variance, mean = torch.var_mean(squares, dim=2, keepdim=True, correction=min(1, squares.shape[2] - 1))
    return mean, (variance + 1e-6).sqrt()
