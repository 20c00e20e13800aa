"""One writer a folder: another is told who, or waits; a process that is killed leaves no lock and no litter."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from whymask.errors import BusyError, WhymaskError
from whymask.locks import holding
from whymask.runs import Checkpoint, RunFolder

HOLD = """
import sys
from pathlib import Path
from whymask.locks import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds tmp_path until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_that_is_held_is_refused_with_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    busy = pytest.raises(BusyError, match=rf"written by process {holder.pid} on .*wait until it has ended")
    with busy, holding(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WhymaskError, match="cannot be written"), holding(tmp_path / "file"):
        pass


def test_who_waits_goes_on_when_the_other_has_ended(
    tmp_path: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    with holding(tmp_path, wait=True):
        assert (tmp_path / ".holder").read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / ".holder").exists()


def test_a_killed_process_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with holding(tmp_path):
        pass


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", {"a": 1}, {})
    run.save_checkpoint(Checkpoint(1, {}, {}))
    left = [".result.json.123.tmp", "encoder/.encoder.safetensors.9.tmp", "checkpoints/step-00000002.safetensors"]
    kept = ["notes.tmp", "cells/a/.result.json.7.tmp", "cells/a/config.json"]
    for name in (*left, *kept):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("half")
    with run.held():
        found = [path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()]
    assert set(kept) <= set(found) and not set(left) & set(found)
    assert run.load_checkpoint() is not None
