"""However a command is stopped, it says so in a word: while importing, and of processes that train together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from children import signal_itself
from ranks import ended, start_ranks
from tiny import GLYPHS
from whymask import cli, devices, progress
from whymask import ranks as meeting
from whymask.runs import RunFolder
from whymask.studies.cells import Cell, Runner

INTERRUPTED = """
import sys

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
from whymask.__main__ import main
sys.argv = ["whymask", "theory", "--quick", "--out", OUT]
main()
"""
GLOO = "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:52416. This is typically caused by ..."


@pytest.mark.parametrize("module", ["whymask.cli", "tyro", "rich.console", "torch"])
def test_ctrl_c_while_importing_is_a_word(module: str, tmp_path: Path) -> None:
    code = f"MODULE, OUT = {module!r}, {str(tmp_path / 'theory')!r}{INTERRUPTED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "stopped" and "Traceback" not in done.stderr


def child_of(process: "subprocess.Popen[str]") -> int:
    """The second of two processes that compute together."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(listed.split()[0])


def test_sigterm_to_one_of_two_processes_saves_a_checkpoint_and_is_told_once(tmp_path: Path) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("processes are listed under /proc")
    size = ["--width", "4", "--epochs", "5000", "--batch-size", "32", "--device", "cpu", "--threads", "1"]
    out = ["--devices", "2", "--out", str(tmp_path / "r")]
    command = [sys.executable, "-m", "whymask", "pretrain", GLYPHS, *size, *out]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "r/metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.1)
        os.kill(child_of(process), signal.SIGTERM)
        said = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert len(said) == len(set(said)) <= 12 and not any("lightning" in line or "MEMBER" in line for line in said)
    assert said[1] == "2 processes share each batch"
    kept = RunFolder(tmp_path / "r").load_checkpoint()
    assert kept is not None and f"stopped after step {kept.step} of" in said[-1] and "continues" in said[-1]


SIZE = ("--encoder", "vit", "--width", "16", "--depth", "1", "--patch", "8", "--batch-size", "32", "--epochs", "8")
TRAINED = ("pretrain", GLYPHS, *SIZE, "--learning-rate", "3e-4", "--device", "cpu", "--threads", "1")


def commanded(said: Path, number: int, *arguments: str) -> None:
    """The command line, as one of the processes that compute together, of which the second sends itself a signal after
    two steps."""
    with (said / os.environ["RANK"]).open("w", buffering=1) as file:
        progress.console.file = file
        if number != signal.SIGKILL:
            meeting.SECONDS_TO_ASK = 1000  # both come, at last
        if number and os.environ["RANK"] == "1":
            signal_itself(number, 2)
        sys.argv = ["whymask", *arguments]
        cli.main()


def signalled(number: int, said: Path, out: Path) -> tuple[list[int | None], list[str]]:
    """Exit codes of two processes of which the second was sent a signal, and what they said."""
    children = start_ranks(2, commanded, said, number, *TRAINED, "--out", str(out))
    return ended(children), [(said / str(rank)).read_text() for rank in range(2)]


def test_a_run_that_one_of_two_processes_was_told_to_stop_goes_on_in_one(
    tmp_path: Path, whymask: Callable[..., int]
) -> None:
    codes, said = signalled(signal.SIGTERM, tmp_path, tmp_path / "r")
    assert codes == [130, 130] and "stopped after step" in said[0] and said[1] == ""
    assert len(list((tmp_path / "r/checkpoints").glob("*.json"))) == 1
    assert all(whymask(*TRAINED, "--out", tmp_path / name) == 0 for name in ("r", "one"))
    two, one = (load_file(tmp_path / name / "encoder/encoder.safetensors") for name in ("r", "one"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=0)


def test_a_process_that_is_killed_ends_the_other_with_a_message(tmp_path: Path) -> None:
    codes, said = signalled(signal.SIGKILL, tmp_path, tmp_path / "r")
    assert codes == [1, -signal.SIGKILL]
    assert said[0].splitlines()[-1].startswith("error: another of the processes that compute together has ended")


def test_an_error_of_two_processes_is_told_once_and_before_a_folder_is_made(tmp_path: Path) -> None:
    children = start_ranks(2, commanded, tmp_path, 0, *TRAINED, "--batch-size", "33", "--out", str(tmp_path / "r"))
    assert ended(children) == [2, 2]
    said = "".join((tmp_path / str(rank)).read_text() for rank in range(2))
    assert said.count("error: a batch of 33 images over 2 processes; expected a multiple of 2") == 1
    assert said.count("error:") == 1 and not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("world", "error", "is_lost"),
    [
        ("2", RuntimeError(GLOO), True),
        ("2", RuntimeError("NCCL communicator was aborted on rank 0"), True),
        ("2", RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        ("2", ValueError(GLOO), False),
        ("1", RuntimeError(GLOO), False),
    ],
)
def test_that_another_process_has_ended_is_told_from_other_errors(
    world: str, error: Exception, is_lost: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(arguments: Any) -> None:
        raise error

    monkeypatch.setenv("WORLD_SIZE", world)
    assert devices.lost_another(error) == is_lost
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "run", failing)
    try:
        with pytest.raises(SystemExit if is_lost else type(error)) as ended:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    if is_lost:
        assert isinstance(ended.value, SystemExit) and ended.value.code == 1
        assert capsys.readouterr().err.startswith("error: another of the processes")


def test_a_cell_is_not_marked_as_failed_because_another_process_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lost(*arguments: Any, **options: Any) -> None:
        raise RuntimeError(GLOO)

    nothing: Any = None
    runner, cell = Runner(nothing, nothing, tmp_path), Cell("mae", None, 0)
    monkeypatch.setattr(Runner, "pretrain", lost)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="closed by peer"):
        runner.run(cell)
    assert not (runner.folder(cell) / "error.json").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "gloo" in runner.run(cell)["error"]
