"""What a study says while it runs: each cell in words, what it came to, and the time that is left."""

from typing import Any

import pytest

from whymask.studies.cells import Cell
from whymask.studies.pace import Pace
from whymask.tasks.budgets import parse_budget


def cell(arm: str, budget: str | None, seed: int = 0) -> Cell:
    return Cell(arm, None if budget is None else parse_budget(budget), seed)


@pytest.mark.parametrize(
    ("arm", "budget", "said"),
    [
        ("mae", None, "pretraining mae, seed 3"),
        ("mae", "2", "mae, 2 labels, seed 3"),
        ("scratch", "1", "scratch, 1 label, seed 3"),
        ("scratch", "1%", "scratch, 1% of the labels, seed 3"),
        ("scratch-long", "all", "scratch-long, all labels, seed 3"),
    ],
)
def test_a_cell_is_told_in_words(arm: str, budget: str | None, said: str) -> None:
    assert cell(arm, budget, 3).title == said


def test_time_left_follows_each_kind_of_cell_and_what_was_not_measured_the_rest() -> None:
    cells = [cell("mae", None), cell("scratch", "2"), cell("mae", "2"), cell("mae", None, 1), cell("mae", "2", 1)]
    pace = Pace({c.name: 100.0 if c.budget is None else 10.0 for c in cells}, cells)
    assert pace.seconds_left() is None
    pace.done(cells[0], 50.0)
    assert pace.seconds_left() == pytest.approx(65.0)  # as fast as pretraining: 0.5 s an operation, 130 left
    pace.done(cells[1], 20.0)
    assert pace.seconds_left() == pytest.approx(2 * 20 + 50)
    pace.done(cells[2])  # failed: it is over and tells nothing
    assert pace.seconds_left() == pytest.approx(20 + 50)
    for finished in cells[3:]:
        pace.done(finished, 1.0)
    assert pace.seconds_left() == 0


def test_a_study_tells_of_every_cell_where_it_stands_what_it_came_to_and_what_is_left(study_lines: list[str]) -> None:
    assert study_lines
    for position, line in enumerate(study_lines, start=1):
        assert line.startswith(f"[{position}/{len(study_lines)}] ") and line.endswith(" left")
    assert any(": loss " in line for line in study_lines) and any("accuracy 0." in line for line in study_lines)


@pytest.fixture
def study_lines(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of cells of a study of one seed, as a log file has them."""
    from tiny import GLYPHS, tiny_settings
    from whymask import study

    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none")
    study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
