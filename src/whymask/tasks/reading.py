"""Labels as sources hold them, read: one class an image, or several."""

from typing import Any

import numpy as np

from whymask.errors import WhymaskError


def one_a_row(values: Any, source: str) -> np.ndarray:
    """(N,) of a list or array; (N, 1) is taken for it."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.empty((len(values), 0))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise WhymaskError(
            f"{source}: labels of shape {array.shape} and type {array.dtype}; one class an image was expected; give "
            "class numbers or names, or --task multilabel for several an image"
        )
    return array


def several_of(value: Any, separator: str, source: str) -> list[Any] | None:
    """The classes that an image shows; None where it is unlabelled."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(separator)]
        return [part for part in parts if part] if value.strip() else None
    if value is None or value != value:
        return None
    listed = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    listed = [item for item in listed if item is not None and item != ""]
    if any(isinstance(item, float) and item % 1 for item in listed):
        raise WhymaskError(
            f"{source}: labels such as {listed}; names or numbers of classes were expected; give --task regression "
            "where they are numbers to predict"
        )
    cleaned = [int(item) if isinstance(item, float) else item for item in listed]
    return None if any(not isinstance(item, str) and item < 0 for item in cleaned) else cleaned
