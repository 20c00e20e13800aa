"""One small search, the same for every arm, on a seed outside the study and images outside its test set."""

from dataclasses import replace

import numpy as np

from whymask.data.splits import hold_out
from whymask.disk import write_record
from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.stages.classify import train_classifier
from whymask.stages.recipes import resolve_finetuning
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.studies.cells import Cell, Runner
from whymask.studies.config import StudyConfig
from whymask.studies.settings import SCRATCH
from whymask.tasks import Task

RATE_FACTORS = (1 / 3, 1.0, 3.0)
LAYER_DECAYS = (1.0, 0.75)


def search(runner: Runner) -> dict[str, FinetuneTrainingSettings]:
    """Each arm's best of 3 learning rates x 2 layer decays, by the task's default metric on a held-out fifth of its
    labels at the smallest budget, trained with that budget's recipe. Written to search.json; finished trials are not
    run again.
    """
    config, prepared = runner.config, runner.context.prepared
    task = prepared.task
    seed, budget = config.first_seed - 1, config.budgets[0]
    trials, chosen = [], {}
    for arm in [SCRATCH, *config.pretrained_arms]:
        cell = Cell(arm, budget, seed)
        everything = runner.rows_of(cell)
        rows, held = hold_out(prepared.images.labels, everything, prepared.groups, seed, task=task)
        recipe = resolve_finetuning(config.finetune, len(everything), prepared, config.encoder).recipe
        asked = config.finetuning_of(arm)
        scores = {t: _trial(runner, cell, replace(t, recipe=recipe), rows, held) for t in _grid(asked)}
        chosen[arm] = _best(arm, scores, task)
        trials += [
            {"arm": arm, "learning_rate": t.peak, "layer_decay": t.layer_decay, task.default_metric: score}
            for t, score in scores.items()
        ]
        best = chosen[arm]
        say(f"search: {arm} uses learning rate {best.peak:.2g} and layer decay {best.layer_decay:g}")
    found = {"seed": seed, "budget": budget.name, "trials": trials}
    runner.context.by_first(lambda: write_record(runner.out / "search.json", found))
    return chosen


def trials_of(config: StudyConfig) -> list[Cell]:
    """What a search trains, as cells: each arm's trials, and before them pretrainings of its seed."""
    seed, budget = config.first_seed - 1, config.budgets[0]
    trials = [arm for arm in [SCRATCH, *config.pretrained_arms] for _ in _grid(config.finetuning_of(arm))]
    return [Cell(arm, None, seed) for arm in config.pretrainings] + [Cell(arm, budget, seed) for arm in trials]


def _grid(training: FinetuneTrainingSettings) -> list[FinetuneTrainingSettings]:
    decays = LAYER_DECAYS if training.train == "all" else LAYER_DECAYS[:1]
    return [
        replace(training, learning_rate=training.peak * factor, layer_decay=decay)
        for factor in RATE_FACTORS
        for decay in decays
    ]


def _trial(
    runner: Runner, cell: Cell, asked: FinetuneTrainingSettings, rows: np.ndarray, held: np.ndarray
) -> float | None:
    """The trial's score; None where training failed, as it may at a high learning rate, or nothing defines it."""
    name = f"search-{cell.name}-lr{asked.peak:.2g}-decay{asked.layer_decay:g}"
    training = resolve_finetuning(asked, len(rows), runner.context.prepared, runner.config.encoder_of(cell.arm))
    job = runner.job(cell, rows, held, training)
    try:
        result = train_classifier(runner.context_of(cell.arm), job, runner.out / "cells" / name, name, wait=True)
    except WhymaskError as error:
        say(f"{name} failed: {error}")
        return None
    return result["metrics"].get(runner.context.prepared.task.default_metric)


def _best(arm: str, scores: dict[FinetuneTrainingSettings, float | None], task: Task) -> FinetuneTrainingSettings:
    """The first of those that scored best."""
    finished = {training: score for training, score in scores.items() if score is not None}
    if not finished:
        raise WhymaskError(f"every trial of --search failed for {arm}. Lower --finetune.learning-rate.")
    best = max if task.describe(task.default_metric).higher_is_better else min
    return best(finished, key=lambda training: finished[training])
