"""A study's cells are run: one after another in this process, or several at once on a Ray cluster."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from whymask.disk import read_json, write_record
from whymask.errors import DamagedError
from whymask.progress import Steps, say, time_left
from whymask.studies.cells import Cell, Runner, all_cells
from whymask.studies.cluster import Cluster
from whymask.studies.hours import Deadline
from whymask.studies.pace import Pace, operations_of

CELLS = "cells.json"
"""Of a study: which cells there are to be, for who looks on."""


def run_cells(
    runner: Runner, cells: Sequence[Cell], cluster: Cluster | None = None, deadline: Deadline | None = None
) -> int:
    """Run what is not finished; say what came out, what failed, and how long the others still take. Returns how many
    seeds there are, which are fewer than asked where further ones would end after the deadline."""
    runner.context.by_first(lambda: runner.redo_damaged(cells))
    told = Told(runner, cells, cluster)
    runner.context.by_first(lambda: note_cells(runner, told.operations))
    if told.unfinished:
        say(
            f"{len(told.unfinished)} of {len(cells)} cells are to be run; the time left is told as soon as the first "
            "of them tell it (study --plan times them before)"
        )
    if cluster is not None:
        _at_once(runner, cells, cluster, told)
        return runner.config.seeds
    for position, cell in enumerate(cells, start=1):
        if deadline is not None and runner.context.by_first(partial(deadline.is_late_for, cell, cells)):
            seeds = runner.config.seed_list.index(cell.seed)
            say(
                f"{seeds} of {runner.config.seeds} seeds are run: another would end after {deadline.hours:g} hours and "
                "a fifth, as the machine became busier; the same command goes on with it"
            )
            return seeds
        place, began = f"[{position}/{len(cells)}] ", time.monotonic()
        told(cell, runner.run(cell, place), time.monotonic() - began)
    return runner.config.seeds


def note_cells(runner: Runner, operations: Mapping[str, float]) -> None:
    """Write every cell of the study, in order, with its `operations`, or those noted before where it is in no share of
    this process, and None where nothing says."""
    path, before = runner.out / CELLS, dict[str, Any]()
    with suppress(OSError, DamagedError, KeyError):
        before = {cell["name"]: cell["operations"] for cell in read_json(path)["cells"]}
    noted = [
        {
            "name": cell.name,
            "title": cell.title,
            "arm": cell.arm,
            "budget": None if cell.budget is None else cell.budget.name,
            "seed": cell.seed,
            "choose": cell.choose,
            "operations": operations.get(cell.name, before.get(cell.name)),
        }
        for cell in all_cells(runner.config)
    ]
    write_record(path, {"cells": noted})


class Told:
    """Says what came of each cell, in the order in which they end, and how long the others still take."""

    def __init__(self, runner: Runner, cells: Sequence[Cell], cluster: Cluster | None) -> None:
        self.runner, self.cluster, self.count, self.ended = runner, cluster, len(cells), 0
        self.unfinished = [cell for cell in cells if not (runner.folder(cell) / "result.json").exists()]
        self.operations = operations_of(runner, self.unfinished)
        self.pace = Pace(self.operations, self.unfinished) if self.unfinished else None

    def __call__(self, cell: Cell, result: dict[str, Any], seconds: float) -> None:
        self.ended += 1
        if self.pace is not None and cell in self.unfinished:
            self.pace.done(cell, None if "error" in result or "busy" in result else seconds)
            self.unfinished.remove(cell)
        say(f"[{self.ended}/{self.count}] {cell.title}{_outcome(self.runner, result)}{self.left()}")

    def left(self) -> str:
        """ "; about 5 min left", where something tells."""
        seconds = None if self.pace is None else self.pace.seconds_left()
        if seconds is None:
            return ""
        at_once = 1 if self.cluster is None else max(1, min(self.cluster.at_once(), len(self.unfinished)))
        return f"; {time_left(seconds / at_once)}"


def _outcome(runner: Runner, result: dict[str, Any]) -> str:
    """What a cell came to, by name: ": accuracy 0.17", ": loss 0.5312", " failed: ..."."""
    if "error" in result:
        return f" failed: {result['error']}"
    if "busy" in result:
        return f" left to another process: {result['busy']}"
    metric = runner.config.metric
    value = result.get("metrics", {}).get(metric)
    if value is not None:
        return f": {runner.context.prepared.task.describe(metric).title} {value:#.3g}"
    return f": loss {result['loss']:.4f}" if result.get("loss") is not None else ""


def _at_once(runner: Runner, cells: Sequence[Cell], cluster: Cluster, told: Told) -> None:
    """Pretraining before the cells that start from it. As without Ray, a cell that fails is marked, those that start
    from it fail with its error, and all others are run."""
    from whymask.studies.seats import Crew, Job, Ran

    todo = list(told.unfinished)
    for cell in cells:
        if cell not in todo:
            told(cell, runner.run(cell), 0.0)  # finished before
    by_name = {cell.name: cell for cell in todo}
    jobs = [Job(cell.name, cell.title, run_there, (cell,), runner.starts_from(cell)) for cell in todo]

    def done(job: Job, ran: Ran) -> None:
        cell = by_name[job.name]
        for line in ran.said:
            say(f"{cell.title}: {line}")
        told(cell, ran.result if ran.lost is None else runner.mark_failed(cell, ran.lost), ran.seconds)

    def show(running: dict[str, str]) -> None:
        bar.show(told.ended, f"[{told.ended}/{len(cells)}] {' | '.join([*running.values(), 'all cells'])}{told.left()}")

    with Steps("cells", len(cells)) as bar:
        Crew(cluster, runner, jobs).run(done, show)


def run_there(runner: Runner, cell: Cell, *, wait: bool) -> dict[str, Any]:
    """A cell, in a process of the cluster."""
    return runner.run(cell, wait=wait)
