"""What a run's or a study's folder tells while it is written: read, never touched.

Every file but metrics.jsonl is whole or not there; of that one a line may be half. So anything may be missing at any
moment, and a damaged file tells nothing.
"""

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from whymask.disk import read_json
from whymask.errors import WhymaskError
from whymask.locks import HOLDER
from whymask.runs import metrics_of
from whymask.studies.cells import Cell, arm_in, count_of
from whymask.studies.pace import Pace
from whymask.studies.running import CELLS
from whymask.tasks.budgets import parse_budget

Line = dict[str, Any]
State = Literal["waiting", "begun", "running", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class Seen:
    """A run, or a study's cell, at a moment.

    Attributes:
        stage: of its record (`RunRecord`), "" before there is one.
        arm: of its record; of a study's cell the study's name for it, which tells methods and starts apart.
        lines: of metrics.jsonl.
        result: of result.json, {} before there is one.
        error: why it failed, "" where it did not.
        writer: "process 7 on host", "" where nobody writes.
    """

    folder: Path
    title: str
    stage: str
    arm: str
    state: State
    lines: tuple[Line, ...] = ()
    result: Line | None = None
    error: str = ""
    writer: str = ""

    @property
    def last(self) -> Line:
        """The last line of means."""
        return next((line for line in reversed(self.lines) if "loss" in line), {})

    @property
    def steps(self) -> tuple[int, int] | None:
        """Steps that are done, and that there are; None before anything tells."""
        done, of = self.last.get("step"), self.last.get("steps")
        return (done, of) if isinstance(done, int) and isinstance(of, int) and 0 < done <= of else None

    @property
    def share(self) -> float:
        """Of the steps that are done."""
        return 1.0 if self.state == "finished" else self.steps[0] / self.steps[1] if self.steps else 0.0

    @property
    def seconds(self) -> float | None:
        """That it trained for."""
        found = (self.result or {}).get("seconds", self.last.get("seconds"))
        return float(found) if isinstance(found, int | float) else None

    @property
    def seconds_left(self) -> float | None:
        if self.state != "running" or not self.share or self.seconds is None:
            return None
        return self.seconds * (1 - self.share) / self.share

    @property
    def written(self) -> str:
        """When something was last written, on this machine's clock; "" where nothing was."""
        last = max(time_of(self.folder / name) for name in ("metrics.jsonl", "config.json", "result.json"))
        return datetime.fromtimestamp(last).strftime("%Y-%m-%d %H:%M:%S") if last else ""

    def curve(self, value_of: Callable[[Line], Any]) -> np.ndarray:
        """Step and value (n, 2) of the lines that have one."""
        found = [(line["step"], value_of(line)) for line in self.lines]
        return np.array([(step, value) for step, value in found if isinstance(value, int | float)]).reshape(-1, 2)


@dataclass(frozen=True)
class StudySeen:
    """A study at a moment: its cells in order, of an earlier version those that have begun, and how long the others
    still take. `expected`: how many cells there are to be."""

    folder: Path
    state: State
    cells: tuple[Seen, ...]
    expected: int
    seconds_left: float | None
    verdict: str = ""
    writer: str = ""

    def count(self, *states: State) -> int:
        return sum(cell.state in states for cell in self.cells)


def seen_at(folder: Path) -> Seen | StudySeen:
    """What lies in `folder`, which may not be there yet."""
    config = _read(folder / "config.json").get("config", {})
    if (folder / "cells").is_dir() or (folder / CELLS).exists() or "settings" in config:
        return study_at(folder)
    return run_at(folder)


def run_at(folder: Path, title: str = "", arm: str = "") -> Seen:
    config, result = _read(folder / "config.json").get("config", {}), _read(folder / "result.json")
    error = _read(folder / "error.json").get("error", "")
    writer, lines = writer_of(folder), lines_of(folder / "metrics.jsonl")
    bad = _read(folder / "nonfinite.json")
    if bad and not result and not writer:
        error = error or f"the loss or its gradient was not finite at step {bad.get('step')}"
    state: State = (
        "finished" if result
        else "failed" if error
        else ("running" if lines else "begun") if writer
        else "stopped" if config
        else "waiting"
    )  # fmt: skip
    stage, arm = config.get("stage", ""), arm or config.get("arm", "")
    named = title or f"{stage} {arm}".strip() or "a run"
    return Seen(folder, named, stage, arm, state, lines, result or None, error, writer)


def study_at(folder: Path) -> StudySeen:
    planned = _read(folder / CELLS).get("cells") or [
        {"name": path.name} for path in sorted((folder / "cells").glob("*")) if path.is_dir()
    ]
    cells = tuple(
        run_at(folder / "cells" / cell["name"], cell.get("title") or cell["name"], arm_in(cell["name"]))
        for cell in planned
    )
    settings = _read(folder / "config.json").get("config", {}).get("settings", {})
    expected = max(len(cells), count_of(settings) or 0)
    writer, is_done = writer_of(folder), bool(_read(folder / "result.json"))
    running = [cell for cell in cells if cell.writer]
    state: State = "running" if writer or running else "finished" if is_done else "stopped" if cells else "waiting"
    verdict = (_read(folder / "study.json").get("verdict") or {}).get("text", "") if is_done else ""
    left = time_left_of(planned, cells) if state == "running" else None
    writer = writer or next((cell.writer for cell in running), "")
    return StudySeen(folder, state, cells, expected, left, verdict, writer)


def time_left_of(planned: list[Line], cells: tuple[Seen, ...]) -> float | None:
    """Seconds, by the operations of the cells that are left and the pace of those that ran or run; None before that
    tells."""
    operations = {
        cell["name"]: cell.get("operations") or (found.result or {}).get("operations")
        for cell, found in zip(planned, cells, strict=True)
    }
    if not all(operations.values()):
        return None
    named = [
        Cell(cell["arm"], cell["budget"] and parse_budget(cell["budget"]), cell["seed"], cell.get("choose", ""))
        for cell in planned
    ]
    if [cell.name for cell in named] != [cell["name"] for cell in planned]:
        return None
    pace = Pace({name: float(counted or 0) for name, counted in operations.items()}, named)
    for cell, found in zip(named, cells, strict=True):
        if found.state in ("finished", "failed"):
            pace.done(cell, found.seconds)
        elif found.share and found.seconds:
            pace.under_way(cell, found.share, found.seconds)
    left = pace.seconds_left()
    return None if left is None else left / max(1, sum(found.state == "running" for found in cells))


def writer_of(folder: Path) -> str:
    """Which process writes a folder, as it says itself; "" where none does, or one that has ended on this machine."""
    try:
        text = (folder / HOLDER).read_text()
    except OSError:
        return ""
    process, _, host = text.removeprefix("process ").partition(" on ")
    with suppress(ValueError):
        if host == socket.gethostname() and not _is_alive(int(process)):
            return ""
    return text


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # there a signal 0 is Ctrl-C, which would stop it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def lines_of(path: Path) -> tuple[Line, ...]:
    """Of a metrics.jsonl; read anew where it has changed."""
    with suppress(OSError):
        about = path.stat()
        return _lines_at(path, about.st_mtime_ns, about.st_size)
    return ()


@lru_cache(maxsize=1024)
def _lines_at(path: Path, time: int, size: int) -> tuple[Line, ...]:
    return tuple(metrics_of(path))


def _read(path: Path) -> Line:
    """A record, {} where there is none or it is damaged."""
    with suppress(OSError, WhymaskError):
        about = path.stat()
        return _record_at(path, about.st_mtime_ns, about.st_size)
    return {}


@lru_cache(maxsize=4096)
def _record_at(path: Path, time: int, size: int) -> Line:
    found = read_json(path)
    return found if isinstance(found, dict) else {}


def time_of(path: Path) -> float:
    """When a file was last written, 0 where there is none."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
