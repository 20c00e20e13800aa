"""The network that a study leaves to use: its best arm, trained on all labels.

It learns from every labelled training image. The test images stay unseen, so that its own score on them is honest.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from whymask.disk import read_json
from whymask.errors import DamagedError
from whymask.progress import say
from whymask.stages.classify import train_classifier
from whymask.stages.record import read_record
from whymask.stages.speaking import FINAL, leading_of, worth_of
from whymask.studies.cells import Cell, Runner
from whymask.studies.settling import MINIMUM_SEEDS
from whymask.tasks.budgets import Budget
from whymask.training.loop import Interrupted

ALL = Budget("all")

Row = dict[str, Any]


def is_wanted(final: bool | None, study: Mapping[str, Any], out: Path) -> bool:
    """Whether the study of this table is to leave one: as `final` says; by default where pretraining helps, and where
    one was asked for before."""
    return study["verdict"]["kind"] == "helps" or finished(out) if final is None else final


def finished(out: Path) -> bool:
    return (out / FINAL / "result.json").exists()


def planned(runner: Runner, final: bool | None) -> list[Cell]:
    """What is still to be trained, as far as can be said before the verdict: as the pretrained arm would be."""
    table, config = runner.out / "study.json", runner.config
    if finished(runner.out):
        return []
    wanted = config.seeds >= MINIMUM_SEEDS if final is None else final  # fewer seeds never make a verdict of "helps"
    if table.exists():
        with suppress(DamagedError):  # it is written again
            wanted = is_wanted(final, read_json(table), runner.out)
    return [Cell(config.leading, ALL, config.first_seed)] if wanted else []


def add_final(runner: Runner, study: Row) -> Row:
    """`study` with what its final network is, trained unless it is there: the arm with the best mean of the verdict's
    metric at the largest budget, on all labels, with the first seed. What goes wrong is said, and costs no more."""
    labels, means = arms_at_largest(study)
    if not means:
        say("no final network: no arm has a finished cell at the largest budget")
        return study
    metric, task = study["verdict"]["metric"], runner.context.prepared.task
    best = max if task.describe(metric).higher_is_better else min
    cell = Cell(best(means, key=lambda arm: means[arm]), ALL, runner.config.first_seed)
    listed = ", ".join(f"{arm} {mean:.3f}" for arm, mean in means.items())
    try:
        folder, result = _train(runner, cell)
    except Interrupted:
        raise
    except Exception as error:
        say(f"no final network: {type(error).__name__}: {error}")
        return study
    row = {
        "arm": cell.arm,
        "seed": cell.seed,
        "budget": cell.labels.name,
        "labelled_images": result["labelled_images"],
        "metrics": result["metrics"],
        "folder": folder.relative_to(runner.out).as_posix(),
        "chosen_by": {"metric": metric, "labels_per_class": labels, "means": means},
        "worth": [line.strip() for line in worth_of(folder, task)],
    }
    say(
        f"the final network is {cell.arm}, which is best at {labels:g} {task.bought(labels)} ({listed}), trained on "
        f"all {result['labelled_images']:,} labelled training images: {task.describe(metric).title} "
        f"{result['metrics'][metric]:.3f} on the test images, which it never saw; {folder}"
    )
    return study | {"final": row}


def arms_at_largest(study: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    """The largest number of labels at which pretraining was compared, and each arm's mean of the verdict's metric
    there, the pretrained one first."""
    method, metric = leading_of(study), study["verdict"]["metric"]
    chosen = {row["arm"] for row in study.get("choosing", {}).get("rows", [])}  # labels, and no arm of its own
    levels = [row for row in study["levels"] if row["metric"] == metric and row["arm"] not in chosen]
    largest = max((row["labels_per_class"] for row in levels if row["arm"] == method), default=0)
    there = [row for row in levels if row["labels_per_class"] == largest]
    return largest, {row["arm"]: row["mean"] for row in sorted(there, key=lambda row: row["arm"] != method)}


def _train(runner: Runner, cell: Cell) -> tuple[Path, Row]:
    """Its folder and result: of the study's own cell of all labels where there is one, else in a folder of its own."""
    own = runner.folder(cell)
    if (own / "result.json").exists():
        return own, read_json(own / "result.json")
    folder = runner.out / FINAL
    runner.context.by_first(lambda: _drop_other(folder, cell.arm))
    rows = runner.rows_of(cell)
    job = runner.job(cell, rows, runner.context.prepared.test, runner.training_of(cell.arm, len(rows)))
    if cell.arm in runner.config.pretrainings:
        job = replace(job, origin=f"../cells/{Cell(cell.arm, None, cell.seed).name}")
    return folder, train_classifier(runner.context_of(cell.arm), job, folder, FINAL)


def _drop_other(folder: Path, arm: str) -> None:
    """Remove the final network of another arm, which was best before cells were repeated."""
    if (folder / "config.json").exists() and read_record(folder).arm != arm:
        shutil.rmtree(folder)
