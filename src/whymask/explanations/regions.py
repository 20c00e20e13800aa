"""Regions: the parts that an image is cut into where all combinations of parts are asked about."""

import numpy as np

from whymask.errors import WhymaskError
from whymask.explanations.settings import check_regions


def regions(size: tuple[int, int], n: int) -> np.ndarray:
    """Which of `n` regions each pixel of an image of `size` (h, w) belongs to: int64 (h, w), row by row of regions.

    8 are 2 rows of 4, 12 are 3 rows of 4: the most square way with no more rows than columns.

    Raises WhymaskError for fewer than 2 or more than 12 regions, or more rows or columns than pixels.
    """
    check_regions(n)
    rows = max(d for d in range(1, n + 1) if n % d == 0 and d * d <= n)
    columns = n // rows
    if rows > size[0] or columns > size[1]:
        raise WhymaskError(f"{rows}x{columns} regions do not fit into {size[0]}x{size[1]} pixels; give fewer regions")
    row, column = np.arange(size[0]) * rows // size[0], np.arange(size[1]) * columns // size[1]
    return row[:, None] * columns + column
