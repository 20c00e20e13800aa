"""Several machines, as network namespaces: torchrun on each, a disk each, and the weights of one process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from documents import written
from tiny import GLYPHS
from whymask.errors import WhymaskError
from whymask.training.device import make_fabric
from whymask.training.launch import launched_by
from whymask.training.settings import RuntimeSettings

ADDRESSES, PORT = ("10.213.7.1", "10.213.7.2"), 29500
"""There nobody else has a port."""
SIZE = [
    *("pretrain", GLYPHS, "--encoder", "vit", "--width", "16", "--depth", "1", "--patch", "8", "--epochs", "2"),
    *("--batch-size", "32", "--learning-rate", "3e-4", "--device", "cpu", "--threads", "1"),
]


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two network namespaces that see each other and nothing else."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces are made by root with ip (Debian: iproute2)")
    names = [f"whymask{os.getpid()}{side}" for side in "ab"]
    ends = [f"wm{os.getpid() % 10**8}{side}" for side in "ab"]
    try:
        if not all(ip("netns", "add", name) for name in names):
            pytest.skip("network namespaces cannot be made here")
        assert ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            assert ip("link", "set", end, "netns", name)
            assert ip("-n", name, "link", "set", end, "name", "net0")
            assert ip("-n", name, "address", "add", f"{address}/24", "dev", "net0")
            assert all(ip("-n", name, "link", "set", link, "up") for link in ("net0", "lo"))
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


def torchrun(host: str, rank: int, disk: Path, *command: str) -> "subprocess.Popen[str]":
    """The command, started by torchrun on one of two hosts, which has a disk of its own."""
    disk.mkdir(exist_ok=True)
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "net0", "HOME": str(disk), "XDG_CACHE_HOME": str(disk / "cache")}
    launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank)]
    launcher += ["--master-addr", ADDRESSES[0], "--master-port", str(PORT), "-m", "whymask"]
    line = ["ip", "netns", "exec", host, sys.executable, *launcher, *command]
    return subprocess.Popen(line, cwd=disk, env=environment, stderr=subprocess.PIPE, text=True)


def test_two_hosts_with_a_disk_each_learn_what_one_process_learns(
    hosts: list[str], tmp_path: Path, whymask: Callable[..., int]
) -> None:
    disks = [tmp_path / "a", tmp_path / "b"]
    command = (*SIZE, "--nodes", "2", "--out", "run")
    started = [torchrun(*place, *command) for place in zip(hosts, (0, 1), disks, strict=True)]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert whymask(*SIZE, "--out", tmp_path / "one") == 0
    wrote = [disk for disk in disks if (disk / "run").exists()]
    assert len(wrote) == 1 and sum("2 processes share each batch on 2 nodes" in lines for lines in said) == 1
    one, two = (load_file(folder / "encoder/encoder.safetensors") for folder in (tmp_path / "one", wrote[0] / "run"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ({}, (3, 1, "LightningEnvironment")),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "3", "WORLD_SIZE": "6"}, (3, 2, "TorchElasticEnvironment")),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "6", "SLURM_NNODES": "2"}, (3, 2, "SLURMEnvironment")),
        ({"SLURM_NTASKS": "6", "SLURM_NNODES": "2"}, (3, 1, "LightningEnvironment")),  # a batch script, without srun
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}, (3, 1, "LightningEnvironment")),  # such as a task of an array
    ],
)
def test_the_number_of_processes_is_what_was_started(
    started: dict[str, str], expected: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**started, "SLURM_NTASKS_PER_NODE": "3"}.items():
        monkeypatch.setenv(name, value)
    devices, nodes, environment = launched_by(RuntimeSettings(devices=3))
    assert (devices, nodes, type(environment).__name__) == expected


@pytest.mark.parametrize(
    ("started", "asked", "said"),
    [
        (
            {},
            {"nodes": 2, "devices": 4},
            "torchrun --nnodes 2 --nproc-per-node 4 .*\n.*\n  srun --nodes 2 --ntasks-per",
        ),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}, {"nodes": 3}, "--nodes 3 .* 2 processes on each of 2 nodes"),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}, {"devices": 4}, "--devices 4 .* leave --devices out"),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "3"}, {}, "3 processes were started, 2 of them here; equally many"),
    ],
)
def test_what_was_started_otherwise_than_asked_is_refused(
    started: dict[str, str], asked: dict[str, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (started and {**started, "TORCHELASTIC_RUN_ID": "x"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WhymaskError, match=said):
        launched_by(RuntimeSettings(**asked))


def test_what_one_process_does_is_refused_to_several() -> None:
    with pytest.raises(WhymaskError, match=r"2 processes .*for what one does alone"):
        make_fabric(RuntimeSettings(device="cpu", devices=2), alone=True)


SRUN = """#!/bin/bash
# Slurm's srun for one node and two tasks, as far as they see of it.
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_STEP_NUM_NODES=1 SLURM_NODEID=0
export SLURM_JOB_ID=$$ SLURM_NODELIST=127.0.0.1 SLURM_JOB_NODELIST=127.0.0.1 MASTER_ADDR=127.0.0.1
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" $SMALL & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || exit 1; done
"""


def test_the_page_on_clusters_runs_as_written(pictures: Path, tmp_path: Path) -> None:
    """The line for torchrun on one machine, and the script for Slurm, with an srun of two tasks in its place."""
    line, script = (written("docs/cluster.md", about) for about in ("--nproc-per-node 2 ", "#SBATCH"))
    own = tmp_path / "bin"
    own.mkdir()
    for name, text in (
        ("srun", SRUN),
        ("torchrun", f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"'),
    ):
        (own / name).write_text(text)
        (own / name).chmod(0o755)
    (own / "python").symlink_to(sys.executable)
    small = "--width 4 --epochs 1 --batch-size 8 --device cpu --threads 1"
    python = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment = python | {"PATH": f"{own}{os.pathsep}{os.environ['PATH']}", "SMALL": small}
    encoders = []
    for name, typed in (("torchrun", f"{line.strip()} {small}"), ("slurm", script)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photos").symlink_to(pictures / "photos")
        done = subprocess.run(["bash", "-ec", typed], cwd=tmp_path / name, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert b"2 processes share each batch" in done.stderr
        encoders.append(load_file(tmp_path / name / "runs/encoder/encoder/encoder.safetensors"))
    assert all(torch.equal(tensor, encoders[1][key]) for key, tensor in encoders[0].items())
