"""Chosen labels beside drawn ones: by features that saw no label, the same for both arms, and nothing else changes."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import faults_of
from pages import shares_in_percent, table_of
from studied import forbid_training, numbers, predictions, times
from tiny import GLYPHS, bars, runtime, tiny_settings
from whymask import WhymaskError, explain, study
from whymask.choosing.distances import unit
from whymask.choosing.rules import RULES, Images
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import load_encoder
from whymask.stages.context import Context
from whymask.stages.probe import features_of
from whymask.stages.taken import best_arm
from whymask.studies.cells import Cell, Runner, all_cells, arm_in, count_of, share_of
from whymask.studies.chosen import choosing_texts, file_of
from whymask.studies.config import resolve_study
from whymask.studies.page import write_study_page
from whymask.studies.page.results import choosing_worth
from whymask.tasks import Classification
from whymask.tasks.budgets import Budget
from whymask.training.device import make_fabric

SETTINGS = tiny_settings(choose=("typical",))
TWO = Budget("count", 2)


@pytest.fixture(scope="module")
def chosen(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The finished study, gone on with by --choose, with the times of its files before."""
    out = Path(shutil.copytree(finished, tmp_path_factory.mktemp("chosen") / "study"))
    before = times(out)
    table = study(GLYPHS, out=out, settings=SETTINGS, explain=False)
    assert {path: when for path, when in times(out).items() if path in before} == before  # nothing is run again
    return out, table


@pytest.fixture(scope="module")
def runner(chosen: tuple[Path, dict[str, Any]]) -> Runner:
    prepared = prepare(GLYPHS, DataSettings(), multiple_of=4)
    return Runner(Context(make_fabric(runtime()), prepared), resolve_study(SETTINGS, prepared), chosen[0])


def test_what_is_said_of_drawn_labels_is_what_it_was(chosen: Any, finished: Path) -> None:
    before, now = (numbers(table) for table in (read_json(finished / "study.json"), chosen[1]))
    added = {cell.shown for cell in all_cells(resolve_of(SETTINGS)) if cell.choose}
    assert added == {f"{arm}+{rule}" for arm in ("scratch", "mae") for rule in ("typical", "blind")}
    for name in ("cells", "levels"):
        assert [row for row in now[name] if row["arm"] not in added] == before[name]
        assert {row["arm"] for row in now[name]} > added
    rest = {*before} - {"cells", "levels", "setting", "provenance"}
    assert {name: now[name] for name in rest} == {name: before[name] for name in rest}
    assert {*now} - {*before} == {"choosing"}


def resolve_of(settings: Any) -> Any:
    return resolve_study(settings, prepare(GLYPHS, DataSettings(), multiple_of=4))


@pytest.mark.usefixtures("undrawn")
def test_without_choosing_the_same_study_goes_on_as_it_was(
    chosen: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(chosen[0], tmp_path / "study"))
    forbid_training(monkeypatch)
    assert numbers(study(GLYPHS, out=out, settings=tiny_settings(), explain=False)) == numbers(
        read_json(finished / "study.json")
    )
    assert "choose" not in resolve_of(tiny_settings()).to_dict()
    assert resolve_of(SETTINGS).to_dict()["choose"] == ["typical", "blind"]


def test_both_arms_learn_from_the_images_that_the_seeds_own_pretraining_chooses(runner: Runner) -> None:
    prepared = runner.context.prepared
    rows = np.sort(prepared.train)
    found: dict[tuple[str, int], np.ndarray] = {}
    for seed in (0, 1):
        encoder = load_encoder(runner.out / "cells" / f"pretrain-mae-{seed}")
        features = unit(features_of(encoder, prepared, rows))
        images = Images(features, np.zeros(len(rows), bool), np.ones(len(rows), bool), 10)
        for rule in ("typical", "blind"):
            expected = np.sort(rows[[choice.row for choice in RULES[rule](images, 20, seed)]])
            for arm in ("scratch", "mae"):
                cell = Cell(arm, TWO, seed, rule)
                job = runner.job(cell, runner.rows_of(cell), prepared.test, runner.training_of(arm, 20))
                assert np.array_equal(job.rows, expected) and job.record("").about == {"choose": rule}
                assert runner.starts_from(cell) == f"pretrain-mae-{seed}"
                assert runner.schedule_of(cell) == runner.schedule_of(Cell(arm, TWO, seed))
            found[rule, seed] = expected
            assert not {*expected} & {*prepared.test} and prepared.images.labelled[expected].all()
    assert not np.array_equal(found["typical", 0], found["typical", 1])
    assert len(set(np.bincount(prepared.images.labels[found["blind", 0]], minlength=10))) > 1  # not even over classes


def test_labels_do_not_decide_which_images_are_chosen(runner: Runner, tmp_path: Path) -> None:
    prepared = runner.context.prepared
    turned = replace(prepared.images, labels=np.where(prepared.images.labels < 0, -1, 9 - prepared.images.labels))
    context = replace(runner.context, prepared=replace(prepared, images=turned))
    other = replace(runner, context=context, out=tmp_path)
    shutil.copytree(runner.out / "cells" / "pretrain-mae-0", tmp_path / "cells" / "pretrain-mae-0")
    cell = Cell("scratch", TWO, 0, "typical")
    assert np.array_equal(other.rows_of(cell), runner.rows_of(cell))


@pytest.mark.usefixtures("undrawn")
def test_a_cell_that_is_run_again_takes_the_labels_that_were_chosen(
    chosen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(chosen[0], tmp_path / "study"))
    before = predictions(out / "cells" / "scratch+typical-2-0")
    shutil.rmtree(out / "cells" / "scratch+typical-2-0")
    monkeypatch.setattr("whymask.studies.chosen.features_of", lambda *given: pytest.fail("chosen again"))
    assert numbers(study(GLYPHS, out=out, settings=SETTINGS, explain=False)) == numbers(chosen[1])
    assert np.array_equal(predictions(out / "cells" / "scratch+typical-2-0"), before)


def test_the_table_tells_differences_classes_and_worth(chosen: Any, runner: Runner) -> None:
    rows = chosen[1]["choosing"]["rows"]
    against = [(f"{arm}+typical", baseline) for arm in ("scratch", "mae") for baseline in (arm, f"{arm}+blind")]
    against += [(f"{arm}+blind", arm) for arm in ("scratch", "mae")]
    assert [(row["arm"], row["baseline"]) for row in rows] == against
    values = {
        (c["arm"], c["seed"]): c["metrics"]["accuracy/single_view"] for c in chosen[1]["cells"] if c["budget"] == "2"
    }
    labels = runner.context.prepared.images.labels
    for row in rows:
        differences = [values[row["arm"], seed] - values[row["baseline"], seed] for seed in (0, 1)]
        assert row["difference"] == pytest.approx(np.mean(differences)) and row["state"] == "few"
        cells = [Cell("mae", TWO, seed, row["rule"]) for seed in (0, 1)]
        met = [len({*labels[np.load(file_of(runner.out, cell))["rows"]]}) for cell in cells]
        assert row["classes"] == np.mean(met)
        assert (row["worth"] is None) == row["baseline"].endswith("+blind")
        if row["worth"] is not None:
            assert row["worth"]["labels_per_class"] == 2 and row["worth"]["seeds"] == 2


def test_the_page_tells_what_choosing_is_worth_and_can_be_read(chosen: Any, browser: Any) -> None:
    page = (chosen[0] / "report.html").read_text()
    rows = table_of(page, "What choosing labels is worth")
    assert len(rows) == 6 and "mae+typical" in " ".join(rows[2])
    assert chosen[1]["choosing"]["texts"][1] in page and shares_in_percent(page) == []
    assert faults_of(browser, chosen[0] / "report.html") == []
    write_study_page(chosen[0], images=False, names=False)
    assert 'id="choosing"' in (chosen[0] / "report.html").read_text()


def test_a_record_tells_how_many_cells_there_are_and_a_name_its_arm() -> None:
    asked = (SETTINGS, tiny_settings(), replace(SETTINGS, scratch_long="all"), tiny_settings(starts=("mae", "simmim")))
    for settings in asked:
        config = resolve_of(settings)
        assert count_of(config.to_dict()) == len(list(all_cells(config)))
        assert all(arm_in(cell.name) == cell.shown for cell in all_cells(config))
    several = config.to_dict() | {"starts": ["mae", "init=a", "continue=b-1", "frozen=c", "scratch"]}
    assert count_of(several) == count_of(config.to_dict()) + config.seeds * (2 * len(config.budgets))
    assert count_of({}) is None


def test_what_has_one_pretraining_stays_in_one_share() -> None:
    cells = list(all_cells(resolve_of(SETTINGS)))
    shares = [share_of(cells, f"{index}/3") for index in (1, 2, 3)]
    assert sorted(cell.name for share in shares for cell in share) == sorted(cell.name for cell in cells)
    for share in shares:
        needed = {cell.seed for cell in share if cell.choose}
        assert needed <= {cell.seed for cell in share if cell.budget is None}


def test_a_network_of_chosen_labels_is_not_the_final_one(chosen: Any) -> None:
    there = [row for row in chosen[1]["levels"] if row["labels_per_class"] == 2]
    assert {row["arm"] for row in there} > {"mae+typical"}
    best = best_arm(chosen[1] | {"levels": there})
    assert best is not None and {*best.levels} == {"mae", "scratch", "scratch-long"}


def test_where_a_budget_counts_all_images_drawn_labels_are_blind_already() -> None:
    prepared = prepare(bars("regression"), DataSettings(), multiple_of=4)
    assert resolve_study(tiny_settings(choose=("spread",)), prepared).choose == ("spread",)


def test_what_cannot_be_chosen_by_is_told(chosen: Any, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match="--starts names no method"):
        tiny_settings(choose=("typical",), starts=("scratch", "init=resnet18"))
    with pytest.raises(WhymaskError, match="each rule once"):
        tiny_settings(choose=("typical", "typical"))
    cells = ["mae+typical-2-0", "scratch+typical-2-0"]
    with pytest.raises(WhymaskError, match="its labels were chosen"):
        explain(chosen[0], GLYPHS, out=tmp_path / "why", cells=cells)


def test_what_choosing_is_worth_is_said_in_words() -> None:
    row = {"rule": "typical", "arm": "mae+typical", "baseline": "mae", "labels_per_class": 5, "metric": "accuracy"}
    row |= {"mean": 0.4, "baseline_mean": 0.35, "difference": 0.05, "low": 0.01, "high": 0.09, "seeds": 5}
    blind = row | {"baseline": "mae+blind", "baseline_mean": 0.3, "difference": 0.1, "state": "open", "worth": None}
    worth = {"worth": 8.4, "kind": "exact", "low": 5.0, "low_kind": "at most", "high": 12.0, "high_kind": "exact"}
    rows = [row | {"state": "better", "worth": worth}, blind]
    chances = "95 % interval +0.010 to +0.090 over 5 seeds"
    assert choosing_texts(rows, Classification()) == [
        "At 5 labels a class chosen by typical, mae reaches 0.4 accuracy; with as many drawn evenly from each class "
        f"0.35 (+0.050, {chances}: better); with as many at random whatever their class 0.3 (+0.100, {chances}: may be "
        "chance)."
    ]
    assert choosing_worth(rows[0]) == "about 8.4 (at most 5 to 12)" and choosing_worth(blind) == ""
