"""What is measured on a CPU: every row, the table of them, and bench.json."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.detection import QUICK as QUICK_DETECTION
from benchmarks.detection import DetectionSizes, detection_rows
from benchmarks.loading import large_rows, small_rows
from benchmarks.machine import SIDE, matmul_rows
from benchmarks.mae_step import Sizes, cnn_rows, mae_rows
from benchmarks.measure import Effort, Row
from benchmarks.method_steps import method_rows, spark_rows
from benchmarks.theory import QUICK as QUICK_THEORY
from benchmarks.theory import TheorySize, theory_rows
from whymask.report.text import duration

QUICK = Sizes(width=48, depth=1, decoder_width=24, decoder_depth=1, batch=16)


@dataclass(frozen=True)
class Group:
    """Rows that are measured together, and about how many seconds that takes on two cores."""

    rows: Callable[[Effort], list[Row]]
    quick: Callable[[Effort], list[Row]]
    seconds: float


GROUPS = {
    "vit": Group(lambda effort: mae_rows(effort, Sizes()), lambda effort: mae_rows(effort, QUICK), 50),
    "cnn": Group(cnn_rows, lambda effort: cnn_rows(effort, batch=16, width=4), 5),
    "methods": Group(lambda effort: method_rows(effort, Sizes()), lambda effort: method_rows(effort, QUICK), 290),
    "spark": Group(spark_rows, lambda effort: spark_rows(effort, batch=16, width=4), 6),
    "detection": Group(
        lambda effort: detection_rows(effort, DetectionSizes()),
        lambda effort: detection_rows(effort, QUICK_DETECTION),
        30,
    ),
    "small-images": Group(lambda effort: small_rows(effort, 4096), lambda effort: small_rows(effort, 64), 25),
    "photos": Group(lambda effort: large_rows(effort, 512), lambda effort: large_rows(effort, 8), 32),
    "matmul": Group(lambda effort: matmul_rows(effort, SIDE), lambda effort: matmul_rows(effort, 64), 18),
    "theory": Group(
        lambda effort: theory_rows(effort, TheorySize()), lambda effort: theory_rows(effort, QUICK_THEORY), 34
    ),
}

DEFAULT = tuple(name for name in GROUPS if name != "methods")
"""What is measured unless groups are named: methods take longer than all others."""


def measurements(names: Sequence[str], quick: bool) -> Iterator[list[Row]]:
    """The rows of these groups, a group at a time; after each is said how long the others take about."""
    effort = Effort(blocks=2, seconds=0) if quick else Effort()
    began, done = time.monotonic(), 0.0
    for name in names:
        group = GROUPS[name]
        yield (group.quick if quick else group.rows)(effort)
        done += group.seconds
        left = sum(GROUPS[other].seconds for other in names) - done
        told = f"; about {duration((time.monotonic() - began) / done * left)} left" if left else ""
        print(f"measured {name} ({duration(time.monotonic() - began)}){told}", flush=True)


def show(rows: Sequence[Row]) -> None:
    """The table, and under it what each row measured."""
    table = Table("name", "ours", "peer", "ratio", "share", "unit", "peer is")
    for row in rows:
        numbers = (row.ours, row.peer_rate, row.ratio, row.share)
        shown = ["" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}" for value in numbers]
        table.add_row(row.name, *shown, row.unit, row.peer or "")
    Console().print(table)
    for row in rows:
        print(f"{row.name}: {row.setting}")


def main(groups: Sequence[str] = (), out: Path = Path("bench.json"), quick: bool = False) -> None:
    """Measures the rows of `groups`, or of `DEFAULT`, and writes them to `out`."""
    if unknown := [name for name in groups if name not in GROUPS]:
        sys.exit(f"{', '.join(unknown)}: no groups of rows; choose among {', '.join(GROUPS)}")
    rows: list[Row] = []
    for group in measurements(groups or DEFAULT, quick):
        rows += group
        out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    show(rows)
