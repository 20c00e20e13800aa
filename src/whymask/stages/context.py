"""What the stages, a study, an explanation and the experiments share: where they compute, and on which images."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.prepare import Prepared
from whymask.data.preprocessing import Preprocessing
from whymask.disk import as_json, write_csv
from whymask.errors import BusyError
from whymask.fabric import Fabric
from whymask.runs import RunFolder, provenance
from whymask.stages.record import RunRecord, content_of, with_same_origin
from whymask.tasks.budgets import Budget
from whymask.training.device import precision_of


@dataclass(frozen=True)
class Context:
    """A launched Fabric and prepared images."""

    fabric: Fabric
    prepared: Prepared

    @property
    def preprocessing(self) -> Preprocessing:
        return self.prepared.images.preprocessing

    @property
    def fingerprint(self) -> str:
        return self.prepared.identity

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

        A run that stands `alone`, in no study, says itself what its images are: in its provenance and skipped.csv.
        Raises WhymaskError for another run, or a folder that is none, and BusyError where another process writes there,
        unless this is to `wait` for it."""
        given = as_json(record.to_dict())
        about = {"data": self.prepared.describe()} if alone else {}
        with self.fabric.rank_zero_first() if alone else nullcontext():
            run = RunFolder.open(
                folder,
                given,
                self.provenance() | about,
                read=lambda stored: with_same_origin(given | content_of(stored), given),
            )
        with self.holding(run, wait):
            if alone and self.fabric.is_global_zero:
                write_csv(folder / "skipped.csv", ["image", "reason"], self.prepared.images.skipped)
            yield run

    @contextmanager
    def holding(self, run: RunFolder, wait: bool = False) -> Iterator[None]:
        """`RunFolder.held`, by the first of the processes that compute together for all of them."""
        busy = None
        with ExitStack() as stack:
            if self.fabric.is_global_zero:
                try:
                    stack.enter_context(run.held(wait))
                except BusyError as error:
                    busy = str(error)
            busy = self.fabric.broadcast(busy)
            if busy is not None:
                raise BusyError(busy)
            yield
