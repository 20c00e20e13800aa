"""What a map of images is told."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from whymask.data.settings import DataSettings
from whymask.errors import WhymaskError
from whymask.flags import Flat, readable
from whymask.training.settings import RuntimeSettings

Layout = Literal["auto", "pca", "umap"]
MOST_POINTS, MOST_NEIGHBOURS = 50_000, 20
"""What a page holds."""


@readable
@dataclass(frozen=True)
class MapSettings:
    """How images become points, and what is looked for among them."""

    layout: Layout = "auto"
    """pca: the two directions in which the features vary most. umap: beside it neighbours laid near each other (pip
    install 'whymask[map]'). auto: umap too where it is installed."""
    points: int = MOST_POINTS
    """Images that are shown, at most 50,000; of more as many, evenly spaced."""
    neighbours: int = 10
    """Of each image, by the cosine of their features: those that are listed, and asked whether its label is right."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        for name, least, most in (("points", 3, MOST_POINTS), ("neighbours", 1, MOST_NEIGHBOURS)):
            if not least <= (given := getattr(self, name)) <= most:
                raise WhymaskError(f"--{name} {given}: a number from {least} to {most:,} was expected; change it")
