"""The whole path: from runs and images to explain.json, for a study and for runs alone, and what is refused."""

import importlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.agreement import ENCODERS, agreement, make_truth, measured, train
from tiny import GLYPHS, runtime, small_explanation, tiny_settings
from whymask import (
    ExplainSettings,
    Explanation,
    FinetuneSettings,
    WhymaskError,
    explain,
    finetune,
    pretrain,
    study,
)
from whymask.data.glyph_settings import Glyphs
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.explanations.networks import open_runs, two_arms
from whymask.explanations.settings import NAMES
from whymask.stages.alone import PretrainSettings
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings

RUNTIME = runtime()
SMALL = small_explanation()


@pytest.fixture(scope="module")
def runs(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on the pictures: mae/ pretrained, ft/ fine-tuned from it, scratch/, and coarse/, whose last map has
    a single position."""
    root = tmp_path_factory.mktemp("runs")
    cnn, coarse = EncoderSettings("cnn", width=4), EncoderSettings("resnet18", output_stride=32)
    training = FinetuneTrainingSettings(epochs=2, batch_size=8)
    pretrain(
        str(pictures / "photos"),
        out=root / "mae",
        settings=PretrainSettings(
            encoder=cnn, training=PretrainTrainingSettings(epochs=1, batch_size=8), runtime=RUNTIME
        ),
    )
    data = str(pictures / "labelled")
    settings = FinetuneSettings(training=training, runtime=RUNTIME)
    finetune(data, out=root / "ft", settings=replace(settings, origin=str(root / "mae")))
    finetune(data, out=root / "scratch", settings=replace(settings, encoder=cnn, seed=1))
    finetune(data, out=root / "coarse", settings=replace(settings, encoder=coarse))
    return root


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers only: drawing takes longer than measuring."""
    monkeypatch.setattr(Explanation, "write_page", lambda self, **asked: self.folder)


def test_a_study_is_explained_by_every_measure(explained: Explanation) -> None:
    assert {row.measure for row in explained.numbers} == set(NAMES)
    assert [arm["role"] for arm in explained.arms] == [
        "pretrained", "baseline", "erased", "readout", "random", "shuffled",
    ]  # fmt: skip
    assert {arm["name"]: len(arm["seeds"]) for arm in explained.arms} == {
        "mae": 2, "scratch": 2, "scratch-erased": 2, "mae encoder": 2, "random weights": 1, "shuffled labels": 1,
    }  # fmt: skip
    assert "of 2 features a class" in explained.lead


def test_every_number_has_its_interval_and_count(explained: Explanation) -> None:
    for row in explained.numbers:
        assert math.isfinite(row.value) and row.count >= 1, row
        assert (row.low is None) == (row.high is None), row
        if row.low is not None:
            assert row.low - 1e-9 <= row.value <= row.high + 1e-9, row  # type: ignore[operator]
            assert row.high > row.low, row  # type: ignore[operator]
        elif row.over == "images" and row.seed is not None:  # of a share there always is one
            assert row.measure != "robustness" or row.quantity.endswith("mean") or " - " in row.arm, row


def test_means_come_with_both_intervals(explained: Explanation) -> None:
    for measure in ("interactions", "robustness", "adversarial"):
        for arm in ("mae", "scratch", "mae - scratch", "mae - scratch-erased"):
            rows = [row for row in explained.select(measure=measure, arm=arm) if row.seed is None]
            assert {row.over for row in rows} == {"images", "seeds"}, (measure, arm)
            assert measure == "adversarial" or {row.filling for row in rows} >= {"mean", "patches"}


def test_shares_are_shares(explained: Explanation) -> None:
    shares = {
        "hidden",
        "kept",
        "accuracy",
        "noise",
        "occlusion",
        "agreement",
        "found by",
        "never found",
    }
    for row in explained.numbers:
        if row.quantity in shares and " - " not in row.arm:
            for number in (row.value, row.low, row.high):
                assert number is None or -1e-9 <= number <= 1 + 1e-9, row


def test_the_readout_finds_all_of_its_own_interactions(explained: Explanation) -> None:
    """preserved + discarded is the strength of the pretrained encoder, preserved + new that of the fine-tuned one."""

    def total(quantity: str, arm: str) -> float:
        return next(
            row.value
            for row in explained.select(measure="interactions", quantity=quantity, arm=arm, filling="mean", seed=None)
        )

    before = total("preserved", "mae") + total("discarded", "mae")
    assert before == pytest.approx(total("strength", "mae encoder"))
    assert total("preserved", "mae") + total("new", "mae") == pytest.approx(total("strength", "mae"))


@pytest.mark.usefixtures("no_page")
def test_the_same_call_trains_and_measures_nothing_again(
    explained: Explanation, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(explained.folder, tmp_path / "why"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    trained = 2 + 1 + 2  # erased networks, one on shuffled labels, those of known views
    again = 3 * 2 * (1 + 3)  # both arms and the erased ones, at the end and kept along the way
    assert len(before) == (trained + again) * 2  # of each an encoder and a head
    told = (out / "explain.json").read_bytes()
    again = explain(finished, GLYPHS, out=out, settings=SMALL)
    assert (out / "explain.json").read_bytes() == told
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.lead == explained.lead


@pytest.mark.usefixtures("no_page")
def test_explanations_do_not_depend_on_when_they_are_made(
    explained: Explanation, finished: Path, tmp_path: Path
) -> None:
    again = explain(finished, GLYPHS, out=tmp_path / "why", settings=SMALL)
    assert again.numbers == explained.numbers


def test_explain_json_is_what_the_object_holds(explained: Explanation) -> None:
    told = read_json(explained.folder / "explain.json")
    assert told["schema"] == 1
    assert told == json.loads(json.dumps(explained.to_dict()))
    loaded = Explanation.load(explained.folder)
    assert loaded.numbers == explained.numbers and loaded.conclusions == explained.conclusions


def test_pictures_show_the_evidence_of_every_arm(explained: Explanation) -> None:
    pictures = explained.pictures
    count = len(pictures["images"])
    for arm in explained.arms:
        maps = pictures[f"evidence/{arm['name']}"]
        assert maps.shape == (count, 8, 8) and maps.min() >= 0 and maps.max() <= 1
        hidden = (pictures[f"hidden/{arm['name']}"] != pictures["images"]).any(axis=-1).mean(axis=(1, 2))
        assert (hidden <= 0.25 + 1e-9).all() and hidden.max() > 0.2


def test_a_study_holds_a_short_explanation(finished: Path) -> None:
    why = Explanation.load(finished / "why")
    assert {row.measure for row in why.numbers} == {"features", "views", "lottery"}
    assert "why" in (finished / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_two_runs_on_photos(runs: Path, pictures: Path, tmp_path: Path) -> None:
    found = explain([runs / "ft", runs / "scratch"], str(pictures / "labelled"), out=tmp_path, settings=tiny())
    assert {arm["name"] for arm in found.arms} >= {"mae", "scratch", "scratch-erased", "mae encoder"}
    assert "features" not in {row.measure for row in found.numbers}
    notes = " ".join(found.notes)
    assert "known of glyphs only" in notes and "different seeds" in notes
    assert all(row.count == 1 and row.low is None for row in found.numbers if row.over == "seeds")
    assert found.select(measure="interactions", quantity="found by") and found.warnings == []
    assert "it needs 4 classes" in notes
    assert {conclusion.verdict for conclusion in found.conclusions} == {"open"}  # there is one seed


@pytest.mark.usefixtures("no_page")
def test_two_runs_of_one_kind_are_named_by_their_folders(runs: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "scratch", tmp_path / "other")
    data, out = str(pictures / "labelled"), tmp_path / "why"
    found = explain([runs / "scratch", tmp_path / "other"], data, out=out, settings=tiny())
    assert [arm["name"] for arm in found.arms[:2]] == ["scratch", "other"]
    (gap,) = {
        row.value for row in found.select(measure="views", quantity="views", arm="scratch - other", filling="mean")
    }
    assert gap == 0  # it is the same network
    assert any("neither arm was pretrained" in note for note in found.notes)
    assert [arm["about"] for arm in found.arms[:2]] == ["trained from scratch"] * 2
    told = " ".join([found.lead, *(conclusion.text for conclusion in found.conclusions)])
    assert "networks of scratch" in told and "networks of other" in told and "pretrained" not in told.lower()


@pytest.mark.usefixtures("no_page")
def test_a_network_without_a_map_falls_back_to_occlusion_and_says_so(
    runs: Path, pictures: Path, tmp_path: Path
) -> None:
    settings = replace(tiny(), measures=("views",), controls=False)
    found = explain([runs / "coarse", runs / "scratch"], str(pictures / "labelled"), out=tmp_path, settings=settings)
    assert {arm["name"]: arm["evidence"] for arm in found.arms}["coarse"] == "occlusion"
    assert any("occlusion" in note for note in found.notes)
    assert any("not asked for" in note for note in found.notes)


def tiny() -> ExplainSettings:
    """For the pictures, of which four are test images."""
    return replace(SMALL, test_images=4, interaction_images=4, regions=2)


def test_of_images_that_may_have_been_trained_on_the_page_warns(runs: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "labelled", tmp_path / "other")
    next((tmp_path / "other" / "okapi").iterdir()).unlink()  # other data, then, of which nobody knows who saw them
    data, settings = str(tmp_path / "other"), replace(tiny(), measures=("views",))
    found = explain([runs / "ft", runs / "scratch"], data, out=tmp_path / "why", settings=settings)
    (warning,) = found.warnings
    assert "2 of 2 runs" in warning and "too good" in warning
    page = (tmp_path / "why" / "report.html").read_text()
    assert page.index(found.lead) < page.index("too good") < page.index("Who is compared")


def test_of_images_that_a_pretraining_saw_the_page_warns(runs: Path, pictures: Path, tmp_path: Path) -> None:
    data = str(pictures / "labelled")
    cnn, training = EncoderSettings("cnn", width=4), FinetuneTrainingSettings(epochs=1, batch_size=8)
    every = PretrainSettings(
        encoder=cnn,
        training=PretrainTrainingSettings(epochs=1, batch_size=8),
        data=DataSettings(transductive=True),
        runtime=RUNTIME,
    )
    pretrain(data, out=tmp_path / "mae", settings=every)
    settings = FinetuneSettings(origin=str(tmp_path / "mae"), training=training, runtime=RUNTIME)
    finetune(data, out=tmp_path / "ft", settings=settings)
    views = replace(tiny(), measures=("views",), controls=False)
    found = explain([tmp_path / "ft", runs / "scratch"], data, out=tmp_path / "why", settings=views)
    assert any(warning.startswith("10 of 10 test images") for warning in found.warnings)


# what is refused -------------------------------------------------------------------------------------------------


def refused(runs: list[Path], data: str, out: Path, settings: ExplainSettings = SMALL) -> str:
    with pytest.raises(WhymaskError) as error:
        explain(runs, data, out=out, settings=settings)
    assert not out.exists() or not any(out.iterdir())
    return str(error.value)


def test_runs_of_other_classes(finished: Path, pictures: Path, runs: Path, tmp_path: Path) -> None:
    glyph_run = finished / "cells" / "scratch-2-0"
    assert "class 0" in refused([runs / "ft", glyph_run], str(pictures / "labelled"), tmp_path / "why")


def test_runs_of_other_sizes(runs: Path, pictures: Path, tmp_path: Path) -> None:
    data = str(pictures / "labelled")
    settings = FinetuneSettings(
        training=FinetuneTrainingSettings(epochs=1), encoder=EncoderSettings("cnn", width=4), runtime=RUNTIME
    )
    finetune(data, out=tmp_path / "large", settings=replace(settings, data=replace(settings.data, size=32)))
    message = refused([runs / "ft", tmp_path / "large"], data, tmp_path / "why", tiny())
    assert "32x32" in message and "24x24" in message


def test_a_run_without_a_classifier(runs: Path, pictures: Path, tmp_path: Path) -> None:
    message = refused([runs / "mae", runs / "scratch"], str(pictures / "labelled"), tmp_path / "why")
    assert "no finished classifier" in message and "whymask finetune" in message
    assert "no such folder" in refused([tmp_path / "nothing"], str(pictures / "labelled"), tmp_path / "why")


def test_fewer_images_than_regions_need(runs: Path, pictures: Path, tmp_path: Path) -> None:
    settings = replace(tiny(), regions=8)
    assert "4 test images" in refused(
        [runs / "ft", runs / "scratch"], str(pictures / "labelled"), tmp_path / "w", settings
    )
    with pytest.raises(WhymaskError, match="13 regions were given; 2 to 12 were expected"):
        replace(tiny(), regions=13)


def test_images_that_were_split_otherwise(runs: Path, pictures: Path, tmp_path: Path) -> None:
    """Grouped by their first digit, other images are test images than in the runs' training."""
    settings = replace(tiny(), data=DataSettings(group_by=r"/(\d)"))
    message = refused([runs / "ft", runs / "scratch"], str(pictures / "labelled"), tmp_path / "why", settings)
    assert "may have been trained on some of these" in message and "--group-by" in message


def test_several_processes(runs: Path, pictures: Path, tmp_path: Path) -> None:
    settings = replace(tiny(), runtime=replace(RUNTIME, devices=2))
    both = [runs / "ft", runs / "scratch"]
    assert "--devices 2" in refused(both, str(pictures / "labelled"), tmp_path / "why", settings)


def test_a_single_class(runs: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "labelled" / "okapi", tmp_path / "one" / "okapi")
    assert "taken for no class" in refused([runs / "ft", runs / "scratch"], str(tmp_path / "one"), tmp_path / "why")


def test_one_arm_or_three(finished: Path, tmp_path: Path) -> None:
    cells = finished / "cells"
    with pytest.raises(WhymaskError, match="two were expected"):
        two_arms(open_runs([cells / "scratch-2-0"]))
    with pytest.raises(WhymaskError, match="two were expected"):
        two_arms(open_runs([cells / name for name in ("scratch-2-0", "mae-2-0", "scratch-long-2-0")]))
    with pytest.raises(WhymaskError, match="one a seed"):
        two_arms(open_runs([cells / name for name in ("scratch-2-0", "mae-2-0", "mae-5-0")]))


def test_unknown_measures_are_refused() -> None:
    with pytest.raises(WhymaskError, match="features"):
        ExplainSettings(measures=("magic",))  # type: ignore[arg-type]


# the command, and the truth --------------------------------------------------------------------------------------


def test_the_command(finished: Path, tmp_path: Path, whymask: Callable[..., Any]) -> None:
    code = whymask(
        "explain", finished, "--data", GLYPHS, "--out", tmp_path / "why", "--measures", "lottery", "--no-controls",
        "--threads", "1",
    )  # fmt: skip
    assert not code
    assert (tmp_path / "why" / "report.html").exists()


def test_views_tell_what_a_network_can_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small version of experiments/agreement.py: one network, half of whose classes show one feature only."""
    truth = make_truth(Glyphs(train=1000, test=200), seed=0)
    network = train(truth, ENCODERS["cnn"], seed=0, epochs=10, out=tmp_path / "network")
    kept: list[dict[str, np.ndarray]] = []

    def measured_once(*given: Any) -> dict[str, np.ndarray]:
        kept.extend([] if kept else [measured(*given)])
        return dict(kept[0])

    monkeypatch.setattr("experiments.agreement.measured", measured_once)
    found = agreement(network, truth, images=200, interaction_images=50)
    assert found["accuracy_one_feature"] > 0.8 and found["accuracy_two_features"] > 0.8
    assert found["views, mean"] >= 0.8 and found["views, patches"] >= 0.8
    shuffled = replace(truth, two=np.roll(truth.two, 1))
    assert agreement(network, shuffled, 200, 50)["views, mean"] < found["views, mean"]


# in a study ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_page", "undrawn")
def test_a_study_whose_networks_changed_is_explained_anew(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    told = read_json(out / "why" / "config.json")
    told["config"]["runs"]["mae"] = told["config"]["runs"]["mae"][:1]
    (out / "why" / "config.json").write_text(json.dumps(told))
    (out / "why" / "old").write_text("")
    study(GLYPHS, out=out, settings=tiny_settings())
    assert not (out / "why" / "old").exists()
    assert len(Explanation.load(out / "why").arms[0]["seeds"]) == 2


@pytest.mark.usefixtures("undrawn")
def test_an_explanation_that_fails_costs_a_study_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("no memory")

    shutil.copytree(finished, tmp_path / "study", ignore=shutil.ignore_patterns("why"))
    monkeypatch.setattr(importlib.import_module("whymask.studies.why"), "explain_arms", broken)
    assert study(GLYPHS, out=tmp_path / "study", settings=tiny_settings())["verdict"]
    assert "no explanation: RuntimeError: no memory" in capsys.readouterr().err
    assert 'id="why"' not in (tmp_path / "study" / "report.html").read_text()


def test_a_study_can_be_left_unexplained(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "study", ignore=shutil.ignore_patterns("why"))
    study(GLYPHS, out=tmp_path / "study", settings=tiny_settings(), explain=False)
    assert not (tmp_path / "study" / "why").exists()
