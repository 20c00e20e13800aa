"""What is said before a short pretraining is what was measured."""

from pathlib import Path

import pytest

from whymask.disk import read_json
from whymask.stages.short import BEHIND, MAE, SHORT, Gain, lag_text

ROOT = Path(__file__).parents[2]


def test_methods_behind_are_those_whose_interval_lies_below_maes() -> None:
    rows = read_json(ROOT / "docs/results/methods/table.json")["rows"]
    found = {
        row["method"]: Gain(*(round(row[key], 3) for key in ("difference", "low", "high")))
        for row in rows
        if row["data"] == "cifar10-jpeg" and row["encoder"] == "vit"
    }
    assert found["mae"] == MAE
    assert {name: gain for name, gain in found.items() if gain.high < MAE.low} == BEHIND
    compared = [row for row in rows if row["data"] == "cifar10-jpeg" and row["method"] in (*BEHIND, "mae")]
    assert all(row["seeds"] == 3 and row["pretraining_operations"] < SHORT for row in compared)


@pytest.mark.parametrize(
    ("method", "kind", "operations", "told"),
    [
        ("simmim", "vit", 1e12, True),
        ("simmim", "vit", 1e14, False),
        ("simmim", "cnn", 1e12, False),
        ("mae", "vit", 1e12, False),
        ("ijepa", "vit", 1e12, False),
    ],
)
def test_it_is_said_of_short_runs_of_what_was_compared(method: str, kind: str, operations: float, told: bool) -> None:
    assert bool(lag_text(method, kind, operations)) == told
