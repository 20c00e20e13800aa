"""Regression: one or several numbers an image.

Labels are the numbers, float64 (N, T), a row of NaN = unlabelled; predictions are numbers in the same units (N, T).
Where there are several targets, a metric is the plain mean over them, as in scikit-learn. MAE and RMSE are then
dominated by the target with the largest numbers: where units differ, take R2, which has none, or that of one target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.tasks.base import LossConfig, Objective, RawLabels, Task, permuted
from whymask.tasks.budgets import Budget
from whymask.tasks.metric import Metric, checked, described, known
from whymask.tasks.outputs import Outputs
from whymask.tasks.probing import by_distance
from whymask.tasks.question import Question
from whymask.tasks.resampling import Units, Weighted, difference
from whymask.tasks.weighted import Fit

STRATA, LEAST_UNITS = 5, 10  # parts of a target's range that are divided alike, and images or groups in each

METRICS = {
    "mean_absolute_error": Metric("mean absolute error", higher_is_better=False, unit="target", high=None),
    "rmse": Metric(
        "root mean squared error",
        higher_is_better=False,
        unit="target",
        high=None,
        average="of squared errors over all test images alike, then the root, then over targets",
    ),
    "r2": Metric("R2", low=None, average="of squared errors and of the targets' variance over all test images"),
    "spearman": Metric("Spearman correlation", low=-1.0, average="of ranks among all test images"),
}


@dataclass(frozen=True)
class Regression(Task):
    """Numbers. The loss is the squared error of targets that are standardised by the training images' mean and
    standard deviation, to which `bins` adds a cross-entropy."""

    name = "regression"
    names_are = "targets"
    name_is = "target"
    budget_counts = "labelled images"
    budget_of_one = "labelled image"
    every_metric = tuple(METRICS)
    metric_parts = "target"
    default_metric = "mean_absolute_error"
    kept_as = "values"
    outputs = Outputs("regressor", "values", "Values are in the units of the targets.", "regression")
    row_metric = METRICS["mean_absolute_error"]
    takes = frozenset({"bins"})
    least = "at least two are needed"

    # labels

    @classmethod
    def encode(cls, raw: RawLabels, source: str) -> "tuple[Regression, np.ndarray]":
        """A number or a row of numbers an image; None, "" and NaN mean unlabelled."""
        try:
            rows = [[_number(v) for v in (value if np.ndim(value) else [value])] for value in raw.values]
        except (ValueError, TypeError) as error:
            raise WhymaskError(
                f"{source}: targets that are no numbers ({error}); --task regression predicts numbers; give "
                "--label-columns, or --task classification for names"
            ) from None
        width = max((len(row) for row in rows), default=1)
        if any(len(row) != width and not np.isnan(row).all() for row in rows):
            raise WhymaskError(f"{source}: rows of several lengths; as many numbers for each image were expected")
        labels = np.array([row if len(row) == width else [np.nan] * width for row in rows]).reshape(-1, width)
        if np.isinf(labels).any():
            raise WhymaskError(f"{source}: infinite targets; finite numbers were expected; leave those cells empty")
        partly = np.flatnonzero(np.isnan(labels).any(axis=1) & ~np.isnan(labels).all(axis=1))
        if len(partly):
            raise WhymaskError(
                f"{source}: {len(partly)} images, number {partly[0]} for one, have some of their {width} targets only; "
                "all of them, or none at all, were expected; fill them in"
            )
        single = (raw.column,) if width == 1 else tuple(f"{raw.column} {number}" for number in range(width))
        return cls(raw.names if len(raw.names) == width else single), labels

    def unlabelled(self, count: int) -> np.ndarray:
        return np.full((count, max(1, len(self.names))), np.nan)

    def labelled(self, labels: np.ndarray) -> np.ndarray:
        return ~np.isnan(labels[:, 0])

    def check(self, labels: np.ndarray, source: str) -> None:
        constant = [name for name, values in zip(self.names, labels.T, strict=True) if np.ptp(values) == 0]
        if constant:
            raise WhymaskError(
                f"{source}: the target {constant[0]!r} is the same for all training images; there is nothing to learn. "
                "Add images with other values, or leave the target out."
            )

    def counts(self, labels: np.ndarray) -> list[int]:
        return [len(labels)] * len(self.names)

    def summary(self, labels: np.ndarray) -> dict[str, Any]:
        """How the targets are spread."""
        return {
            "targets": [
                {
                    "name": name,
                    "mean": float(values.mean()),
                    "std": float(values.std()),
                    "quantiles": np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist(),
                }
                for name, values in zip(self.names, labels.T, strict=True)
                if len(values)
            ]
        }

    def text(self) -> str:
        return f"regression of {', '.join(self.names)}"

    # who gets which labels

    def strata(self, labels: np.ndarray, units: int) -> list[np.ndarray]:
        """The images in each fifth of each target's order; coarser where there are few."""
        parts = min(STRATA, max(1, units // LEAST_UNITS))
        strata = []
        for values in labels.T:
            edges = np.quantile(values, np.linspace(0, 1, parts + 1)[1:-1]) if len(values) else []
            part = np.searchsorted(edges, values, side="right")
            strata += [np.flatnonzero(part == p) for p in np.unique(part)]
        return strata

    def stock(self, labels: np.ndarray) -> list[int]:
        return [len(labels)]

    def draw(self, labels: np.ndarray, rows: np.ndarray, budget: Budget, seed: int) -> np.ndarray:
        """Prefixes of one permutation for each seed."""
        rows, count = permuted(rows[self.labelled(labels[rows])], budget, seed)
        return np.sort(rows[:count])

    # training

    def _objective(self, labels: np.ndarray, config: LossConfig) -> "Standardised":
        return Standardised(labels, config.bins)

    # predictions

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs

    def shown(self, outputs: Tensor) -> Tensor:
        return outputs

    @property
    def header(self) -> list[str]:
        return list(self.names)

    def row(self, shown: np.ndarray) -> list[str]:
        return [f"{value:.6g}" for value in shown]

    def question(self, labels: np.ndarray, test: np.ndarray, label: str | None) -> Question:
        raise WhymaskError(
            f"{self.text()} has no classes that a network could recognise, which is what an explanation asks about; "
            "explain a classification"
        )

    # how good they are

    def describe(self, metric: str) -> Metric:
        """One of METRICS, or that of one target."""
        base, _, target = metric.partition("/")
        if target and base == "mean_absolute_error":
            return Metric(f"mean absolute error of {target}", higher_is_better=False, unit="target", high=None)
        return described(metric, METRICS, "mean_absolute_error/<target>")

    def metrics(self, predictions: np.ndarray, labels: np.ndarray, tags: np.ndarray | None = None) -> dict[str, float]:
        """Every metric of METRICS that the data define, and the first of each target where there are several."""
        checked(predictions, labels, predictions.shape)
        return known(self._means([predictions], labels, Units.of(len(labels)))(np.ones((len(labels), 1))))

    def differences(
        self,
        arm: Sequence[np.ndarray],
        baseline: Sequence[np.ndarray],
        labels: np.ndarray,
        units: Units,
        tags: np.ndarray | None = None,
    ) -> Weighted:
        """Of all metrics."""
        return difference(*(self._means(side, labels, units) for side in (arm, baseline)))

    def _means(self, networks: Sequence[np.ndarray], labels: np.ndarray, units: Units) -> Weighted:
        """Means over networks."""
        fits = [
            Fit([network[:, t].astype(np.float64) for network in networks], target, units)
            for t, target in enumerate(labels.T)
        ]

        def of(weights: np.ndarray) -> dict[str, np.ndarray]:
            each = [fit.of(weights) for fit in fits]
            means = {metric: np.mean([values[metric] for values in each], axis=0) for metric in METRICS}
            names = self.names if len(fits) > 1 else ()
            return means | {
                f"mean_absolute_error/{name}": values["mean_absolute_error"]
                for name, values in zip(names, each, strict=False)
            }

        return of

    def per_name(self, predictions: np.ndarray, labels: np.ndarray) -> list[float | None]:
        """Mean absolute error."""
        checked(predictions, labels, predictions.shape)
        return np.abs(predictions - labels).mean(axis=0).tolist()

    def nearest(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
        """By the neighbours' mean."""
        from sklearn.neighbors import KNeighborsRegressor

        return KNeighborsRegressor(**by_distance(neighbours)).fit(train, labels).predict(test)

    def linear(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """By ridge regression, whose predictions are the same whether or not targets are standardised."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), Ridge()).fit(train, labels).predict(test).reshape(len(test), -1)

    def guess(self, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The targets' means."""
        return np.tile(labels.mean(axis=0), (len(test), 1))

    def perfect(self, labels: np.ndarray) -> np.ndarray:
        return labels


class Standardised(Objective):
    """The squared error of targets (B, T), each with the mean 0 and standard deviation 1 over the training images.

    With `bins`, the cross-entropy over as many equal parts of the target's range beside it, as further outputs of the
    same head (arXiv 2308.10603: it helps most where targets are unevenly spread). A part is a class: it has no say in
    what is predicted, but in what the encoder learns.

    Args:
        labels: of the training images (n, T), all known.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, labels: np.ndarray, bins: int = 0):
        super().__init__()
        if bins < 0 or bins == 1:
            raise WhymaskError(f"bins {bins} was given; 0 (none) or at least 2 was expected; try 10")
        self.bins, self.targets = bins, labels.shape[1]
        self.width = self.targets * (1 + bins)
        spread = labels.std(axis=0)
        statistics = {
            "mean": labels.mean(axis=0),
            "std": np.where(spread > 0, spread, 1.0),
            "low": labels.min(axis=0),
            "high": labels.max(axis=0),
        }
        for name, values in statistics.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.float()
        loss = F.mse_loss(outputs[:, : self.targets], (targets - self.mean) / self.std)
        if not self.bins:
            return loss
        place = (targets - self.low) / (self.high - self.low).clamp(min=1e-12)
        number = (place * self.bins).long().clamp(0, self.bins - 1)
        return loss + F.cross_entropy(outputs[:, self.targets :].unflatten(1, (self.bins, self.targets)), number)

    def read(self, outputs: Tensor) -> Tensor:
        """In the targets' units."""
        return outputs[:, : self.targets].float() * self.std + self.mean

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        std, mean = self.std.to(weight.device), self.mean.to(weight.device)
        return weight[: self.targets] * std[:, None], bias[: self.targets] * std + mean

    def about(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "bins": self.bins}


def _number(value: Any) -> float:
    """NaN for what is not there."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return np.nan
    return float(value)
