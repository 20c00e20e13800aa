"""What would settle a verdict that is open: seeds and test images, at the spread that was seen."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from whymask.report.text import count

CONFIDENCE = 0.95
POWER = 0.84
"""Standard errors beyond the interval's half-width with which 4 repetitions of 5 are settled, and not every second."""
NORMAL = 1.96
MINIMUM_SEEDS, MOST_SEEDS, MOST_IMAGES = 3, 50, 1_000_000

Row = Mapping[str, Any]


def settling(pairs: Sequence[Row], margin: float, test_images: int | None) -> str | None:
    """ "About 1,200 test images and 8 seeds (now 372 and 5), if difference and spread stay as they are."

    An interval settles a pair when it excludes 0 or lies within the margin: for each pair the easier of the two counts,
    and of all pairs the hardest. `pairs`: open ones of study.json, of 3 or more seeds. `test_images`: how many, or
    groups of them, were resampled. None where more of neither would help.
    """
    asked, now = [], []
    for name, needed, there, most in (
        ("test images", _images_needed(pairs, margin, test_images), test_images or 0, MOST_IMAGES),
        ("seeds", seeds_needed(pairs, margin), max(row["seeds"] for row in pairs), MOST_SEEDS),
    ):
        if needed > there:
            asked.append(f"more than {count(most)} {name}" if needed > most else f"{count(_rounded(needed))} {name}")
            now.append(count(there))
    if not asked:
        return None
    return f"About {' and '.join(asked)} (now {' and '.join(now)}), if difference and spread stay as they are."


def seeds_needed(pairs: Sequence[Row], margin: float) -> int:
    """The seeds that `settling` asks for; more than `MOST_SEEDS` where those would not suffice."""
    return max(_seeds_for(row, margin) for row in pairs)


def _images_needed(pairs: Sequence[Row], margin: float, test_images: int | None) -> float:
    images = [_images_for(row, margin, test_images) for row in pairs if row["low_images"] is not None and test_images]
    return max(images, default=0)


def _goal(pair: Row, margin: float) -> float:
    """The half-width at which an interval excludes 0, or lies within the margin (NaN where there is none)."""
    size = abs(float(pair["difference"]))
    return max(size, margin - size) if math.isfinite(margin) else size


def _images_for(pair: Row, margin: float, test_images: int) -> float:
    half, goal = (pair["high_images"] - pair["low_images"]) / 2, _goal(pair, margin)
    return math.ceil(test_images * ((1 + POWER / NORMAL) * half / goal) ** 2) if goal else math.inf


def _seeds_for(pair: Row, margin: float) -> int:
    """The fewest seeds whose t interval would be narrow enough; more than `MOST_SEEDS` where those do not suffice."""
    half, seeds = (pair["high"] - pair["low"]) / 2, pair["seeds"]
    deviation, goal = half / _quantile(seeds) * math.sqrt(seeds), _goal(pair, margin)
    numbers = range(MINIMUM_SEEDS, MOST_SEEDS + 1)
    return next((n for n in numbers if (_quantile(n) + POWER) * deviation / math.sqrt(n) <= goal), MOST_SEEDS + 1)


def _quantile(seeds: int) -> float:
    return float(stdtrit(seeds - 1, (1 + CONFIDENCE) / 2))


def _rounded(value: float) -> int:
    """Up, to two digits that count."""
    step = 10 ** max(0, len(str(int(value))) - 2)
    return math.ceil(value / step) * step
