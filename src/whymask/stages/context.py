"""What the stages, a study, an explanation and the experiments share: where they compute, and on which images."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from whymask.data.prepare import Prepared
from whymask.data.preprocessing import Preprocessing
from whymask.runs import RunFolder, as_json, provenance, write_csv
from whymask.stages.record import RunRecord, content_of
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

    def open(self, folder: Path, record: RunRecord, *, alone: bool = False) -> RunFolder:
        """Begin a run in `folder`, or continue the one that is there if it is the same, also of an earlier version.

        A run that stands `alone`, in no study, says itself what its images are: in its provenance and skipped.csv.
        Raises WhymaskError for another run, or a folder that is none."""
        given = as_json(record.to_dict())
        about = {"data": self.prepared.describe()} if alone else {}
        with self.fabric.rank_zero_first() if alone else nullcontext():
            run = RunFolder.open(
                folder, given, self.provenance() | about, read=lambda stored: given | content_of(stored)
            )
        if alone and self.fabric.is_global_zero:
            write_csv(folder / "skipped.csv", ["image", "reason"], self.prepared.images.skipped)
        return run
