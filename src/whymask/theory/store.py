"""What was computed for each seed, on disk: any share of the seeds can be run anywhere, and nothing is run twice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from whymask.progress import say
from whymask.runs import write_arrays

Arrays = dict[str, np.ndarray]
"""By name; the first axis is the seeds'."""
CURVES = ("growth", "losses")
"""Arrays whose second axis is time. A seed's curve ends where it stops changing; shown beside longer ones, it stays."""


class Store:
    """Arrays by (name, seed), each in a file of its own; without a folder, in memory."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._kept: dict[tuple[str, int], Arrays] = {}

    def get(self, name: str, seeds: Sequence[int], at_once: int, compute: Callable[[list[int]], Arrays]) -> Arrays:
        """The arrays of all `seeds`, stacked; `compute` makes those that are not there, `at_once` seeds a call."""
        missing = [seed for seed in seeds if self._read(name, seed) is None]
        for start in range(0, len(missing), at_once):
            group = missing[start : start + at_once]
            say(f"{name}: seeds {', '.join(map(str, group))}")
            made = compute(group)
            for place, seed in enumerate(group):
                self._write(name, seed, {key: array[place] for key, array in made.items()})
        return _stacked([self._read(name, seed) or {} for seed in seeds])

    def find(self, name: str, seeds: Sequence[int]) -> Arrays | None:
        """The arrays of all `seeds`, stacked; None unless all are there."""
        found = [arrays for seed in seeds if (arrays := self._read(name, seed)) is not None]
        return _stacked(found) if len(found) == len(seeds) else None

    def _path(self, name: str, seed: int) -> Path | None:
        return self.folder / name / f"{seed}.npz" if self.folder else None

    def _read(self, name: str, seed: int) -> Arrays | None:
        path = self._path(name, seed)
        if (name, seed) not in self._kept and path is not None and path.exists():
            with np.load(path) as file:
                self._kept[name, seed] = dict(file)
        return self._kept.get((name, seed))

    def _write(self, name: str, seed: int, arrays: Arrays) -> None:
        arrays = {key: _trimmed(array) if key in CURVES else array for key, array in arrays.items()}
        self._kept[name, seed] = arrays
        path = self._path(name, seed)
        if path is not None:
            write_arrays(path, arrays)


def _trimmed(curve: np.ndarray) -> np.ndarray:
    """Without the repetitions of the last value at the end."""
    differs = (curve != curve[-1]).reshape(len(curve), -1).any(1)
    return curve[: differs.nonzero()[0][-1] + 2] if differs.any() else curve[:1]


def _stacked(seeds: Sequence[Arrays]) -> Arrays:
    return {key: np.stack(_equally_long([arrays[key] for arrays in seeds])) for key in seeds[0]}


def _equally_long(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    if not arrays[0].ndim:
        return list(arrays)
    longest = max(len(array) for array in arrays)
    return [np.concatenate([array, np.repeat(array[-1:], longest - len(array), axis=0)]) for array in arrays]
