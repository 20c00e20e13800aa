"""What was computed for each seed, on disk: any share of the seeds can be run anywhere, and nothing is run twice."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whymask.disk import read_arrays, write_arrays
from whymask.errors import DamagedError
from whymask.progress import Decoding, say

Arrays = dict[str, np.ndarray]
"""By name; the first axis is the seeds'."""
CURVES = ("growth", "losses")
"""Arrays whose second axis is time. A seed's curve ends where it stops changing; shown beside longer ones, it stays."""


class Store:
    """Arrays by (name, seed), each in a file of its own; without a folder, in memory.

    Groups of seeds are computed by `workers` threads, each on one core: cores that never wait for one another.
    """

    def __init__(self, folder: Path | None = None, workers: int = 1):
        self.folder, self.workers = folder, workers
        self._kept: dict[tuple[str, int], Arrays] = {}

    def get(self, name: str, seeds: Sequence[int], at_once: int, compute: Callable[[list[int]], Arrays]) -> Arrays:
        """The arrays of all `seeds`, stacked; `compute` makes what is not there, at most `at_once` seeds a call."""
        missing = [seed for seed in seeds if self._read(name, seed) is None]
        if missing:
            say(f"{name}: seeds {', '.join(map(str, missing))}")
        told, done = Decoding(name, "seeds"), 0
        told(0, len(missing))
        for group, made in self._computed(missing, at_once, compute):
            done += len(group)
            told(done, len(missing))
            for place, seed in enumerate(group):
                self._write(name, seed, {key: array[place] for key, array in made.items()})
        return _stacked([self._read(name, seed) or {} for seed in seeds])

    def _computed(
        self, seeds: list[int], at_once: int, compute: Callable[[list[int]], Arrays]
    ) -> Iterator[tuple[list[int], Arrays]]:
        """Each group of seeds with its arrays."""
        if self.workers == 1:
            for group in _groups(seeds, at_once):
                yield group, compute(group)
            return
        groups = _groups(seeds, min(at_once, math.ceil(len(seeds) / (2 * self.workers))))  # two rounds balance better
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from zip(groups, pool.map(compute, groups), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def find(self, name: str, seeds: Sequence[int]) -> Arrays | None:
        """The arrays of all `seeds`, stacked; None unless all are there."""
        found = [arrays for seed in seeds if (arrays := self._read(name, seed)) is not None]
        return _stacked(found) if len(found) == len(seeds) else None

    def _path(self, name: str, seed: int) -> Path | None:
        return self.folder / name / f"{seed}.npz" if self.folder else None

    def _read(self, name: str, seed: int) -> Arrays | None:
        path = self._path(name, seed)
        if (name, seed) not in self._kept and path is not None and path.exists():
            try:
                self._kept[name, seed] = read_arrays(path)
            except DamagedError as error:
                say(f"{error}; it is made again now")
        return self._kept.get((name, seed))

    def _write(self, name: str, seed: int, arrays: Arrays) -> None:
        arrays = {key: _trimmed(array) if key in CURVES else array for key, array in arrays.items()}
        self._kept[name, seed] = arrays
        path = self._path(name, seed)
        if path is not None:
            write_arrays(path, arrays)


def numpy(tensor: Tensor) -> np.ndarray:
    """The tensor as an array, from whatever device."""
    return tensor.cpu().numpy()


def _groups(seeds: list[int], size: int) -> list[list[int]]:
    return [seeds[start : start + size] for start in range(0, len(seeds), max(1, size))]


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
