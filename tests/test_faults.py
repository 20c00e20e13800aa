"""A minute of faults, as `python -m faults` makes them, and that a loss is seen."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults import __main__ as faults
from faults.kills import kills
from faults.subjects import difference
from faults.trial import Trial

ROOT = Path(__file__).parents[1]


def test_a_minute_of_faults_loses_nothing() -> None:
    """In a process of its own: it forks, which a process whose threads compute may not."""
    ran = subprocess.run([sys.executable, "-m", "faults"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in ran.stdout.splitlines() if "│" in line}
    assert rows.keys() == {*faults.KINDS, "all"}
    assert all(int(tried) == int(survived) > 0 and int(lost) == 0 for tried, survived, lost in rows.values())


def test_a_loss_is_told_and_ends_with_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(faults, "MINUTE", 0.0)
    monkeypatch.setitem(faults.KINDS, "kill", lambda folder, random: iter([Trial("kill", "a run", "its weights")]))
    assert not faults.faults(kinds=("kill",))
    told = capsys.readouterr()
    assert "LOST kill: a run: its weights" in told.err and "│ kill  │ 1     │ 0        │ 1    │" in told.out


def test_what_a_run_came_to_is_compared_to_the_bit() -> None:
    one = {"head.safetensors": b"\x00\x01", "metrics.jsonl": 7}
    assert difference(one, dict(one)) == ""
    assert difference(one | {"head.safetensors": b"\x00\x00"}, one) == "head.safetensors"
    assert difference(one, one | {"result.json": "{}"}) == "result.json"


def test_a_run_that_ends_otherwise_each_time_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wayward(out: Path) -> None:
        out.mkdir(exist_ok=True, parents=True)
        (out / "weights.safetensors").write_bytes(os.urandom(8))

    monkeypatch.setattr("faults.kills.SUBJECTS", {"a wayward run": wayward})
    assert next(kills(tmp_path, np.random.default_rng(0))).lost == "weights.safetensors"
