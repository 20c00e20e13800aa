"""The page of a study: study.json and the files beside it -> report.html and figures/*.svg."""

import csv
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.sheet import legend
from whymask.disk import read_json, write_bytes
from whymask.errors import WhymaskError
from whymask.explanations.page.write import part_of_study
from whymask.report.figures import arm_styles, inline, write_figures
from whymask.report.marks import SURE
from whymask.report.page import render
from whymask.report.text import clean, count, flatten, known
from whymask.runs import metrics_of
from whymask.stages.taken import seen_texts, task_of
from whymask.studies.advice import advice
from whymask.studies.earlier import judged_anew
from whymask.studies.equal_compute import unequal_compute
from whymask.studies.page import confusion, figures, numbers, pictures, results
from whymask.studies.page.bounds import within_bounds
from whymask.studies.page.privacy import without_names

CURVE_POINTS = 150
SKIPPED_SHOWN = 20
_LISTS = ("pretraining", "cells", "levels", "pairs", "per_class", "confusion", "label_worth", "calibration")
_OWN_FIGURES = ("curve-*.svg", "recall-*.svg", "reliability.svg", "loss-*.svg", "validation-*.svg", "watched-*.svg")
WATCHED = {
    "knn": "{metric} of nearest neighbours",
    "linear": "{metric} of a linear model",
    "effective_rank": "effective rank of the features",
}
"""Of what pretraining is watched by, what the page shows, and its title."""
_TEMPLATES = Path(__file__).with_name("templates")


def write_study_page(folder: Path, *, images: bool = True, names: bool = True) -> Path:
    """Write ``folder/report.html`` and ``folder/figures/*.svg`` from ``folder/study.json`` and what lies beside it.

    Whatever is missing (cells not run or failed, arms, intervals, galleries) is left out of the page. With
    ``images=False`` there is no image in it; with ``names=False`` no file name, class name, path, nor any free text
    that may hold one. Returns the page's path. Raises `WhymaskError` if there is no readable study.json.
    """
    folder = Path(folder)
    study = load_study(folder)
    skipped = skipped_rows(folder, study) if names else []
    if not names:
        study = without_names(study)
    task, drawings = task_of(study), draw_figures(folder, study)
    context = {
        "study": study,
        "names": names,
        "images": images,
        "styles": arm_styles(results.arms_of(study)),
        "captions": {name: label for name, (_, label) in drawings.items()},
        "figures": {name: inline(svg, label) for name, (svg, label) in drawings.items()},
        "galleries": pictures.galleries(folder, study["pretraining"]) if images else [],
        "samples": pictures.samples(folder, task) if images else [],
        "photos": pictures.outcomes(folder, study, task) if images else {},
        "sure": SURE,
        "legend": legend(task),
        "near": pictures.near_copies(folder, study["data"].get("near_pairs") or [], images),
        "skipped": skipped,
        "metric_name": partial(results.metric_name, task=task),
        "task": task,
        "choosing_worth": results.choosing_worth,
        "why": part_of_study(folder / "why", images=images, names=names),
        **results_context(study, _by_hours(folder)),
        **settings_context(study),
    }
    page = render("study.html.j2", _TEMPLATES, **context)
    files = {f"{name}.svg": svg.encode() for name, (svg, _) in drawings.items()}
    write_figures(folder / "figures", files, *_OWN_FIGURES)
    write_bytes(folder / "report.html", page)
    return folder / "report.html"


def load_study(folder: Path) -> dict[str, Any]:
    """study.json, its strings printable, with an empty section for each one that is missing; one of an earlier
    version judged and bounded as today, with the advice that follows from that."""
    path = folder / "study.json"
    try:
        study = read_json(path)
    except OSError as error:
        raise WhymaskError(f"{path} cannot be read ({error}); expected the folder of a study; run it first") from error
    study = clean(study)
    for section in ("setting", "provenance", "data", "verdict", "chance"):
        study[section] = study.get(section) or {}
    for section in _LISTS:
        study[section] = study.get(section) or []
    task = task_of(study)
    study = judged_anew(within_bounds(study), task)
    return study if "advice" in study else study | {"advice": advice(study, task, str(folder))}


def _by_hours(folder: Path) -> bool:
    """Whether the study's epochs were fitted to --hours."""
    begun = folder / "config.json"
    return begun.exists() and read_json(begun).get("config", {}).get("hours") is not None


def results_context(study: dict[str, Any], by_hours: bool) -> dict[str, Any]:
    budgets = results.main_budgets(study)
    lead = results.lead_of(study)[1]
    ordered = sorted(budgets, key=lambda labels: labels != lead)
    return {
        "verdict": results.verdict(study),
        "seen": seen_texts(study),
        "unequal_compute": unequal_compute(study, by_hours),
        "tiles": results.tiles(study),
        "levels": results.level_table(study),
        "metric_table": results.metric_table(study),
        "pair_tables": results.pair_tables(study),
        "budgets": ordered,
        "recalls": {labels: len({row["class"] for row in results.class_rows(study, labels)}) for labels in ordered},
        "confusions": {labels: shown for labels in ordered if (shown := confusion.confusions(study, labels))},
        "confused": confusion.most_confused(study),
        "costs": results.costs(study),
        "total_cost": results.total_cost(study),
        "tables": numbers.tables(study),
        "failures": results.failures(study),
    }


def settings_context(study: dict[str, Any]) -> dict[str, Any]:
    """The tables of settings: {"arms": {setting: {arm: value}}, "settings", "provenance": {name: value}}."""
    setting = study["setting"]
    arms = {arm: flatten(values) for arm, values in setting.get("arms", {}).items() if isinstance(values, dict)}
    rows = dict.fromkeys(key for values in arms.values() for key in values)
    return {
        "command": setting.get("command") or study["provenance"].get("command"),
        "arm_settings": {key: {arm: values.get(key) for arm, values in arms.items()} for key in rows},
        "settings": flatten({key: value for key, value in setting.items() if key not in ("arms", "command")}),
        "provenance": flatten({key: value for key, value in study["provenance"].items() if key != "command"}),
    }


def draw_figures(folder: Path, study: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Every figure there is data for: name -> (SVG document, what it shows)."""
    drawn: dict[str, tuple[str, str]] = {}
    styles = arm_styles(results.arms_of(study))
    metric, task = results.lead_of(study)[0], task_of(study)
    row_name = task.row_metric.title
    shown = [row for row in study["levels"] if known(row["mean"]) and known(row["labels_per_class"])]
    for name in results.metrics_of(shown, metric, task)[:2]:
        worth = [row for row in study["label_worth"] if row.get("said")] if name == metric else []
        key = f"curve-{name.replace('/', '-')}"
        title = f"{results.metric_name(name, task)} against {task.budget_counts}"
        drawn[key] = figures.curve(key, shown, styles, task, name, worth, study["chance"].get(name)), title
    if study["calibration"]:
        label = "how often each network is right, by how sure it is"
        drawn["reliability"] = figures.reliability("reliability", study["calibration"], styles), label
    for labels in results.main_budgets(study):
        at = f"at {count(labels)} {task.bought(labels)}"
        if rows := results.class_rows(study, labels):
            key, of_each = f"recall-{labels}", f"{row_name} of each {task.name_is}"
            drawn[key] = figures.by_class(key, rows, study["data"]["classes"], row_name, styles), f"{of_each} {at}"
        cells = [cell for cell in study["cells"] if cell["labels_per_class"] == labels]
        lines = metric_lines(folder, [(cell["arm"], cell) for cell in cells])
        if curves := curves_of(lines, lambda line: line.get("loss")):
            key = f"loss-{labels}"
            label = f"training loss of the networks {at}"
            drawn[key] = figures.over_steps(key, "training loss", curves, styles), label
        if curves := curves_of(lines, partial(_validated, metric)):
            key, title = f"validation-{labels}", results.metric_name(metric, task)
            drawn[key] = figures.over_steps(key, title, curves, styles), f"{title} while the networks train, {at}"
    lines = metric_lines(folder, [(record["method"], record) for record in study["pretraining"]])
    if curves := curves_of(lines, lambda line: line.get("loss")):
        key = "loss-pretraining"
        drawn[key] = figures.over_steps(key, "training loss", curves, styles), "loss of pretraining"
    if curves := curves_of(lines, lambda line: line.get("gradient_norm")):
        title = "norm of the gradient"
        drawn["watched-gradient"] = figures.over_steps("watched-gradient", title, curves, styles), f"{title}, in steps"
    for key, title in WATCHED.items():
        if curves := curves_of(lines, partial(_validated, key)):
            title = title.format(metric=results.metric_name(task.default_metric, task))
            firsts = [
                first for _, run in lines for line in run if (first := _validated(f"first_{key}", line)) is not None
            ]
            drawn[f"watched-{key}"] = (
                figures.over_steps(f"watched-{key}", title, curves, styles, float(np.mean(firsts))),
                f"{title} while networks are pretrained",
            )
    return drawn


def _validated(key: str, line: dict[str, Any]) -> Any:
    return (line.get("validation") or {}).get(key)


def metric_lines(folder: Path, records: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(arm, the lines of its metrics.jsonl) of each record that has a folder."""
    return [
        (arm, metrics_of(folder / record["folder"] / "metrics.jsonl")) for arm, record in records if "folder" in record
    ]


def curves_of(
    runs: list[tuple[str, list[dict[str, Any]]]], value_of: Callable[[dict[str, Any]], Any]
) -> list[tuple[str, np.ndarray]]:
    """(arm, array (n, 2) of step and value) of each run; n at most `CURVE_POINTS`, stretches averaged."""
    curves = []
    for arm, lines in runs:
        points = [(float(line["step"]), float(value_of(line))) for line in lines if known(value_of(line))]
        if len(points) >= 2:
            stretches = np.array_split(np.array(points), min(len(points), CURVE_POINTS))
            curves.append((arm, np.array([stretch.mean(axis=0) for stretch in stretches])))
    return curves


def skipped_rows(folder: Path, study: dict[str, Any]) -> list[list[str]]:
    """The first images that could not be used: [key, reason]."""
    try:
        with (folder / "skipped.csv").open(newline="", encoding="utf-8", errors="replace") as file:
            rows = [row[:2] for row in islice(csv.reader(file), SKIPPED_SHOWN + 1) if len(row) >= 2]
    except (OSError, csv.Error):
        rows = study["data"].get("skipped_examples") or []
    if rows and rows[0][1] == "reason":
        rows = rows[1:]
    return clean(rows[:SKIPPED_SHOWN])
