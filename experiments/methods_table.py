"""table.json and the page of `experiments.methods`, from the cells that are there."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.methods_cells import IMAGES, LENGTH_SEEDS, SCRATCH, SHARES, Cell, all_cells
from whymask.disk import read_json, write_bytes, write_json
from whymask.intervals import level_interval, mean_interval
from whymask.report.figures import NEUTRAL, draw, inline
from whymask.report.page import render
from whymask.studies.page.results import metric_name

Measured = dict[Cell, dict[str, Any]]
ACCURACY = "accuracy"


def write_results(out: Path, results: Path) -> None:
    """Writes table.json and report.html into `results`."""
    files = {cell: out / cell.name / "measured.json" for cell in all_cells()}
    measured = {cell: read_json(file) for cell, file in files.items() if file.exists()}
    table = {"schema": 1, "rows": rows_of(measured), "lengths": lengths_of(measured)}
    write_json(results / "table.json", table)
    write_bytes(results / "report.html", page_of(table))


def rows_of(measured: Measured) -> list[dict[str, Any]]:
    """One row for each data set, encoder and method: the mean over seeds, and the paired difference to scratch."""
    rows = []
    for data, images in IMAGES.items():
        for variant, encoder in images.pairs:
            cells = [Cell(data, encoder, variant, seed) for seed in range(images.seeds)]
            pairs = [
                (measured[cell], measured[base])
                for cell in cells
                if cell in measured and (base := Cell(data, encoder, SCRATCH, cell.seed)) in measured
            ]
            if pairs:
                rows.append(row_of(variant, encoder, data, pairs))
    return rows


def row_of(variant: str, encoder: str, data: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    metric = IMAGES[data].metric
    gain = mean_interval([own["finetuned"][metric] - scratch["finetuned"][metric] for own, scratch in pairs])
    row: dict[str, Any] = {
        "method": variant,
        "encoder": encoder,
        "data": data,
        "labels_per_class": IMAGES[data].labels_per_class,
        "metric": metric,
        "seeds": gain.seeds,
        "difference": gain.mean,
        "low": gain.low,
        "high": gain.high,
    }
    for kind in ("finetuned", "linear", "knn"):
        row[kind] = mean([own[kind][metric] for own, _ in pairs])
        row[f"scratch_{kind}"] = mean([scratch[kind][metric] for _, scratch in pairs])
    for name in ("pretraining_seconds", "pretraining_operations", "images_per_second", "peak_memory_mib", "epochs"):
        row[name] = mean([own[name] for own, _ in pairs])
    row["warnings"] = sum(own["warning"] is not None for own, _ in pairs)
    return row


def lengths_of(measured: Measured) -> list[dict[str, Any]]:
    """data2vec and data2vec2 on glyphs after runs of several lengths, for the time to equal accuracy."""
    images, rows = IMAGES["glyphs"], []
    for variant, shares in SHARES.items():
        for share in (*shares, 1.0):
            cells = [Cell("glyphs", "vit", variant, seed, share) for seed in range(LENGTH_SEEDS)]
            found = [measured[cell] for cell in cells if cell in measured]
            if found:
                accuracy = level_interval([cell["finetuned"][images.metric] for cell in found])
                rows.append(
                    {
                        "method": variant,
                        "share": share,
                        "seconds": mean([cell["pretraining_seconds"] for cell in found]),
                        "operations": mean([cell["pretraining_operations"] for cell in found]),
                        "finetuned": accuracy.mean,
                        "low": accuracy.low,
                        "high": accuracy.high,
                        "linear": mean([cell["linear"][images.metric] for cell in found]),
                        "seeds": accuracy.seeds,
                    }
                )
    return rows


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def page_of(table: dict[str, Any]) -> bytes:
    sections = []
    for data, images in IMAGES.items():
        rows = sorted((r for r in table["rows"] if r["data"] == data), key=lambda row: -row["difference"])
        if rows:
            better, worse = ([r for r in rows if sign(r)] for sign in (is_better, is_worse))
            figure = inline(differences(data, rows), f"Differences to scratch on {data}")
            sections.append(
                {"data": data, "images": images, "rows": rows, "figure": figure, "better": better, "worse": worse}
            )
    return render(
        "methods.html.j2", Path(__file__).parent, metric_name=metric_name, sections=sections, lengths=table["lengths"]
    )


def is_better(row: dict[str, Any]) -> bool:
    return row["low"] is not None and row["low"] > 0


def is_worse(row: dict[str, Any]) -> bool:
    return row["high"] is not None and row["high"] < 0


def differences(data: str, rows: list[dict[str, Any]]) -> str:
    """Differences to scratch and their intervals, the largest on top."""

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=NEUTRAL, linewidth=1)
        for place, row in enumerate(reversed(rows)):
            colour = "#009e73" if is_better(row) else "#d55e00" if is_worse(row) else NEUTRAL
            if row["low"] is not None:  # a single seed has no interval
                axes.plot([row["low"], row["high"]], [place] * 2, color=colour)
            axes.plot(row["difference"], place, "o", color=colour)
        axes.set_yticks(range(len(rows)), [f"{row['method']}, {row['encoder']}" for row in reversed(rows)])
        axes.set_xlabel("fine-tuned minus scratch, 95 % over seeds")
        axes.grid(axis="y", visible=False)

    return draw(f"methods-{data}", 0.9 + 0.28 * len(rows), paint)
