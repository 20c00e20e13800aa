"""A study without the names in it, for a page that may leave when the data's names must not."""

from typing import Any

from whymask.report.privacy import (
    HIDDEN,
    harmless,
    without_message,
    without_texts,
    without_values,
)
from whymask.stages.taken import task_of
from whymask.tasks import Regression, Task

_SAFE_SETTINGS = {"method", "metric", "budgets", "precision", "device", "encoder.name"}
_SAFE_SETTINGS |= {"task", "class_weights", "sampler"}
_SAFE_DATA = {"fingerprint", "test_split", "task"}
_DATA_KEYS = {
    "images",
    "pool",
    "distinct",
    "labelled",
    "train",
    "test",
    "train_counts",
    "test_counts",
    "size",
    "channels",
    "mean",
    "std",
}
_DATA_KEYS |= {"near_duplicates", "near_untold", "near_kept"}
_DATA_KEYS |= {
    "pixel_shares",
    "targets",
    "skipped",
    "duplicates",
    "transductive",
    "groups",
    "group_by",
    "store",
} | _SAFE_DATA


def without_names(study: dict[str, Any]) -> dict[str, Any]:
    """`study` (the object of study.json) with no file name, no class name, no path and no free text of the data.

    Classes become "class 0", "class 1", ..., targets "target 0", ... in the data's order.
    """
    study = _without_origins(_without_metrics(study))
    classes = study["data"].get("classes") or []
    setting, provenance = study["setting"], study["provenance"]
    hidden = dict(study)
    hidden["setting"] = without_texts(setting, _SAFE_SETTINGS)
    if "command" in setting:
        hidden["setting"]["command"] = without_values(str(setting["command"]))
    versions = provenance.get("versions")
    hidden["provenance"] = harmless(provenance)
    hidden["provenance"] |= {"threads": provenance.get("threads")} | ({"versions": versions} if versions else {})
    hidden["data"] = _data(study["data"])
    hidden["advice"] = [row | {"command": row["command"] and without_values(row["command"])} for row in study["advice"]]
    hidden["pretraining"] = [without_message(record) for record in study["pretraining"]]
    hidden["cells"] = [without_message(record) for record in study["cells"]]
    if study.get("final"):
        hidden["final"] = study["final"] | {"worth": []}
    if study.get("outcomes"):
        hidden["outcomes"] = _without_keys(study["outcomes"])
    position = {name: index for index, name in reversed(list(enumerate(classes)))}
    hidden["per_class"] = [
        row | {"class": row["class"] if isinstance(row["class"], int) else position.get(row["class"], -1)}
        for row in study["per_class"]
    ]
    return hidden


def _without_origins(study: dict[str, Any]) -> dict[str, Any]:
    """Arms that start from given weights, which are named after their files, by number: "init=1"."""
    given = [arm for arm in study["setting"].get("arms") or {} if "=" in arm]
    numbered = {arm: f"{arm.partition('=')[0]}={number}" for number, arm in enumerate(given, start=1)}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed(key): renamed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [renamed(inner) for inner in value]
        if isinstance(value, str):
            for arm in sorted(numbered, key=len, reverse=True):
                value = value.replace(arm, numbered[arm])
        return value

    return renamed(study) if numbered else study


def _without_keys(found: dict[str, Any]) -> dict[str, Any]:
    """Outcomes, whose images have a file's name each."""
    return found | {"shown": {kind: [row | {"key": None} for row in rows] for kind, rows in found["shown"].items()}}


def _without_metrics(study: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a single target are named after it, here, in their rows, and in the verdict's sentence."""
    task = task_of(study)
    if task.name != Regression.name:
        return study
    hidden = Regression(_numbered(task))
    renamed = {
        f"mean_absolute_error/{old}": f"mean_absolute_error/{new}"
        for old, new in zip(task.names, hidden.names, strict=True)
    }

    def rename(value: Any) -> Any:
        return renamed.get(value, value) if isinstance(value, str) else value

    def rows(name: str) -> list[dict[str, Any]]:
        return [{key: rename(value) for key, value in row.items()} for row in study[name]]

    verdict, metric = study["verdict"], study["verdict"].get("metric")
    if metric in renamed:
        titles = [which.describe(rename(metric) if which is hidden else metric).title for which in (task, hidden)]
        verdict = verdict | {"metric": rename(metric), "text": verdict["text"].replace(*titles)}
    cells = [cell | {"metrics": _renamed(cell.get("metrics"), renamed)} for cell in study["cells"]]
    if "choosing" in study:
        study = study | {"choosing": _choosing(study["choosing"], renamed, (task, hidden))}
    setting = study["setting"] | {"metric": rename(study["setting"].get("metric"))}
    return study | {
        "levels": rows("levels"),
        "pairs": rows("pairs"),
        "cells": cells,
        "verdict": verdict,
        "setting": setting,
        "chance": _renamed(study["chance"], renamed),
    }


def _choosing(found: dict[str, Any], names: dict[str, str], tasks: tuple[Task, Task]) -> dict[str, Any]:
    """What choosing is worth, with the metric's new name, also in its sentences."""
    rows, texts = found["rows"], found["texts"]
    for row in rows:
        old, new = (
            task.describe(metric).title
            for task, metric in zip(tasks, (row["metric"], names.get(row["metric"], row["metric"])), strict=True)
        )
        texts = [text.replace(old, new) for text in texts]
    return {"rows": [row | {"metric": names.get(row["metric"], row["metric"])} for row in rows], "texts": texts}


def _renamed(values: dict[str, Any] | None, names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in (values or {}).items()}


def _numbered(task: Task) -> tuple[str, ...]:
    return tuple(f"{task.name_is} {index}" for index in range(len(task.names)))


def _data(data: dict[str, Any]) -> dict[str, Any]:
    names = list(_numbered(task_of({"data": data})))
    hidden = without_texts({key: value for key, value in data.items() if key in _DATA_KEYS}, _SAFE_DATA)
    hidden |= {"classes": names, "skipped_examples": [], "name": HIDDEN}
    if data.get("targets"):
        hidden["targets"] = [row | {"name": name} for row, name in zip(data["targets"], names, strict=False)]
    hidden["near_pairs"] = [row | {"image": None, "test": None} for row in data.get("near_pairs") or []]
    warnings = len(data.get("warnings") or [])
    hidden["warnings"] = [f"{warnings} warning(s) of the run, hidden because they may hold names"] if warnings else []
    return hidden
