"""Which network speaks for what a user gave, a run, a study or a study's cell, and what its own records say that it is
worth."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from whymask.data.source import Reader
from whymask.disk import read_arrays, read_json
from whymask.encoders.checkpoints import is_run
from whymask.encoders.fetched import fetched
from whymask.encoders.weight_files import file_in
from whymask.errors import WhymaskError
from whymask.missing import instead_of
from whymask.progress import say
from whymask.stages.settings import A_RUN, SCRATCH
from whymask.tasks import TASKS, Classification, Task
from whymask.tasks.scores import scores_of

STUDY, CELLS, FINAL = "study.json", "cells", "final"
Part = Literal["classifier", "encoder"]


def network_of(run: Path, cell: str | None = None, part: Part = "classifier") -> Path:
    """The folder of the network that speaks for `run`: itself, or of a study `cell`, by default its final network, else
    the classifier of the first seed at the largest budget: of the pretrained arm, of scratch where pretraining hurts;
    then that is said.

    Raises WhymaskError where there is none, or it lacks what is asked for: a classifier, or just an encoder.
    """
    return checked(_speaker(run, cell, _classifier_of), part)


def encoder_of(run: Path, cell: str | None = None) -> Path:
    """The folder of the encoder that speaks for `run`: of a study that of `cell`, by default its final network's,
    else the first seed's pretraining; then that is said. Raises WhymaskError where there is none."""
    return checked(
        _speaker(run, cell, lambda run, study: _final_of(run, study) or _pretrained_of(run, study)), "encoder"
    )


def weights_of(origin: str | None, cell: str | None) -> str | None:
    """Where weights named by --from and --cell lie: those of a name in the hub's cache (see `fetched`); of a study by
    default the first seed's pretraining, which no label has shaped; else as given; None for new ones.

    Raises WhymaskError for a folder that holds none, and for a cell of what is no study.
    """
    if origin is None:
        if cell is not None:
            raise WhymaskError(f"--cell {cell}: it names a network of the study that --from gives; give that too")
        return None
    if cell is None:
        origin = fetched(origin)
    path = Path(origin)
    if cell is not None or is_study(path):
        return str(checked(_speaker(path, cell, _pretrained_of), "encoder"))
    if path.is_dir() and not file_in(path).exists():  # else a checkpoint of timm or transformers
        checked(path, "encoder")
    return origin


def is_study(folder: Path) -> bool:
    """Whether it is a study's folder, finished or not."""
    return (folder / STUDY).exists() or (folder / CELLS).is_dir()


def study_of(folder: Path) -> Path | None:
    """The study whose cell or final network lies in `folder`; None of a run that stands alone."""
    own = folder.resolve()
    around = own.parent if own.name == FINAL else own.parent.parent if own.parent.name == CELLS else None
    return around if around is not None and (around / STUDY).exists() else None


def checked(folder: Path, part: Part) -> Path:
    """`folder`, if it is a finished run's with such a part. Raises WhymaskError otherwise."""
    if not folder.exists():
        raise WhymaskError(f"{folder}: no such folder; {A_RUN}{instead_of(folder)}")
    if (folder / "error.json").exists() and not (folder / "result.json").exists():
        raise WhymaskError(f"{folder} failed: {read_json(folder / 'error.json')['error']}; {A_RUN} that did not")
    if is_study(folder):
        raise WhymaskError(
            f"{folder} is a study without a finished cell yet; continue it, or name a network with --cell"
        )
    if not is_run(folder):
        raise WhymaskError(f"{folder} holds no finished {part}; {A_RUN}")
    if part == "classifier" and not (folder / "head.json").exists():
        raise WhymaskError(
            f"{folder} holds no finished classifier, but an encoder; {A_RUN} that was fine-tuned, or fine-tune it "
            f"first: whymask finetune DATA --from {folder}"
        )
    return folder


def named(study: Path, cell: str) -> Path:
    """The folder of a study's cell. Raises WhymaskError for what is no study, and with the cells that there are where
    it has none of that name."""
    if not is_study(study):
        raise WhymaskError(f"--cell {cell}: {study} is no study, which alone has cells; leave --cell out, or {A_RUN}")
    folder = study / CELLS / cell
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in (study / CELLS).glob("*") if path.is_dir())) or "none yet"
        raise WhymaskError(f"{study} has no cell {cell!r}; its cells are: {there}. Name one of them.")
    return folder


def _speaker(run: Path, cell: str | None, of_study: Callable[[Path, Mapping[str, Any]], Path]) -> Path:
    if cell is not None:
        return named(run, cell)
    return of_study(run, read_json(run / STUDY)) if (run / STUDY).exists() else run


def _final_of(run: Path, study: Mapping[str, Any]) -> Path | None:
    """Of the network that the study left to use; None where it left none."""
    final = study.get("final")
    if final is None:
        return None
    kind = study["verdict"]["kind"]
    say(
        f"for the study, whose verdict is {kind!r}, speaks its final network: {final['arm']}, trained on all "
        f"{final['labelled_images']:,} labelled training images, seed {final['seed']}; --cell names another"
    )
    return run / final["folder"]


def leading_of(study: Mapping[str, Any]) -> Any:
    """The arm that the study's verdict is about; None where an early version did not say."""
    return study["setting"].get("leading") or study["setting"].get("method")


def _classifier_of(run: Path, study: Mapping[str, Any]) -> Path:
    if (final := _final_of(run, study)) is not None:
        return final
    kind = study["verdict"]["kind"]
    arm = SCRATCH if kind == "hurts" else leading_of(study)
    chosen = largest_of(study, arm)
    if chosen is None:
        raise WhymaskError(
            f"{run} has no finished network of the arm {arm}. Continue the study, or name one with --cell."
        )
    labels, task = chosen["labels_per_class"], TASKS[study["data"].get("task", Classification.name)]
    say(
        f"for the study, whose verdict is {kind!r}, speaks {arm} at {labels:g} {task.bought(labels)}, "
        f"seed {chosen['seed']}; --cell names another, and study --final trains one on all labels"
    )
    advice: Mapping[str, Any] = next(iter(study.get("advice") or []), {})
    if (cell := _cell_in(advice.get("command") or "")) not in ("", Path(chosen["folder"]).name):
        say(f"the study advises another one: {advice['text']} --cell {cell}")
    return run / chosen["folder"]


def _cell_in(command: str) -> str:
    """What follows --cell; "" where nothing does."""
    words = shlex.split(command)
    return words[words.index("--cell") + 1] if "--cell" in words else ""


def largest_of(study: Mapping[str, Any], arm: str) -> Mapping[str, Any] | None:
    """The arm's finished cell at its largest budget, of the first seed; None where there is none."""
    finished = [row for row in study["cells"] if row["arm"] == arm and row.get("metrics") and not row.get("error")]
    return min(finished, key=lambda row: (-row["labels_per_class"], row["seed"]), default=None)


def _pretrained_of(run: Path, study: Mapping[str, Any]) -> Path:
    finished = [row for row in study["pretraining"] if not row["error"]]
    if not finished:
        raise WhymaskError(f"{run} has no finished pretraining yet. Continue the study, or name a network with --cell.")
    chosen = min(finished, key=lambda row: row["seed"])
    say(
        f"for the study speaks its encoder as {chosen['method']} pretrained it, seed {chosen['seed']}; "
        "--cell names another"
    )
    return run / chosen["folder"]


def worth_of(folder: Path, task: Task) -> list[str]:
    """Lines on what the network in `folder` is worth, by its records alone.

    Of a study its metric, else the task's; and what is counted. Intervals are left out where images come in groups
    which the records of an earlier version do not tell, and for a tag's images.
    """
    result_file, predictions_file = folder / "result.json", folder / "predictions.npz"
    if not (result_file.exists() and predictions_file.exists()):
        return [f"what it is worth is not known: {folder} has no result.json or predictions.npz of its test images"]
    study = _table_around(folder)
    result, kept = read_json(result_file), read_arrays(predictions_file)
    metric = study.get("verdict", {}).get("metric", task.default_metric)
    groups = kept.get("groups")
    untold = groups is None and in_groups(folder)
    scores = {
        score.metric: replace(score, low=None, high=None) if untold else score
        for score in scores_of(task, kept[task.kept_as], kept["labels"], groups=groups, chance=study.get("chance"))
    }
    texts = {name: score.text() for name, score in scores.items() if name == metric or score.about.counted}
    if metric not in texts and metric in result["metrics"]:  # of a tag, whose images predictions.npz does not tell
        texts = {metric: f"{task.describe(metric).title} {result['metrics'][metric]:.3f} (no interval)"} | texts
    labels = result["labelled_images"]
    return [
        f"trained on {labels:,} labelled image{'' if labels == 1 else 's'}; on its own test images:",
        *(f"  {texts[name]}" for name in sorted(texts, key=lambda name: name != metric)),
    ]


def data_of(folder: Path) -> Mapping[str, Any]:
    """What is recorded of the images of the run in `folder`: by itself, or by the study that it belongs to."""
    config = folder / "config.json"
    alone = read_json(config).get("provenance", {}).get("data", {}) if config.exists() else {}
    return _table_around(folder).get("data") or alone


def reader_left_out(folder: Path, reader: Reader | str | None) -> list[str]:
    """A line where a reader opened the files that the network in `folder` was trained on, and none is given now."""
    name = data_of(folder).get("reader")
    if reader is not None or name is None:
        return []
    return [
        f"warning: a reader, {name}, opened the files that {folder} was trained on, and none is given now: others may "
        "look otherwise to the network; give it by --reader MODULE:FUNCTION"
    ]


def in_groups(folder: Path) -> bool:
    """Whether the test images of the network in `folder` come in groups, such as patients or the parts of a file, as
    far as is recorded."""
    data = data_of(folder)
    return data.get("groups") is not None or data.get("group_by") is not None


def _table_around(folder: Path) -> Mapping[str, Any]:
    """study.json of the study that it belongs to; {} of a run that stands alone."""
    study = study_of(folder)
    return {} if study is None else read_json(study / STUDY)
