"""A Ray cluster: whether it answers, which share of it a cell needs, and how many cells it runs at once."""

import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, TextIO

from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.report.text import plural
from whymask.studies.settings import StudySettings
from whymask.training.settings import RuntimeSettings

LOCAL = "auto"
SECONDS_TO_CONNECT, SECONDS_TO_JOIN = 5, 20
USUAL = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Nothing is sent to Ray's makers, and cells are as urgent as without Ray, unless the environment says otherwise."""
QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
JOIN = f"import sys, ray; ray.init(sys.argv[1], **{dict(QUIET)}); ray.shutdown()"
"""A program that ends well where a cluster can be joined. Ray itself tries for minutes, and then ends the process."""


def check_cluster(asked: StudySettings, cells: str | None) -> None:
    """Raise WhymaskError, before anything slow, where Ray is asked for and is not there, or nobody answers."""
    address = asked.cluster.ray
    if address is None:
        return
    if cells is not None:
        raise WhymaskError(
            f"--ray with --cells {cells}: Ray shares the cells out by itself. Leave --cells out, or --ray where there "
            "is no cluster."
        )
    for given in (asked.encoder.name, asked.augment):
        if given.startswith("__main__:"):
            raise WhymaskError(
                f"--ray with {given}: cells are processes of their own, which do not see the program that defines it; "
                "put it into a module that they can import, or leave --ray out"
            )
    if find_spec("ray") is None:
        raise WhymaskError("--ray needs Ray; install it: pip install 'whymask[ray]'")
    if address == LOCAL:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise WhymaskError(
            f"--ray {address}: expected auto, or HOST:PORT of a cluster of which this machine is one, such as "
            "10.0.0.1:6379, as 'ray start' says it."
        )
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, why: str) -> WhymaskError:
    return WhymaskError(
        f"--ray {address}: no Ray cluster answers there ({why}). Start one by 'ray start --head --port "
        f"{address.rpartition(':')[2]}' on that machine, correct the address, or give --ray auto."
    )


def with_threads(asked: StudySettings) -> StudySettings:
    """`asked`, with as many threads as CPUs a cell, where these are given and those are not."""
    runtime, cpus = asked.runtime, asked.cluster.cpus_per_cell
    return (
        asked if runtime.threads is not None or cpus is None else replace(asked, runtime=replace(runtime, threads=cpus))
    )


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined, what one cell has of it, and where cells and this process compute."""

    cpus: int
    gpus: float
    runtime: RuntimeSettings
    own_runtime: RuntimeSettings

    def at_once(self) -> int:
        """How many cells the machines that are there now have room for, if nobody else computes on them."""
        return sum(self._fit(machine) for machine in machines())

    def _fit(self, machine: Mapping[str, float]) -> int:
        by_cpus = int(machine.get("CPU", 0)) // self.cpus
        return min(by_cpus, int(1 / self.gpus) * int(machine.get("GPU", 0))) if self.gpus else by_cpus

    def need(self) -> str:
        return f"{plural(self.cpus, 'CPU')}{f' and {self.gpus:g} GPU' if self.gpus else ''}"

    def text(self) -> str:
        """In a line: what a cell has, how many run at once, and where threads keep others from running beside it."""
        at_once, threads = self.at_once(), self.runtime.threads
        hint = "" if self.gpus or at_once > 1 or self.cpus == 1 else "; with --threads 1 more run at once"
        return f"Ray: {has()}; {at_once} cells at once, each with {self.need()} and {threads} threads{hint}"


@contextmanager
def joined(asked: StudySettings) -> Iterator[Cluster | None]:
    """Within, this process is one of the cluster that is asked for, which `auto` starts; None where none is.

    Raises WhymaskError where it cannot join, or no machine has what a cell needs."""
    if asked.cluster.ray is None:
        yield None
        return
    os.environ.update(USUAL | os.environ)
    import ray

    own = not ray.is_initialized()  # else of the program that calls this
    if own:
        _join(asked.cluster.ray)
    try:
        cluster = shared_out(asked)
        say(cluster.text())
        with redirect_stdout(_WithoutRay(sys.stdout)):
            yield cluster
    finally:
        if own:
            ray.shutdown()


class _WithoutRay(io.TextIOBase):
    """What is printed, but for what Ray's threads print: of a lost process nine lines, which no setting turns off."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def write(self, text: str) -> int:
        return 0 if threading.current_thread().name.startswith("ray_") else self.beneath.write(text)

    def flush(self) -> None:
        self.beneath.flush()


def _join(address: str) -> None:
    import ray

    if address != LOCAL:
        _try_to_join(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address == LOCAL:
            ray.init("local", include_dashboard=False, **QUIET)
        else:
            ray.init(address, **QUIET)
    except Exception as error:
        raise WhymaskError(f"--ray {address}: Ray cannot be started or joined: {error}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's would end the process without a word


def _try_to_join(address: str) -> None:
    command = [sys.executable, "-c", JOIN, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_JOIN)
    except subprocess.TimeoutExpired as late:
        said = late.stderr.decode() if isinstance(late.stderr, bytes) else late.stderr or ""
        raise _not_joined(address, said, f"nothing within {SECONDS_TO_JOIN} seconds") from None
    if done.returncode:
        raise _not_joined(address, done.stderr, (done.stderr.strip().splitlines() or ["it ended without a word"])[-1])


def _not_joined(address: str, said: str, why: str) -> WhymaskError:
    if "AuthToken" in said:
        return WhymaskError(
            f"--ray {address}: the cluster asks for Ray's token. Give RAY_AUTH_MODE=token in the environment, and the "
            "token as Ray's documentation says (ray get-auth-token)."
        )
    return _no_answer(address, why)


def shared_out(asked: StudySettings) -> Cluster:
    """What a cell has of the cluster."""
    import torch

    from whymask.devices import best_device

    runtime, most = asked.runtime, {name: max(m.get(name, 0) for m in machines()) for name in ("CPU", "GPU")}
    threads = runtime.threads or torch.get_num_threads()
    gpus = asked.cluster.gpus_per_cell
    if gpus is None:
        gpus = 1.0 if runtime.device == "cuda" or (runtime.device == "auto" and most["GPU"] >= 1) else 0.0
    usual = 1 if gpus else max(1, min(threads, int(most["CPU"])))
    device = "cuda" if gpus else runtime.device
    if device == "auto":
        device = "mps" if best_device() == "mps" else "cpu"
    there = replace(runtime, device=device, threads=threads)
    cluster = Cluster(asked.cluster.cpus_per_cell or usual, gpus, there, runtime if gpus else there)
    if not cluster.at_once():
        ways = ["a smaller --cpus-per-cell" if cluster.cpus > 1 else "", "--gpus-per-cell 0" if gpus else ""]
        raise WhymaskError(
            f"no machine of the cluster can run a cell, which needs {cluster.need()}; it has {has()}. Give "
            f"{' or '.join(filter(None, [*ways, 'another cluster']))}."
        )
    return cluster


def machines() -> list[dict[str, float]]:
    """What each machine has that is there: {"CPU": 16, "GPU": 1, ...}."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def has() -> str:
    """What the cluster has, in words."""
    totals = {name: int(sum(machine.get(name, 0) for machine in machines())) for name in ("CPU", "GPU")}
    gpus = plural(totals["GPU"], "GPU") if totals["GPU"] else "no GPU"
    return f"{plural(len(machines()), 'machine')} with {plural(totals['CPU'], 'CPU')} and {gpus}"
