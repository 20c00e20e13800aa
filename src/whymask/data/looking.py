"""Labels that are themselves read of files, such as label maps, looked at once by threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from whymask.progress import Decoding

BLOCK = 256
"""Rows that are looked at before the next ones are asked for."""
Seen = TypeVar("Seen")


def looked(there: np.ndarray, look: Callable[[int], Seen | None], what: str) -> Iterator[tuple[int, Seen]]:
    """The rows of `there`, bool (N,), that have something, and what `look` makes of them, some at a time; `what` is
    looked at, such as "label maps"."""
    rows, progress = np.flatnonzero(there), Decoding(f"looking at {what}", what)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), BLOCK):
            block: list[int] = rows[start : start + BLOCK].tolist()
            looks = pool.map(look, block)
            yield from ((row, seen) for row, seen in zip(block, looks, strict=True) if seen is not None)
            progress(start + len(block), len(rows))
