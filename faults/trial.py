"""One fault, and whether anything was lost by it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Trial:
    """`lost` says what was lost; "" where the fault was survived."""

    kind: str
    what: str
    lost: str = ""


Kind = Callable[[Path, np.random.Generator], Iterator[Iterator[Trial]]]
"""(empty folder, randomness) -> rounds of trials without end, or until the kind has no more. In a round each of what it
disturbs is disturbed once, each time by a fault of its own."""
