"""What an explanation asks networks about an image: which of its classes it is of."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from whymask.tasks.base import Task


class Question(NamedTuple):
    """Attributes:
    task: the classes that are told apart, one an image.
    labels: their numbers, int64 (N,), -1 = unlabelled.
    mixing: (classes, k), which makes their logits of a head's outputs (k,); None where these are the logits.
    about: of several classes an image, the one that is asked about.
    note: why that one; "" where it was asked for.
    """

    task: "Task"
    labels: np.ndarray
    mixing: np.ndarray | None = None
    about: str | None = None
    note: str = ""
