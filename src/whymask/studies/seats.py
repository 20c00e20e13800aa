"""Work of a study in processes of a Ray cluster, several at once.

Each process, a seat, opens the study once, from the folders that all machines see, and is given one job after another.
One whose process or machine is lost is given again, and goes on from its last checkpoint.
"""

import signal
import socket
import sys
import threading
import time
from _thread import interrupt_main
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from whymask.data.forms import FORMS
from whymask.errors import WhymaskError
from whymask.progress import Listener, listening, say
from whymask.studies.board import Board
from whymask.studies.cells import Runner
from whymask.studies.cluster import Cluster, has
from whymask.training.device import make_fabric
from whymask.training.loop import Interrupted
from whymask.training.settings import RuntimeSettings
from whymask.training.stopping import Stop, stop_signal
from whymask.version import __version__

MAY_BE_LOST = 3
"""How often a job's process may be lost before the job counts as failed."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_OF_PATIENCE = 120.0
"""After which it is said that no cell has begun."""


@dataclass(frozen=True)
class Job:
    """``work(runner, *given, wait=...)``, for which `after`, another job's name, must be finished."""

    name: str
    title: str
    work: Callable[..., Any]
    given: tuple[Any, ...]
    after: str | None = None


@dataclass(frozen=True)
class Ran:
    """What came of a job, the seconds that it took, and what was said; `lost` where its process was, too often."""

    result: Any = None
    seconds: float = 0.0
    said: tuple[str, ...] = ()
    is_stopped: bool = False
    lost: str | None = None


@dataclass(frozen=True)
class Study:
    """A study as it travels to other machines: without its images, which they open."""

    runner: Runner
    store: Path
    runtime: RuntimeSettings
    command: list[str]
    versions: tuple[str, str]

    @classmethod
    def of(cls, runner: Runner, runtime: RuntimeSettings) -> "Study":
        images, config = runner.context.prepared.images, runner.config
        nothing: Any = None
        bare = replace(runner.context.prepared, images=replace(images, images=nothing))
        init = None if config.init is None else config.init.absolute()
        whole = replace(
            runner,
            context=replace(runner.context, fabric=nothing, prepared=bare),
            config=replace(config, init=init),
            out=runner.out.absolute(),
        )
        return cls(whole, images.path.absolute(), runtime, sys.argv, _versions())

    def open(self) -> Runner:
        """The runner on this machine. Raises WhymaskError where it does not see the folders, or has other packages."""
        for folder, what, flag in ((self.runner.out, "study", "--out"), (self.store, "images", "--store")):
            if not folder.is_dir():
                raise WhymaskError(
                    f"{socket.gethostname()}, a machine of the cluster, does not see {folder}, where the {what} "
                    f"{'are' if what == 'images' else 'is'}. Give {flag} a folder that all machines see."
                )
        if _versions() != self.versions:
            there, here = (f"whymask {own} with torch {torchs}" for own, torchs in (_versions(), self.versions))
            raise WhymaskError(
                f"{socket.gethostname()}, a machine of the cluster, has {there}, and this one {here}, which may give "
                "other numbers. Install the same on all."
            )
        sys.argv = self.command  # which provenance names
        form = next(form for form in FORMS.values() if (self.store / form.files[0]).exists())
        bare = self.runner.context.prepared
        prepared = replace(bare, images=replace(bare.images, images=form.open(self.store), path=self.store))
        context = replace(self.runner.context, fabric=make_fabric(self.runtime), prepared=prepared)
        return replace(self.runner, context=context)


def _versions() -> tuple[str, str]:
    return __version__, torch.__version__.partition("+")[0]


class Seat:
    """Runs jobs in the main thread, as training's answer to signals needs it; another thread tells the board."""

    def __init__(self, board: Any) -> None:
        self._study: tuple[str, Runner] | None = None
        self._job, self._line = "", ""
        threading.Thread(target=self._tell, args=(board,), daemon=True).start()

    def host(self) -> str:
        return socket.gethostname()

    def run(self, name: str, packed: bytes, job: Job, again: bool) -> Ran:
        """`name` tells studies apart; `again`: the job's process was lost, and perhaps still holds its folder."""
        from ray import cloudpickle

        said: list[str] = []
        began = time.monotonic()
        with listening(Listener(said.append, self._shows)):
            if self._study is None or self._study[0] != name:
                self._study = name, cloudpickle.loads(packed).open()
            self._job, self._line = job.name, ""
            try:
                result = job.work(self._study[1], *job.given, wait=again)
            except KeyboardInterrupt:
                return Ran(said=tuple(said), is_stopped=True)
            finally:
                self._job = ""
        return Ran(result, time.monotonic() - began, tuple(said))

    def _shows(self, line: str) -> None:
        self._line = line

    def _tell(self, board: Any) -> None:
        import ray

        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            is_to_stop = ray.get(board.tell.remote(self._job, self._line))
            handler = signal.getsignal(signal.SIGINT)
            if is_to_stop and isinstance(handler, Stop) and not handler.requested:
                interrupt_main()  # after the current step, with a checkpoint


def _actor(kind: type, **needs: float) -> Any:
    """Makes such objects in processes of the cluster; by its name, as whymask is there too."""
    import ray

    made: Any = ray.remote
    return made(**needs)(kind)


class Crew:
    """The seats of a cluster, and the jobs that they still are to do."""

    def __init__(self, cluster: Cluster, runner: Runner, jobs: Sequence[Job]) -> None:
        import ray
        from ray import cloudpickle

        self.cluster, self.left = cluster, list(jobs)
        self.unfinished = {job.name for job in jobs}
        self.study = ray.put(cloudpickle.dumps(Study.of(runner, cluster.runtime)))
        self.board: Any = _actor(Board, num_cpus=0).remote()
        self.coming: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, Job]] = {}
        self.losses: Counter[str] = Counter()
        self.since_room: float | None = time.monotonic()
        self.is_stopping = False

    def run(self, done: Callable[[Job, Ran], None], show: Callable[[dict[str, str]], None]) -> None:
        """Do all jobs. `done` is told of each, and `show`, often, what those say of themselves that run, by name.

        Raises Interrupted after Ctrl-C, once all that run have stopped, and WhymaskError where a machine of the cluster
        cannot do them."""
        import ray

        with stop_signal() as stop:
            try:
                while self.left or self.running:
                    if stop.requested and not self.is_stopping:
                        self._stop()
                    self._hire()
                    self._assign()
                    ready, _ = ray.wait([*self.coming, *self.running], timeout=SECONDS_BETWEEN_LOOKS)
                    for ref in ready:
                        self._came(ref) if ref in self.coming else self._ran(ref, done)
                    show(self._seen())
            finally:
                for seat in (*self.coming.values(), *self.idle, *(seat for seat, _ in self.running.values())):
                    ray.kill(seat)
                ray.kill(self.board)
        if stop.requested:
            raise Interrupted("stopped; the same command, with Ray or without, continues")

    def _stop(self) -> None:
        self.is_stopping = True
        self.left = []
        self.board.stop.remote()
        say("stopping after the step that each cell is in; what is finished is kept")

    def _hire(self) -> None:
        """As many seats as there is work and room for; those that have no work any more are given back."""
        import ray

        seats = len(self.coming) + len(self.idle) + len(self.running)
        for _ in range(min(self.cluster.at_once(), len(self.left) + len(self.running)) - seats):
            seat = _actor(Seat, num_cpus=self.cluster.cpus, num_gpus=self.cluster.gpus).remote(self.board)
            self.coming[seat.host.remote()] = seat
        while len(self.idle) > len(self.left):
            ray.kill(self.idle.pop())
        if self.idle or self.running:
            self.since_room = None
        elif self.since_room is not None and time.monotonic() - self.since_room > SECONDS_OF_PATIENCE:
            self.since_room = None
            say(f"no cell could begin yet: each needs {self.cluster.need()} that nobody uses; the cluster has {has()}")

    def _assign(self) -> None:
        for job in [job for job in self.left if job.after not in self.unfinished][: len(self.idle)]:
            seat = self.idle.pop()
            self.left.remove(job)
            again = self.losses[job.name] > 0
            self.running[seat.run.remote(str(self.study), self.study, job, again)] = seat, job

    def _came(self, ref: Any) -> None:
        import ray

        seat = self.coming.pop(ref)
        try:
            ray.get(ref)
        except ray.exceptions.RayError as error:
            self.losses["seats"] += 1
            if self.losses["seats"] == MAY_BE_LOST:
                why = str(error).strip().splitlines()[-1].strip()
                raise WhymaskError(
                    f"a machine of the cluster cannot begin with a cell ({why}). The packages of this machine must be "
                    "installed on each, whymask among them."
                ) from None
        else:
            self.idle.append(seat)

    def _ran(self, ref: Any, done: Callable[[Job, Ran], None]) -> None:
        import ray

        seat, job = self.running.pop(ref)
        try:
            ran = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, WhymaskError) else error from None
        except ray.exceptions.RayError as error:
            self._lost(job, error, done)
            return
        self.idle.append(seat)
        if not ran.is_stopped:
            self.unfinished.discard(job.name)
            done(job, ran)

    def _lost(self, job: Job, error: Exception, done: Callable[[Job, Ran], None]) -> None:
        self.losses[job.name] += 1
        why = str(error).strip().splitlines()[0].rstrip(".")
        if self.is_stopping:
            return
        if self.losses[job.name] < MAY_BE_LOST:
            say(f"{job.title}: its process was lost ({why}); it is run again, from its last checkpoint")
            self.left.insert(0, job)
        else:
            self.unfinished.discard(job.name)
            done(job, Ran(lost=f"its process was lost {MAY_BE_LOST} times: {why}"))

    def _seen(self) -> dict[str, str]:
        """What is told of the jobs that run."""
        import ray

        running = {job.name for _, job in self.running.values()}
        try:
            lines: dict[str, str] = ray.get(self.board.look.remote(), timeout=SECONDS_BETWEEN_LOOKS)
        except ray.exceptions.RayError:  # of a busy machine
            return {}
        return {name: line for name, line in lines.items() if name in running and line}
