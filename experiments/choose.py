"""`python -m experiments.choose`: what choosing labels is worth, beside labels drawn evenly and at random.

A `whymask study --choose` of each of three sets of photos at their smallest budgets, of parts of these sets and images
so small that a core does them all in minutes. A study's folder goes on where it was stopped; choosing.json and
the table in README.md beside it hold what is finished.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.defaults_trials import write_parquet
from experiments.photos import SECONDS_TO_STOP, finished_by
from whymask.disk import read_json, write_bytes, write_json
from whymask.report.text import number, signed
from whymask.studies.page.results import choosing_worth
from whymask.studies.statistics import paired_difference

RULES = ("typical", "covering")
Row = dict[str, Any]


@dataclass(frozen=True)
class Photos:
    """A part of a set: its first images, which are in random order, as a study sees them."""

    train: int
    test: int
    side: int
    epochs: int
    budgets: tuple[str, ...]


SETS = {
    "cifar10-jpeg": Photos(2000, 600, 32, 8, ("5", "20")),
    "clothing-small": Photos(980, 372, 32, 16, ("2", "8")),
    "tiny-imagenet-50": Photos(2500, 750, 32, 8, ("1", "4")),
}


def write_part(shared: Path, out: Path, name: str) -> Path:
    """The first images of each file of the set, as a set of its own."""
    from pyarrow import parquet

    for file in sorted((shared / name).glob("*.parquet")):
        target = out / "data" / name / file.name
        if not target.exists():
            rows = SETS[name].train if file.name.startswith("train") else SETS[name].test
            write_parquet(target, parquet.read_table(file).slice(0, rows))
    return out / "data" / name


def command_of(name: str, data: Path, folder: Path, seeds: int) -> list[str]:
    """The study of a set."""
    photos = SETS[name]
    asked = ["--choose", *RULES, "--budgets", *photos.budgets, "--seeds", str(seeds), "--scratch-long", "none"]
    asked += ["--size", str(photos.side), "--pretrain.epochs", str(photos.epochs), "--metric", "accuracy"]
    told = ["--no-explain", "--final", "no", "--no-images", "--threads", "1", "--out", str(folder)]
    return [sys.executable, "-m", "whymask.cli", "study", str(data), *asked, *told]


def summary_of(study: Row) -> Row:
    """What is kept of a study: its size, each level's mean, and of choosing all that the table says."""
    metric, data = study["verdict"]["metric"], study["data"]
    levels = [row for row in study["levels"] if row["metric"] == metric]
    summary = {
        "pool": data["pool"],
        "test": data["test"],
        "classes": len(data["classes"]),
        "size": data["size"],
        "encoder": study["setting"]["encoder"]["name"],
        "epochs": study["setting"]["pretrain"]["epochs"],
        "metric": metric,
        "processor": study["provenance"].get("processor"),
        "seconds": sum(row["seconds"] or 0 for row in [*study["pretraining"], *study["cells"]]),
        "means": {f"{row['arm']}, {row['labels_per_class']:g}": row["mean"] for row in levels},
        "choosing": [row | {"balanced": balanced(study, row)} for row in study["choosing"]["rows"]],
    }
    return rounded(summary)


def rounded(value: Any) -> Any:
    """With five decimals: more say nothing."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 5) if isinstance(value, float) else value


def balanced(study: Row, row: Row) -> Row:
    """The row's difference in balanced accuracy, with its interval over seeds: where classes are uneven, accuracy alone
    gains by labels that are as uneven."""
    here = [cell for cell in study["cells"] if cell["labels_per_class"] == row["labels_per_class"] and cell["metrics"]]
    ours, theirs = (
        {cell["seed"]: cell["metrics"]["balanced_accuracy"] for cell in here if cell["arm"] == row[side]}
        for side in ("arm", "baseline")
    )
    pair = paired_difference(ours, theirs)
    return {} if pair is None else {"difference": pair.difference, "low": pair.low, "high": pair.high}


def table_of(found: dict[str, Row]) -> str:
    """The table of all sets that are finished, as Markdown."""
    lines = [
        "| images | labels chosen, a class | against | reach | against | difference (over seeds; images) | says "
        "| worth in drawn labels a class | classes met | difference in balanced accuracy (over seeds) |",
        "| --- | --- | --- | ---: | ---: | --- | --- | --- | ---: | --- |",
    ]
    for name, study in found.items():
        for row in study["choosing"]:
            seeds, images = (
                f"{signed(row[low])} to {signed(row[high])}"
                for low, high in (("low", "high"), ("low_images", "high_images"))
            )
            said = {"better": "better", "worse": "worse"}.get(row["state"], "may be chance")
            cells = (
                *(name, f"{row['arm']}, {row['labels_per_class']:g}", row["baseline"], number(row["mean"])),
                *(number(row["baseline_mean"]), f"{signed(row['difference'])} ({seeds}; {images})", said),
                *(choosing_worth(row) or "–", f"{row['classes']:.1f} of {study['classes']}"),
                "{} ({} to {})".format(*(signed(row["balanced"][key]) for key in ("difference", "low", "high"))),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def text_of(found: dict[str, Row]) -> str:
    """README.md: what was run, and the table."""
    sizes = [
        f"- {name}: {study['pool']:,} images to pretrain on and {study['test']:,} to test on, at {study['size'][0]} x "
        f"{study['size'][1]} pixels; {study['encoder']}, {study['epochs']} epochs of mae; "
        f"{study['seconds'] / 60:.0f} minutes of training on one thread of a busy {study['processor']}"
        for name, study in found.items()
    ]
    return (
        "# What choosing labels is worth\n\n"
        "`python -m experiments.choose`: accuracy of networks that learn from labels chosen by features of their own\n"
        "pretraining, beside as many drawn evenly from each class, and beside *blind*, as many at random whatever\n"
        "their class. Parts of the sets, and small images: the numbers are of these sizes. Each row stands by\n"
        "itself: of so many, one in twenty would be better or worse by chance alone.\n\n"
        + "\n".join(sizes)
        + f"\n\n{table_of(found)}\n"
    )


def main(
    out: Path = Path("runs/choose"),
    results: Path = Path("docs/results/choose"),
    shared: Path = Path("../shared/data"),
    seeds: int = 5,
    only: str = "",
    minutes: float = 0,
) -> None:
    """Run what is not finished, one study after the other, and write choosing.json and README.md.

    Args:
        out: where the runs are kept; the same command continues.
        results: where the table is written.
        shared: the folder of the data sets.
        seeds: of each study.
        only: sets whose name contains this.
        minutes: stop after so many, with what is begun saved; 0 for as long as it takes.
    """
    ends = time.monotonic() + 60 * minutes - SECONDS_TO_STOP if minutes else None
    table = results / "choosing.json"
    found: dict[str, Row] = read_json(table) if table.exists() else {}
    for name in SETS:
        if only not in name:
            continue
        folder = out / name
        command = command_of(name, write_part(shared, out, name), folder, seeds)
        if not finished_by(ends, command, out / f"{name}.log"):
            print(f"{name}: to be continued by the same command", flush=True)
            return
        found[name] = summary_of(read_json(folder / "study.json"))
        write_json(table, {name: found[name] for name in SETS if name in found})
        write_bytes(results / "README.md", text_of({name: found[name] for name in SETS if name in found}).encode())
        print(f"{name}: finished", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
