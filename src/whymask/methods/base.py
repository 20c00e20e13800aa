"""What every method is, and the fields that methods' configs share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from whymask import masks
from whymask.encoders.base import Encoder, EncoderConfig, Size
from whymask.errors import WhymaskError
from whymask.masks import Ratio, from_squares, look, once, take, to_squares
from whymask.methods.settings import MethodSettings

Asked = TypeVar("Asked", bound=MethodSettings)


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What a method is built from, everything decided. Its fields are those settings that the method has."""

    speaker: ClassVar[str] = "this method"
    """Who has no setting, in the error for one that it has not."""

    @classmethod
    def resolve(cls, asked: MethodSettings, encoder: EncoderConfig, size: Size) -> Self:
        """What is asked, the rest derived, for an encoder and images of `size`.

        Raises:
            WhymaskError: for a setting that the method has not, is out of its range, or does not fit the encoder.
        """
        own = {part.name for part in fields(cls)}
        given = {part.name: value for part in fields(asked) if (value := getattr(asked, part.name)) is not None}
        left = {part.name: getattr(cls, part.name, part.default) for part in fields(asked) if part.name not in own}
        unused = [name for name in left if name in given and given[name] != left[name]]
        if unused:
            raise WhymaskError(f"{cls.speaker} has no {', '.join(unused)}; leave it out")
        wanted = {name: value for name, value in given.items() if name in own}
        config = cls(**(cls.derived(asked, encoder, size) | wanted))
        config.check(encoder, size)
        return config

    @classmethod
    def derived(cls, asked: Any, encoder: Any, size: Size) -> dict[str, Any]:
        """The values of fields that need not be asked for."""
        return {}

    def check(self, encoder: Any, size: Size) -> None:
        """Raises WhymaskError when a field is out of its range or does not fit the encoder."""

    def asked(self, settings: type[Asked]) -> Asked:
        """The settings that ask for exactly this, for files and comparisons."""
        return settings(**{part.name: getattr(self, part.name, part.default) for part in fields(settings)})


@dataclass(frozen=True, kw_only=True)
class MaskedConfig(MethodConfig):
    """How squares are hidden, see `MaskedSettings`."""

    mask_ratio: Ratio
    """Share of squares that is hidden, or its range."""
    mask: Literal["uniform", "block", "inverse-block"]
    """Which squares are hidden together."""
    mask_block: int
    """Side of what is hidden together, in squares."""

    def check(self, encoder: Any, size: Size) -> None:
        """Raises WhymaskError for what no mask of the encoder's grid can be."""
        masks.check_ratio(self.mask_ratio)
        grid = encoder.grid(size)
        masks.check_block(grid, self.mask_block)
        self.hide(1, grid, torch.Generator().manual_seed(0))  # what the sampler itself refuses is refused now

    def hide(self, batch: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
        """BoolTensor (batch, *grid), True = hidden, equally many in every sample."""
        sampler = {"uniform": masks.uniform, "block": masks.block, "inverse-block": masks.inverse_block}
        return sampler[self.mask](batch, grid, self.mask_ratio, generator, self.mask_block)


def whole_positions(encoder: EncoderConfig, size: Size) -> dict[str, Any]:
    """Mask settings with which whole positions of the encoder's features are hidden, for `derived`.

    A ViT's mask squares are its positions. A CNN's positions are several squares wide: aligned groups of squares as
    large as a position; where these do not divide the grid, blocks of twice their side anywhere.
    """
    side = max(1, encoder.stride(size) // encoder.square)
    grid = encoder.grid(size)
    if grid[0] % side == grid[1] % side == 0 and max(grid) > side:
        return {"mask": "uniform", "mask_block": side}
    return {"mask": "block", "mask_block": max(1, min(2 * side, min(grid) - 1))}


def masks_by_kind(encoder: EncoderConfig, size: Size, **papers: Any) -> dict[str, Any]:
    """Mask settings, for `derived`: the `papers`, which are for a ViT, where every square is a token, else such that
    whole positions are hidden."""
    return papers if encoder.patchwise else whole_positions(encoder, size)


def block_side(encoder: EncoderConfig, size: Size) -> int:
    """Side of a ViT's mask blocks: 2 patches, 1 where the grid has less than 3 a side."""
    return 2 if min(encoder.grid(size)) >= 3 else 1


class Method(nn.Module):
    """A way to pretrain an encoder, which it is given and trains in place.

    Args:
        encoder: built by `whymask.encoders.build_encoder`.
        config: a `Config`, resolved for that encoder; without it, that of the default settings.
        seed: of the weights that the method adds.

    Raises:
        WhymaskError: when method and encoder do not fit each other.
    """

    Settings: ClassVar[type[MethodSettings]]
    """What may be asked."""
    Config: ClassVar[type[MethodConfig]]
    """What is resolved of that for an encoder."""
    encoders: ClassVar[tuple[str, ...]]
    """Kinds of encoders that fit, the one that "auto" takes first."""
    forms: ClassVar[Mapping[str, type["Method"]]] = {}
    """The kinds of encoders on which this method is another one, by a file of its own."""
    source: ClassVar[str]
    """The paper's arXiv number."""
    masks_per_image: int = 1
    """In a step, whose batch has so many fewer images: equally many masked ones are seen."""
    one_graph: ClassVar[tuple[str, ...]] = ()
    """Kinds of encoders on which `forward` is one graph under torch.compile."""
    config: MethodConfig
    """What it was built from."""
    encoder: Encoder
    """What it trains."""

    def __init__(self, encoder: Encoder, config: MethodConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        own = [kind for kind in self.encoders if kind not in self.forms]
        if encoder.kind not in own:
            raise WhymaskError(
                f"{type(self).__name__} does not fit encoder {encoder.kind!r}; it pretrains {' or '.join(own)}"
            )
        self.config = config or self.Config.resolve(self.Settings(), encoder.config, encoder.size)
        self.encoder = encoder

    @classmethod
    def form(cls, kind: str, settings: MethodSettings | MethodConfig) -> type["Method"]:
        """The method that this one is on encoders of this kind, with these settings."""
        return cls.forms.get(kind, cls)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The masks of a step, on the CPU: what `forward` takes after the images. BoolTensors (batch, gh, gw), True =
        hidden. The first says what the student does not see. Here: one mask, by the settings of `MaskedConfig`."""
        config: Any = self.config
        return (config.hide(batch, self.encoder.grid, generator),)

    forward: Callable[..., dict[str, Tensor]]
    """(images (B, C, h, w), *masks) -> {"loss": scalar, and further scalars that are worth logging}."""

    @property
    def is_one_graph(self) -> bool:
        """Whether `forward` is one graph under torch.compile on this encoder."""
        return self.encoder.kind in self.one_graph

    @property
    def draws_alike(self) -> bool:
        """Whether the masks of all steps hide equally many squares, so that all steps have the same shapes."""
        return not isinstance(getattr(self.config, "mask_ratio", None), tuple)

    def look(self, *masks: Tensor) -> None:
        """Find in masks that were just drawn, on the CPU, what `forward` will ask of them (`masks.once`)."""
        for mask in masks:
            look(mask)

    def hidden_rows(self, hidden: Tensor) -> Tensor:
        """Which of the B * N positions of all samples' features are wholly hidden, long (n,), ascending. Raises
        WhymaskError when there is none."""
        return once(hidden, "positions", self._hidden_rows)

    def _hidden_rows(self, hidden: Tensor) -> Tensor:
        chosen = self.encoder.rows_hidden(hidden).flatten().nonzero()[:, 0]
        if not len(chosen):
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
