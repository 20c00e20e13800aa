"""`python -m benchmarks`: measures every row, prints the table and writes bench.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.loading import large_rows, small_rows
from benchmarks.machine import matmul_rows
from benchmarks.mae_step import Sizes, cnn_rows, mae_rows
from benchmarks.measure import Effort, Row

QUICK = Sizes(width=48, depth=1, decoder_width=24, decoder_depth=1, batch=16)


def measure(quick: bool) -> list[Row]:
    if quick:
        effort = Effort(blocks=2, seconds=0)
        mae, cnn = mae_rows(effort, QUICK), cnn_rows(effort, batch=16, width=4)
        return mae + cnn + small_rows(effort, 64) + large_rows(effort, 8) + matmul_rows(effort, 64)
    effort = Effort()
    return mae_rows(effort) + cnn_rows(effort) + small_rows(effort) + large_rows(effort) + matmul_rows(effort)


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
    rows = measure(quick)
    show(rows)
    out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
