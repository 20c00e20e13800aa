"""How far a study is: a line a cell, with what came of it and the time that the others will take."""

from collections.abc import Mapping, Sequence
from typing import Any

from whymask.studies.cells import Cell, Runner
from whymask.studies.settings import SCRATCH_LONG


def progress_line(
    runner: Runner, cells: Sequence[Cell], position: int, result: Mapping[str, Any], spent: Mapping[Cell, float]
) -> str:
    """ "[3/24] mae, 2 labels a class, seed 0: balanced accuracy 0.170; about 5 min left".

    cells[position - 1] is the cell of the `result`; `spent`: the seconds that each of those before and it has taken.
    """
    cell = cells[position - 1]
    left = seconds_left(runner, spent, cells[position:])
    ahead = f"; {_in_words(left)}" if left else ""
    return f"[{position}/{len(cells)}] {_title(runner, cell)}: {_outcome(runner, cell, result)}{ahead}"


def seconds_left(runner: Runner, spent: Mapping[Cell, float], ahead: Sequence[Cell]) -> float | None:
    """What the cells `ahead` will take, by what those of their kind took; None where none of a kind was there yet."""
    kinds: dict[tuple[str, str | None], list[float]] = {}
    passes: list[float] = []
    for cell, seconds in spent.items():
        kinds.setdefault(_kind(cell), []).append(seconds)
        if cell.budget is not None and cell.arm != SCRATCH_LONG:
            passes.append(seconds / _image_passes(runner, cell))

    def expected(cell: Cell) -> float | None:
        alike = kinds.get(_kind(cell))
        if alike:
            return sum(alike) / len(alike)
        if cell.budget is None:
            return None
        trained = sum(passes) / len(passes) * _image_passes(runner, cell) if passes else None
        if cell.arm != SCRATCH_LONG or trained is None:
            return trained
        pretrained = kinds.get((runner.config.method, None))  # as long as that and fine-tuning
        return None if not pretrained else trained + sum(pretrained) / len(pretrained)

    each = [expected(cell) for cell in ahead]
    known = [seconds for seconds in each if seconds is not None]
    return sum(known) if len(known) == len(each) else None


def _kind(cell: Cell) -> tuple[str, str | None]:
    """What cells of every seed have alike."""
    return cell.arm, None if cell.budget is None else cell.budget.name


def _image_passes(runner: Runner, cell: Cell) -> float:
    """Images that its training and its test see."""
    labels = len(runner.rows_of(cell))
    return runner.finetuning_of(cell.arm).epochs_for(labels) * labels + len(runner.context.prepared.test)


def _title(runner: Runner, cell: Cell) -> str:
    if cell.budget is None:
        return f"{cell.arm}, pretraining, seed {cell.seed}"
    one = cell.budget.name == "1"
    bought = runner.context.prepared.task.bought(1 if one else 2)
    return f"{cell.arm}, {cell.budget.name} {bought}, seed {cell.seed}"


def _outcome(runner: Runner, cell: Cell, result: Mapping[str, Any]) -> str:
    if "error" in result:
        return f"failed: {result['error']}"
    if cell.budget is None:
        return f"loss {result['loss']:.4f}"
    metric = runner.config.metric
    value = result["metrics"].get(metric)
    title = runner.context.prepared.task.describe(metric).title
    return f"{title} is not defined on these test images" if value is None else f"{title} {value:.3f}"


def _in_words(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute left"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"
