"""Which network a command takes of a run, a study or a study's cell, and what its own records say that it is worth."""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from whymask.report.text import count, known, plural
from whymask.stages.settings import A_RUN
from whymask.tasks import TASKS, Classification, Metric, Task
from whymask.tasks.scores import scores_of

STUDY, CELLS, FINAL = "study.json", "cells", "final"
Part = Literal["classifier", "encoder"]


def network_of(run: Path, cell: str | None = None, part: Part = "classifier", *, images: Any = None) -> Path:
    """The folder of the network that `run` is taken for: itself, or of a study `cell`, by default its final network,
    else the first seed's at the largest budget, of the arm that a final network would be of (`best_arm`); then that is
    said, and why.

    Raises WhymaskError where there is none, or it lacks what is asked for: a classifier, or just an encoder; that says
    so where the `images` that were given with it are a run.
    """
    return checked(_taken(run, cell, _classifier_of), part, images)


def encoder_of(run: Path, cell: str | None = None, *, images: Any = None) -> Path:
    """The folder of the encoder that `run` is taken for: of a study that of `cell`, by default its final network's,
    else the first seed's pretraining; then that is said. Raises WhymaskError where there is none; `images` as in
    `network_of`."""
    folder = _taken(run, cell, lambda run, study: _final_of(run, study) or _pretrained_of(run, study))
    return checked(folder, "encoder", images)


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
        return str(checked(_taken(path, cell, _pretrained_of), "encoder"))
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


def checked(folder: Path, part: Part, images: Any = None) -> Path:
    """`folder`, if it is a finished run's with such a part. Raises WhymaskError otherwise; `images` as in
    `network_of`."""
    if not (is_run(folder) or is_study(folder)) and (swapped := _run_among(images)) is not None:
        raise WhymaskError(
            f"{folder} is no run, and the images are one: {swapped}; did you swap them? Give the run first, then images"
        )
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


def _run_among(images: Any) -> str | None:
    """What was given as images, if it is a run or a study."""
    alone = images[0] if isinstance(images, list | tuple) and len(images) == 1 else images
    path = Path(alone) if isinstance(alone, str | os.PathLike) else None
    return str(path) if path is not None and (is_run(path) or is_study(path)) else None


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


def _taken(run: Path, cell: str | None, of_study: Callable[[Path, Mapping[str, Any]], Path]) -> Path:
    if cell is not None:
        return named(run, cell)
    return of_study(run, read_json(run / STUDY)) if (run / STUDY).exists() else run


def _final_of(run: Path, study: Mapping[str, Any]) -> Path | None:
    """Of the network that the study left to use; None where it left none."""
    final = study.get("final")
    if final is None:
        return None
    labels = final["chosen_by"]["labels_per_class"]
    say(
        f"the study's verdict is {study['verdict']['kind']!r}; its final network is taken: {final['arm']}, the best at "
        f"{labels:g} {task_of(study).bought(labels)}, trained on all {final['labelled_images']:,} labelled training "
        f"images, seed {final['seed']}; --cell names another"
    )
    return run / final["folder"]


def task_of(study: Mapping[str, Any]) -> Task:
    """What the study's labels are; those of earlier versions are classes."""
    return TASKS.get(study["data"].get("task", ""), Classification)(tuple(study["data"].get("classes") or ()))


def leading_of(study: Mapping[str, Any]) -> Any:
    """The arm that the study's verdict is about; None where an early version did not say."""
    return study["setting"].get("leading") or study["setting"].get("method")


@dataclass(frozen=True)
class Best:
    """The arm with the best mean of the verdict's metric at the largest number of labels at which pretraining was
    compared.

    Attributes:
        arm: its name.
        metric: which metric.
        labels: how many, of each class or of all.
        levels: every arm's row of study.json's levels there, the pretrained one first.
    """

    arm: str
    metric: Metric
    labels: float
    levels: Mapping[str, Mapping[str, Any]]

    def text(self, task: Task) -> str:
        """ "best mean at 5 labels a class: mae accuracy 0.900 (over 3 seeds, 95 % interval ...), scratch 0.800"."""
        own, shown = self.levels[self.arm], self.metric.shown
        interval = "no interval"
        if known(own.get("low")):
            interval = f"95 % interval {shown(own['low'])} to {shown(own['high'])}"
        seeds = f"over {plural(own['seeds'], 'seed')}, " if known(own.get("seeds")) else ""
        others = "".join(f", {arm} {shown(row['mean'])}" for arm, row in self.levels.items() if arm != self.arm)
        return (
            f"best mean at {self.labels:g} {task.bought(self.labels)}: {self.arm} {self.metric.title} "
            f"{shown(own['mean'])} ({seeds}{interval}){others}"
        )


def best_arm(study: Mapping[str, Any]) -> Best | None:
    """Of which arm the study's network is that is to be used, where nothing else is asked for; None where the verdict's
    arm has no finished cell."""
    method, metric, about = leading_of(study), study["verdict"].get("metric"), task_of(study)
    chosen = {row["arm"] for row in study.get("choosing", {}).get("rows", [])}  # labels, and no arm of its own
    levels = [row for row in study["levels"] if row["metric"] == metric and row["arm"] not in chosen]
    largest = max((row["labels_per_class"] for row in levels if row["arm"] == method), default=0)
    there = [row for row in levels if row["labels_per_class"] == largest]
    if not there:
        return None
    named = {row["arm"]: row for row in sorted(there, key=lambda row: row["arm"] != method)}
    described = about.describe(metric)
    best = max if described.higher_is_better else min
    return Best(best(named, key=lambda arm: named[arm]["mean"]), described, largest, named)


def arm_taken(study: Mapping[str, Any]) -> str | None:
    """The arm whose network is taken of a study without --cell; None where there is none yet."""
    if study.get("final") is not None:
        return str(study["final"]["arm"])
    best = best_arm(study)
    return None if best is None else best.arm


def _classifier_of(run: Path, study: Mapping[str, Any]) -> Path:
    folder = _final_of(run, study) or _cell_of(run, study)
    advice: Mapping[str, Any] = next(iter(study.get("advice") or []), {})
    cell = _cell_in(advice.get("command") or "")
    arms = {Path(row["folder"]).name: row["arm"] for row in study["cells"]}
    if cell and arms.get(cell) != arm_taken(study):
        say(f"the study advises another one: {advice['text']} --cell {cell}")
    return folder


def _cell_of(run: Path, study: Mapping[str, Any]) -> Path:
    """Of the first seed at the largest budget, of the best arm."""
    best, task = best_arm(study), task_of(study)
    chosen = None if best is None else largest_of(study, best.arm)
    if best is None or chosen is None:
        raise WhymaskError(
            f"{run} has no finished network of the arm {leading_of(study) if best is None else best.arm}. Continue the "
            "study, or name one with --cell."
        )
    kind, cell = study["verdict"]["kind"], Path(chosen["folder"]).name
    say(
        f"the study's verdict is {kind!r}, and it left no final network; {cell} is taken, of the arm with the "
        f"{best.text(task)}; --cell names another, and study --final trains one on all labels"
    )
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
    chosen = min(finished, key=lambda row: (row["method"] != leading_of(study), row["seed"]))
    say(
        f"the study's encoder is taken as {chosen['method']} pretrained it, seed {chosen['seed']}; --cell names another"
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
    groups, chance = kept.get("groups"), study.get("chance") or result.get("chance")
    untold = groups is None and in_groups(folder)
    scores = {
        score.metric: replace(score, low=None, high=None) if untold else score
        for score in scores_of(task, kept[task.kept_as], kept["labels"], groups=groups, chance=chance)
    }
    texts = {name: score.text() for name, score in scores.items() if name == metric or score.about.counted}
    if metric not in texts and metric in result["metrics"]:  # of a tag, whose images predictions.npz does not tell
        about = task.describe(metric)
        texts = {metric: f"{about.title} {about.shown(result['metrics'][metric])} (no interval)"} | texts
    labels = result["labelled_images"]
    return [
        f"trained on {plural(labels, 'labelled image')}; on its own test images:",
        *(f"  {texts[name]}" for name in sorted(texts, key=lambda name: name != metric)),
    ]


def seen_texts(study: Mapping[str, Any]) -> list[str]:
    """A sentence for each start of study.json whose weights were pretrained on some of the test images, to stand beside
    the verdict."""
    tested = study["data"].get("test")
    of = f" of {count(tested)}" if known(tested) else ""
    seen = {arm: about.get("test_images_seen") for arm, about in study["setting"].get("arms", {}).items()}
    return [
        f"Mind: {count(images)}{of} test images were in the pretraining of the weights of {arm}, without their labels: "
        "its numbers may be too good."
        for arm, images in seen.items()
        if images
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
