"""`python -m benchmarks`: measures every row, prints the table and writes bench.json."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.loading import large_rows, small_rows
from benchmarks.machine import SIDE, matmul_rows
from benchmarks.mae_step import Sizes, cnn_rows, mae_rows
from benchmarks.measure import Effort, Row
from benchmarks.method_steps import method_rows, spark_rows
from benchmarks.theory import QUICK as QUICK_THEORY
from benchmarks.theory import TheorySize, theory_rows

QUICK = Sizes(width=48, depth=1, decoder_width=24, decoder_depth=1, batch=16)


def measurements(quick: bool) -> Iterator[list[Row]]:
    """The rows, a group at a time."""
    effort = Effort(blocks=2, seconds=0) if quick else Effort()
    yield mae_rows(effort, QUICK if quick else Sizes())
    yield cnn_rows(effort, batch=16, width=4) if quick else cnn_rows(effort)
    yield method_rows(effort, QUICK if quick else Sizes())
    yield spark_rows(effort, batch=16, width=4) if quick else spark_rows(effort)
    yield small_rows(effort, 64 if quick else 4096)
    yield large_rows(effort, 8 if quick else 512)
    yield matmul_rows(effort, 64 if quick else SIDE)
    yield theory_rows(effort, QUICK_THEORY if quick else TheorySize())


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


def main(out: Path = Path("bench.json"), quick: bool = False) -> None:
    """Measure speed beside the usual alternatives, on this machine.

    Args:
        out: the file that the rows are written to.
        quick: tiny sizes, seconds instead of minutes: shows that it runs; the numbers mean nothing.
    """
    rows: list[Row] = []
    for group in measurements(quick):
        rows += group
        print(f"measured {', '.join(row.name for row in group)}", flush=True)
        out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    show(rows)


if __name__ == "__main__":
    tyro.cli(main)
