"""The cells of a study: arm x label budget x seed, each a run folder, each run once."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from whymask.devices import lost_another
from whymask.disk import check, read_json, write_record
from whymask.encoders import Encoder, build_encoder, load_encoder
from whymask.errors import BusyError, DamagedError, DeviceLostError, WhymaskError
from whymask.methods import settings_for
from whymask.progress import is_first, say
from whymask.ranks import all_come
from whymask.stages.classify import ClassifierJob, metrics_of, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import pretrain_encoder, pretraining
from whymask.stages.probe import probe_predictions
from whymask.stages.recipes import FinetuneTrainingConfig, resolve_finetuning
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.studies.chosen import chosen_rows
from whymask.studies.config import StudyConfig
from whymask.studies.settings import INIT, SCRATCH, SCRATCH_LONG, parse_share
from whymask.tasks.budgets import Budget
from whymask.training.loop import Interrupted

RELIED_ON = (
    *("config.json", "error.json", "result.json", "predictions.npz", "encoder/encoder.json"),
    *("encoder/encoder.safetensors", "head.json", "head.safetensors"),
)
"""Files of a cell, as far as it has them."""
NEIGHBOURS = 20
"""That vote, of a frozen encoder's features."""


@dataclass(frozen=True)
class Cell:
    """One network to train. A cell without budget is a pretraining, which others start from."""

    arm: str
    budget: Budget | None
    seed: int
    choose: str = ""
    """By which rule its labels are chosen; "" where they are drawn."""

    @property
    def shown(self) -> str:
        """What the arm is called in the table: "mae", "mae+typical"."""
        return f"{self.arm}+{self.choose}" if self.choose else self.arm

    @property
    def name(self) -> str:
        if self.budget is None:
            return f"pretrain-{self.arm}-{self.seed}"
        return f"{self.shown}-{self.budget.name.replace('%', 'percent')}-{self.seed}"

    @property
    def title(self) -> str:
        """In words: "pretraining mae, seed 0", "mae, 2 labels, seed 0"."""
        if self.budget is None:
            return f"pretraining {self.arm}, seed {self.seed}"
        share = {"all": "all labels", "fraction": f"{self.budget.name} of the labels"}
        labels = share.get(self.budget.kind, f"{self.budget.name} label{'' if self.budget.value == 1 else 's'}")
        return f"{self.shown}, {labels}, seed {self.seed}"

    @property
    def labels(self) -> Budget:
        """The budget of a cell that has one. Raises ValueError for a pretraining."""
        if self.budget is None:
            raise ValueError(f"{self.name} is a pretraining and has no labels")
        return self.budget


def all_cells(config: StudyConfig) -> Iterator[Cell]:
    """Every cell, whole seeds one after the other, so that a study that was cut short has complete seeds."""
    for seed in config.seed_list:
        for arm in config.pretrainings:
            yield Cell(arm, None, seed)
        for position, budget in enumerate(config.budgets):
            yield Cell(SCRATCH, budget, seed)
            for arm in config.pretrained_arms:
                yield Cell(arm, budget, seed)
            if config.scratch_long == "all" or (config.scratch_long == "smallest" and position == 0):
                yield Cell(SCRATCH_LONG, budget, seed)
        for rule in config.choose:
            for arm in (SCRATCH, config.method):
                yield Cell(arm, config.budgets[0], seed, rule)
        for budget in config.worth_budgets:
            yield Cell(SCRATCH, budget, seed)


def count_of(settings: Mapping[str, Any]) -> int | None:
    """How many cells `all_cells` gives of a study whose record has these settings; None where they do not say."""
    try:
        starts = settings.get("starts") or [settings["method"], *([INIT] if settings.get("init") else [])]
        arms = [start for start in starts if start != SCRATCH]
        budgets, worth = len(settings["budgets"]), len(settings["worth_budgets"])
        pretrainings = sum(start.partition("=")[0] not in (INIT, "frozen") for start in arms)
        long = {"all": budgets, "smallest": 1, "none": 0}[settings["scratch_long"]]
        chosen = 2 * len(settings.get("choose") or ())
        return int(settings["seeds"] * (pretrainings + budgets * (1 + len(arms)) + long + chosen + worth))
    except (AttributeError, KeyError, TypeError):
        return None


def arm_in(name: str) -> str:
    """What the arm of a cell of this name is called in the table: of "pretrain-mae-0" mae, of "mae+typical-2-0"
    mae+typical."""
    arm = name.removeprefix("pretrain-")
    return arm.rsplit("-", 2 if arm == name else 1)[0]


def share_of(cells: list[Cell], share: str | None) -> list[Cell]:
    """The cells of share "i/n", counted from 1. What starts from one pretraining stays together with it."""
    if share is None:
        return cells
    index, count = parse_share(share)
    pretrained = {(cell.arm, cell.seed) for cell in cells if cell.budget is None}
    first = {cell.seed: cell.arm for cell in reversed(cells) if cell.budget is None}  # whose features choose
    units: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        arm = first[cell.seed] if cell.choose else cell.arm
        alone = (arm, cell.seed) not in pretrained
        units.setdefault((arm, cell.seed, cell.name if alone else ""), []).append(cell)
    return [cell for unit in list(units.values())[index - 1 :: count] for cell in unit]


@dataclass(frozen=True)
class Runner:
    """Runs cells of one study into `out`/cells; a finished one is never run again.

    `tuned` holds what a search chose for an arm, where there was one.
    """

    context: Context
    config: StudyConfig
    out: Path
    tuned: Mapping[str, FinetuneTrainingSettings] = field(default_factory=dict)

    def folder(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.name

    def starts_from(self, cell: Cell) -> str | None:
        """The name of the pretraining that the cell goes on from, if any."""
        arm = self.config.method if cell.choose else cell.arm
        goes_on = cell.budget is not None and arm in self.config.pretrainings
        return Cell(arm, None, cell.seed).name if goes_on else None

    def is_done(self, cell: Cell) -> bool:
        """Whether it was run, with a result or an error."""
        return any((self.folder(cell) / name).exists() for name in ("result.json", "error.json"))

    def redo_damaged(self, cells: Iterable[Cell]) -> None:
        """Make a cell of which a file is damaged that the study relies on one that is still to be run."""
        for cell in cells:
            try:
                for name in RELIED_ON:
                    check(self.folder(cell) / name)
            except DamagedError as error:
                say(f"{cell.name} is run again: {error}")
                shutil.rmtree(self.folder(cell))

    def run(self, cell: Cell, place: str = "", wait: bool = False) -> dict[str, Any]:
        """The cell's result; {"busy": who runs it} where another process does, unless this is to `wait` for it. A cell
        that fails is marked with its error and raises nothing but Interrupted, that the GPU is lost or another process
        has ended, and what others do not fail of.

        `place` stands before the cell's title where its progress is shown: "[3/24] "."""
        if is_first():
            (self.folder(cell) / "error.json").unlink(missing_ok=True)  # of an earlier attempt
        try:
            return self.pretrain(cell, place, wait) if cell.budget is None else self.train(cell, place, wait)
        except (Interrupted, DeviceLostError):
            raise
        except BusyError as busy:
            return {"busy": str(busy)}
        except Exception as error:
            if lost_another(error) or not all_come(f"failed {cell.name}"):
                raise
            return self.mark_failed(cell, f"{type(error).__name__}: {error}")

    def mark_failed(self, cell: Cell, why: str) -> dict[str, Any]:
        failed = {"error": why}
        if is_first():
            write_record(self.folder(cell) / "error.json", failed)
        return failed

    def pretrain(self, cell: Cell, place: str = "", wait: bool = False) -> dict[str, Any]:
        job = self.config.pretraining(cell.seed, cell.arm)
        return pretrain_encoder(self.context_of(cell.arm), job, self.folder(cell), place + cell.title, wait=wait)

    def train(self, cell: Cell, place: str = "", wait: bool = False) -> dict[str, Any]:
        rows = self.rows_of(cell)
        job = self.job(cell, rows, self.context.prepared.test, self.training_of(cell.arm, len(rows)))
        return train_classifier(self.context_of(cell.arm), job, self.folder(cell), place + cell.title, wait=wait)

    def context_of(self, arm: str) -> Context:
        """The images as the arm sees them."""
        start = self.config.start_of(arm)
        return self.context if start is None else start.seen_by(self.context)

    def job(self, cell: Cell, rows: np.ndarray, test: np.ndarray, training: FinetuneTrainingConfig) -> ClassifierJob:
        """The cell's arm, trained on `rows` and tested on `test`."""
        config, arm, seed = self.config, cell.arm, cell.seed
        start, pretrained = config.start_of(arm), arm in config.pretrainings
        origin = None if start is None else start.origin
        method, method_config = config.method_of(arm)
        is_probed = start is not None and start.kind == "frozen" and not self.context.prepared.task.no_probe
        return ClassifierJob(
            arm=cell.shown,
            seed=seed,
            budget=cell.labels.name,
            rows=rows,
            test=test,
            config=config.encoder_of(arm),
            build=lambda: self.encoder_of(arm, seed),
            training=training,
            augment=config.augment,
            origin=f"../{Cell(arm, None, seed).name}" if pretrained else origin,
            partial=start is not None and start.partial and not pretrained,
            about={"choose": cell.choose} if cell.choose else {},
            method=method if pretrained else None,
            method_settings=asdict(settings_for(method, method_config)) if pretrained else None,
            further_operations=partial(self.pretraining_operations, seed) if arm == SCRATCH_LONG else None,
            beside=partial(self.neighbours_of, arm, rows, test) if is_probed else None,
        )

    def rows_of(self, cell: Cell) -> np.ndarray:
        """The cell's labelled images: a function of its budget and seed, the same in every arm; where they are chosen,
        as many, by the features of the seed's own pretraining."""
        drawn = self.context.labelled_rows(cell.labels, cell.seed)
        if not cell.choose:
            return drawn
        return chosen_rows(
            self.context, self.out, cell, len(drawn), lambda: self.encoder_of(self.config.method, cell.seed)
        )

    def schedule_of(self, cell: Cell) -> tuple[int, int]:
        """Steps of fine-tuning, but for what scratch-long goes on, and images in each."""
        labels, finetune = len(self.context.labelled_rows(cell.labels, cell.seed)), self.config.finetune
        batch = min(int(finetune.batch_size), labels)
        return finetune.epochs_for(labels) * (labels // batch), batch

    def finetuning_of(self, arm: str) -> FinetuneTrainingSettings:
        """The search's choice for the arm where there was one; scratch-long follows scratch."""
        chosen = self.tuned.get(SCRATCH if arm == SCRATCH_LONG else arm)
        return chosen or self.config.finetuning_of(arm)

    def training_of(self, arm: str, labels: int) -> FinetuneTrainingConfig:
        """How the arm is trained on so many labelled images."""
        encoder = self.config.encoder_of(arm)
        return resolve_finetuning(self.finetuning_of(arm), labels, self.context.prepared, encoder)

    def encoder_of(self, arm: str, seed: int) -> Encoder:
        """A fresh encoder as the arm starts from it. Scratch's weights are those that pretraining began with."""
        config, prep = self.config, self.context.preprocessing
        if arm in config.pretrainings:
            folder = self.folder(Cell(arm, None, seed))
            if (folder / "error.json").exists():
                raise WhymaskError(f"its pretraining failed: {read_json(folder / 'error.json')['error']}")
            if not (folder / "result.json").exists():
                self.pretrain(Cell(arm, None, seed), wait=True)
            return load_encoder(folder)
        start = config.start_of(arm)
        return (
            build_encoder(config.encoder, prep.size, prep.channels, seed) if start is None else start.build(prep, seed)
        )

    def neighbours_of(self, arm: str, rows: np.ndarray, test: np.ndarray, encoder: Encoder) -> dict[str, Any]:
        """Metrics of the nearest neighbours among `rows` in the encoder's features, on the images `test`."""
        prepared = replace(self.context_of(arm).prepared, test=test)
        predictions = probe_predictions(encoder, prepared, rows, NEIGHBOURS, ["knn"])
        return {"knn": metrics_of(prepared, predictions["knn"], test)}

    def pretraining_operations(self, seed: int) -> float:
        """What the seed's pretraining costs, counted without running it."""
        return pretraining(self.context, self.config.pretraining(seed)).operations()
