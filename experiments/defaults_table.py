"""trials.json and its table: which encoder and method came out best, at equal operations of pretraining."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.defaults_trials import DATA
from whymask.disk import write_bytes, write_json
from whymask.stages.settings import SCRATCH

Trials = list[dict[str, Any]]


def write_results(trials: Trials, results: Path) -> None:
    """Writes trials.json, which the next run reads, and README.md with a table for each length of pretraining."""
    write_json(results / "trials.json", {"schema": 1, "trials": trials})
    lengths = sorted({row["operations"] for row in trials})
    write_bytes(
        results / "README.md", "\n\n".join(["# Trials", *(table_of(trials, each) for each in lengths), ""]).encode()
    )


def table_of(trials: Trials, operations: float) -> str:
    """Balanced accuracy, a row for each encoder and method, the best mean over the data sets that all have on top."""
    means = accuracies(trials, operations)
    names = [data for data in DATA if any(data in found for found in means.values())]
    lines = [
        f"Pretraining of {operations:.0e} operations; balanced accuracy on the test images, mean over seeds (n):",
        f"| encoder | method | {' | '.join(names)} |",
        "| --- | --- |" + " ---: |" * len(names),
    ]
    for (encoder, method), found in sorted(means.items(), key=lambda item: (-len(item[1]), -total(item[1]))):
        cells = [f"{fmean(found[data]):.3f} ({len(found[data])})" if data in found else "" for data in names]
        lines.append(f"| {encoder} | {method} | {' | '.join(cells)} |")
    return "\n\n".join([lines[0], "\n".join(lines[1:])])


def accuracies(trials: Trials, operations: float) -> dict[tuple[str, str], dict[str, list[float]]]:
    """(encoder, method) -> data -> balanced accuracies, a seed each. Of scratch, which has no length, all there are."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in trials:
        if "left_out" not in row and (row["operations"] == operations or row["method"] == SCRATCH):
            found[row["encoder"], row["method"]][row["data"]].append(row["balanced_accuracy"])
    return found


def total(found: dict[str, list[float]]) -> float:
    return sum(fmean(values) for values in found.values())
