"""What a claim is. Each file of `whymask.theory.claims` holds one, to be read from top to bottom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whymask.report.text import known
from whymask.theory.claims.record import Finding, Row
from whymask.theory.lab import Lab

CLOCK_NAMES = {"own": "own clock", "common": "common clock", "normalised": "normalised targets"}


@dataclass(frozen=True)
class Told:
    """What a run's folder holds of a claim: the rows of claims.json, the run's setting, and the arrays of arrays.npz.

    S seeds, K kernels, n = k·L features (feature j belongs to class j // L), patches of d numbers.
    """

    rows: list[Row]
    setting: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def features_a_class(self) -> int:
        """L; 1 where the settings do not say."""
        data = self.setting.get("data")
        L: Any = data.get("L") if isinstance(data, dict) else None
        return int(L) if known(L) and L >= 1 else 1

    def array(self, name: str, axes: int) -> np.ndarray | None:
        """The array as floats, what is not finite as NaN; None if it is missing, empty or of another shape."""
        found = self.arrays.get(name)
        if found is None or found.ndim != axes or not found.size or found.dtype.kind not in "fiub":
            return None
        return np.where(np.isfinite(found), found, np.nan).astype(float)


@dataclass(frozen=True)
class Picture:
    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Section:
    """Pictures of a claim that are read together; `reading` says what one sees and how to read it."""

    id: str
    title: str
    reading: str
    draw: Callable[[Told], list[Picture]]
    """Those that there are numbers for."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper or its models: what it is called, how it is tested in a lab, and what the page draws."""

    id: str
    """In claims.json and flags."""
    title: str
    test: Callable[[Lab], list[Finding]]
    section: Section | None = None
