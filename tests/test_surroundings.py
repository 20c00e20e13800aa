"""A command needs a place for its --out, and of the rest of the machine nothing: neither a working directory, nor a
home, nor a place for temporary files that can be written."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from whymask import surroundings
from whymask.errors import WhymaskError

COMMAND = """
import os, sys, tempfile
from pathlib import Path

Path("gone").mkdir()
os.chdir("gone")
Path.cwd().rmdir()

def nowhere():
    raise FileNotFoundError(2, "No usable temporary directory found")

tempfile._get_default_tempdir = nowhere
from whymask.__main__ import main
sys.argv = ["whymask", *sys.argv[1:]]
main()
"""


def test_a_study_needs_neither_a_working_directory_nor_a_home_nor_temporary_files(tmp_path: Path) -> None:
    size = "--seeds 1 --budgets 2 --worth-budgets 4 --scratch-long none --no-explain --width 4 --threads 1"
    training = "--pretrain.epochs 1 --finetune.epochs 1"
    out = tmp_path / "out"
    asked = ["study", "glyphs:unlabelled=64,train=40,test=40", *size.split(), *training.split(), "--out", str(out)]
    surrounding = {key: value for key, value in os.environ.items() if key not in ("TMPDIR", "MPLCONFIGDIR")}
    surrounding |= {"HOME": "/proc/nowhere", "TMPDIR": "/proc/nowhere"}
    command = [sys.executable, "-c", COMMAND, *asked]
    done = subprocess.run(command, cwd=tmp_path, env=surrounding, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_relative_out_in_a_working_directory_that_was_removed_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, "pretrain", "glyphs", "--out", "runs/a"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--out runs/a is relative to the working directory, which was removed; give an absolute" in done.stderr


@pytest.fixture
def no_temporary_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "_get_default_tempdir", nowhere)
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield


@pytest.mark.usefixtures("no_temporary_place")
@pytest.mark.parametrize("flag", [["--out", "{}/new/run"], ["--out={}/new/run"], []])
def test_temporary_files_lie_beside_out_or_in_the_store_where_there_is_no_other_place(
    flag: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHYMASK_STORE", str(tmp_path / "store"))
    surroundings.settle(["pretrain", "glyphs", *(part.format(tmp_path) for part in flag), "--seed", "1"])
    assert tempfile.gettempdir() == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_working_directory_that_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    surroundings.settle([])
    surroundings.check_place(Path("runs/a"))
    assert Path.cwd() == tmp_path
    monkeypatch.setitem(surroundings._state, "is_lost", True)
    surroundings.check_place(tmp_path / "runs")
    with pytest.raises(WhymaskError, match="was removed"):
        surroundings.check_place(Path("runs/a"))
