"""How the hours of a study are divided, and that they are kept where the machine becomes busier; cells at once."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tiny import GLYPHS, tiny_settings
from whymask import study
from whymask.errors import WhymaskError
from whymask.studies import hours
from whymask.studies.cells import Cell, Runner
from whymask.studies.hours import SLACK, Deadline, check_hours
from whymask.studies.plan import Plan, Work, lasting, make_plan
from whymask.studies.settings import SCRATCH
from whymask.studies.timing import Times
from whymask.tasks.budgets import Budget

pytestmark = pytest.mark.usefixtures("undrawn")

FEW = Budget("count", 2)
ONE = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none")
run_study = import_module("whymask.studies.run")


def a_plan(*work: Work, **changes: Any) -> Plan:
    return replace(Plan({}, 1, 1, 1.0, 1.0, work), **changes)


def test_cells_at_once_last_as_long_as_they_wait_for_each_other() -> None:
    """By hand: two pretrainings of 10 s side by side, then four cells of 3 s in two rows; alone 32 s."""
    pretrained = [Work("pretraining", f"p{seed}", 0.0, 10.0) for seed in range(2)]
    cells = [Work("classifiers", f"c{n}", 3.0, after=f"p{n % 2}") for n in range(4)]
    assert lasting([*pretrained, *cells], 1) == 32 and lasting([*pretrained, *cells], 2) == 16
    assert lasting([*pretrained, *cells], 9) == 13
    assert lasting([*pretrained, *cells], 2, share=0.5) == 11
    free = [Work("classifiers", "first", 1.0), *cells]  # waits for nothing that is still to be done
    assert lasting(free, 2) == 7


def test_epochs_fill_the_time_on_a_machine_as_busy_as_it_is() -> None:
    work = (Work("pretraining", "p", 2.0, 40.0), Work("classifiers", "c", 8.0, after="p"))
    quiet = a_plan(*work, after=(Work("pages", "pages", 5.0),))
    assert quiet.epochs_within(115.0, 20) == 50  # 15 s are fixed, an epoch takes 2
    assert replace(quiet, load=2.0).epochs_within(115.0, 20) == 21
    assert quiet.epochs_within(10.0, 20) == 0
    assert "on a quiet machine, 1.8 beside what else runs now" in replace(quiet, load=2.0).text()
    two = a_plan(*work, replace(work[0], name="q"), replace(work[1], name="d", after="q"), at_once=2)
    assert two.epochs_within(110.0, 20) == 50 and "with 2 cells at once on a quiet machine" in two.text()


def test_a_seed_that_would_end_late_is_not_begun_but_for_the_first_three(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(arm, FEW, seed) for seed in range(5) for arm in (SCRATCH, "mae")]
    deadline = Deadline(began=0.0, hours=100 / 3600, after=10.0)

    def late(cell: Cell, seconds: float) -> bool:
        monkeypatch.setattr(hours.time, "monotonic", lambda: seconds)
        return deadline.is_late_for(cell, cells)

    assert not late(cells[4], 1000.0)  # the third
    on_time = (100 * (1 + SLACK) - 10) * 3 / 4  # of three seeds, after which a fourth ends with the slack
    assert not late(cells[6], on_time - 0.1) and late(cells[6], on_time + 0.1)
    assert not late(cells[7], 1000.0)  # its seed has begun


def test_a_study_that_became_late_ends_with_whole_seeds_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four seeds the fourth is not begun. An epoch takes 5 minutes."""
    planned = {"work": (Work("pretraining", "all", 0.0, 150.0), Work("scratch-long", "long", 0.0, 150.0)), "load": 1.0}
    monkeypatch.setattr(run_study, "seconds_timed", lambda hours: 0.0)
    monkeypatch.setattr(run_study, "make_plan", lambda *args: replace(make_plan(*args), before=(), after=(), **planned))
    monkeypatch.setattr(Deadline, "is_late_for", lambda self, cell, cells: cell.seed == 3)
    settings = replace(ONE, seeds=4)
    given: dict[str, Any] = {"out": tmp_path / "study", "settings": settings, "hours": 1.0, "explain": False}
    table = study(GLYPHS, **given)
    assert table["setting"]["seeds"] == [0, 1, 2] and {cell["seed"] for cell in table["cells"]} == {0, 1, 2}
    assert all(pair["seeds"] == 3 for pair in table["pairs"])
    said = capsys.readouterr().err
    assert "3 of 4 seeds are run" in said
    rule = "1 hour: 0.0 minutes for what has one length (classifiers of 4 seeds, pages), the other 60.0 for pretraining"
    assert rule in said
    monkeypatch.undo()
    assert study(GLYPHS, **given)["setting"]["seeds"] == [0, 1, 2, 3]


def test_fewer_seeds_are_run_where_five_would_leave_nothing_to_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed takes 10 s and 1 s an epoch, of which 10 are the fewest: 65 s are for 3 seeds, and not for 4."""

    def planned(runner: Runner, *args: Any) -> Plan:
        return a_plan(*(Work("pretraining", str(seed), 10.0, 1.0) for seed in range(runner.config.seeds)))

    monkeypatch.setattr(run_study, "seconds_timed", lambda hours: 0.0)
    monkeypatch.setattr(run_study, "make_plan", planned)
    asked = replace(ONE, seeds=None)
    plan = study(GLYPHS, out=tmp_path / "study", settings=asked, hours=75 / 3600, plan=True)["plan"]
    assert plan["parts"] == {"pretraining": pytest.approx(33)}
    plan = study(GLYPHS, out=tmp_path / "study", settings=asked, hours=0.1, plan=True)["plan"]
    assert plan["parts"] == {"pretraining": pytest.approx(55)}


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf"), "2"])
def test_hours_that_no_study_could_take_are_refused(hours: Any, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match="expected a number of hours above 0"):
        check_hours(hours)
    with pytest.raises(WhymaskError, match="expected a number of hours above 0"):
        study(tmp_path, out=tmp_path / "study", hours=hours)  # before an image is looked for
    assert not (tmp_path / "study").exists()


def test_that_a_run_is_short_is_told_of_the_epochs_that_hours_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(runner: Runner) -> list[str]:
        return [f"so short as {runner.config.pretrain.epochs} epochs"]

    def planned(runner: Runner, *args: Any) -> Plan:
        return a_plan(Work("pretraining", "all", 0.0, 1.0))

    monkeypatch.setattr(run_study, "seconds_timed", lambda hours: 0.0)
    monkeypatch.setattr(run_study, "make_plan", planned)
    monkeypatch.setattr(run_study, "lags", told)
    study(GLYPHS, out=tmp_path / "study", settings=ONE, hours=0.01, plan=True)
    said = capsys.readouterr().err
    assert said.count("warning: so short as") == 1
    assert f"so short as {ONE.pretrain.epochs} epochs" not in said


def test_a_plan_counts_a_search_with_its_pretrainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Times, "time_steps", lambda self, training: 1.0)
    monkeypatch.setattr(Times, "time_testing", lambda self, training: 0.0)
    without, with_search = (
        study(GLYPHS, out=tmp_path / "study", settings=replace(ONE, search=search), plan=True, explain=False)["plan"]
        for search in (False, True)
    )
    assert with_search["parts"]["pretraining"] == 2 * without["parts"]["pretraining"]
    trials = 2 * 6  # of two arms
    ratio = with_search["parts"]["classifiers"] / without["parts"]["classifiers"]
    assert ratio == pytest.approx((2 + trials) / 2, rel=0.01)
