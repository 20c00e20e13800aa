"""Cells on a Ray cluster: the bits of the plain run, whatever is lost on the way; and what is wrong is told at once."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from documents import written
from ranks import held_port
from tiny import GLYPHS, runtime, tiny_settings
from whymask import WhymaskError, study
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.progress import say
from whymask.stages.context import Context
from whymask.stages.settings import PretrainTrainingSettings
from whymask.studies import cluster, seats
from whymask.studies.cells import Runner
from whymask.studies.cluster import joined
from whymask.studies.config import resolve_study
from whymask.studies.seats import Crew, Job, Ran
from whymask.studies.settings import ClusterSettings, StudySettings
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)
DOCUMENT = "docs/cells.md"
LONG = tiny_settings(
    seeds=1,
    budgets=("2",),
    worth_budgets=None,
    scratch_long="none",
    pretrain=PretrainTrainingSettings(epochs=40, batch_size=32, checkpoint_every=20),
)
"""A pretraining of 280 steps, which can be killed in the middle, and four classifiers."""
AS_FLAGS = (
    "--seeds 1 --budgets 2 --scratch-long none --width 4 --pretrain.epochs 40 --pretrain.batch-size 32 "
    "--pretrain.checkpoint-every 20 --finetune.epochs 2 --finetune.batch-size 8 --device cpu --threads 1 --no-explain"
)
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """Of those that no system hands out by itself, so that nobody is given it before it is listened at."""
    for port in range(20000 + os.getpid() % 10000, 32000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def until(find: Callable[[], Any]) -> Any:
    """What is found, once it is."""
    while not (found := find()):
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one machine, started as docs/cells.md says. Ray reads its environment when it is first imported,
    which tests therefore leave to what they test."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"HOME": str(home)}).items():
            patch.setenv(name, value)
        patch.setattr(cluster, "SECONDS_TO_JOIN", 1000)  # on a busy machine
        patch.setattr(seats, "SECONDS_OF_PATIENCE", 1000.0)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        subprocess.run(["bash", "-ec", written(DOCUMENT, "get-auth-token")], check=True, stdout=subprocess.DEVNULL)
        with started(home) as at:
            yield at


@contextmanager
def started(home: Path) -> Iterator[str]:
    """Its address. Ray itself gives up where it is not up within 30 seconds, as on a busy machine: then once more."""
    for attempt in range(10):
        port, log = free_port(), home / f"log {attempt}"
        command = [*written(DOCUMENT, "--head").strip().replace("6379", str(port)).split(), "--num-cpus", "2"]
        with log.open("w") as lines:
            process = subprocess.Popen(command, stdout=lines, stderr=lines, start_new_session=True)
        try:
            until(lambda log=log, process=process: "runtime started" in log.read_text() or process.poll() is not None)
            if process.poll() is None:
                yield f"127.0.0.1:{port}"
                return
        finally:
            process.terminate()
            process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    raise OSError(f"Ray does not start: {log.read_text()}")


def on(address: str, settings: StudySettings, **more: Any) -> StudySettings:
    return replace(settings, cluster=ClusterSettings(address, **more))


def bits(out: Path) -> dict[str, bytes]:
    """Weights and predictions of every cell."""
    kinds = (".safetensors", ".npz")
    return {str(p.relative_to(out)): p.read_bytes() for p in (out / "cells").rglob("*") if p.suffix in kinds}


def holder(folder: Path) -> int | None:
    """The process that writes into it."""
    with suppress(FileNotFoundError):
        if found := re.search(r"process (\d+) on", (folder / ".holder").read_text()):
            return int(found[1])
    return None


# the same bits -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_a_lost_worker_and_ctrl_c_change_no_bit(address: str, tmp_path: Path) -> None:
    out, cell = tmp_path / "ray", tmp_path / "ray" / "cells" / "pretrain-mae-0"
    command = [sys.executable, "-m", "whymask", "study", GLYPHS, *AS_FLAGS.split(), "--out", str(out), "--ray", address]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        until(lambda: list(cell.glob("checkpoints/*.json")) or process.poll() is not None)
        assert process.poll() is None
        killed = until(lambda: holder(cell))
        os.kill(killed, signal.SIGKILL)
        again = until(lambda: (other := holder(cell)) != killed and other)
        os.kill(again, signal.SIGSTOP)  # so that it is not done before it is told
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.stdout is not None
        said = ""
        while "stopping after the step" not in said and (line := process.stdout.readline()):
            said += line
        os.kill(again, signal.SIGCONT)
        said += process.stdout.read()
    assert process.returncode == 130
    assert "pretraining mae, seed 0: its process was lost" in said
    assert said.endswith("stopped; the same command, with Ray or without, continues\n")
    assert "raylet" not in said and "Traceback" not in said and not (cell / "result.json").exists()
    assert read_json(out / "study.json")["verdict"]["kind"] == "cannot tell"  # the page of what is there

    whole = study(GLYPHS, out=out, settings=on(address, LONG, cpus_per_cell=2), explain=False)  # one at once
    plain = study(GLYPHS, out=tmp_path / "plain", settings=LONG, explain=False)
    assert whole["levels"] == plain["levels"] and len(bits(out)) == 16
    assert bits(out) == bits(tmp_path / "plain")
    threads = {read_json(path)["provenance"]["threads"] for path in (out / "cells").glob("*/config.json")}
    assert threads == {1}


@pytest.mark.usefixtures("undrawn")
def test_a_failed_pretraining_is_named_what_starts_from_it_fails_and_the_rest_is_run(
    address: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("why"))
    for name in ("pretrain-mae-1", "mae-2-1", "mae-5-1", "scratch-4-1"):
        shutil.rmtree(out / "cells" / name)
    stray = out / "cells" / "pretrain-mae-1" / "stray.txt"
    stray.parent.mkdir()
    stray.touch()
    failed = study(GLYPHS, out=out, settings=on(address, tiny_settings()), explain=False)
    assert "pretraining mae, seed 1 failed: WhymaskError: " in capsys.readouterr().err
    assert "is not empty and holds no whymask run" in failed["pretraining"][1]["error"]
    errors = {(row["arm"], row["budget"], row["seed"]): row["error"] for row in failed["cells"] if row["error"]}
    assert errors.keys() == {("mae", "2", 1), ("mae", "5", 1)}
    assert all(text.startswith("WhymaskError: its pretraining failed: WhymaskError") for text in errors.values())
    assert (out / "cells/scratch-4-1/result.json").exists()
    stray.unlink()
    study(GLYPHS, out=out, settings=tiny_settings(), explain=False)  # without Ray
    assert bits(out) == bits(finished)


# what goes wrong there -----------------------------------------------------------------------------------------


def test_a_process_that_is_lost_again_and_again_and_a_folder_that_is_not_seen(
    address: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "MAY_BE_LOST", 2)
    asked = on(address, tiny_settings())
    prepared = prepare(GLYPHS, DataSettings(), multiple_of=4)
    runner = Runner(Context(make_fabric(runtime()), prepared), resolve_study(asked, prepared), finished)
    jobs = [Job("bad", "a bad one", _dies, ()), Job("next", "the next", _says, ("well",), after="bad")]
    done: dict[str, Ran] = {}
    with joined(asked) as found:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker sees the tests
        assert found is not None and found.at_once() == 2
        Crew(found, runner, jobs).run(lambda job, ran: done.update({job.name: ran}), lambda running: None)
        assert done["bad"].lost is not None and done["bad"].lost.startswith("its process was lost 2 times: ")
        assert done["next"].result == str(finished) and done["next"].said == ("well",)
        assert capsys.readouterr().err.count("a bad one: its process was lost") == 1
        elsewhere = Crew(found, replace(runner, out=tmp_path / "elsewhere"), jobs[1:])
        with pytest.raises(WhymaskError, match=f"does not see {tmp_path}/elsewhere, where the study is. Give --out"):
            elsewhere.run(lambda job, ran: None, lambda running: None)


def _dies(runner: Runner, *, wait: bool) -> None:
    os._exit(1)


def _says(runner: Runner, line: str, *, wait: bool) -> str:
    say(line)
    return str(runner.out)


def test_what_no_machine_has_is_told_with_what_the_cluster_has(address: str) -> None:
    there = "needs 1 CPU and 0.25 GPU; it has 1 machine with 2 CPUs and no GPU. Give --gpus-per-cell 0"
    with pytest.raises(WhymaskError, match=there), joined(on(address, StudySettings(), gpus_per_cell=0.25)):
        pass
    with pytest.raises(WhymaskError, match=r"needs 99 CPUs; .* a smaller --cpus-per-cell"):
        study(GLYPHS, out="nowhere", settings=on(address, StudySettings(), cpus_per_cell=99))
    assert not Path("nowhere").exists()


# without a cluster ---------------------------------------------------------------------------------------------

MIXED = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 6.0, "GPU": 4.0}, {"CPU": 8.0}]


@pytest.mark.parametrize(
    ("device", "given", "cell", "at_once"),
    [
        ("auto", {}, (1, 1.0, "cuda"), 6),
        ("auto", {"gpus_per_cell": 0.25}, (1, 0.25, "cuda"), 8 + 6),
        ("cuda", {"gpus_per_cell": 0.3, "cpus_per_cell": 4}, (4, 0.3, "cuda"), 4 + 1),
        ("auto", {"gpus_per_cell": 0}, (3, 0, "cpu"), 5 + 2 + 2),
        ("cpu", {}, (3, 0, "cpu"), 5 + 2 + 2),
        ("cpu", {"cpus_per_cell": 8}, (8, 0, "cpu"), 2 + 1),
    ],
)
def test_what_a_cell_has_and_how_many_run_at_once(
    device: Any, given: dict[str, Any], cell: tuple[int, float, str], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "machines", lambda: MIXED)
    asked = on("auto", StudySettings(runtime=RuntimeSettings(device=device, threads=3)), **given)
    shared = cluster.shared_out(asked)
    assert (shared.cpus, shared.gpus, shared.runtime.device) == cell and shared.at_once() == at_once
    assert shared.runtime.threads == 3
    assert cluster.with_threads(on("auto", StudySettings(), cpus_per_cell=2)).runtime.threads == 2


def test_who_does_not_answer_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WhymaskError, match=r"no Ray cluster answers there \(.*refused.*\). Start one by 'ray start"):
        cluster.check_cluster(on(f"127.0.0.1:{held_port()}", StudySettings()), None)
    monkeypatch.setattr(cluster, "SECONDS_TO_JOIN", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cluster.check_cluster(on(address, StudySettings()), None)
        with pytest.raises(WhymaskError, match=r"no Ray cluster answers there .nothing within 2 seconds"):
            study(GLYPHS, out="nowhere", settings=on(address, StudySettings()))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ray": "somewhere"}, "expected auto, or HOST:PORT"),
        ({"ray": "ray://10.0.0.1:10001"}, "expected auto, or HOST:PORT"),
        ({"ray": "auto", "cells": "1/2"}, "Ray shares the cells out by itself"),
        ({"ray": "auto", "devices": 2}, "--ray with --devices 2"),
        ({"ray": "auto", "gpus_per_cell": 2}, "from 0 to 1, such as 0.25"),
        ({"ray": "auto", "gpus_per_cell": 0.5, "device": "cpu"}, "one says a GPU, the other none"),
        ({"ray": "auto", "cpus_per_cell": 0}, "at least 1"),
        ({"gpus_per_cell": 0.5}, "add --ray auto"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], told: str) -> None:
    with pytest.raises(WhymaskError, match=told):
        study(GLYPHS, out="nowhere", **given)


def test_without_ray_its_line_of_pip_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(WhymaskError, match=r"pip install 'whymask\[ray\]'"):
        study(GLYPHS, out="nowhere", ray="auto")


# what the document says ----------------------------------------------------------------------------------------


def test_the_slurm_array_of_the_document_makes_the_study(pictures: Path, tmp_path: Path) -> None:
    """Two tasks of it, each by a `whymask` that adds what makes it small."""
    small = "--seeds 1 --budgets 2 --worth-budgets 3 --width 4 --pretrain.epochs 1 --finetune.epochs 1 --no-explain"
    tool = tmp_path / "bin" / "whymask"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/bash\nexec {sys.executable} -m whymask "$@" {small} --device cpu\n')
    tool.chmod(0o755)
    script = written(DOCUMENT, "SBATCH")
    environment = os.environ | {"PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / "photos").symlink_to(pictures / "photos"), (tmp_path / "labelled").symlink_to(pictures / "labelled")
    for task in ("1", "2"):
        numbers = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"}
        subprocess.run(
            ["bash", "-ec", script], env=environment | numbers, cwd=tmp_path, check=True, capture_output=True
        )
    table = read_json(tmp_path / "runs/mine/study.json")
    assert len(table["cells"]) == 4 and not any(row["error"] for row in table["cells"])


def test_the_cluster_file_of_the_document_is_one() -> None:
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load(written(DOCUMENT, "cluster_name")), schema)
