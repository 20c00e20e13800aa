"""Who starts the processes that compute together: this one those of its machine; torchrun or Slurm's srun all."""

import os
import shlex
import sys

from whymask.errors import WhymaskError
from whymask.fabric import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from whymask.training.settings import RuntimeSettings


def launched_by(asked: RuntimeSettings) -> tuple[int, int, ClusterEnvironment]:
    """Processes on each node, the number of nodes, and how the processes find each other.

    What torchrun or srun has started counts; `devices` and `nodes` need not be said again. Raises WhymaskError where
    they say something else, and for several nodes on which nobody has started processes."""
    for name, started, environment in (
        ("torchrun", _by_torchrun(), TorchElasticEnvironment),
        ("srun", _by_srun(), SLURMEnvironment),
    ):
        if started is not None:
            _check_as_started(asked, name, *started)
            return *started, environment()
    if asked.nodes > 1:
        raise WhymaskError(_how_to_start(asked))
    return asked.devices, 1, LightningEnvironment()


def _by_torchrun() -> tuple[int, int] | None:
    """(processes a node, nodes), where torchrun has started this process."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    return _even(here, everywhere, "torchrun --nproc-per-node")


def _by_srun() -> tuple[int, int] | None:
    """(processes a node, nodes), where srun has started this process as one of several."""
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_ID" not in os.environ or tasks == 1:
        return None
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))
    started = _even(max(1, tasks // nodes), tasks, "srun --ntasks-per-node")
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(started[0]))  # which Fabric asks for
    return started


def _even(here: int, everywhere: int, flag: str) -> tuple[int, int]:
    if everywhere % here:
        raise WhymaskError(
            f"{everywhere} processes were started, {here} of them here; equally many on every node were expected; "
            f"start them with the same {flag} on each"
        )
    return here, everywhere // here


def _check_as_started(asked: RuntimeSettings, launcher: str, here: int, nodes: int) -> None:
    for flag, given, started in (("devices", asked.devices, here), ("nodes", asked.nodes, nodes)):
        if given not in (1, started):
            raise WhymaskError(
                f"--{flag} {given} was given, but {launcher} has started {here} process{'es' if here > 1 else ''} on "
                f"each of {nodes} node{'s' if nodes > 1 else ''}; leave --{flag} out, or start as many"
            )


def _how_to_start(asked: RuntimeSettings) -> str:
    command = shlex.join(sys.argv[1:])
    return (
        f"--nodes {asked.nodes} was given, but nobody has started this command on other nodes; torchrun or srun was "
        f"expected. Type on every node, with its number, 0 to {asked.nodes - 1}, and the address of the first one:\n"
        f"  torchrun --nnodes {asked.nodes} --nproc-per-node {asked.devices} --node-rank NUMBER --master-addr FIRST "
        f"--master-port 29500 -m whymask {command}\n"
        f"or once under Slurm:\n"
        f"  srun --nodes {asked.nodes} --ntasks-per-node {asked.devices} {sys.executable} -m whymask {command}"
    )
