"""What a metric says, and what every task's metrics have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whymask.errors import WhymaskError


@dataclass(frozen=True)
class Metric:
    """What a number says about predictions.

    Attributes:
        title: its name for people.
        unit: "target" where it is measured as the target is, "nat" for a log loss, "" for shares and correlations.
        low, high: what it lies between; None where there is no bound.
        average: how the test images come together in it.
        by_name: whether it is a mean over classes, however few images some of them have.
        counted: whether it is the share of test images, of all or of a tag, that are predicted right.
    """

    title: str
    higher_is_better: bool = True
    unit: Literal["", "nat", "target"] = ""
    low: float | None = 0.0
    high: float | None = 1.0
    average: str = "over all test images alike"
    by_name: bool = False
    counted: bool = False

    @property
    def best(self) -> float | None:
        """The value of who knows the labels."""
        return self.high if self.higher_is_better else self.low

    def shown(self, value: float, decimals: int = 3) -> str:
        """With so many decimals; a number in a target's unit, which may be thousandths or thousands, with three digits
        that count."""
        if self.unit == "target":
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        return f"{value:.{decimals}f}"


def described(metric: str, metrics: Mapping[str, Metric], *further: str) -> Metric:
    """What the metric of that name says; WhymaskError, which names them and `further` ones, where there is none."""
    if metric not in metrics:
        expected = ", ".join([*metrics, *further])
        raise WhymaskError(f"metric {metric!r} is unknown; expected one of {expected}; choose one of these")
    return metrics[metric]


def checked(predictions: np.ndarray, labels: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise WhymaskError unless predictions (N, k) and labels of the `expected` shape can be compared."""
    if predictions.ndim != 2 or labels.shape != expected or not len(labels):
        raise WhymaskError(
            f"predictions have shape {predictions.shape} and labels {labels.shape}; expected as many of both, at "
            "least 1; check that the test set is not empty"
        )
    if np.isnan(predictions).any():
        raise WhymaskError("predictions are NaN; expected numbers; try a smaller learning rate")


def known(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metrics, of a single resample each, that are defined."""
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}
