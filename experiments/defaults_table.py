"""trials.json and its table: which encoder and method came out best, at equal operations of pretraining."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.defaults_trials import DATA
from whymask.disk import write_bytes, write_json
from whymask.intervals import mean_interval
from whymask.stages.settings import SCRATCH

DEFAULT = ("cnn", SCRATCH)
Trials = list[dict[str, Any]]


def write_results(trials: Trials, results: Path) -> None:
    """Writes trials.json, which the next run reads, and README.md with a table for each length of pretraining."""
    write_json(results / "trials.json", {"schema": 1, "trials": trials})
    lengths = sorted({row["operations"] for row in trials})
    parts = [part for each in lengths for part in (table_of(trials, each), ahead_of(trials, each))]
    write_bytes(results / "README.md", "\n\n".join(["# Trials", *parts, ""]).encode())


def table_of(trials: Trials, operations: float) -> str:
    """Balanced accuracy, a row for each encoder and method: those of the most data sets on top, then by their sum
    there, which is comparable only among rows of the same data sets and seeds."""
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


def ahead_of(trials: Trials, operations: float) -> str:
    """How far each encoder and method is ahead of the default's network from scratch: on the same data and labels, seed
    by seed, then over data sets."""
    found = by_trial(trials, operations)
    first = found[DEFAULT]
    lines = [
        f"The same beside {' '.join(DEFAULT)}, paired by data set and seed; the mean over data sets of the means over "
        "seeds, its 95 % interval (Student's t over data sets), and in how many of the pairs it is ahead:",
        "| encoder | method | data sets | ahead by | interval | pairs ahead |",
        "| --- | --- | ---: | ---: | --- | ---: |",
    ]
    rows = []
    for (encoder, method), own in found.items():
        pairs = {key: own[key] - first[key] for key in own if key in first}
        if (encoder, method) == DEFAULT or not pairs:
            continue
        sets = sorted({data for data, _ in pairs})
        over = mean_interval([fmean(value for (data, _), value in pairs.items() if data == each) for each in sets])
        within = "" if over.low is None or over.high is None else f"{over.low:+.3f} to {over.high:+.3f}"
        won = f"{sum(value > 0 for value in pairs.values())} of {len(pairs)}"
        rows.append((over.mean, f"| {encoder} | {method} | {len(sets)} | {over.mean:+.3f} | {within} | {won} |"))
    return "\n\n".join([lines[0], "\n".join([*lines[1:], *(line for _, line in sorted(rows, reverse=True))])])


def by_trial(trials: Trials, operations: float) -> dict[tuple[str, str], dict[tuple[str, int], float]]:
    """(encoder, method) -> (data, seed) -> balanced accuracy. Of scratch, which has no length, all there are."""
    found: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
    for row in trials:
        if "left_out" not in row and (row["operations"] == operations or row["method"] == SCRATCH):
            found[row["encoder"], row["method"]][row["data"], row["seed"]] = row["balanced_accuracy"]
    return found


def accuracies(trials: Trials, operations: float) -> dict[tuple[str, str], dict[str, list[float]]]:
    """(encoder, method) -> data -> balanced accuracies, a seed each."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair, own in by_trial(trials, operations).items():
        for (data, _), value in own.items():
            found[pair][data].append(value)
    return found


def total(found: dict[str, list[float]]) -> float:
    return sum(fmean(values) for values in found.values())
