"""How many labels are bought: a number, a share, or all of them; of what, a task says (see `Task.stock`)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Literal

from whymask.errors import WhymaskError

FIFTH = 0.2
FEWEST = 5
"""Labels of a class: who has some dozens does not ask what fewer are worth."""


@dataclass(frozen=True)
class Budget:
    """How many labels, of each class or, where there are no classes, of all: a `count`, a `fraction`, or `all`."""

    kind: Literal["count", "fraction", "all"]
    value: float = 1.0

    @property
    def name(self) -> str:
        """As the user writes it: "10", "1%", "all"."""
        return {"count": f"{self.value:.0f}", "fraction": f"{100 * self.value:.10g}%", "all": "all"}[self.kind]

    def count(self, n: int) -> int:
        """Labels taken from a stock of `n` images; more than `n` if the stock is too small."""
        return int(self.value) if self.kind == "count" else math.ceil(round(self.value * n, 9))


def parse_budget(given: str | int) -> Budget:
    """10 or "10" labels, "1%" of them, or "all"; WhymaskError for anything else."""
    text = str(given).strip()
    if text == "all":
        return Budget("all")
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return Budget("count", int(text))
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text) and 0 < float(text[:-1]) <= 100:
        return Budget("fraction", float(text[:-1]) / 100)
    raise WhymaskError(f"budget {given!r}; expected a number of labels such as 10, a percentage such as 1%, or all")


def auto_budgets(stock: Sequence[int]) -> list[Budget]:
    """Where a person has labels, for stocks of these sizes: all that there are, and about a fifth of them.

    The fifth is a number a class, of 1, 2, 5, 10, ... the largest within a fifth of the median stock, but at least
    `FEWEST`; a share of each where the smallest stock has not as many; left out where it would be more than half.
    """
    few, smallest, median = _few(stock)
    if few > median // 2:
        return [Budget("all")]
    return [Budget("count", few) if few <= smallest else Budget("fraction", FIFTH), Budget("all")]


def auto_budgets_text(stock: Sequence[int]) -> str:
    """Why `auto_budgets` are these, in a line."""
    few, smallest, median = _few(stock)
    has = f"{median:,} labelled images" if len(stock) == 1 else f"{median:,} labelled images of the median class"
    given = "; --budgets gives others"
    if few > median // 2:
        return f"budgets: all labels, as a fifth of the {has} would be fewer than {FEWEST}{given}"
    if few <= smallest:
        part = f"{few:,}, about a fifth of the {has}"
    else:
        part = f"{FIFTH:.0%} of each class, as the smallest has only {smallest:,} where the median class has {median:,}"
    return f"budgets: {part}, where labels are few, and all that there are{given}"


def _few(stock: Sequence[int]) -> tuple[int, int, int]:
    """About a fifth of the median stock that is not empty; the smallest stock; the median one."""
    counts = [int(n) for n in stock if n > 0]
    if not counts:
        raise WhymaskError("there are no labelled images to derive a budget from; give labels")
    median = median_low(counts)
    return max(FEWEST, _nice(max(1, int(median * FIFTH)))), min(counts), median


def _nice(limit: int) -> int:
    """The largest of 1, 2, 5, 10, 20, 50, ... that is at most `limit`."""
    power = 10 ** (len(str(limit)) - 1)
    return max(step * power for step in (1, 2, 5) if step * power <= limit)
