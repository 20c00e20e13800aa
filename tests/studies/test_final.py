"""The network that a study leaves to use: the best arm on all labels, trained once, with a score of its own."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import whymask
from pages import undrawn
from tiny import GLYPHS, runtime, tiny_settings
from whymask import study
from whymask.disk import read_json, write_json
from whymask.encoders import load_encoder
from whymask.stages import classify, pretrain
from whymask.stages.record import origin_of, read_record
from whymask.stages.taken import Best, best_arm, encoder_of, network_of, study_of, task_of, weights_of
from whymask.studies import final
from whymask.studies.advice import advice
from whymask.studies.final import is_wanted
from whymask.studies.page import write_study_page

pytestmark = pytest.mark.usefixtures("undrawn")

SETTINGS = tiny_settings()


@pytest.fixture(scope="module")
def unexplained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study without its explanation, which would be drawn anew on each page. Tests read it."""
    out = tmp_path_factory.mktemp("unexplained") / "tiny"
    return Path(shutil.copytree(finished, out, ignore=shutil.ignore_patterns("why")))


@pytest.fixture(scope="module")
def mine(unexplained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study with its final network. Tests read it; one that writes copies it."""
    out = shutil.copytree(unexplained, tmp_path_factory.mktemp("final") / "mine")
    with undrawn():
        study(GLYPHS, out=out, settings=SETTINGS, explain=False, final=True)
    return out


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("something was trained")

    for room in (classify, pretrain):
        monkeypatch.setattr(room, "fit", trained)


def without_final(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in ("final", "advice", "setting", "provenance")}


def test_it_learns_from_all_training_labels_and_from_no_test_image(mine: Path, finished: Path) -> None:
    table = read_json(mine / "study.json")
    assert without_final(table) == without_final(read_json(finished / "study.json"))
    row, result = table["final"], read_json(mine / "final" / "result.json")
    assert row["labelled_images"] == result["labelled_images"] == table["data"]["train"] == 100
    assert row["metrics"] == result["metrics"] and (row["budget"], row["seed"], row["folder"]) == ("all", 0, "final")
    tested, cell = (np.load(mine / name / "predictions.npz") for name in ("final", "cells/mae-5-0"))
    assert np.array_equal(tested["rows"], cell["rows"]) and np.array_equal(tested["labels"], cell["labels"])


def test_the_page_says_what_it_is_and_what_it_is_worth_and_hides_names(mine: Path, tmp_path: Path) -> None:
    page, row = " ".join((mine / "report.html").read_text().split()), read_json(mine / "study.json")["final"]
    text = page[page.index('id="final"') :][:1500]
    assert "trained once more on all 100 labelled training images, lies in <code>final</code>" in text
    assert len(row["worth"]) > 1 and all(line in text for line in row["worth"][1:])
    assert "on the test images, which it never saw; that its arm was chosen by them among 2 may flatter it" in text
    hidden = write_study_page(Path(shutil.copytree(mine, tmp_path / "mine")), names=False).read_text()
    assert "trained once more on all 100" in " ".join(hidden.split()) and row["worth"][1] not in hidden


def test_it_is_the_arm_that_is_best_at_the_largest_budget_and_starts_as_its_cells_do(mine: Path) -> None:
    table = read_json(mine / "study.json")
    best = best_arm(table)
    assert best is not None
    means = {name: level["mean"] for name, level in best.levels.items()}
    here = {"metric": "accuracy/single_view", "labels_per_class": 5}
    levels = {row["arm"]: row["mean"] for row in table["levels"] if here.items() <= row.items()}
    assert best.labels == 5 and means == levels and next(iter(means)) == "mae" and set(means) == {"mae", "scratch"}
    chosen, record = table["final"]["arm"], read_record(mine / "final")
    assert means[chosen] == max(means.values()) and best.arm == record.arm == chosen and record.budget == "all"


@pytest.mark.parametrize("arm", ["mae", "scratch"])
def test_when_another_arm_is_best_it_is_trained_anew_and_knows_its_pretraining(
    arm: str, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(mine, tmp_path / "mine")

    def best(table: dict[str, Any]) -> Best:
        found = best_arm(table)
        assert found is not None
        return replace(found, arm=arm)

    monkeypatch.setattr(final, "best_arm", best)
    table = study(GLYPHS, out=out, settings=SETTINGS, explain=False)
    assert table["final"]["arm"] == read_record(out / "final").arm == arm
    origin = origin_of(out / "final", read_record(out / "final"))
    pretrained = out / "cells" / "pretrain-mae-0"
    assert (None if origin is None else origin.resolve()) == (pretrained if arm == "mae" else None)
    assert table["advice"] == read_json(out / "study.json")["advice"] == advice(table, task_of(table), str(out))


def test_it_is_trained_once_and_stays_until_it_is_not_wanted(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(mine, tmp_path / "mine")
    forbid_training(monkeypatch)
    for asked in (True, None):
        table = study(GLYPHS, out=out, settings=SETTINGS, explain=False, final=asked)
        assert table["final"] == read_json(mine / "study.json")["final"] == read_json(out / "study.json")["final"]
    assert "final" not in study(GLYPHS, out=out, settings=SETTINGS, explain=False, final=False)
    assert "final" not in read_json(out / "study.json")


@pytest.mark.parametrize(
    "kind", ["helps", "hurts", "not worth its compute", "no difference that matters", "cannot tell"]
)
def test_by_default_it_is_trained_where_pretraining_helps(kind: str, mine: Path, tmp_path: Path) -> None:
    table = {"verdict": {"kind": kind}}
    assert is_wanted(None, table, tmp_path) == (kind == "helps")
    assert is_wanted(None, table, mine) and is_wanted(True, table, tmp_path) and not is_wanted(False, table, mine)


def test_a_cell_of_all_labels_is_not_trained_a_second_time(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(mine, tmp_path / "mine")
    arm = read_json(out / "study.json")["final"]["arm"]
    (out / "final").rename(out / "cells" / f"{arm}-all-0")
    forbid_training(monkeypatch)
    table = study(GLYPHS, out=out, settings=SETTINGS, explain=False, final=True)
    assert table["final"]["folder"] == f"cells/{arm}-all-0" and not (out / "final").exists()
    assert network_of(out) == out / "cells" / f"{arm}-all-0"


def test_one_that_cannot_be_trained_costs_no_study(
    unexplained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = shutil.copytree(unexplained, tmp_path / "mine")
    forbid_training(monkeypatch)
    table = study(GLYPHS, out=out, settings=SETTINGS, explain=False, final=True)
    assert "final" not in table and without_final(table) == without_final(read_json(unexplained / "study.json"))
    assert "no final network: AssertionError: something was trained" in capsys.readouterr().err


def test_it_is_planned_where_it_may_come(finished: Path, mine: Path, tmp_path: Path) -> None:
    def planned(out: Path, asked: bool | None, seeds: int = 2) -> dict[str, int]:
        settings = tiny_settings(seeds=seeds)
        return study(GLYPHS, out=out, settings=settings, explain=False, plan=True, final=asked)["plan"]["cells"]

    assert planned(finished, True) == {"final network": 1} and planned(finished, None) == planned(mine, True) == {}
    assert [planned(tmp_path / "new", None, seeds).get("final network") for seeds in (2, 3)] == [None, 1]
    assert "final network" not in planned(tmp_path / "new", False, 3)


def test_it_is_taken_of_the_study(mine: Path, tmp_path: Path, capsys: Any) -> None:
    arm = read_json(mine / "study.json")["final"]["arm"]
    said = (
        f"the study's verdict is 'cannot tell'; its final network is taken: {arm}, the best at 5 labels a class, "
        "trained on all 100 labelled training images, seed 0; --cell names another\n"
    )
    for taken in (network_of, encoder_of):
        assert taken(mine) == mine / "final"
        assert capsys.readouterr().err == said
    assert study_of(mine / "final") == mine.resolve()
    assert weights_of(str(mine), None) == str(mine / "cells" / "pretrain-mae-0")
    assert "as mae pretrained it, seed 0" in capsys.readouterr().err
    whymask.predict(mine, GLYPHS, out=tmp_path / "p.csv", runtime=runtime())
    assert "trained on 100 labelled images; on its own test images:\n  single-view accuracy" in capsys.readouterr().err
    exported = whymask.export(mine, "safetensors", out=tmp_path / "exported")
    assert load_encoder(exported).origin == load_encoder(mine / "final").origin
    weights = [(folder / "head.safetensors").read_bytes() for folder in (exported, mine / "final")]
    assert weights[0] == weights[1]


def test_without_it_the_same_arm_is_taken_and_why_is_said(mine: Path, tmp_path: Path, capsys: Any) -> None:
    out = shutil.copytree(mine, tmp_path / "mine")
    table = read_json(out / "study.json")
    write_json(out / "study.json", {key: value for key, value in table.items() if key != "final"})
    arm = table["final"]["arm"]
    (level,) = (
        row
        for row in table["levels"]
        if (row["arm"], row["labels_per_class"], row["metric"]) == (arm, 5, "accuracy/single_view")
    )
    assert network_of(out).name == f"{arm}-5-0"
    said = capsys.readouterr().err
    assert said.startswith(
        f"the study's verdict is 'cannot tell', and it left no final network; {arm}-5-0 is taken, of the arm with the "
        f"best mean at 5 labels a class: {arm} single-view accuracy {level['mean']:.3f} (over 2 seeds, "
    )
    assert said.endswith("; --cell names another, and study --final trains one on all labels\n")


def test_the_flag_alone_asks_for_it(
    whymask: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bool | None] = []
    monkeypatch.setattr("whymask.study", lambda *arguments, **named: asked.append(named["final"]), raising=False)
    for flags in ((), ("--final",), ("--final", "yes"), ("--final", "no"), ("--final", "auto")):
        assert whymask("study", GLYPHS, *flags, "--out", tmp_path / "out") == 0
    assert asked == [None, True, True, False, None]
