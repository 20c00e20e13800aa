"""Images whose features are not orthogonal: each looks half like a feature of another class."""

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from whymask.errors import WhymaskError
from whymask.theory.data import MultiView


@dataclass(frozen=True)
class Overlapping(MultiView):
    """Features of length 1 of which each has the cosine `overlap` with one feature of another class, and is orthogonal
    to all others: classes 0 and 1, 2 and 3 ... pair theirs. The last of an odd number of classes overlaps with none."""

    overlap: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.overlap < 1:
            raise WhymaskError(f"overlap={self.overlap}: a cosine from 0 to below 1 was expected.")

    @cached_property
    def features(self) -> Tensor:
        """(k·L, d) float64; row i·L + l is feature l of class i."""
        features = MultiView.of(self).features.view(self.k, self.L, self.width).clone()
        even, odd = features[: self.k // 2 * 2 : 2].clone(), features[1::2].clone()
        turned = math.asin(self.overlap) / 2
        features[: self.k // 2 * 2 : 2] = math.cos(turned) * even + math.sin(turned) * odd
        features[1::2] = math.cos(turned) * odd + math.sin(turned) * even
        return features.flatten(0, 1).contiguous()
