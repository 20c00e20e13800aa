"""How long a study still takes: from the cells that ran, by the operations of those that are left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from whymask.stages.classify import classifier_training
from whymask.stages.pretrain import pretraining
from whymask.stages.short import lag_text, may_lag
from whymask.studies.cells import Cell, Runner
from whymask.studies.settings import SCRATCH, SCRATCH_LONG
from whymask.training.loop import Training

PRETRAINING, CLASSIFYING = "pretraining", "classifying"
"""Kinds of cells: an operation of the one takes another time than one of the other, or of another method."""


Kind = tuple[str, str]
"""A network, "" being the study's own, and what is done with it."""


def kind_of(cell: Cell) -> Kind:
    return cell.arm if "=" in cell.arm else "", f"{PRETRAINING} {cell.arm}" if cell.budget is None else CLASSIFYING


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


def lags(runner: Runner) -> list[str]:
    """What is known against pretraining so short by the study's own methods."""
    kind, methods = runner.config.encoder.kind, [start.method for start in runner.config.own]
    counted = {method: pretraining_operations(runner, method) for method in methods if may_lag(method, kind)}
    return [text for method, operations in counted.items() if (text := lag_text(method, kind, operations))]


def classifying_operations(runner: Runner, arm: str) -> float:
    """Of one image that the arm's classifier learns from."""
    return classifier_of(runner, arm).operations_per_image()


def classifier_of(runner: Runner, arm: str) -> Training:
    """How the arm's classifier is trained at the smallest budget. Weights do not matter: no pretraining is run for
    it."""
    config, start = runner.config, runner.config.start_of(arm)
    smallest = Cell(SCRATCH if start is None else arm, config.budgets[0], config.first_seed)
    rows = runner.rows_of(smallest)
    job = runner.job(smallest, rows, runner.context.prepared.test, runner.training_of(smallest.arm, len(rows)))
    if start is not None:
        job = replace(job, build=partial(start.build, runner.context.preprocessing, config.first_seed))
    return classifier_training(runner.context_of(arm), job)


class Pace:
    """Seconds that are left: of cells of a kind that ran already, by their own pace, of others by that of what else was
    done with their network."""

    def __init__(self, operations: Mapping[str, float], cells: Sequence[Cell]) -> None:
        """`operations` of each of `cells`, by name."""
        self._left = {cell.name: (kind_of(cell), operations[cell.name]) for cell in cells}
        self._measured = {kind: [0.0, 0.0] for kind, _ in self._left.values()}

    def done(self, cell: Cell, seconds: float | None = None) -> None:
        """The cell is finished, by `seconds` of computing; None where it was before, or failed, and tells nothing."""
        kind, operations = self._left.pop(cell.name)
        if seconds is not None:
            self._measured[kind][0] += seconds
            self._measured[kind][1] += operations

    def under_way(self, cell: Cell, share: float, seconds: float) -> None:
        """So large a share of the cell is done, by `seconds` of computing."""
        kind, operations = self._left[cell.name]
        self._left[cell.name] = kind, operations * (1 - share)
        self._measured[kind][0] += seconds
        self._measured[kind][1] += operations * share

    def seconds_left(self) -> float | None:
        """None before anything was measured of each network."""
        paces = {kind: self._pace(kind) for kind, _ in self._left.values()}
        if None in paces.values() or not any(of for _, of in self._measured.values()):
            return None
        return sum(operations * (paces[kind] or 0.0) for kind, operations in self._left.values())

    def _pace(self, kind: Kind) -> float | None:
        """Seconds an operation."""
        alike = [self._measured[kind], *(sums for other, sums in self._measured.items() if other[0] == kind[0])]
        return next((took / of for took, of in alike if of), None)
