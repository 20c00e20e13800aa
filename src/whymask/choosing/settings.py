"""By which rules images are chosen."""

from typing import Literal, get_args

from whymask.errors import WhymaskError

Rule = Literal["auto", "typical", "covering", "spread", "uncertain"]
UNCERTAIN: Rule = "uncertain"
Unseen = Literal["typical", "covering", "spread"]
"""Rules that need no label, so that a study can choose by them before it has one."""
BLIND = "blind"
"""What stands beside them in a study: as many at random, whatever their class."""
UNSEEN: tuple[str, ...] = get_args(Unseen)
SOURCES = {
    "typical": "typical images of clusters (TypiClust, arXiv 2202.02794)",
    "covering": "images that cover most others (ProbCover, arXiv 2205.11320)",
    "spread": "each the farthest from all others (k-centre greedy, arXiv 1708.00489)",
    "uncertain": "uncertain and diverse images, by gradients of the last layer (BADGE, arXiv 1906.03671)",
    BLIND: "images at random, whatever their class",
}


def check_count(labels: int) -> None:
    """Raises WhymaskError for what is no number of images to choose."""
    if labels < 1:
        raise WhymaskError(f"--labels {labels}: how many images are to be labelled, at least 1, was expected")
