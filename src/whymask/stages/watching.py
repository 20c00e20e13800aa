"""Whether a pretraining is working, told on its way: a falling loss does not tell.

At each validation of the loop some images that are not tested on are looked at whole. Of their pooled features it is
kept how many directions they use, how far apart they lie and, where they have labels, how well the nearest neighbours
answer; and the same of the first weights, which pretraining has to exceed. The training itself does not notice.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from whymask.data.batches import in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder
from whymask.progress import say
from whymask.randomness import numpy_generator
from whymask.stages.probe import features_of
from whymask.tasks import Metric
from whymask.training.loop import VALIDATIONS, Training

SHARE = 0.05
"""Of a pretraining's operations: watching costs at most so much."""
FEWEST, MOST = 100, 2_000
"""Images that are looked at; with fewer than the first nothing is watched."""
NEIGHBOURS = 10
EARLY = 0.3
"""Share of the steps after which features should be better than at first."""


def spread_of(features: np.ndarray) -> dict[str, float]:
    """Of features (n, D), each brought to length 1.

    effective_rank: exp of the entropy of their singular values' shares, from 1 to min(n, D) (RankMe, arXiv 2210.02885);
    spread: mean standard deviation of a value, times sqrt(D): 0 where all are alike, at most 1;
    uniformity: log of the mean of exp(-2 d^2) over pairs at the distance d (arXiv 2005.10242): lower is more even.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    values = np.linalg.svd(unit, compute_uv=False)
    shares = values / values.sum() + 1e-12
    squared = 2 - 2 * (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return {
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
        "spread": float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1])),
        "uniformity": float(np.log(np.exp(-2 * squared).mean())),
    }


def neighbours_of(prepared: Prepared, rows: np.ndarray, features: np.ndarray) -> float | None:
    """The task's default metric of what the nearest neighbours say, of each half of the images those in the other;
    None where it is not defined."""
    task, labels = prepared.task, prepared.images.labels[rows]
    halves = np.array_split(numpy_generator(0, "watched").permutation(len(rows)), 2)
    said: list[np.ndarray] = [
        task.nearest(features[one], labels[one], features[other], NEIGHBOURS) for one, other in (halves, halves[::-1])
    ]
    metrics = task.metrics(np.concatenate(said), labels[np.concatenate(halves[::-1])])
    return metrics.get(task.default_metric)


@dataclass
class Watched:
    """What is looked at on the way, and what was seen of it: `first` of the first weights, `last` of the last ones."""

    encoder: Encoder
    prepared: Prepared
    rows: np.ndarray
    steps: int
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    is_told: bool = False

    @property
    def has_labels(self) -> bool:
        return not self.prepared.task.is_dense and bool(self.prepared.images.labelled[self.rows].all())

    def look(self) -> dict[str, float]:
        began = time.perf_counter()
        features = features_of(self.encoder, self.prepared, self.rows)
        seen = spread_of(features)
        knn = neighbours_of(self.prepared, self.rows, features) if self.has_labels else None
        self.seconds += time.perf_counter() - began
        return seen if knn is None else seen | {"knn": knn}

    def __call__(self, done: int) -> Mapping[str, float]:
        self.last = self.look()
        if not self.is_told and done >= EARLY * self.steps and self.is_no_better:
            self.is_told = True
            say(f"warning: {self.text(done)}")
        return self.last | {f"first_{name}": value for name, value in self.first.items()} | {"images": len(self.rows)}

    @property
    def is_no_better(self) -> bool:
        if "knn" not in self.last or "knn" not in self.first:
            return False
        gain = self.last["knn"] - self.first["knn"]
        return gain <= 0 if self.about.higher_is_better else gain >= 0

    @property
    def about(self) -> Metric:
        return self.prepared.task.describe(self.prepared.task.default_metric)

    def to_dict(self) -> dict[str, Any]:
        """For result.json."""
        return {name: getattr(self, name) for name in ("first", "last", "seconds")} | {"images": len(self.rows)}

    def text(self, done: int) -> str:
        return (
            f"after {done / self.steps:.0%} of the steps the nearest neighbours of {len(self.rows):,} labelled images "
            f"reach {self.last['knn']:.3f} {self.about.title} in its features, and {self.first['knn']:.3f} in those of "
            "the first weights: so far pretraining has not made them better"
        )


def watched(training: Training, prepared: Prepared, per_image: float) -> Watched | None:
    """What may be looked at in a training that has not begun and takes `per_image` operations an image; None where
    `SHARE` of them allows too few images. Test images never are."""
    encoder = training.model.encoder
    assert isinstance(encoder, Encoder)
    seen = training.steps * training.batches.batch_size
    affordable = min(MOST, int(SHARE * seen * per_image / VALIDATIONS / _looking(encoder, prepared)))
    pool = np.setdiff1d(prepared.pool, prepared.test)
    candidates = prepared.train if len(prepared.train) >= FEWEST and not prepared.task.is_dense else pool
    count = min(affordable, len(candidates))
    if count < FEWEST:
        return None
    rows = candidates[np.linspace(0, len(candidates) - 1, count).round().astype(int)]
    found = Watched(encoder, prepared, np.unique(rows), training.steps)
    found.first = found.look()
    return found


def _looking(encoder: Encoder, prepared: Prepared) -> float:
    """Operations of looking at a whole image."""
    batch = next(in_order(prepared.images, prepared.pool[:1], 1, next(encoder.parameters()).device))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.eval()(batch.images)
    return max(1.0, counter.get_total_flops())
