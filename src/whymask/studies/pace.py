"""How long a study still takes: from the cells that ran, by the operations of those that are left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from whymask.stages.classify import classifier_training
from whymask.stages.pretrain import pretraining
from whymask.studies.cells import Cell, Runner
from whymask.studies.settings import SCRATCH, SCRATCH_LONG

PRETRAINING, CLASSIFYING = "pretraining", "classifying"
"""Kinds of cells: an operation of the one takes another time than one of the other."""


def kind_of(cell: Cell) -> str:
    return PRETRAINING if cell.budget is None else CLASSIFYING


def operations_of(runner: Runner, cells: Sequence[Cell]) -> dict[str, float]:
    """Operations of each cell, by its name: counted once for each arm's pretraining and classifier, as every seed has
    the same networks, then by the images that they train and are tested on."""
    config = runner.config
    per_image = {arm: classifying_operations(runner, arm) for arm in {cell.arm for cell in cells if cell.budget}}
    dear = {arm: pretraining_operations(runner, arm) for arm in {cell.arm for cell in cells if cell.budget is None}}
    if SCRATCH_LONG in per_image:
        dear[SCRATCH_LONG] = pretraining_operations(runner, config.method)
    tested = len(runner.context.prepared.test) / 3  # forward alone, a third of forward and backward
    counted = {}
    for cell in cells:
        if cell.budget is None:
            counted[cell.name] = dear[cell.arm]
            continue
        steps, batch = runner.schedule_of(cell)
        counted[cell.name] = (steps * batch + tested) * per_image[cell.arm] + dear.get(cell.arm, 0.0) * (
            cell.arm == SCRATCH_LONG
        )
    return counted


def pretraining_operations(runner: Runner, arm: str) -> float:
    """Of one pretraining of the arm's encoder, counted without running it."""
    config = runner.config
    return pretraining(runner.context_of(arm), config.pretraining(config.first_seed, arm)).operations()


def classifying_operations(runner: Runner, arm: str) -> float:
    """Of one image that the arm's classifier learns from. Weights do not matter: no pretraining is run for it."""
    config, start = runner.config, runner.config.start_of(arm)
    smallest = Cell(SCRATCH if start is None else arm, config.budgets[0], config.first_seed)
    rows = runner.rows_of(smallest)
    job = runner.job(smallest, rows, runner.context.prepared.test, runner.training_of(smallest.arm, len(rows)))
    if start is not None:
        job = replace(job, build=partial(start.build, runner.context.preprocessing, config.first_seed))
    return classifier_training(runner.context_of(smallest.arm), job).operations_per_image()


class Pace:
    """Seconds that are left: of cells of a kind that ran already, by their own pace, of others by that of the rest."""

    def __init__(self, operations: Mapping[str, float], cells: Sequence[Cell]) -> None:
        """`operations` of each of `cells`, by name."""
        self._left = {cell.name: (kind_of(cell), operations[cell.name]) for cell in cells}
        self._measured = {kind: [0.0, 0.0] for kind in (PRETRAINING, CLASSIFYING)}

    def done(self, cell: Cell, seconds: float | None = None) -> None:
        """The cell is finished, by `seconds` of computing; None where it was before, or failed, and tells nothing."""
        kind, operations = self._left.pop(cell.name)
        if seconds is not None:
            self._measured[kind][0] += seconds
            self._measured[kind][1] += operations

    def seconds_left(self) -> float | None:
        """None before anything was measured."""
        total = [sum(parts) for parts in zip(*self._measured.values(), strict=True)]
        if not total[1]:
            return None
        paces = {kind: took / of if of else total[0] / total[1] for kind, (took, of) in self._measured.items()}
        return sum(operations * paces[kind] for kind, operations in self._left.values())
