"""`python -m experiments.ratios`: mae's mask ratio, fixed and drawn, on glyphs and on CIFAR-10 (JPEG q75).

R2MAE (arXiv 2509.21650) draws the ratio of each batch. Here all ratios of a seed share first weights, images, their
order and labels; a larger one costs less. A cell is one network in a process of its own; finished ones are not run
again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import tyro

from experiments.methods import MEASURED, run_waiting, train
from experiments.methods_cells import IMAGES, SCRATCH, VIT
from whymask.disk import read_json, write_json
from whymask.intervals import mean_interval
from whymask.masks import Ratio
from whymask.methods.settings import MAESettings

DRAWN = "0.6 to 0.9"
RATIOS: dict[str, Ratio] = {"0.5": 0.5, "0.75": 0.75, "0.9": 0.9, DRAWN: (0.6, 0.9)}
EPOCHS = {"glyphs": 6, "cifar10-jpeg": 4}
"""Of pretraining, fixed beforehand: after the 14 of `experiments.methods` a linear model reads all glyphs right."""
SEEDS = 3
KINDS = ("finetuned", "linear", "knn")


@dataclass(frozen=True)
class Cell:
    """One network: `variant` is scratch, or a ratio's name."""

    data: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}/{self.variant.replace(' ', '-')}/{self.seed}"


def all_cells() -> Iterator[Cell]:
    """Every cell, whole seeds one after the other."""
    for seed, data, variant in product(range(SEEDS), EPOCHS, (SCRATCH, *RATIOS)):
        yield Cell(data, variant, seed)


def run_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """Pretrain at the cell's ratio (or not), fine-tune, probe; what was measured."""
    asked = None if cell.variant == SCRATCH else ("mae", MAESettings(mask_ratio=RATIOS[cell.variant]))
    return train(cell, IMAGES[cell.data], VIT, asked, lambda operations: EPOCHS[cell.data], out / cell.name)


def main(
    out: Path = Path("runs/ratios"),
    results: Path = Path("docs/results/ratios"),
    jobs: int = 2,
    cell: str | None = None,
) -> None:
    """Run what is not finished, and write table.json; prints it as markdown.

    Args:
        out: where the runs are kept; the same command continues.
        results: where the table is written.
        jobs: cells at a time, one thread each.
        cell: run this one alone, in this process, and write no table.
    """
    if cell is not None:
        write_json(out / cell / MEASURED, run_cell(next(c for c in all_cells() if c.name == cell), out))
        return
    run_waiting(list(all_cells()), out, jobs, "experiments.ratios")
    files = {c: out / c.name / MEASURED for c in all_cells()}
    table = table_of({c: read_json(file) for c, file in files.items() if file.exists()})
    write_json(results / "table.json", table)
    print(markdown(table))


def table_of(measured: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    """For each data set and variant the means over seeds, and, paired by seed, the difference of the drawn ratio."""
    rows = [row for data, variant in product(EPOCHS, (SCRATCH, *RATIOS)) if (row := row_of(measured, data, variant))]
    return {"schema": 1, "epochs": EPOCHS, "rows": rows}


def row_of(measured: dict[Cell, dict[str, Any]], data: str, variant: str) -> dict[str, Any]:
    metric = IMAGES[data].metric
    own = {seed: found for seed in range(SEEDS) if (found := measured.get(Cell(data, variant, seed)))}
    if not own:
        return {}
    row: dict[str, Any] = {"data": data, "variant": variant, "metric": metric, "seeds": len(own)}
    for kind in KINDS:
        row[kind] = sum(found[kind][metric] for found in own.values()) / len(own)
        pairs = [
            drawn[kind][metric] - found[kind][metric]
            for seed, found in own.items()
            if variant != DRAWN and (drawn := measured.get(Cell(data, DRAWN, seed)))
        ]
        if pairs:
            gain = mean_interval(pairs)
            row[f"drawn_{kind}"] = {"difference": gain.mean, "low": gain.low, "high": gain.high, "seeds": gain.seeds}
    return row


def markdown(table: dict[str, Any]) -> str:
    lines = [
        "| images | mae's ratio | fine-tuned | linear | kNN | drawn minus this (95 % over seeds) | linear |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for row in table["rows"]:
        levels = " | ".join(f"{row[kind]:.3f}" for kind in KINDS)
        gains = " | ".join(told(row.get(f"drawn_{kind}")) for kind in KINDS[:2])
        lines.append(f"| {row['data']} | {row['variant']} | {levels} | {gains} |")
    return "\n".join(lines) + "\n"


def told(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return ""
    interval = "" if gain["low"] is None else f" ({gain['low']:.3f} to {gain['high']:.3f})"
    return f"{gain['difference']:+.3f}{interval}, {gain['seeds']} seeds"


if __name__ == "__main__":
    tyro.cli(main)
