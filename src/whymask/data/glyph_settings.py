"""Which glyphs are drawn (`whymask.data.glyphs` draws them), and how a user writes that."""

import math
from dataclasses import dataclass, fields
from typing import Any

from whymask.errors import WhymaskError


@dataclass(frozen=True)
class Glyphs:
    """What is drawn; the defaults are the benchmark's. Pixels are grey, of no bounded range.

    An image is a square of `grid` x `grid` cells of `cell` x `cell` pixels. Every feature it shows stands, with an
    amplitude of its own drawn from U(amplitude_low, amplitude_high), in `copies` cells; no two share a cell.
    """

    classes: int = 10
    features: int = 2  # a class
    unlabelled: int = 10_000  # images
    train: int = 1_000  # labelled images, the classes in turn
    test: int = 2_000  # the first half multi-view, the second half single-view
    single_view_share: float = 0.0  # of the unlabelled and train images
    seed: int = 0
    grid: int = 4  # cells a side
    cell: int = 8  # pixels a side
    detail: int = 4  # side of the Gaussian noise that is enlarged to a pattern
    rms: float = 0.8  # of a pattern
    copies: int = 2  # cells that a feature stands in
    amplitude_low: float = 0.8
    amplitude_high: float = 1.2
    others: int = 4  # draws of other classes' features in an image
    others_strength: float = 0.35  # their amplitude is this times a drawn one
    single_view_rest: float = 0.05  # in a single-view image: of the own features that are not its view
    single_view_others: float = 0.3  # in a single-view image: of other classes' features
    noise: float = 0.5  # standard deviation of the pixel noise

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise WhymaskError(f"glyphs: classes={self.classes}; expected at least 2")
        for name in ("features", "grid", "cell", "detail", "copies"):
            if getattr(self, name) < 1:
                raise WhymaskError(f"glyphs: {name}={getattr(self, name)}; expected at least 1")
        for name in ("unlabelled", "train", "test", "others", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise WhymaskError(f"glyphs: {name}={getattr(self, name)}; expected 0 or more")
        if not 0 <= self.single_view_share <= 1:
            raise WhymaskError(f"glyphs: single_view_share={self.single_view_share}; expected a share from 0 to 1")
        if self.shown * self.copies > self.grid**2:
            raise WhymaskError(
                f"glyphs: {self.features} own features and {self.others} others in {self.copies} cells each need "
                f"{self.shown * self.copies} cells; a {self.grid} x {self.grid} grid has {self.grid**2}; "
                "give a larger grid, or fewer features, others or copies"
            )

    @property
    def shown(self) -> int:
        """Features that one image shows, own and others."""
        return self.features + self.others

    @property
    def side(self) -> int:
        """Pixels a side of an image."""
        return self.grid * self.cell


def glyphs_of(data: Any) -> Glyphs | None:
    """The settings of what a user gave as data, if that is glyphs."""
    return parse_glyphs(data) if isinstance(data, str) and data.partition(":")[0] == "glyphs" else None


def parse_glyphs(text: str) -> Glyphs:
    """ "glyphs" or "glyphs:unlabelled=2000,train=500" as a `Glyphs`; WhymaskError for anything else."""
    head, _, settings = text.partition(":")
    types = {f.name: int if f.type is int else float for f in fields(Glyphs)}
    expected = f"names are {', '.join(types)}"
    if head != "glyphs":
        raise WhymaskError(f"{text!r}; expected glyphs or glyphs:name=number,...; {expected}")
    given: dict[str, int | float] = {}
    for item in filter(None, settings.split(",")):
        name, equals, value = (part.strip() for part in item.partition("="))
        if name not in types or not equals:
            raise WhymaskError(f"{item!r} in {text!r}; expected name=number; {expected}")
        try:
            given[name] = types[name](value)
        except ValueError:
            kind = "a whole number" if types[name] is int else "a number"
            raise WhymaskError(f"{item!r} in {text!r}; expected {kind}; try {name}={getattr(Glyphs, name)}") from None
    return Glyphs(**given)  # type: ignore[arg-type]
