"""A study: the same rules for every arm, cells that are run once, and a table made of what is there."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studied import forbid_training, numbers, predictions, times
from tiny import GLYPHS, new_encoder, runtime, tiny_settings
from whymask import study
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_json
from whymask.encoders import EncoderSettings, load_encoder, save_encoder
from whymask.errors import WhymaskError
from whymask.locks import holding
from whymask.stages import classify, pretrain
from whymask.stages.classify import classifier_training
from whymask.stages.context import Context
from whymask.studies import plan as plans
from whymask.studies import timing
from whymask.studies.cells import Cell, Runner, all_cells, share_of
from whymask.studies.config import StudyConfig, resolve_study
from whymask.studies.equal_compute import unequal_compute
from whymask.studies.hours import fewest_epochs
from whymask.studies.page import write_study_page
from whymask.studies.plan import Work, make_plan
from whymask.studies.result import StudyResult
from whymask.studies.settings import SCRATCH, SCRATCH_LONG
from whymask.studies.table import labels_per_class
from whymask.tasks.budgets import Budget, parse_budget
from whymask.training.device import make_fabric
from whymask.training.loop import Interrupted

pytestmark = pytest.mark.usefixtures("undrawn")

run_study = import_module("whymask.studies.run")
ONE = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none")
"""The smallest study: a pretraining and two classifiers."""


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(GLYPHS, DataSettings(), multiple_of=4)


@pytest.fixture(scope="module")
def runner(finished: Path, prepared: Prepared) -> Runner:
    """A runner over the finished study's folder."""
    context = Context(make_fabric(runtime()), prepared)
    return Runner(context, resolve_study(tiny_settings(), prepared), finished)


@pytest.fixture(scope="module")
def table(finished: Path) -> dict[str, Any]:
    return read_json(finished / "study.json")


# what a study leaves -------------------------------------------------------------------------------------------

KEYS = {
    "advice": "rule text command",
    "calibration": "arm labels_per_class error low high seeds images bins",
    "cells": "arm labels_per_class budget seed metrics operations images_seen steps seconds folder error",
    "pretraining": "method seed folder operations images_seen seconds loss data_wait warning error",
    "levels": "arm labels_per_class metric mean low high seeds",
    "pairs": "arm baseline labels_per_class metric difference low high low_images high_images seeds dropped",
    "per_class": "arm labels_per_class class recall low high",
    "confusion": "arm labels_per_class counts",
    "label_worth": "arm labels_per_class worth low high kind low_kind high_kind seeds said",
    "against_chance": "arm baseline labels_per_class metric difference low high low_images high_images seeds dropped",
}


def test_study_json_has_the_documented_schema(table: dict[str, Any]) -> None:
    assert set(table) == {"schema", "setting", "data", "provenance", "verdict", "chance", "outcomes", *KEYS}
    assert table["schema"] == 2
    for name, keys in KEYS.items():
        assert table[name], name
        for row in table[name]:
            assert set(row) == set(keys.split()), name
    assert " ".join(table["verdict"]) == "text kind metric labels_per_class margin above_chance settle"
    assert {row["baseline"] for row in table["against_chance"]} == {"chance"}
    assert [row["arm"] for row in table["against_chance"]] == ["scratch", "mae", "scratch-long"]
    metrics = {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss"}
    metrics |= {"accuracy/multi_view", "accuracy/single_view"}
    assert all(set(cell["metrics"]) == metrics for cell in table["cells"])
    assert set(table["chance"]) == metrics


def test_every_arm_has_every_seed(table: dict[str, Any]) -> None:
    found = sorted((c["arm"], c["labels_per_class"], c["seed"]) for c in table["cells"])
    planned = [("mae", 2), ("mae", 5), ("scratch", 2), ("scratch", 4), ("scratch", 5), ("scratch-long", 2)]
    assert found == [(arm, budget, seed) for arm, budget in planned for seed in (0, 1)]
    assert [row["seed"] for row in table["pretraining"]] == [0, 1]
    assert {(p["baseline"], p["labels_per_class"]) for p in table["pairs"]} == {
        ("scratch", 2),
        ("scratch", 5),
        ("scratch-long", 2),
    }
    assert all(pair["seeds"] == 2 and pair["dropped"] == 0 for pair in table["pairs"])


def test_the_verdict_of_glyphs_is_on_single_view_images_at_the_smallest_budget(table: dict[str, Any]) -> None:
    assert (table["verdict"]["metric"], table["verdict"]["labels_per_class"]) == ("accuracy/single_view", 2)
    assert table["verdict"]["kind"] == "cannot tell" and "3 or more seeds" in table["verdict"]["settle"]
    assert table["verdict"]["margin"] == 0.02


def test_the_numbers_are_those_of_the_cells(finished: Path, table: dict[str, Any]) -> None:
    for cell in table["cells"]:
        stored = np.load(finished / cell["folder"] / "predictions.npz")
        assert cell["metrics"]["accuracy"] == pytest.approx(
            (stored["log_probabilities"].argmax(1) == stored["labels"]).mean()
        )
    values = {(c["arm"], c["seed"]): c["metrics"]["log_loss"] for c in table["cells"] if c["labels_per_class"] == 2}
    expected = np.mean([values["mae", seed] - values["scratch-long", seed] for seed in (0, 1)])
    pair = next(p for p in table["pairs"] if p["baseline"] == "scratch-long" and p["metric"] == "log_loss")
    assert pair["difference"] == pytest.approx(expected)


def test_the_page_and_its_companions_are_there(finished: Path, table: dict[str, Any]) -> None:
    page = (finished / "report.html").read_text()
    assert table["verdict"]["text"][:40] in page
    assert (finished / "skipped.csv").read_text().splitlines() == ["image,reason"]
    samples = np.load(finished / "samples.npz")
    assert samples["images"].dtype == np.uint8 and len(samples["images"]) == len(samples["labels"]) == 40


# fair rules ----------------------------------------------------------------------------------------------------


def test_every_arm_sees_the_same_labels_in_the_same_order_with_the_same_head(runner: Runner) -> None:
    budget = Budget("count", 5)
    tasks = {}
    for arm in (SCRATCH, "mae", SCRATCH_LONG):
        cell = Cell(arm, budget, 1)
        rows = runner.rows_of(cell)
        job = runner.job(cell, rows, runner.context.prepared.test, runner.training_of(arm, len(rows)))
        tasks[arm] = classifier_training(runner.context, job)
    first = tasks[SCRATCH]
    for task in tasks.values():
        for step in (0, 3, first.steps - 1):
            ours, theirs = task.batches(step), first.batches(step)
            assert np.array_equal(ours.rows, theirs.rows)
            assert torch.equal(ours.images, theirs.images)
        model: Any = task.model
        assert torch.equal(model.head.weight, first.model.head.weight)  # type: ignore[arg-type, union-attr]
    assert tasks["mae"].steps == first.steps


def test_scratch_starts_where_pretraining_started(runner: Runner) -> None:
    scratch = runner.encoder_of(SCRATCH, 1).state_dict()
    begun = pretrain.pretraining(runner.context, runner.config.pretraining(seed=1))
    encoder: Any = begun.model.encoder
    assert all(torch.equal(tensor, scratch[name]) for name, tensor in encoder.state_dict().items())
    pretrained = runner.encoder_of("mae", 1).state_dict()
    assert not torch.equal(pretrained["net.layers.0.conv.weight"], scratch["net.layers.0.conv.weight"])


def test_budgets_are_nested_and_seeds_differ(runner: Runner) -> None:
    labels = runner.context.prepared.images.labels
    subsets = [set(runner.rows_of(Cell(SCRATCH, parse_budget(b), 0))) for b in ("2", "4", "5", "all")]
    assert all(small < large for small, large in pairwise(subsets))
    assert np.bincount(labels[sorted(subsets[0])]).tolist() == [2] * 10
    assert subsets[0] != set(runner.rows_of(Cell(SCRATCH, parse_budget("2"), 1)))
    assert not subsets[-1] & set(runner.context.prepared.test)


def test_two_arms_that_differ_only_in_name_give_equal_numbers(prepared: Prepared, tmp_path: Path) -> None:
    prep = prepared.images.preprocessing
    save_encoder(new_encoder(ONE.encoder, prep.size, prep.channels, seed=0), prep, tmp_path / "start")
    settings = replace(ONE, init=tmp_path / "start" / "encoder.safetensors")
    table = study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    cells = tmp_path / "study" / "cells"
    assert np.array_equal(predictions(cells / "init-2-0"), predictions(cells / "scratch-2-0"))
    rows = {cell["arm"]: cell for cell in table["cells"]}
    assert rows["init"]["metrics"] == rows["scratch"]["metrics"] != rows["mae"]["metrics"]
    pairs = [pair for pair in table["pairs"] if pair["arm"] == "init"]
    assert pairs and all(pair["difference"] == 0 for pair in pairs)


def test_scratch_long_costs_as_much_as_pretraining_and_fine_tuning(finished: Path, table: dict[str, Any]) -> None:
    cost = {(c["arm"], c["seed"]): c for c in table["cells"] if c["labels_per_class"] == 2}
    for pretraining in table["pretraining"]:
        long, short = cost["scratch-long", pretraining["seed"]], cost["scratch", pretraining["seed"]]
        one_step = long["operations"] / long["steps"]
        assert abs(long["operations"] - short["operations"] - pretraining["operations"]) <= one_step / 2 + 1
        result = read_json(finished / long["folder"] / "result.json")
        assert result["operations"] == pytest.approx(result["operations_per_image"] * long["images_seen"])


def test_a_pretrained_vit_learns_slowly_below_and_scratch_does_not(prepared: Prepared) -> None:
    cnn = resolve_study(ONE, prepared)
    vit = resolve_study(replace(ONE, encoder=EncoderSettings("vit", width=16, depth=2)), prepared)
    assert vit.finetuning_of("mae").layer_decay == 0.75
    assert vit.finetuning_of(SCRATCH).layer_decay == vit.finetuning_of(SCRATCH_LONG).layer_decay == 1
    assert replace(vit, layer_decay=1.0).finetuning_of("mae") == vit.finetuning_of(SCRATCH)
    assert cnn.finetuning_of("mae") == cnn.finetuning_of(SCRATCH)


# each cell once ------------------------------------------------------------------------------------------------


def test_finished_cells_are_never_run_again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "study"))
    before, table = times(out), read_json(out / "study.json")
    forbid_training(monkeypatch)
    assert numbers(study(GLYPHS, out=out, settings=tiny_settings())) == numbers(table)
    assert times(out) == before


def test_an_interrupted_study_leaves_its_page_and_continues_to_the_same_numbers(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Runner.run
    done: list[Cell] = []

    def stopped(self: Runner, cell: Cell, place: str = "") -> dict[str, Any]:
        if len(done) == 9:
            raise Interrupted("stopped")
        done.append(cell)
        return run(self, cell, place)

    out = tmp_path / "study"
    monkeypatch.setattr(Runner, "run", stopped)
    with pytest.raises(Interrupted):
        study(GLYPHS, out=out, settings=tiny_settings(), explain=False)
    assert (out / "report.html").exists()
    partial = read_json(out / "study.json")
    assert len(partial["cells"]) == 7 and len(partial["pretraining"]) == 2
    before = times(out)
    monkeypatch.setattr(Runner, "run", run)
    assert numbers(study(GLYPHS, out=out, settings=tiny_settings(), explain=False)) == numbers(table)
    assert before.items() <= times(out).items()


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], None]:
    """Make the cell `name` raise; returns what undoes it."""
    train, pretraining = Runner.train, Runner.pretrain

    def failing(self: Runner, cell: Cell, place: str = "", wait: bool = False) -> dict[str, Any]:
        if cell.name == name:
            rows = self.rows_of(cell)
            job = self.job(cell, rows, rows, self.training_of(cell.arm, len(rows)))
            self.context.open(self.folder(cell), job.record(self.context.fingerprint))
            raise RuntimeError("out of luck")
        return train(self, cell, place, wait)

    def failing_pretraining(self: Runner, cell: Cell, place: str = "", wait: bool = False) -> dict[str, Any]:
        if cell.name == name:
            raise RuntimeError("out of luck")
        return pretraining(self, cell, place, wait)

    monkeypatch.setattr(Runner, "train", failing)
    monkeypatch.setattr(Runner, "pretrain", failing_pretraining)
    return monkeypatch.undo


def copy_without(finished: Path, out: Path, *cells: str) -> Path:
    """The finished study as if some cells had not been run, nor explained: each page would draw that anew."""
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("why"))
    for cell in cells:
        shutil.rmtree(out / "cells" / cell)
    return out


def test_a_failed_cell_is_marked_its_pair_dropped_and_the_others_go_on(
    finished: Path, table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_without(finished, tmp_path / "study", "mae-2-1", "scratch-4-1")
    undo = fail_at(monkeypatch, "mae-2-1")
    failed = study(GLYPHS, out=out, settings=tiny_settings(), explain=False)
    broken = [cell for cell in failed["cells"] if cell["error"]]
    assert [(c["arm"], c["labels_per_class"], c["seed"]) for c in broken] == [("mae", 2, 1)]
    assert broken[0]["error"] == "RuntimeError: out of luck" and broken[0]["metrics"] == {}
    assert (out / "cells/scratch-4-1/result.json").exists()
    for pair in failed["pairs"]:
        at_two = pair["labels_per_class"] == 2
        assert (pair["seeds"], pair["dropped"]) == ((1, 1) if at_two else (2, 0))
    assert "out of luck" in (out / "report.html").read_text()
    undo()
    assert numbers(study(GLYPHS, out=out, settings=tiny_settings(), explain=False)) == numbers(table)
    assert not (out / "cells/mae-2-1/error.json").exists()


def test_cells_of_a_failed_pretraining_name_it(
    finished: Path, table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ("pretrain-mae-0", "mae-2-0", "mae-5-0")
    out = copy_without(finished, tmp_path / "study", *lost)
    undo = fail_at(monkeypatch, "pretrain-mae-0")
    failed = study(GLYPHS, out=out, settings=tiny_settings(), explain=False)
    assert failed["pretraining"][0]["error"] == "RuntimeError: out of luck"
    errors = [cell["error"] for cell in failed["cells"] if cell["error"]]
    assert errors == ["WhymaskError: its pretraining failed: RuntimeError: out of luck"] * 2
    undo()
    assert numbers(study(GLYPHS, out=out, settings=tiny_settings(), explain=False)) == numbers(table)


# sharing -------------------------------------------------------------------------------------------------------


def test_shares_make_the_same_study(table: dict[str, Any], tmp_path: Path) -> None:
    first = study(GLYPHS, out=tmp_path / "study", settings=tiny_settings(), explain=False, cells="1/2")
    assert 0 < len(first["cells"]) < len(table["cells"])
    assert (tmp_path / "study/report.html").exists()
    second = study(GLYPHS, out=tmp_path / "study", settings=tiny_settings(), explain=False, cells="2/2")
    assert numbers(second) == numbers(table)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shares_are_a_partition_and_keep_a_pretraining_with_what_starts_from_it(count: int, prepared: Prepared) -> None:
    cells = list(all_cells(resolved(prepared, seeds=3)))
    shares = [share_of(cells, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted(cell.name for share in shares for cell in share) == sorted(cell.name for cell in cells)
    for share in shares:
        for position, cell in enumerate(share):
            if cell.arm == "mae" and cell.budget is not None:
                assert Cell("mae", None, cell.seed) in share[:position]


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "1/2/3", "a/b", "-1/2", ""])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(WhymaskError, match="i/n with 1 <= i <= n"):
        share_of([], share)


# another study in the folder, plans, hours, search -------------------------------------------------------------


def test_another_study_in_the_folder_is_refused_with_the_difference(finished: Path, tmp_path: Path) -> None:
    out = copy_without(finished, tmp_path / "study")
    before = times(out)
    changed = tiny_settings(pretrain=replace(tiny_settings().pretrain, epochs=3))
    with pytest.raises(WhymaskError, match=r"settings\.pretrain\.epochs: 1 there, 3 now"):
        study(GLYPHS, out=out, settings=changed)
    with pytest.raises(WhymaskError, match=r"fingerprint: '\w+' there, '\w+' now"):
        study(f"{GLYPHS},seed=9", out=out, settings=tiny_settings())
    assert times(out) == before


def test_seeds_and_budgets_may_be_added_and_that_is_kept_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    study(GLYPHS, out=out, settings=ONE, explain=False)
    first = {name: (out / "cells" / name / "head.safetensors").read_bytes() for name in ("scratch-2-0", "mae-2-0")}
    larger = replace(ONE, seeds=2, budgets=("2", "5"))
    table = study(GLYPHS, out=out, settings=larger, explain=False)
    assert {(cell["budget"], cell["seed"]) for cell in table["cells"]} == {(b, s) for b in ("2", "5") for s in (0, 1)}
    assert table["setting"]["begun_with"] == {"seeds": 1, "budgets": ["2"], "worth_budgets": []}
    for name, weights in first.items():
        assert (out / "cells" / name / "head.safetensors").read_bytes() == weights
    assert "This study grew: it began with 1 seed and the budgets 2." in (out / "report.html").read_text()
    forbid_training(monkeypatch)
    study(GLYPHS, out=out, settings=larger, explain=False)  # goes on as it now is
    for other in (ONE, replace(larger, budgets=("5",)), replace(larger, first_seed=1)):
        with pytest.raises(WhymaskError, match="other settings"):
            study(GLYPHS, out=out, settings=other, explain=False)


def test_where_it_computes_and_decodes_is_no_difference(finished: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = copy_without(finished, tmp_path / "study")
    forbid_training(monkeypatch)
    elsewhere = tiny_settings(data=DataSettings(store=tmp_path / "store"), runtime=runtime(threads=2))
    study(GLYPHS, out=out, settings=elsewhere, explain=False)
    torch.set_num_threads(1)


def test_a_plan_runs_nothing(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_training(monkeypatch)
    plan = study(GLYPHS, out=tmp_path / "study", settings=tiny_settings(), plan=True)["plan"]
    assert not (tmp_path / "study").exists()
    assert plan["cells"] == {
        "pretraining": 2,
        "scratch": 6,
        "mae": 4,
        "scratch-long": 2,
        "controls of the explanation": 3,
    }
    assert plan["images"] == 288 and plan["store_bytes"] >= 288 * 32 * 32 and plan["seconds"] > 0
    printed = capsys.readouterr().err
    assert "2 pretraining" in printed and "images: 288" in printed and "minutes" in printed
    assert sum(plan["parts"].values()) == pytest.approx(plan["seconds"])


@pytest.mark.parametrize(("clock", "processor"), [(2.0, 4.0), (4.0, 2.0)])
def test_a_plan_counts_neither_other_work_nor_its_threads_one_by_one(
    clock: float, processor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 1 + clock)
    monkeypatch.setattr(timing.time, "process_time", lambda: 1 + processor)
    nobody: Any = None
    times = timing.Times(nobody, at_least=1.0)
    assert times._since((1.0, 1.0)) == 2 and times.load == clock / 2


def test_a_plan_has_a_part_for_all_that_a_study_does(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing.Times, "time_steps", lambda self, training: 10.0)
    monkeypatch.setattr(timing.Times, "time_testing", lambda self, training: 1.0)
    monkeypatch.setattr(timing.Times, "figure", 2.0)
    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none")
    parts = study(GLYPHS, out=tmp_path / "a", settings=settings, plan=True)["plan"]["parts"]
    steps = 228 // 32
    assert parts["pretraining"] == 10.0 * (steps + plans.COUNTING_STEPS)
    networks = 4  # scratch and mae, two controls
    trained = 2 * (20 // 8) * (1 + classify.VALIDATION_SHARE)
    assert parts["classifiers"] == networks * (10.0 * (trained + plans.COUNTING_STEPS) + 60)
    assert parts["measures"] == 6 * 60 * (plans.VIEWS_AN_IMAGE + plans.ASKED_AN_IMAGE)
    assert parts["pages"] == 2.0 * (plans.FIGURES_OF_PAGE + plans.FIGURES_OF_WHY) and "scratch-long" not in parts
    without = study(GLYPHS, out=tmp_path / "a", settings=settings, plan=True, explain=False)["plan"]["parts"]
    assert without["measures"] == 0 and without["pages"] == 2.0 * plans.FIGURES_OF_PAGE


def test_a_plan_counts_what_is_not_finished(finished: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(finished, tmp_path / "whole")
    assert study(GLYPHS, out=whole, settings=tiny_settings(), plan=True)["plan"]["cells"] == {}
    out = copy_without(finished, tmp_path / "study", "scratch-4-0", "scratch-long-2-1")
    shutil.copytree(finished / "why", out / "why")
    plan = study(GLYPHS, out=out, settings=tiny_settings(), plan=True)["plan"]
    assert plan["cells"] == {"scratch": 1, "scratch-long": 1}


def planned_seconds(monkeypatch: pytest.MonkeyPatch, pretraining: float, other: float) -> None:
    """Of a whole study, whatever this machine takes."""
    seconds = {"work": (Work("pretraining", "all", other, pretraining),), "before": (), "after": (), "load": 1.0}
    monkeypatch.setattr(run_study, "seconds_timed", lambda hours: 0.0)
    monkeypatch.setattr(run_study, "make_plan", lambda *args: replace(make_plan(*args), **seconds))


def test_hours_set_the_epochs_and_a_continued_study_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    planned_seconds(monkeypatch, 100, 50)
    table = study(GLYPHS, out=out, settings=ONE, hours=1260 / 3600, explain=False)
    assert table["setting"]["pretrain"]["epochs"] == 12
    forbid_training(monkeypatch)
    monkeypatch.setattr(run_study, "make_plan", None)
    again = study(GLYPHS, out=out, settings=ONE, hours=1260 / 3600, explain=False)
    assert numbers(again) == numbers(table)
    with pytest.raises(WhymaskError, match=r"hours: 0\.35 there, 0\.5 now"):
        study(GLYPHS, out=out, settings=ONE, hours=0.5, explain=False)


@pytest.mark.parametrize("search", [False, True])
def test_scratch_long_costs_what_the_fitted_pretraining_and_fine_tuning_cost(
    search: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a search, and in a study that was stopped before it and continued."""
    settings = replace(ONE, budgets=("5",), scratch_long="smallest", search=search)
    settings = replace(settings, pretrain=replace(settings.pretrain, epochs=40))
    planned_seconds(monkeypatch, 4000, 60)
    run = Runner.run

    def stopped(self: Runner, cell: Cell, place: str = "") -> dict[str, Any]:
        if cell.arm == SCRATCH_LONG:
            raise Interrupted("stopped")
        return run(self, cell, place)

    monkeypatch.setattr(Runner, "run", stopped)
    with pytest.raises(Interrupted):
        study(GLYPHS, out=tmp_path, settings=settings, hours=1270 / 3600, explain=False)
    monkeypatch.setattr(Runner, "run", run)
    table = study(GLYPHS, out=tmp_path, settings=settings, hours=1270 / 3600, explain=False)
    assert table["setting"]["pretrain"]["epochs"] == 12
    cells = {row["arm"]: row for row in table["cells"]}
    long, spent = cells["scratch-long"], table["pretraining"][0]["operations"] + cells["mae"]["operations"]
    assert abs(long["operations"] - spent) <= long["operations"] / long["steps"]
    assert unequal_compute(table, by_hours=True) is None


def test_the_page_of_an_older_study_by_hours_says_that_compute_was_unequal(finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "older")
    table = read_json(out / "study.json")
    assert unequal_compute(table, by_hours=True) is None and "earlier version" not in (out / "report.html").read_text()
    older = json.loads(json.dumps(table))
    for row in older["cells"]:
        if row["arm"] == SCRATCH_LONG:
            row["operations"] *= 2
            row["steps"] *= 2
    write_json(out / "study.json", older)
    assert "it was counted otherwise by an earlier version" in write_study_page(out).read_text()
    begun = read_json(out / "config.json")
    write_json(out / "config.json", begun | {"config": begun["config"] | {"hours": 0.5}})
    page = write_study_page(out).read_text()
    assert "Scratch-long was given 2 times the compute" in page and "fitted to --hours by an earlier version" in page


def test_hours_for_fewer_epochs_than_make_sense_are_refused_with_what_would_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """228 images need 10 epochs, 1,050 s here; 910 s allow 8, 6 of 7 seeds, or images of 28 pixels."""
    planned_seconds(monkeypatch, 100, 50)
    with pytest.raises(WhymaskError) as refused:
        study(GLYPHS, out=tmp_path / "study", settings=replace(ONE, seeds=7), hours=910 / 3600)
    told = str(refused.value)
    assert "allows 8 pretraining epochs of 228 images with 7 seeds; at least 10 are needed" in told
    assert "--hours 0.3 or --seeds 6 or --size 28" in told
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("images", "epochs"), [(228, 10), (2_800, 8), (10_000, 2), (50_000, 1)])
def test_the_fewest_epochs_are_20_000_image_passes_or_ten(images: int, epochs: int) -> None:
    assert fewest_epochs(images) == epochs


def test_hours_in_another_runs_folder_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_seconds(monkeypatch, 1, 1)
    run = shutil.copytree(finished / "cells" / "scratch-2-0", tmp_path / "run")
    with pytest.raises(WhymaskError, match="holds a run with other settings"):
        study(GLYPHS, out=run, settings=ONE, hours=0.01)


def test_a_search_is_alike_for_every_arm_outside_the_study_and_then_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(ONE, budgets=("5",), search=True, finetune=replace(ONE.finetune, learning_rate=1e-3))
    out = tmp_path / "study"
    table = study(GLYPHS, out=out, settings=settings, explain=False)
    found = read_json(out / "search.json")
    assert found["seed"] not in table["setting"]["seeds"] and found["budget"] == "5"
    grid = {(round(t["learning_rate"] * 1e4), t["layer_decay"]) for t in found["trials"]}
    assert grid == {(rate, decay) for rate in (3, 10, 30) for decay in (1.0, 0.75)}
    for arm in ("scratch", "mae"):
        trials = [trial for trial in found["trials"] if trial["arm"] == arm]
        best = max(trials, key=lambda trial: trial["balanced_accuracy"])
        assert len(trials) == 6
        used = table["setting"]["arms"][arm]
        assert (used["learning_rate"], used["layer_decay"]) == (best["learning_rate"], best["layer_decay"])
    tests = {np.load(path / "predictions.npz")["rows"].tobytes() for path in (out / "cells").glob("search-scratch-*")}
    assert len(tests) == 1
    held = np.frombuffer(tests.pop(), dtype=np.int64)
    assert not set(held) & set(np.load(out / "cells/scratch-5-0/predictions.npz")["rows"])
    forbid_training(monkeypatch)
    assert numbers(study(GLYPHS, out=out, settings=settings, explain=False)) == numbers(table)


# settings and data ---------------------------------------------------------------------------------------------


def resolved(prepared: Prepared, **changes: Any) -> StudyConfig:
    return resolve_study(tiny_settings(**changes), prepared)


def names_of(budgets: tuple[Budget, ...]) -> tuple[str, ...]:
    return tuple(budget.name for budget in budgets)


def test_budgets_are_sorted_and_each_is_there_once(prepared: Prepared) -> None:
    settings = resolved(prepared, budgets=("all", "5", "30%", "2", "5"), worth_budgets=("4", "5", "3"))
    assert names_of(settings.budgets) == ("2", "30%", "5", "all")
    assert names_of(settings.worth_budgets) == ("3", "4")
    names = [cell.name for cell in all_cells(settings)]
    assert len(names) == len(set(names))
    assert "mae-30percent-0" in names


def test_budgets_and_worth_are_derived(prepared: Prepared) -> None:
    settings = resolved(prepared, budgets=None, worth_budgets=None)
    assert names_of(settings.budgets) == ("5", "all")
    assert names_of(settings.worth_budgets) == ()  # 10 are all
    assert names_of(resolved(prepared, budgets=("2", "all"), worth_budgets=None).worth_budgets) == ("4", "8")


@pytest.mark.parametrize(("budget", "expected"), [("3", 3), ("7%", 1), ("30%", 3), ("all", 10)])
def test_labels_per_class_are_those_that_the_budget_buys(budget: str, expected: float, runner: Runner) -> None:
    cell = Cell(SCRATCH, parse_budget(budget), 0)
    assert labels_per_class(cell, runner.context.prepared) == expected
    assert len(runner.rows_of(cell)) == expected * 10


def test_transductive_keeps_test_images_in_pretraining_and_says_so(prepared: Prepared, tmp_path: Path) -> None:
    assert not set(prepared.pool) & set(prepared.test)
    kept = prepare(GLYPHS, DataSettings(transductive=True), multiple_of=4)
    assert set(kept.test) < set(kept.pool) and not set(kept.test) & set(kept.train)
    settings = replace(ONE, data=DataSettings(transductive=True))
    table = study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    assert table["data"]["transductive"] is True and table["data"]["pool"] == 288
    assert "ransductive" in (tmp_path / "study" / "report.html").read_text()


def test_a_study_of_before_tested_on_a_fifth_and_goes_on_so(pictures: Path, tmp_path: Path) -> None:
    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=())
    before = replace(settings, data=DataSettings(test_share=0.2))
    study(pictures / "labelled", out=tmp_path, settings=before, cells="3/4")
    recorded = read_json(tmp_path / "config.json")["config"]["settings"]["data"]
    assert "test_share" not in recorded  # as it was before there was a choice
    with pytest.raises(WhymaskError, match=r"test_share: 0.2 there, 0.5 now"):
        study(pictures / "labelled", out=tmp_path, settings=settings, cells="3/4")


def test_copies_of_test_images_leave_all_training_and_are_counted() -> None:
    random = np.random.default_rng(0)
    train, test = random.integers(0, 255, (2, 20, 16, 16), dtype=np.uint8)
    train[:3] = test[:3]
    arrays = {"x_train": train, "y_train": np.arange(20) % 2, "x_test": test, "y_test": np.arange(20) % 2}
    prepared = prepare(arrays, DataSettings())
    assert prepared.leaking == prepared.describe()["duplicates"] == 3
    assert set(prepared.pool) == set(prepared.train) == set(range(3, 20))
    assert prepared.test_share is None


def test_groups_stay_whole() -> None:
    random = np.random.default_rng(0)
    patients = np.array([f"patient {i // 3}" for i in range(60)])
    arrays = {
        "images": random.integers(0, 255, (60, 16, 16), dtype=np.uint8),
        "labels": np.where(np.arange(60) % 5 == 0, -1, (np.arange(60) // 3) % 2),
        "patient": patients,
    }
    prepared = prepare(arrays, DataSettings(group_by="patient"))
    tested, trained = set(patients[prepared.test]), set(patients[prepared.pool]) | set(patients[prepared.train])
    assert tested and trained and not tested & trained
    assert prepared.describe()["groups"] == 20


def test_the_encoders_of_a_study_can_be_loaded(finished: Path) -> None:
    for folder in (finished / "cells").iterdir():
        assert load_encoder(folder).transform.size == (32, 32)


def test_tables_of_a_study_are_frames(finished: Path) -> None:
    result = StudyResult(read_json(finished / "study.json"))
    levels = result.levels.to_pandas()
    assert len(levels) == len(result["levels"]) and levels["mean"].tolist() == [row["mean"] for row in result["levels"]]
    assert result.cells.to_pandas()["metrics.accuracy"].notna().all()
    with pytest.raises(AttributeError, match=r"a study has no table 'level'; its tables are .*levels"):
        _ = result.level
    shown = result._repr_html_()
    assert result["verdict"]["text"].split(":")[0] in shown and shown.count("<table") == 2
    assert result["verdict"]["text"] in repr(result) and len(repr(result)) < 2000
    plan = StudyResult(plan={"cells": {"<mae>": 3}})
    assert "'<mae>': 3" in repr(plan) and "&lt;mae&gt;" in plan._repr_html_()


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))


def test_a_damaged_cell_is_run_again_alone_and_the_study_is_what_it_was(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_without(finished, tmp_path / "study")
    before = numbers(read_json(out / "study.json"))
    cell = out / "cells" / "scratch-2-0"
    flip(cell / "predictions.npz")
    flip(out / "study.json")
    flip(out / "config.json")
    (out / "result.json").write_text("{")
    trained: list[str] = []
    fit = classify.fit
    monkeypatch.setattr(classify, "fit", lambda *a, **k: (trained.append(k["run"].path.name), fit(*a, **k))[1])
    study(GLYPHS, out=out, settings=tiny_settings(), explain=False)
    assert trained == ["scratch-2-0"]
    assert "scratch-2-0 is run again" in capsys.readouterr().err
    assert numbers(read_json(out / "study.json")) == before
    np.testing.assert_array_equal(predictions(cell), predictions(finished / "cells" / "scratch-2-0"))


def test_a_cell_that_another_process_runs_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = tmp_path / "study" / "cells" / "scratch-2-0"
    busy.mkdir(parents=True)
    (tmp_path / "study" / "config.json").write_text("{")
    with holding(busy):
        table = study(GLYPHS, out=tmp_path / "study", settings=ONE, explain=False)
    assert "scratch, 2 labels, seed 0 left to another process" in capsys.readouterr().err
    assert [cell["arm"] for cell in table["cells"] if cell["metrics"]] == ["mae"]
    assert not (busy / "error.json").exists()
    table = study(GLYPHS, out=tmp_path / "study", settings=ONE, explain=False)
    assert [cell["arm"] for cell in table["cells"] if cell["metrics"]] == ["scratch", "mae"]
