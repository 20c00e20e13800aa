"""What tests read off a study's folder, and that nothing in it is run again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whymask.stages import classify, pretrain


def numbers(table: dict[str, Any]) -> dict[str, Any]:
    """study.json without what differs between two runs of one study: times and places."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "data_wait", "created", "command")}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    return timeless(json.loads(json.dumps(table)))


def predictions(folder: Path) -> np.ndarray:
    return np.load(folder / "predictions.npz")["log_probabilities"]


def times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(pretrain, "fit", fit)
    monkeypatch.setattr(classify, "fit", fit)
