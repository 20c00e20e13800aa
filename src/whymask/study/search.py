"""One small search, the same for every arm, on a seed outside the study and images outside its test set."""

from dataclasses import replace

import numpy as np

from whymask.data.splits import hold_out, parse_budget
from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.runs import write_json
from whymask.stages.recipes import Finetuning
from whymask.study.cells import Cell, Runner
from whymask.study.settings import SCRATCH

RATE_FACTORS = (1 / 3, 1.0, 3.0)
LAYER_DECAYS = (1.0, 0.75)


def search(runner: Runner) -> dict[str, Finetuning]:
    """Each arm's best of 3 learning rates x 2 layer decays, by balanced accuracy on a held-out fifth of its labels at
    the smallest budget, trained with that budget's recipe. Written to search.json; finished trials are not run again.
    """
    settings = runner.settings
    assert settings.budgets
    seed = settings.first_seed - 1
    budget = parse_budget(settings.budgets[0])
    trials, chosen = [], {}
    for arm in [SCRATCH, *settings.pretrained_arms()]:
        cell = Cell(arm, budget, seed)
        everything = runner.rows_of(cell)
        rows, held = hold_out(runner.prepared.images.labels, everything, runner.prepared.groups, seed)
        recipe = settings.finetune.resolve(len(everything), runner.prepared, runner.encoder).recipe
        scores = {t: _trial(runner, cell, replace(t, recipe=recipe), rows, held) for t in _grid(settings.finetune)}
        chosen[arm] = _best(arm, scores)
        trials += [
            {"arm": arm, "learning_rate": t.learning_rate, "layer_decay": t.layer_decay, "balanced_accuracy": score}
            for t, score in scores.items()
        ]
        best = chosen[arm]
        say(f"search: {arm} uses learning rate {best.learning_rate:.2g} and layer decay {best.layer_decay:g}")
    write_json(runner.out / "search.json", {"seed": seed, "budget": budget.name, "trials": trials})
    return chosen


def _grid(training: Finetuning) -> list[Finetuning]:
    return [
        replace(training, learning_rate=training.learning_rate * factor, layer_decay=decay)
        for factor in RATE_FACTORS
        for decay in LAYER_DECAYS
    ]


def _trial(runner: Runner, cell: Cell, training: Finetuning, rows: np.ndarray, held: np.ndarray) -> float | None:
    """The trial's score; None where training failed, as it may at a high learning rate."""
    name = f"search-{cell.name}-lr{training.learning_rate:.2g}-decay{training.layer_decay:g}"
    try:
        return runner.train(name, cell, rows, held, training)["metrics"]["balanced_accuracy"]
    except WhymaskError as error:
        say(f"{name} failed: {error}")
        return None


def _best(arm: str, scores: dict[Finetuning, float | None]) -> Finetuning:
    """The first of those that scored highest."""
    finished = {training: score for training, score in scores.items() if score is not None}
    if not finished:
        raise WhymaskError(f"every trial of --search failed for {arm}. Lower --finetune.learning-rate.")
    return max(finished, key=lambda training: finished[training])
