"""A round of faults, as `python -m faults` makes them, and that a loss is seen."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faults import __main__ as faults
from faults.kills import kills
from faults.pictures import ODD, STRANGE
from faults.subjects import difference
from faults.trial import Trial

ROOT = Path(__file__).parents[1]


def test_a_round_of_faults_loses_nothing() -> None:
    """In a process of its own: it forks, which a process whose threads compute may not. A round, as a minute holds more
    or fewer faults on another machine."""
    ran = subprocess.run([sys.executable, "-m", "faults", "--rounds", "1"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in ran.stdout.splitlines() if "│" in line}
    counts = {"kill": 3, "damage": 3, "odd picture": len(ODD) + len(STRANGE), "full disk": 5, "two at once": 3}
    expected = {name: [count, count, 0] for name, count in (counts | {"all": sum(counts.values())}).items()}
    assert {name: [*map(int, row)] for name, row in rows.items()} == expected


@pytest.mark.parametrize("time", [{}, {"rounds": 1}])
def test_a_loss_is_told_and_ends_with_one(
    time: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def losing(folder: Path, random: np.random.Generator) -> Iterator[Iterator[Trial]]:
        while True:
            yield iter([Trial("kill", "a run", "its weights")])

    monkeypatch.setattr(faults, "MINUTE", 0.0)
    monkeypatch.setitem(faults.KINDS, "kill", losing)
    assert not faults.faults(kinds=("kill",), **time)
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
    assert next(next(kills(tmp_path, np.random.default_rng(0)))).lost == "weights.safetensors"
