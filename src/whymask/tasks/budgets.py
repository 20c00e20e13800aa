"""How many labels are bought: a number, a share, or all of them; of what, a task says (see `Task.stock`)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whymask.errors import WhymaskError


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
    """Two budgets for stocks of these sizes: of 1, 2, 5, 10, ... the largest within a fifth of the smallest stock that
    is not empty, and within all of it; one budget where they agree."""
    counts = [int(n) for n in stock if n > 0]
    if not counts:
        raise WhymaskError("there are no labelled images to derive a budget from; give labels")
    smallest = min(counts)
    return [Budget("count", n) for n in sorted({_nice(max(1, smallest // 5)), _nice(smallest)})]


def _nice(limit: int) -> int:
    """The largest of 1, 2, 5, 10, 20, 50, ... that is at most `limit`."""
    power = 10 ** (len(str(limit)) - 1)
    return max(step * power for step in (1, 2, 5) if step * power <= limit)
