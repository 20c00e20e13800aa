"""What the networks are shown: test images, and what hides parts of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whymask.data.batches import in_order
from whymask.data.glyph_settings import Glyphs
from whymask.data.prepare import Prepared
from whymask.explanations.batching import BATCH
from whymask.explanations.cast import Cast
from whymask.explanations.evidence import Means, means_of
from whymask.explanations.fill import Filling, fillers
from whymask.explanations.settings import ExplainSettings


@dataclass(frozen=True)
class Shown:
    """Test images, the same for every network, and how they are taken apart.

    Attributes:
        rows: of the prepared data, (n,).
        images, labels: (n, C, h, w), normalised, and (n,).
        groups: (n,), such as patients; None where there are none.
        cells: the grid (gh, gw) of what is hidden at once.
        fillers: for each filling, the images (n, C, h, w) that stand where something is hidden.
        means: how the evidence of each arm's networks is found.
        glyphs: what the images are drawn from, where their features are known.
    """

    rows: np.ndarray
    images: Tensor
    labels: Tensor
    groups: np.ndarray | None
    cells: tuple[int, int]
    fillers: dict[Filling, Tensor]
    means: dict[str, Means]
    glyphs: Glyphs | None
    settings: ExplainSettings

    @classmethod
    def to(cls, cast: Cast, rows: np.ndarray, glyphs: Glyphs | None, settings: ExplainSettings) -> "Shown":
        """The images `rows` of the data of `cast`, as its networks are shown them."""
        images, labels = images_of(cast.prepared, rows)
        cells = cast.members[0].encoder.grid
        means: dict[str, Means] = {}
        for network in cast.members:
            if network.arm not in means:
                means[network.arm] = means_of(network, images, labels)
        groups = groups_of(cast.prepared, rows)
        return cls(rows, images, labels, groups, cells, fillers(images, cells), means, glyphs, settings)

    def first(self, count: int) -> "Shown":
        """The first `count` images alone."""
        return replace(
            self,
            rows=self.rows[:count],
            images=self.images[:count],
            labels=self.labels[:count],
            groups=None if self.groups is None else self.groups[:count],
            fillers={name: filler[:count] for name, filler in self.fillers.items()},
        )


def images_of(prepared: Prepared, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images (n, C, h, w), normalised, and labels (n,) of `rows` of `prepared`."""
    batches = list(in_order(prepared.images, rows, BATCH))
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def groups_of(prepared: Prepared, rows: np.ndarray) -> np.ndarray | None:
    """The groups of `rows` (n,), such as patients; None where there are none."""
    return None if prepared.groups is None else prepared.groups[rows]
