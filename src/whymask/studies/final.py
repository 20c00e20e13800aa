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
from whymask.stages.taken import FINAL, best_arm, worth_of
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
    best, task = best_arm(study), runner.context.prepared.task
    if best is None:
        say("no final network: no arm has a finished cell at the largest budget")
        return study
    metric = study["verdict"]["metric"]
    cell = Cell(best.arm, ALL, runner.config.first_seed)
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
        "chosen_by": {
            "metric": metric,
            "labels_per_class": best.labels,
            "means": {arm: level["mean"] for arm, level in best.levels.items()},
        },
        "worth": [line.strip() for line in worth_of(folder, task)],
    }
    reached = f"{best.metric.title} {best.metric.shown(result['metrics'][metric])}"
    say(
        f"the final network is of the arm with the {best.text(task)}; trained on all {result['labelled_images']:,} "
        f"labelled training images it has {reached} on the test images, which it never saw; {folder}"
    )
    return study | {"final": row}


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
