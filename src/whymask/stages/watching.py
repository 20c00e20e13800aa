"""Whether a pretraining is working, told on its way: a falling loss does not tell.

At each validation of the loop some images that are not tested on are looked at whole. Of their pooled features it is
kept how many directions they use, how far apart they lie and, where they have labels, how well the nearest neighbours
and a linear model answer; and the same of the first weights, which pretraining has to exceed. The training itself does
not notice.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
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
from whymask.training.loop import Training

SHARE = 0.05
"""Of a pretraining's operations, by which images are chosen, and of its time: watching costs at most so much."""
OFTEN, SELDOM = 20, 5
"""How often a run is looked at: as often as its share allows of `FEWEST` images, or not at all."""
FREE_SECONDS = 2.0
"""That watching may take whatever its share is."""
MODELS = ("sklearn.linear_model", "sklearn.neighbors", "sklearn.pipeline", "sklearn.preprocessing")
ITERATIONS = 200
"""Of the linear model, about."""
FEWEST, MOST = 100, 2_000
"""Images that are looked at; with fewer than the first nothing is watched."""
NEIGHBOURS = 10
ASKED = {"knn": "nearest neighbours", "linear": "a linear model"}
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


def answers_of(prepared: Prepared, rows: np.ndarray, features: np.ndarray) -> dict[str, float]:
    """The task's default metric of what the nearest neighbours ("knn") and a linear model ("linear") say, of each half
    of the images those in the other; without what is not defined, as where a half is of one class."""
    task, labels = prepared.task, prepared.images.labels[rows]
    halves = np.array_split(numpy_generator(0, "watched").permutation(len(rows)), 2)
    asked = np.concatenate(halves[::-1])

    def nearest(train: np.ndarray, known: np.ndarray, test: np.ndarray) -> np.ndarray:
        return task.nearest(train, known, test, NEIGHBOURS)

    models = {"knn": nearest, "linear": task.linear}
    if any(len(np.unique(labels[half], axis=0)) < 2 for half in halves):
        del models["linear"]
    found: dict[str, float] = {}
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a linear model that is not at its end
            said = [model(features[a], labels[a], features[b]) for a, b in (halves, halves[::-1])]
        value = task.metrics(np.concatenate(said), labels[asked]).get(task.default_metric)
        if value is not None:
            found[name] = value
    return found


@dataclass
class Watched:
    """What is looked at on the way, and what was seen of it: `first` of the first weights, `last` of the last ones;
    `every` so many steps, where that was asked for. `show` is called at each look on the way, for people to see."""

    encoder: Encoder
    prepared: Prepared
    rows: np.ndarray
    steps: int
    every: int | None = None
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    latest: float = 0.0
    looks: int = 0
    is_told: bool = False
    show: Callable[[], object] = lambda: None
    began: float = field(default_factory=time.perf_counter)

    @property
    def has_labels(self) -> bool:
        return not self.prepared.task.is_dense and bool(self.prepared.images.labelled[self.rows].all())

    def look(self) -> dict[str, float]:
        began = time.perf_counter()
        features = features_of(self.encoder, self.prepared, self.rows)
        seen = spread_of(features) | (answers_of(self.prepared, self.rows, features) if self.has_labels else {})
        self.seconds += time.perf_counter() - began
        self.looks += 1
        return seen

    def __call__(self, done: int) -> Mapping[str, float] | None:
        """None where it is left out, as with it, and the last one, watching would take more than its share."""
        taken = self.seconds + 2 * self.latest
        if self.every is None and done < self.steps and taken > max(FREE_SECONDS, SHARE * self.elapsed):
            return None
        before = self.seconds
        self.last = self.look()
        began = time.perf_counter()
        self.show()
        self.seconds += time.perf_counter() - began
        self.latest = self.seconds - before
        if not self.is_told and done >= EARLY * self.steps and self.is_no_better:
            self.is_told = True
            say(f"warning: {self.text(done)}")
        return self.last | {f"first_{name}": value for name, value in self.first.items()} | {"images": len(self.rows)}

    @property
    def elapsed(self) -> float:
        """Seconds since the first weights were looked at."""
        return time.perf_counter() - self.began

    @property
    def is_no_better(self) -> bool:
        return self.says_no_better(self.last, self.first)

    def says_no_better(self, last: Mapping[str, float], first: Mapping[str, float]) -> bool:
        """Whether neither the neighbours nor the linear model gained; False without labels."""
        sign = 1 if self.about.higher_is_better else -1
        asked = [name for name in ASKED if name in last and name in first]
        return bool(asked) and all(sign * (last[name] - first[name]) <= 0 for name in asked)

    def note_told(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """From the lines of an earlier session, whether it was said there."""
        for line in lines:
            seen = line.get("validation") or {}
            firsts = {name: seen[f"first_{name}"] for name in ASKED if f"first_{name}" in seen}
            self.is_told |= line["step"] >= EARLY * self.steps and self.says_no_better(seen, firsts)

    @property
    def about(self) -> Metric:
        return self.prepared.task.describe(self.prepared.task.default_metric)

    def to_dict(self) -> dict[str, Any]:
        """For result.json."""
        return {name: getattr(self, name) for name in ("first", "last", "seconds")} | {"images": len(self.rows)}

    def text(self, done: int) -> str:
        asked = {name: words for name, words in ASKED.items() if name in self.last and name in self.first}
        last, first = (
            " and ".join(f"{seen[name]:.3f} by {words}" for name, words in asked.items())
            for seen in (self.last, self.first)
        )
        return (
            f"no better than its first weights after {done / self.steps:.0%} of the steps: of {len(self.rows):,} "
            f"labelled images its features reach {last} in {self.about.title}, and those of the first weights {first}"
        )

    def summary(self) -> str:
        return (
            f"watched {self.looks} times, on {len(self.rows):,} images that are not tested on: "
            f"{self.seconds / max(self.elapsed, 1e-9):.1%} of the time"
        )


def watching(
    training: Training, prepared: Prepared, per_image: float, every: int | None = None
) -> tuple[Training, Watched | None]:
    """A training that has not begun and takes `per_image` operations an image, and what is looked at in it: `every` so
    many steps, or as often, and as many images, as `SHARE` of its operations allows; None where that is too little, or
    `every` is 0. Test images never are."""
    encoder = training.model.encoder
    assert isinstance(encoder, Encoder)
    pool = np.setdiff1d(prepared.pool, prepared.test)
    candidates = prepared.train if len(prepared.train) >= FEWEST and not prepared.task.is_dense else pool
    spent = SHARE * training.steps * training.batches.batch_size * per_image
    images = spent / _operations(encoder, prepared)
    looks = int(min(OFTEN, images / FEWEST))
    count = min(MOST, len(candidates), int(images / max(1, looks)) if every is None else MOST)
    if every == 0 or count < FEWEST or (every is None and looks < SELDOM):
        if every:
            say(f"not watched: {len(candidates):,} images may be looked at, of at least {FEWEST}")
        return training, None
    rows = candidates[np.linspace(0, len(candidates) - 1, count).round().astype(int)]
    for module in MODELS:
        import_module(module)  # takes seconds, once, and is no part of a look
    found = Watched(encoder, prepared, np.unique(rows), training.steps, every)
    found.first = found.look()
    found.latest = found.seconds
    return replace(training, validate=found, validations=looks, validate_every=every), found


def _operations(encoder: Encoder, prepared: Prepared) -> float:
    """Of looking at an image: its features, then what is asked of them."""
    width, classes = encoder.dim, len(prepared.task.names)
    return _looking(encoder, prepared) + 4 * ITERATIONS * width * max(1, classes) + 10 * width**2 + 2 * MOST * width


def _looking(encoder: Encoder, prepared: Prepared) -> float:
    """Operations of looking at a whole image."""
    batch = next(in_order(prepared.images, prepared.pool[:1], 1, next(encoder.parameters()).device))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.eval()(batch.images)
    return max(1.0, counter.get_total_flops())
