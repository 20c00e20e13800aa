"""A study of several classes an image, of numbers, of pixels and of objects: from arrays to a verdict and a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import undrawn
from tiny import bars, runtime, tiny_settings
from whymask import study
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.errors import WhymaskError
from whymask.stages.context import Context
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.studies.cells import Cell, Runner
from whymask.studies.config import resolve_study
from whymask.studies.page import write_study_page
from whymask.studies.search import search
from whymask.tasks import TASKS
from whymask.training.device import make_fabric

NEW = ["multilabel", "regression", "segmentation", "detection"]


@pytest.fixture(scope="module", params=NEW)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished study's folder and its study.json."""
    out = tmp_path_factory.mktemp("study") / request.param
    finetune = FinetuneTrainingSettings(epochs=1, batch_size=20)  # few steps: those of a detector take long
    settings = tiny_settings(seeds=3, budgets=("10",), worth_budgets=("20",), finetune=finetune)
    with undrawn():
        table = study(bars(request.param), out=out, settings=settings, explain=False)
    return out, json.loads(json.dumps(table, allow_nan=False))


def test_every_number_of_the_table_is_the_tasks(told: tuple[Path, dict[str, Any]]) -> None:
    out, table = told
    prepared = prepare(bars(table["data"]["task"]), DataSettings())
    task = prepared.task
    assert table["data"]["task"] == task.name and table["setting"]["metric"] == task.default_metric
    assert not any(cell["error"] for cell in table["cells"]) and len(table["cells"]) == 12
    assert {row["labels_per_class"] for row in table["cells"]} == {10, 20}
    for cell in table["cells"]:
        stored = np.load(out / cell["folder"] / "predictions.npz")
        assert cell["metrics"] == task.metrics(stored[task.kept_as], stored["labels"])
    assert table["chance"] == prepared.chance
    key = task.row_metric.title.replace(" ", "_")
    assert {row["class"] for row in table["per_class"]} == set(task.names) and all(
        row["low"] is None or row["low"] <= row[key] <= row["high"] for row in table["per_class"]
    )
    assert table["confusion"] == [] and ("targets" in table["data"]) == (task.name == "regression")
    lead = [row for row in table["pairs"] if row["metric"] == task.default_metric]
    assert len(lead) == 2 and all(row["low_images"] is not None for row in lead)
    assert "at 10 labelled images" in table["verdict"]["text"] and table["label_worth"]


def test_the_page_says_what_is_measured_and_shows_no_confusion(told: tuple[Path, dict[str, Any]]) -> None:
    out, table = told
    page = write_study_page(out).read_text()
    about = TASKS[table["data"]["task"]]().describe(table["setting"]["metric"])
    assert table["verdict"]["text"] in page and about.title in page and about.average in page
    assert "labels a class" not in page and "label a class" not in page and "Confusion" not in page
    assert ("of a network what has a score of 0.3 or more" in page) == (table["data"]["task"] == "detection")
    said = any(row["said"] for row in table["label_worth"])
    assert ("10 labelled images with mae are worth" in page) == said and "no image looked at" in page
    if table["data"]["task"] == "regression":
        assert "lower is better" in page and "the target&#39;s" in page and "Targets of the training images" in page
        assert "Target by target" in page and "Images of each class" not in page
    else:
        assert "Class by class" in page and "Images of each class (an image may show several)" in page


def test_a_page_without_names_has_no_targets_name(tmp_path: Path) -> None:
    arrays = bars("regression")
    targets = arrays.pop("targets")
    arrays |= {"secret_a": targets[:, 0], "secret_b": targets[:, 1]}
    data = DataSettings(task="regression", label_columns=("secret_a", "secret_b"))
    settings = tiny_settings(
        data=data, seeds=3, budgets=("10",), worth_budgets=(), metric="mean_absolute_error/secret_b"
    )
    with undrawn():
        table = study(arrays, out=tmp_path / "run", settings=settings, explain=False)
    assert "mean absolute error of secret_b" in table["verdict"]["text"]
    page = write_study_page(tmp_path / "run", names=False)
    figures = "".join(path.read_text() for path in (tmp_path / "run/figures").iterdir())
    assert "secret" not in page.read_text() + figures
    assert "mean absolute error of target 1" in page.read_text() and "target 0" in page.read_text()
    with undrawn():
        assert "secret_b" in write_study_page(tmp_path / "run").read_text()


def test_a_search_takes_the_lowest_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(bars("regression"), DataSettings())
    config = resolve_study(tiny_settings(budgets=("10",), worth_budgets=()), prepared)
    runner = Runner(Context(make_fabric(runtime()), prepared), config, tmp_path)
    monkeypatch.setitem(search.__globals__, "_trial", lambda runner, cell, asked, rows, held: asked.learning_rate)
    chosen = search(runner)
    assert all(training.learning_rate == pytest.approx(config.finetune.peak / 3) for training in chosen.values())
    assert all("mean_absolute_error" in trial for trial in read_json(tmp_path / "search.json")["trials"])


@pytest.mark.parametrize(
    ("task", "metric", "said"),
    [
        ("multilabel", "accuracy", "expected one of mean_average_precision"),
        ("regression", "balanced_accuracy", "expected one of mean_absolute_error"),
        ("regression", "mean_absolute_error/height", "has the target 'height'; the targets are: "),
    ],
)
def test_a_metric_of_another_task_is_refused_before_anything_is_trained(task: str, metric: str, said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        resolve_study(tiny_settings(metric=metric), prepare(bars(task), DataSettings()))


@pytest.mark.usefixtures("undrawn")
def test_balanced_class_weights_are_the_same_in_every_arm_and_stand_on_the_page(tmp_path: Path) -> None:
    finetune = FinetuneTrainingSettings(epochs=2, batch_size=8, class_weights="balanced")
    settings = tiny_settings(seeds=1, budgets=("5",), worth_budgets=(), finetune=finetune)
    table = study(bars("classification"), out=tmp_path / "run", settings=settings, explain=False)
    assert {arm["class_weights"] for arm in table["setting"]["arms"].values()} == {"balanced"}
    assert all("class_weights" in read_json(tmp_path / "run" / cell["folder"] / "head.json") for cell in table["cells"])
    page = (tmp_path / "run/report.html").read_text()
    assert "class_weights" in page and "Images of each class" in page


@pytest.mark.parametrize("task", ["regression", "segmentation", "detection"])
def test_a_plan_counts_no_explanation_where_there_is_no_question(task: str, tmp_path: Path) -> None:
    planned = study(bars(task), out=tmp_path / "study", settings=tiny_settings(seeds=3), plan=True)["plan"]
    assert "final network" in planned["cells"] and "controls of the explanation" not in planned["cells"]
    assert planned["parts"].get("measures", 0) == 0


@pytest.mark.usefixtures("undrawn")
def test_maps_on_the_page_are_of_the_first_seed_that_both_arms_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Runner.train

    def failing(runner: Runner, cell: Cell, place: str = "", wait: bool = False) -> dict[str, Any]:
        if (cell.arm, cell.seed) == ("scratch", 0):
            raise WhymaskError("no memory")
        return train(runner, cell, place, wait)

    monkeypatch.setattr(Runner, "train", failing)
    settings = tiny_settings(seeds=2, budgets=("10",), worth_budgets=(), scratch_long="none")
    table = study(bars("segmentation"), out=tmp_path, settings=settings, explain=False)
    assert (
        table["outcomes"]["first_seed"] == 1 and "what is drawn is of seed 1" in (tmp_path / "report.html").read_text()
    )
    shown = np.load(tmp_path / "outcomes.npz")
    assert shown["hardest/arm"].shape == shown["hardest/true"].shape == shown["hardest"].shape[:3]
