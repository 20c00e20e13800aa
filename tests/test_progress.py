"""What is told while something long goes on: the same words on a terminal and in a log file."""

from io import StringIO

import pytest
from rich.console import Console

from whymask import progress
from whymask.progress import Decoding, Steps, say, time_left


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def told(
    monkeypatch: pytest.MonkeyPatch,
    clock: list[float],
    terminal: bool,
    label: str = "[1/24] pretraining mae, seed 0",
) -> str:
    written = StringIO()
    console = Console(file=written, force_terminal=terminal, color_system=None, width=120, highlight=False)
    monkeypatch.setattr(progress, "console", console)
    with Steps(label, 400, between=10) as bar:
        for done in range(1, 121):
            clock[0] += 1.0
            bar.update(done, "loss 0.5300")
        bar._bar.refresh()
    return written.getvalue()


def test_a_log_file_gets_the_lines_of_the_terminal_without_carriage_returns(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    line = "[1/24] pretraining mae, seed 0: step 120 of 400, loss 0.5300; about 5 min left"
    clock[0] = 0.0
    lines = told(monkeypatch, clock, terminal=False)
    assert "\r" not in lines and "\x1b" not in lines
    assert lines.splitlines()[0] == "[1/24] pretraining mae, seed 0: step 6 of 400, loss 0.5300; about 7 min left"
    assert lines.splitlines()[1] == "[1/24] pretraining mae, seed 0: step 17 of 400, loss 0.5300; about 6 min left"
    assert len(lines.splitlines()) == 11
    assert line in told(monkeypatch, clock, terminal=True)


def test_a_loop_that_goes_on_is_timed_from_where_it_went_on(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Steps("a", 1000)
    assert bar._text(901, "", 0.0) == "a: step 901 of 1,000"
    assert bar._text(911, "", 10.0) == "a: step 911 of 1,000; about 89 s left"
    assert bar._text(1000, "", 99.0) == "a: step 1,000 of 1,000"


def test_what_is_no_loop_of_steps_tells_likewise_how_long_it_still_takes(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    clock[0], progress = 0.0, Decoding("checking", "files")
    for done in range(100, 1001, 10):
        progress(done, 1000)
        clock[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "checking: 160 of 1,000 files; about 84 s left",
        "checking: 470 of 1,000 files; about 53 s left",
        "checking: 780 of 1,000 files; about 22 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (119, "119 s"), (120, "2 min"), (3601, "60 min"), (9000, "2 h")]
)
def test_time_left_is_told_in_a_unit_that_fits(seconds: float, said: str) -> None:
    assert time_left(seconds) == f"about {said} left"


@pytest.mark.parametrize("terminal", [False, True])
def test_names_are_printed_as_they_are(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Others would make a picture of :smile:, and a colour of [red]."""
    name = ":smile:/[red]a[/blue].png:x:"
    assert name in told(monkeypatch, clock, terminal, label=name)
    monkeypatch.undo()
    say(f"error: {name}")
    assert capsys.readouterr().err == f"error: {name}\n"


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_of_several_processes_the_first_speaks_and_each_of_its_own_error(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, "0")
    say("of the first")
    monkeypatch.setenv(variable, "1")
    say("of the second")
    say("error of the second", from_all=True)
    assert capsys.readouterr().err.splitlines() == ["of the first", "error of the second"]
