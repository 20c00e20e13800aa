"""`python -m benchmarks --device cuda`: rows are measured by a process of their own, and each within its time.

A row that takes longer than its limit, or whose process dies, is given up with a word, and the others go on in a new
process. Whatever happens, bench.json holds what was measured until then, and all of it ends within `TOTAL` seconds.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.gpu.catalogue import GROUPS, PRODUCT, ROWS, START, TOTAL, chosen
from benchmarks.wheels import ROOT
from whymask.progress import time_left

STARTING = 90.0
"""Seconds within which a process must have come up."""
FEWEST = 5.0
"""Seconds with which a row is still begun."""

Command = Callable[[Sequence[str]], list[str]]
"""The command of a process that measures these rows."""


@dataclass
class Found:
    """What bench.json holds: the device, of each row its figures, and why others have none."""

    device: str = "unknown"
    torch: str = "unknown"
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)

    def shared(self) -> dict[str, dict[str, Any]]:
        """The rows with what follows from others: their share of the rate of bf16 products, and of the row beside."""
        product = self.rows.get(PRODUCT)
        return {
            name: {"about": ROWS[name].about, **row}
            | {"share": share_of(row, product), "beside": ROWS[name].beside}
            | {"ratio": ratio_of(row, self.rows.get(ROWS[name].beside or ""))}
            for name, row in self.rows.items()
        }

    def write(self, out: Path) -> None:
        """Whole, whatever interrupts it."""
        about = {"device": self.device, "torch": self.torch, "rows": self.shared(), "given_up": self.given_up}
        partial = out.with_name(out.name + ".partial")
        partial.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        partial.replace(out)


def share_of(row: dict[str, Any], product: dict[str, Any] | None) -> float | None:
    if product is None or row.get("operations") is None:
        return None
    return row["value"] * row["operations"] / (product["value"] * 1e12)


def ratio_of(row: dict[str, Any], other: dict[str, Any] | None) -> float | None:
    return None if other is None else row["value"] / other["value"]


class Worker:
    """A process that measures, and what it tells; it is ended with all that it started."""

    def __init__(self, command: list[str], log: Path, scratch: str) -> None:
        """Its stderr is added to `log`, its temporary files lie in `scratch`."""
        ways = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        with log.open("a", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONPATH": ways, "TMPDIR": scratch},
                start_new_session=True,
            )
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def told(self, seconds: float) -> dict[str, Any]:
        """The next line; or why none came within `seconds`, as "lost"."""
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return {"lost": f"given up after {seconds:.0f} s"}
        return {"lost": f"its process ended with {self.end()}"} if line is None else line

    def end(self) -> int:
        """Ends it with all its children, if it has not ended; gives its exit status."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def rows_within(names: Sequence[str], command: Command, found: Found, log: Path, total: float) -> Iterator[str]:
    """Measures rows, within `total` seconds together, and puts them into `found`; gives each name when it is done."""
    deadline, waiting = time.monotonic() + total, list(names)
    while waiting and deadline - time.monotonic() >= FEWEST:
        with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            worker = Worker(command(waiting), log, scratch)
            try:
                yield from _by_one(worker, waiting, found, deadline)
            finally:
                worker.end()
    for name in waiting:
        found.given_up[name] = f"no time was left of {total:.0f} s"
        yield name


def _by_one(worker: Worker, waiting: list[str], found: Found, deadline: float) -> Iterator[str]:
    """What one process measures, until it must be ended; what is measured, or given up, is no longer `waiting`. Raises
    SystemExit where the process says that nothing can be measured."""
    limit = STARTING
    while waiting:
        line = worker.told(min(limit, deadline - time.monotonic()))
        if "impossible" in line:
            sys.exit(line["impossible"])
        if "device" in line:
            found.device, found.torch = line["device"], line["torch"]
        elif "begins" in line:
            limit = ROWS[waiting[0]].limit
        else:
            name = waiting.pop(0)
            if "figures" in line:
                found.rows[name] = line["figures"]
            else:
                found.given_up[name] = line.get("why") or line["lost"]
            yield name
            if "lost" in line or deadline - time.monotonic() < FEWEST:
                return


def measure(
    groups: Sequence[str] = (),
    out: Path = Path("bench.json"),
    *,
    quick: bool = False,
    device: str = "cuda",
    total: float = TOTAL,
) -> Found:
    """Measures the rows of `groups`, or of these names, or all, writes `out` row by row, and prints the table. What the
    measuring process says besides stands in a .log beside `out`."""
    try:
        names = chosen(tuple(groups))
    except KeyError as error:
        sys.exit(f"{error.args[0]}: no rows; choose among {', '.join(GROUPS)}, or {', '.join(ROWS)}")

    def command(waiting: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gpu.worker", device, "tiny" if quick else "full", *waiting]

    found, log, began = Found(), out.with_suffix(".log"), time.monotonic()
    log.write_text("", encoding="utf-8")
    expected = START + sum(ROWS[name].seconds for name in names)
    print(f"{len(names)} rows, {time_left(min(expected, total))}, at most {total:.0f} s; {out}, {log}", flush=True)
    for place, name in enumerate(rows_within(names, command, found, log, total), start=1):
        found.write(out)
        left = sum(ROWS[other].seconds for other in names[place:])
        told = f"; {time_left(left)}" if left else ""
        print(f"{name}: {result_of(name, found)} ({time.monotonic() - began:.0f} s{told})", flush=True)
    show(found)
    return found


def result_of(name: str, found: Found) -> str:
    if name in found.given_up:
        return f"not measured: {found.given_up[name]}"
    return f"{number(found.rows[name]['value'])} {found.rows[name]['unit']}"


def show(found: Found) -> None:
    """The table, under it what was checked and what was given up."""
    table = Table("row", "what", "rate", "unit", "share", "ratio", "beside", "GiB", "wait")
    for name, row in found.shared().items():
        figures = (row["value"], row["share"], row["ratio"], row["memory"], row["wait"])
        rate, share, ratio, memory, wait = ("" if figure is None else number(figure) for figure in figures)
        beside = row["beside"] if ratio else ""
        table.add_row(name, row["about"], rate, row["unit"], share, ratio, beside, memory, wait)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{found.device}, PyTorch {found.torch}; share: of the rate of bf16 products, by necessary operations")
    for name, row in found.rows.items():
        print(f"{name}: {'; '.join(row['checked'])}")
    for name, why in found.given_up.items():
        print(f"{name}: not measured: {why}")


def number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
