"""Which network speaks for a run or a study, and what its own records say that it is worth."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.runs import read_json
from whymask.stages.settings import SCRATCH
from whymask.tasks import TASKS, Classification, Task
from whymask.tasks.scores import scores_of

STUDY = "study.json"


def network_of(run: Path, cell: str | None) -> Path:
    """The folder of the classifier that speaks for `run`: of a study `cell`, or the first seed's at the largest budget
    of the pretrained arm, of scratch where pretraining hurts; then that is said."""
    if not (run / STUDY).exists():
        return run
    if cell is not None:
        return named(run, cell)
    study = read_json(run / STUDY)
    kind = study["verdict"]["kind"]
    arm = SCRATCH if kind == "hurts" else study["setting"]["method"]
    finished = [row for row in study["cells"] if row["arm"] == arm and row["metrics"]]
    if not finished:
        raise WhymaskError(
            f"{run} has no finished network of the arm {arm}. Continue the study, or name one with --cell."
        )
    chosen = min(finished, key=lambda row: (-row["labels_per_class"], row["seed"]))
    labels, task = chosen["labels_per_class"], TASKS[study["data"].get("task", Classification.name)]
    say(
        f"for the study, whose verdict is {kind!r}, speaks {arm} at {labels:g} {task.bought(labels)}, "
        f"seed {chosen['seed']}; --cell names another"
    )
    return run / chosen["folder"]


def encoder_of(run: Path, cell: str | None) -> Path:
    """The folder of the encoder that speaks for `run`."""
    if not (run / STUDY).exists():
        return run
    if cell is not None:
        return named(run, cell)
    finished = [row for row in read_json(run / STUDY)["pretraining"] if not row["error"]]
    if not finished:
        raise WhymaskError(f"{run} has no finished pretraining yet. Continue the study, or name a network with --cell.")
    return run / min(finished, key=lambda row: row["seed"])["folder"]


def named(run: Path, cell: str) -> Path:
    """The folder of a study's cell. Raises WhymaskError, with those there are, where it has none of that name."""
    folder = run / "cells" / cell
    if not folder.is_dir():
        there = sorted(path.name for path in (run / "cells").iterdir())
        raise WhymaskError(f"{run} has no cell {cell!r}; it has {', '.join(there)}.")
    return folder


def worth_of(run: Path, folder: Path, task: Task) -> list[str]:
    """Lines on what the network in `folder`, which speaks for `run`, is worth, by its records alone.

    Of a study its metric, else the task's; and what is counted. Intervals are left out where images come in groups,
    which the records do not name, and for a tag's images.
    """
    result_file, predictions_file = folder / "result.json", folder / "predictions.npz"
    if not (result_file.exists() and predictions_file.exists()):
        return [f"what it is worth is not known: {folder} has no result.json or predictions.npz of its test images"]
    study = read_json(run / STUDY) if (run / STUDY).exists() else {}
    result, kept = read_json(result_file), np.load(predictions_file)
    metric = study.get("verdict", {}).get("metric", task.default_metric)
    scores = {
        score.metric: replace(score, low=None, high=None) if _grouped(study, folder) else score
        for score in scores_of(task, kept[task.kept_as], kept["labels"], chance=study.get("chance"))
    }
    texts = {name: score.text() for name, score in scores.items() if name == metric or score.about.counted}
    if metric not in texts and metric in result["metrics"]:  # of a tag, whose images predictions.npz does not tell
        texts = {metric: f"{task.describe(metric).title} {result['metrics'][metric]:.3f} (no interval)"} | texts
    labels = result["labelled_images"]
    return [
        f"trained on {labels:,} labelled image{'' if labels == 1 else 's'}; on its own test images:",
        *(f"  {texts[name]}" for name in sorted(texts, key=lambda name: name != metric)),
    ]


def _grouped(study: Mapping[str, Any], folder: Path) -> bool:
    data = study.get("data") or read_json(folder / "config.json").get("provenance", {}).get("data", {})
    return data.get("group_by") is not None
