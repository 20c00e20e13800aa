"""The cells of a study: arm x label budget x seed, each a run folder, each run once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from whymask.data.prepare import Prepared
from whymask.data.splits import Budget, labelled_subset
from whymask.encoders import Encoder, EncoderConfig, build_encoder, load_encoder, resolve
from whymask.encoders.checkpoints import load_checkpoint
from whymask.errors import WhymaskError
from whymask.methods import resolve_method
from whymask.progress import say
from whymask.runs import RunFolder, provenance, read_json, write_json
from whymask.stages.augment import augment_of
from whymask.stages.classify import classification_task, train_classifier
from whymask.stages.pretrain import Recipe, pretrain_encoder, pretraining_task
from whymask.stages.recipes import Finetuning
from whymask.study.settings import INIT, SCRATCH, SCRATCH_LONG, StudySettings
from whymask.training.device import precision_of
from whymask.training.loop import Interrupted, Task


@dataclass(frozen=True)
class Cell:
    """One network to train. A cell without budget is a pretraining, which others start from."""

    arm: str
    budget: Budget | None
    seed: int

    @property
    def name(self) -> str:
        if self.budget is None:
            return f"pretrain-{self.arm}-{self.seed}"
        return f"{self.arm}-{self.budget.name.replace('%', 'percent')}-{self.seed}"


def all_cells(settings: StudySettings, budgets: list[Budget], worth: list[Budget]) -> Iterator[Cell]:
    """Every cell, whole seeds one after the other, so that a study that was cut short has complete seeds."""
    for seed in settings.seed_list:
        yield Cell(settings.method, None, seed)
        for position, budget in enumerate(budgets):
            yield Cell(SCRATCH, budget, seed)
            for arm in settings.pretrained_arms():
                yield Cell(arm, budget, seed)
            if settings.scratch_long == "all" or (settings.scratch_long == "smallest" and position == 0):
                yield Cell(SCRATCH_LONG, budget, seed)
        for budget in worth:
            yield Cell(SCRATCH, budget, seed)


def share_of(cells: list[Cell], share: str | None) -> list[Cell]:
    """The cells of share "i/n", counted from 1. What starts from one pretraining stays together with it."""
    if share is None:
        return cells
    try:
        index, count = (int(part) for part in share.split("/"))
        if not 1 <= index <= count:
            raise ValueError
    except ValueError:
        raise WhymaskError(f"--cells {share}: expected i/n with 1 <= i <= n, such as 1/4.") from None
    units: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        alone = cell.arm in (SCRATCH, SCRATCH_LONG, INIT)
        units.setdefault((cell.arm, cell.seed, cell.name if alone else ""), []).append(cell)
    return [cell for unit in list(units.values())[index - 1 :: count] for cell in unit]


class Runner:
    """Runs cells of one study into `out`/cells; a finished one is never run again."""

    def __init__(self, fabric: Fabric, prepared: Prepared, settings: StudySettings, out: Path):
        self.fabric, self.prepared, self.settings, self.out = fabric, prepared, settings, out
        self.tuned: dict[str, Finetuning] = {}

    @cached_property
    def encoder(self) -> EncoderConfig:
        """What the study's encoders are built from."""
        prep = self.prepared.images.preprocessing
        return resolve(self.settings.encoder, prep.size, prep.channels)

    @property
    def recipe(self) -> Recipe:
        """How the encoders of the method's arm are pretrained."""
        settings, size = self.settings, self.prepared.images.preprocessing.size
        method_config = resolve_method(settings.method, settings.method_settings, self.encoder, size)
        return Recipe(self.encoder, settings.method, method_config, settings.pretrain, augment_of(settings.augment))

    def folder(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.name

    def is_done(self, cell: Cell) -> bool:
        """Whether it was run, with a result or an error."""
        return any((self.folder(cell) / name).exists() for name in ("result.json", "error.json"))

    def run(self, cell: Cell) -> dict[str, Any]:
        """The cell's result. A cell that fails is marked with its error and raises nothing but Interrupted."""
        error_file = self.folder(cell) / "error.json"
        error_file.unlink(missing_ok=True)  # of an earlier attempt
        try:
            return self.pretrain(cell.seed) if cell.budget is None else self._classify(cell)
        except Interrupted:
            raise
        except Exception as error:
            failed = {"error": f"{type(error).__name__}: {error}"}
            write_json(error_file, failed)
            return failed

    def pretrain(self, seed: int) -> dict[str, Any]:
        cell = Cell(self.settings.method, None, seed)
        return pretrain_encoder(
            self.fabric, self.prepared, self.recipe, seed=seed, run=self._open(cell.name), label=cell.name
        )

    def _classify(self, cell: Cell) -> dict[str, Any]:
        return self.train(cell.name, cell, self.rows_of(cell), self.prepared.test, self.finetuning_of(cell.arm))

    def train(self, name: str, cell: Cell, rows: np.ndarray, test: np.ndarray, training: Finetuning) -> dict[str, Any]:
        """Train the cell's arm on `rows` and test it on `test`, in the folder cells/`name`; a finished one is kept."""
        run = self._open(name)
        if run.result is not None:
            return run.result
        training = training.resolve(len(rows), self.prepared, self.encoder)
        task = self.task(cell, rows, training)
        return train_classifier(self.fabric, self.prepared, task, test, training, seed=cell.seed, run=run, label=name)

    def task(self, cell: Cell, rows: np.ndarray, training: Finetuning) -> Task:
        return classification_task(
            self.fabric,
            self.prepared,
            rows,
            self.encoder_of(cell.arm, cell.seed),
            training,
            augment_of(self.settings.augment),
            cell.seed,
            self.pretraining_operations(cell.seed) if cell.arm == SCRATCH_LONG else 0.0,
        )

    def rows_of(self, cell: Cell) -> np.ndarray:
        """The cell's labelled images: a function of its budget and seed, the same in every arm."""
        assert cell.budget is not None
        return labelled_subset(self.prepared.images.labels, self.prepared.train, cell.budget, cell.seed)

    def finetuning_of(self, arm: str) -> Finetuning:
        """The search's choice for the arm where there was one; scratch-long follows scratch."""
        chosen = self.tuned.get(SCRATCH if arm == SCRATCH_LONG else arm)
        return chosen or self.settings.finetuning_of(arm)

    def encoder_of(self, arm: str, seed: int) -> Encoder:
        """A fresh encoder as the arm starts from it. Scratch's weights are those that pretraining began with."""
        prep = self.prepared.images.preprocessing
        if arm == self.settings.method:
            folder = self.folder(Cell(arm, None, seed))
            if (folder / "error.json").exists():
                raise WhymaskError(f"its pretraining failed: {read_json(folder / 'error.json')['error']}")
            if not (folder / "result.json").exists():
                self.pretrain(seed)
            return load_encoder(folder)
        encoder = build_encoder(self.encoder, prep.size, prep.channels, seed)
        if arm == INIT:
            assert self.settings.init is not None
            encoder.origin = load_checkpoint(encoder, self.settings.init, self.settings.init_partial)
            say(encoder.origin)
        return encoder

    def pretraining_operations(self, seed: int) -> float:
        """What the seed's pretraining costs, counted without running it."""
        return pretraining_task(self.fabric, self.prepared, self.recipe, seed).operations()

    def _open(self, name: str) -> RunFolder:
        origin = provenance(self.fabric.device.type, precision_of(self.fabric))
        config = {"cell": name, "settings": self.settings.compared(), "data": self.prepared.images.fingerprint}
        return RunFolder.open(self.out / "cells" / name, config, origin)
