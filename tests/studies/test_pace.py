"""How far a study is: what each line says, and the time left from the time spent."""

from pathlib import Path

import pytest

from tiny import GLYPHS, tiny_settings
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.errors import WhymaskError
from whymask.stages.context import Context
from whymask.studies.cells import Cell, Runner, all_cells
from whymask.studies.config import resolve_study
from whymask.studies.pace import progress_line, seconds_left
from whymask.tasks.budgets import parse_budget
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(GLYPHS, DataSettings(), multiple_of=4)


@pytest.fixture
def runner(prepared: Prepared, tmp_path: Path) -> Runner:
    """Two seeds of mae, scratch and scratch-long at 2 and 5 labels a class, of which nothing was run."""
    context = Context(make_fabric(RuntimeSettings(device="cpu", threads=1)), prepared)
    return Runner(context, resolve_study(tiny_settings(), prepared), tmp_path)


def true_seconds(runner: Runner, cell: Cell) -> float:
    """A machine on which pretraining takes 100 s, and else 0.1 s an image pass or test image."""
    if cell.budget is None:
        return 100.0
    labels = len(runner.rows_of(cell))
    passes = runner.finetuning_of(cell.arm).epochs_for(labels) * labels + len(runner.context.prepared.test)
    return 0.1 * passes + (100.0 if cell.arm == "scratch-long" else 0.0)


def test_the_time_left_is_what_the_others_take_once_each_kind_was_there(runner: Runner) -> None:
    cells = list(all_cells(runner.config))
    spent: dict[Cell, float] = {}
    for position, cell in enumerate(cells, start=1):
        spent[cell] = true_seconds(runner, cell)
        left = seconds_left(runner, spent, cells[position:])
        if position == 1:
            assert left is None  # of fine-tuning nothing is known yet
        else:
            assert left == pytest.approx(sum(true_seconds(runner, one) for one in cells[position:]))


def test_a_line_names_the_cell_its_metric_and_the_time_left(runner: Runner) -> None:
    cells = [Cell("mae", None, 0), Cell("mae", parse_budget("2"), 0), Cell("mae", parse_budget("all"), 0)]
    said = progress_line(runner, cells, 1, {"loss": 0.41187}, {cells[0]: 100.0})
    assert said == "[1/3] mae, pretraining, seed 0: loss 0.4119"
    tested = {"metrics": {runner.config.metric: 0.1666}}
    spent = {cells[0]: 100.0, cells[1]: true_seconds(runner, cells[1])}
    assert progress_line(runner, cells, 2, tested, spent) == (
        "[2/3] mae, 2 labels a class, seed 0: single-view accuracy 0.167; less than a minute left"
    )
    far = {cells[0]: 100.0, cells[1]: 10 * true_seconds(runner, cells[1])}
    assert " min left" in progress_line(runner, cells, 2, tested, far)
    assert progress_line(runner, cells, 3, tested, spent | {cells[2]: 1.0}).endswith(": single-view accuracy 0.167")


def test_what_failed_and_what_is_not_defined_are_said(runner: Runner) -> None:
    cells = [Cell("scratch", parse_budget("2"), 1)]
    failed = {"error": f"{WhymaskError.__name__}: out of luck"}
    assert progress_line(runner, cells, 1, failed, {}).endswith("seed 1: failed: WhymaskError: out of luck")
    assert "is not defined on these test images" in progress_line(runner, cells, 1, {"metrics": {}}, {})
