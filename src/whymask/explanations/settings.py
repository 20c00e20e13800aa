"""What an explanation is told."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from whymask.data.settings import DataSettings
from whymask.errors import WhymaskError
from whymask.flags import Flat, readable
from whymask.later import LATER
from whymask.training.settings import RuntimeSettings

MeasureName = Literal[
    "features",
    "views",
    "lottery",
    "interactions",
    "retention",
    "robustness",
    "adversarial",
    "known-views",
    "along-training",
]
FEWEST, MOST = 2, 12
"""Regions of an image."""
NAMES: tuple[MeasureName, ...] = get_args(MeasureName)
"""Of `whymask.explanations.measures.MEASURES`, which need torch, as a flag does not."""
USUAL = NAMES[:-2]
"""Those that train no further networks."""


@readable
@dataclass(frozen=True)
class ExplainSettings:
    """Why pretraining helped, or did not: which features the networks captured."""

    measures: tuple[MeasureName, ...] = USUAL
    """Which to take. features is for glyphs alone, whose features are known. Two train further networks, and only come
    where they are named: known-views, one a seed, on your images put together, asks whether views are true there;
    along-training, each network again, asks how soon it has the interactions that it ends with."""
    test_images: int = 500
    """Test images, the classes in equal numbers as far as they go."""
    view_images: int = 500
    """Of these, on how many views are counted."""
    interaction_images: int = 48
    """Of these, how many the interactions are computed on: each is asked about 2^regions times."""
    adversarial_images: int = field(default=64, metadata=LATER)
    """Of these, how many are attacked: each is seen, with its gradient, 20 times in six ways."""
    regions: int = 8
    """Regions that an image is cut into for the interactions, 2 to 12."""
    label: str | None = None
    """Where an image may show several classes: the one that networks are asked about, whether it is there. Default: the
    one that comes nearest to being shown by half of the test images."""
    controls: bool = True
    """Train the networks that stand beside the two: from scratch with random erasing, a seed each, and with shuffled
    labels. Without them no conclusion is drawn from measures that hide parts of images."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        unknown = [name for name in self.measures if name not in NAMES]
        if unknown or not self.measures:
            raise WhymaskError(f"measures {self.measures}; some of {', '.join(NAMES)} were expected; change them")
        for name in ("test_images", "view_images", "interaction_images", "adversarial_images"):
            if getattr(self, name) < 2:
                raise WhymaskError(f"{name} {getattr(self, name)} was given; at least 2 are needed; give more")
        check_regions(self.regions)


def check_regions(regions: int) -> None:
    """Raises WhymaskError for fewer than 2 or more than 12."""
    if not FEWEST <= regions <= MOST:
        raise WhymaskError(
            f"{regions} regions were given; {FEWEST} to {MOST} were expected: each image is shown in 2^n ways; "
            "change it"
        )


BRIEF = ExplainSettings(measures=("features", "views", "lottery"), view_images=64)
"""What every study does."""
