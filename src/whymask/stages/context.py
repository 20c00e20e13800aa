"""What the stages, a study, an explanation and the experiments share: where they compute, and on which images."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist

from whymask.data.prepare import Prepared
from whymask.data.preprocessing import Preprocessing
from whymask.disk import as_json, write_csv
from whymask.errors import WhymaskError
from whymask.fabric import Fabric
from whymask.progress import say
from whymask.runs import RunFolder, provenance
from whymask.stages.record import RunRecord, content_of, with_same_origin
from whymask.stages.tracking import Tracking, tracked
from whymask.tasks.budgets import Budget
from whymask.training.compiling import Compiling
from whymask.training.device import precision_of

Made = TypeVar("Made")


@dataclass(frozen=True)
class Context:
    """A launched Fabric and prepared images; `compiling`: whether what is trained there is compiled; `tracking`: who is
    told of its runs."""

    fabric: Fabric
    prepared: Prepared
    compiling: Compiling = "auto"
    tracking: Tracking | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        return self.prepared.images.preprocessing

    @property
    def fingerprint(self) -> str:
        return self.prepared.identity

    def standardised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "Context":
        """The same images, standardised by this mean and standard deviation of each channel."""
        images = self.prepared.images
        seen = replace(images, preprocessing=replace(images.preprocessing, mean=mean, std=std))
        return replace(self, prepared=replace(self.prepared, images=seen))

    def labelled_rows(self, budget: Budget, seed: int) -> np.ndarray:
        """The labelled images, rows of the images, that a budget buys for a seed: the same in every arm.

        Raises WhymaskError where there are fewer than the budget."""
        prepared = self.prepared
        return prepared.task.draw(prepared.images.labels, prepared.train, budget, seed)

    def provenance(self) -> dict[str, Any]:
        return provenance(self.fabric.device.type, precision_of(self.fabric))

    @contextmanager
    def open(self, folder: Path, record: RunRecord, *, alone: bool = False, wait: bool = False) -> Iterator[RunFolder]:
        """Begin a run in `folder`, or continue the one that is there if it is the same, also of an earlier version;
        within, nobody else writes there.

        A run that stands `alone`, in no study, says itself what its images are: in its provenance, and in files that
        list what cannot be used of them.
        Raises WhymaskError for another run, or a folder that is none, and BusyError where another process writes there,
        unless this is to `wait` for it."""
        given = as_json(record.to_dict())
        about = {"data": self.prepared.describe()} if alone else {}
        run = RunFolder(folder)
        read = lambda stored: with_same_origin(given | content_of(stored), given)  # noqa: E731
        self.by_first(lambda: RunFolder.open(folder, given, self.provenance() | about, read=read) and None)
        with self.holding(run, wait):
            try:
                with ExitStack() as stack:
                    self.by_first(lambda: stack.enter_context(tracked(self.tracking, run, given, alone)))
                    if alone and self.fabric.is_global_zero:
                        self.list_unused(folder)
                    yield run
            except WhymaskError:
                if alone and self.fabric.is_global_zero:
                    run.withdraw()
                raise

    def list_unused(self, folder: Path) -> None:
        """Write into `folder` which images could not be used, and which boxes were repaired or left out; say where."""
        skipped, mended = self.prepared.images.skipped, self.prepared.mended
        write_csv(folder / "skipped.csv", ["image", "reason"], skipped)
        if skipped:
            say(f"the images that cannot be used are listed in {folder / 'skipped.csv'}")
        if mended:
            write_csv(folder / "boxes.csv", ["image", "box", "what"], mended)
            say(f"the boxes that are repaired or left out are listed in {folder / 'boxes.csv'}")

    @contextmanager
    def holding(self, run: RunFolder, wait: bool = False) -> Iterator[None]:
        """`RunFolder.held`, by the first of the processes that compute together for all of them."""
        with ExitStack() as stack:
            self.by_first(lambda: stack.enter_context(run.held(wait)))
            yield

    def by_first(self, work: Callable[[], Made]) -> Made:
        """What the first of the processes that compute together makes of it, for all; its WhymaskError is everybody's.

        So only the first one reads and writes a run's folder: others may be on machines that do not see it."""
        made: Any = None
        error: WhymaskError | None = None
        if self.fabric.is_global_zero:
            try:
                made = work()
            except WhymaskError as raised:
                error = raised
        if self.fabric.world_size > 1:
            made, error = self.fabric.broadcast((made, error))
        if error is not None:
            raise error
        return made

    def check_shared(self, folder: Path) -> None:
        """Raise WhymaskError, in all processes, where one of them does not see `folder`, which all read."""
        if self.fabric.world_size == 1:
            return
        mark = self.by_first(lambda: folder / f".seen-by-{os.getpid()}.tmp")
        self.by_first(mark.touch)
        machines: list[str] = [""] * self.fabric.world_size
        dist.all_gather_object(machines, "" if mark.exists() else socket.gethostname())
        self.by_first(mark.unlink)
        if any(machines):
            blind = sorted({machine for machine in machines if machine})
            raise WhymaskError(
                f"{folder} is not seen on {', '.join(blind)}; all processes of a study read its folder; give an --out "
                f"on a disk that every node shares, or one node"
            )
