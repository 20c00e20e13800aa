"""Starts from given weights, each an arm of its own architecture, and which of all is the road to take."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ttest_rel

from pages import undrawn, words_of
from tiny import GLYPHS, new_encoder, tiny_settings
from whymask import cli, finetune, predict, study
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_arrays, write_record
from whymask.encoders import EncoderSettings, save_encoder
from whymask.errors import WhymaskError
from whymask.flags import flags_of
from whymask.methods.settings import SparKSettings
from whymask.mistakes import method_of
from whymask.stages.record import read_record
from whymask.stages.settings import PretrainTrainingSettings
from whymask.stages.start import POOL
from whymask.stages.taken import seen_texts
from whymask.studies.equal_compute import unequal_compute
from whymask.studies.given import interpolation_of, square_of
from whymask.studies.own import study_encoder
from whymask.studies.page import write_study_page
from whymask.studies.result import StudyResult
from whymask.studies.roads import LEVEL, holm, p_over_images, p_over_seeds, road_text, roads
from whymask.studies.settings import StudySettings
from whymask.tasks import Classification, Regression

MEAN, STD = (0.25,), (0.5,)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two starts: own/, a run's encoder that is scratch's of seed 0, with 3 test images in its pool, and vit/, a folder
    as timm leaves it."""
    root = tmp_path_factory.mktemp("weights")
    prepared = prepare(GLYPHS, DataSettings(), multiple_of=4)
    prep = prepared.images.preprocessing
    save_encoder(new_encoder(EncoderSettings(width=4), prep.size, prep.channels), prep, root / "own")
    write_arrays(root / "own" / POOL, {"hashes": prepared.images.hashes[prepared.test[:3]]})
    torch.manual_seed(1)
    net = timm.create_model("test_vit", num_classes=3, in_chans=1, img_size=32, patch_size=8)
    (root / "vit").mkdir()
    save_file(net.state_dict(), root / "vit" / "model.safetensors")
    cfg = {"input_size": [1, 32, 32], "mean": MEAN, "std": STD, "license": "cc-by-4.0"}
    about = {"architecture": "test_vit", "pretrained_cfg": cfg, "model_args": {"img_size": 32, "patch_size": 8}}
    (root / "vit" / "config.json").write_text(json.dumps(about))
    return root


@pytest.fixture(scope="module")
def out(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of one seed with all kinds of starts."""
    out = tmp_path_factory.mktemp("starts") / "study"
    with undrawn():
        study(GLYPHS, out=out, settings=all_kinds(weights), explain=False)
    return out


def all_kinds(weights: Path) -> StudySettings:
    starts = ("scratch", "mae", f"init={weights / 'own'}", f"continue={weights / 'vit'}", f"frozen={weights / 'vit'}")
    return tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none", starts=starts)


@pytest.fixture(scope="module")
def table(out: Path) -> dict[str, Any]:
    return read_json(out / "study.json")


def predictions(folder: Path) -> np.ndarray:
    return np.load(folder / "predictions.npz")["log_probabilities"]


def test_every_start_is_an_arm(table: dict[str, Any]) -> None:
    arms = [cell["arm"] for cell in table["cells"]]
    assert arms == ["scratch", "mae", "init=own", "continue=vit", "frozen=vit"]
    assert [row["method"] for row in table["pretraining"]] == ["mae", "continue=vit"]
    assert {row["arm"] for row in table["pairs"]} == {"mae", "init=own", "continue=vit", "frozen=vit"}
    about = table["setting"]["arms"]
    assert {name: row["network"] for name, row in about.items()} == {
        **dict.fromkeys(("scratch", "mae", "init=own"), "plain_cnn"),
        **dict.fromkeys(("continue=vit", "frozen=vit"), "test_vit"),
    }
    assert "cc-by-4.0" in about["frozen=vit"]["weights"]
    assert "trained by whymask; begun with new weights" in about["init=own"]["weights"]
    assert "not stated" not in about["init=own"]["weights"]
    assert about["frozen=vit"]["train"] == "head" != about["continue=vit"]["train"]


def test_weights_that_are_scratchs_give_what_scratch_gives(out: Path) -> None:
    cells = out / "cells"
    assert np.array_equal(predictions(cells / "init=own-2-0"), predictions(cells / "scratch-2-0"))


def test_a_frozen_start_keeps_its_weights_and_its_own_standardisation(out: Path, weights: Path) -> None:
    there = load_file(weights / "vit" / "model.safetensors")
    left = load_file(out / "cells" / "frozen=vit-2-0" / "encoder" / "encoder.safetensors")
    assert left.keys() == there.keys() - {"head.weight", "head.bias"}
    assert all(torch.equal(tensor, there[name]) for name, tensor in left.items())
    prep = read_json(out / "cells" / "frozen=vit-2-0" / "encoder" / "encoder.json")["preprocessing"]
    assert (tuple(prep["mean"]), tuple(prep["std"])) == (MEAN, STD)
    assert set(read_json(out / "cells" / "frozen=vit-2-0" / "result.json")["knn"]) >= {"accuracy", "balanced_accuracy"}


def test_weights_whose_pretraining_saw_test_images_are_told_and_shown(
    table: dict[str, Any], out: Path, weights: Path, tmp_path: Path, capsys: Any
) -> None:
    study(GLYPHS, out=tmp_path / "study", settings=all_kinds(weights), explain=False, plan=True)
    tested = len(predictions(out / "cells" / "scratch-2-0"))
    told = f"warning: --starts init={weights / 'own'}: 3 of {tested} test images were in its pretraining"
    said = capsys.readouterr().err
    assert told in said and "verdict: single-view accuracy at 2, 1 seed\n" in said
    seen = {name: row.get("test_images_seen") for name, row in table["setting"]["arms"].items()}
    assert {name: count for name, count in seen.items() if count} == {"init=own": 3}
    page = words_of((out / "report.html").read_text(encoding="utf-8"))
    assert "3 of the test images were in its pretraining" in page
    beside = f"Mind: 3 of {tested} test images were in the pretraining of the weights of init=own, without their labels"
    assert page.index("Cannot tell") < page.index(beside) < page.index("What now")
    assert beside in repr(StudyResult(table)) and beside in StudyResult(table)._repr_html_()
    assert [text[: len(beside)] for text in seen_texts(table)] == [beside]


@pytest.mark.usefixtures("undrawn")
def test_a_study_does_not_go_on_with_other_weights_of_the_same_name(out: Path, weights: Path, tmp_path: Path) -> None:
    there, file = shutil.copytree(out, tmp_path / "study"), weights / "vit" / "model.safetensors"
    before = file.read_bytes()
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(WhymaskError, match=r"weights of continue=vit: .* there, .* now"):
        study(GLYPHS, out=there, settings=all_kinds(weights), explain=False)
    file.write_bytes(before)
    config = read_json(there / "config.json")
    assert {name for name in config["config"] if name.startswith("weights of ")} == {
        *("weights of init=own", "weights of continue=vit", "weights of frozen=vit")
    }
    earlier = {name: value for name, value in config["config"].items() if not name.startswith("weights of ")}
    write_record(there / "config.json", config | {"config": earlier})
    study(GLYPHS, out=there, settings=all_kinds(weights), explain=False)


def test_images_are_of_whole_patches_of_every_start(weights: Path) -> None:
    asked = tiny_settings(encoder=EncoderSettings("vit", patch=6), starts=("mae", f"frozen={weights / 'vit'}"))
    assert square_of(asked) == 24 and square_of(tiny_settings()) == 4


def test_images_are_resized_as_all_given_weights_were_trained(weights: Path, tmp_path: Path, capsys: Any) -> None:
    folders = []
    for name in ("bilinear", "lanczos"):
        folder = shutil.copytree(weights / "vit", tmp_path / name)
        about = json.loads((folder / "config.json").read_text())
        about["pretrained_cfg"]["interpolation"] = name
        (folder / "config.json").write_text(json.dumps(about))
        folders.append(folder)
    one, other = folders
    assert interpolation_of(tiny_settings(starts=(f"init={one}", f"frozen={one}", "mae"))) == "bilinear"
    assert interpolation_of(tiny_settings(starts=(f"init={one}", f"frozen={weights / 'vit'}"))) == "bilinear"
    assert capsys.readouterr().err == ""
    assert interpolation_of(tiny_settings(starts=(f"init={one}", f"frozen={other}"))) is None
    assert "trained on images resized bilinear and lanczos; here all see them bicubic" in capsys.readouterr().err
    assert interpolation_of(tiny_settings()) is None


def test_a_continued_start_is_pretrained_further_first(out: Path, weights: Path) -> None:
    pretrained = read_record(out / "cells" / "pretrain-continue=vit-0")
    assert (pretrained.origin, pretrained.method) == (str(weights / "vit"), "mae")
    finetuned = read_record(out / "cells" / "continue=vit-2-0")
    assert (finetuned.origin, finetuned.method) == ("../pretrain-continue=vit-0", "mae")
    there = load_file(weights / "vit" / "model.safetensors")
    left = load_file(out / "cells" / "pretrain-continue=vit-0" / "encoder" / "encoder.safetensors")
    moved = [float((left[name] - there[name]).abs().max()) for name in left]
    assert 0 < max(moved) < 0.1


def test_the_page_says_which_road_and_hides_the_names_of_files(table: dict[str, Any], out: Path) -> None:
    (road,) = table["roads"]
    assert road["labels_per_class"] == 2 and len(road["comparisons"]) == 10
    assert not any(row["counts"] for row in road["comparisons"])  # of one seed nothing is known
    assert set(road["neighbours"]) == {"frozen=vit"}
    page = words_of((out / "report.html").read_text(encoding="utf-8"))
    assert road["text"] in page and "test_vit" in page
    hidden = write_study_page(out, names=False).read_text(encoding="utf-8")
    write_study_page(out)
    assert "continue=1" in hidden and "=vit" not in hidden and "=own" not in hidden


@pytest.mark.usefixtures("undrawn")
def test_given_weights_alone_are_a_study_and_are_used(weights: Path, tmp_path: Path) -> None:
    starts = (f"frozen={weights / 'vit'}",)
    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), starts=starts)
    plan = study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False, plan=True)["plan"]
    assert plan["pretraining_images_per_second"] is None  # nor is a step of it timed
    found = study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    assert [cell["arm"] for cell in found["cells"]] == ["scratch", "frozen=vit"] and not found["pretraining"]
    assert found["setting"]["leading"] == "frozen=vit"
    rows = predict(tmp_path / "study", GLYPHS, out=tmp_path / "found.csv")
    assert len(rows) and read_record(tmp_path / "study" / "cells" / "frozen=vit-2-0").arm == "frozen=vit"
    with pytest.raises(WhymaskError, match="--hours 1 was given; it fits how long to pretrain"):
        study(GLYPHS, out=tmp_path / "other", settings=settings, hours=1)


@pytest.mark.usefixtures("undrawn")
def test_several_methods_are_arms_as_dear_as_each_other_and_as_scratch_long(tmp_path: Path) -> None:
    pretrain = PretrainTrainingSettings(epochs=6, batch_size=32)
    settings = tiny_settings(seeds=1, budgets=("5",), worth_budgets=(), scratch_long="all", pretrain=pretrain)
    settings = replace(settings, starts=("simmim", "spark"), spark=SparKSettings(mask_ratio=0.5))
    table = study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    assert [cell["arm"] for cell in table["cells"]] == ["scratch", "simmim", "spark", "scratch-long"]
    assert table["verdict"]["text"].count("simmim") and len(table["roads"][0]["comparisons"]) == 3
    first, other = (read_record(tmp_path / "study" / row["folder"]) for row in table["pretraining"])
    assert (first.method, other.method) == ("simmim", "spark") and other.method_settings["mask_ratio"] == 0.5
    assert first.training["epochs"] == 6 != other.training["epochs"]
    spent = [row["operations"] for row in table["pretraining"]]
    assert abs(spent[1] - spent[0]) <= spent[1] / other.training["epochs"] / 2
    assert read_record(tmp_path / "study" / "cells" / "spark-5-0").method == "spark"
    assert unequal_compute(table, by_hours=False) is None
    epochs = {record.method: record.training["epochs"] for record in (first, other)}
    assert table["setting"]["method_epochs"] == epochs
    with pytest.raises(WhymaskError, match=r"1 epoch of spark cost .* times what 1 of simmim cost; give more"):
        study(GLYPHS, settings=replace(settings, pretrain=replace(pretrain, epochs=1)), out=tmp_path / "none")
    again = study(GLYPHS, out=tmp_path / "study", settings=settings, explain=False)
    assert again["levels"] == table["levels"]


@pytest.mark.parametrize(
    ("starts", "encoder", "said"),
    [
        (("spark", "ijepa"), "auto", "no kind of encoder fits all of them: spark pretrains cnn; ijepa pretrains vit"),
        (("mae", "spark"), "vit", "method 'spark' does not fit encoder 'vit'"),
    ],
)
def test_methods_of_no_common_encoder_are_refused(starts: tuple[str, ...], encoder: str, said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        study_encoder(StudySettings(starts=starts, encoder=EncoderSettings(encoder)))
    assert study_encoder(StudySettings(starts=("mae", "ijepa"))).name == "vit"


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        (("maae",), "--starts maae: expected scratch, a method"),
        (("finish=x",), "--starts finish=x: expected"),
        (("init=",), "--starts init=: expected"),
        (("mae", "spark", "mae"), "names mae twice"),
        (("scratch",), "nothing to compare with it"),
        (("init=a/x", "init=b/x"), "names init=x twice"),
    ],
)
def test_starts_that_are_none_are_refused(starts: tuple[str, ...], said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        StudySettings(starts=starts)


def test_a_method_among_the_starts_is_the_studys() -> None:
    assert StudySettings(starts=("scratch", "data2vec")).method == "data2vec"
    assert StudySettings(starts=("init=x",)).methods == [] and StudySettings(method="spark").methods == ["spark"]
    assert StudySettings(starts=("simmim", "init=x", "mae")).methods == ["simmim", "mae"]
    flags = flags_of(cli.COMMANDS["study"])
    assert method_of(flags, ["study", "x", "--starts", "scratch", "data2vec", "--seeds", "3"]) == "data2vec"
    assert method_of(flags, ["study", "x", "--starts", "init=y", "--out", "mae"]) == "mae"


def test_weights_that_are_not_there_or_do_not_fit_are_told_before_an_image_is_decoded(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (partial := tmp_path / "partial").mkdir()
    shutil.copy(weights / "vit" / "config.json", partial)
    there = load_file(weights / "vit" / "model.safetensors")
    save_file({name: there[name] for name in there if "blocks.1" not in name}, partial / "model.safetensors")
    (unknown := tmp_path / "unknown").mkdir()
    save_file(there, unknown / "model.safetensors")

    def decodes(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("whymask.data.prepare.open_images", decodes)
    for starts, said in (
        (f"init={tmp_path / 'none'}", "--starts init=X: no such file or folder"),
        (f"frozen={weights / 'vit'}", "--starts frozen=X: .* for images of 1 channels, and these have 3"),
        (f"init={partial}", "--starts init=X: weights in .* missing: blocks.1"),
        (f"init={unknown}", "--starts init=X: nothing beside the weights says"),
    ):
        origin = starts.partition("=")[2]
        settings = tiny_settings(starts=(starts,), data=DataSettings(channels=3 if "frozen" in starts else 1))
        with pytest.raises(WhymaskError) as refused:
            study(GLYPHS, out=tmp_path / "study", settings=settings)
        assert re.match(said, str(refused.value).replace(origin, "X", 1)), str(refused.value)
        assert f"{origin}: {origin}:" not in str(refused.value) and not (tmp_path / "study").exists()
    with pytest.raises(WhymaskError, match=r"missing: blocks\.1"):
        finetune(GLYPHS, origin=partial, out=tmp_path / "run")


# the statistics ------------------------------------------------------------------------------------------------


def test_holm_on_a_worked_example() -> None:
    """By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04, which may not be smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


def test_p_over_seeds_is_students() -> None:
    random = np.random.default_rng(0)
    arm, other = (dict(enumerate(random.normal(size=5))) for _ in range(2))
    expected = ttest_rel(list(arm.values()), list(other.values())).pvalue
    assert p_over_seeds(arm, other) == pytest.approx(expected)
    assert p_over_seeds({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.1}) == 1.0
    assert p_over_seeds(dict.fromkeys(range(3), 0.5), dict.fromkeys(range(3), 0.5)) == 1.0


def test_p_over_images_is_how_often_the_sign_changes() -> None:
    drawn = np.array([0.1] * 990 + [-0.1] * 10)
    assert p_over_images(drawn) == p_over_images(-drawn) == pytest.approx(2 * 11 / 1001)
    assert p_over_images(np.zeros(100)) == 1.0


def test_chance_is_seldom_taken_for_a_difference() -> None:
    """Of 400 studies of five starts that are all alike, at most some 5 % have any pair that counts."""
    random, about = np.random.default_rng(0), Classification(("a", "b")).describe("accuracy")
    wrong = 0
    for _ in range(400):
        arms = {name: dict(enumerate(0.8 + 0.02 * random.normal(size=5))) for name in "abcde"}
        pairs = {(one, other): None for one in arms for other in arms}
        wrong += any(row["counts"] for row in roads(arms, about, pairs)["comparisons"])
    assert wrong / 400 < LEVEL + 0.03


def test_the_best_start_is_named_with_what_it_beats_and_what_it_does_not() -> None:
    task = Classification(("a", "b"))
    about, seeds = task.describe("accuracy"), range(5)
    arms = {
        "scratch": {seed: 0.5 + 0.01 * seed for seed in seeds},
        "mae": {seed: 0.8 + 0.011 * seed for seed in seeds},
        "init=x": {seed: 0.81 + 0.01 * ((3 * seed) % 5) for seed in seeds},
    }
    pairs = {(one, other): np.full(2000, 0.1) for one in arms for other in arms}
    road = roads(arms, about, pairs) | {"labels_per_class": 10}
    said = road_text(road, about, task)
    assert said == (
        "At 10 labels a class init=x has the best mean, 0.830 accuracy. It is better than scratch (+0.310, 95 % "
        "interval 0.290 to 0.330 over 5 seeds): p over seeds and over test images, corrected by Holm for 3 "
        "comparisons, is below 0.05. It is not shown to be better than mae (+0.008, 95 % interval -0.013 to 0.029 "
        "over 5 seeds): there p is not below 0.05."
    )
    turned = roads(dict(reversed(arms.items())), about, {key[::-1]: drawn for key, drawn in pairs.items()})
    assert road_text(turned | {"labels_per_class": 10}, about, task) == said, "in whatever order starts were given"
    images = {key: np.random.default_rng(0).normal(size=2000) for key in pairs}
    assert not any(row["counts"] for row in roads(arms, about, images)["comparisons"])


def test_with_few_seeds_nothing_is_compared() -> None:
    task = Classification(("a", "b"))
    about = task.describe("accuracy")
    for seeds, said in ((1, "With 1 seed nothing is compared"), (2, "With 2 seeds nothing is compared")):
        arms = {"scratch": dict.fromkeys(range(seeds), 0.5), "mae": dict.fromkeys(range(seeds), 0.8)}
        text = road_text(roads(arms, about, {("scratch", "mae"): None}) | {"labels_per_class": 10}, about, task)
        assert text == f"At 10 labels a class mae has the best mean, 0.800 accuracy. {said}; 3 or more are needed."
    arms = {
        "scratch": {seed: 0.5 + 0.01 * seed for seed in range(3)},
        "mae": {seed: 0.6 + 0.01 * seed for seed in range(2)},
        "init=x": dict.fromkeys(range(3), 0.8),
    }
    pairs = {(one, other): None for one in arms for other in arms}
    text = road_text(roads(arms, about, pairs) | {"labels_per_class": 10}, about, task)
    assert "better than scratch (+0.290, 95 % interval 0.265 to 0.315 over 3 seeds): p" in text
    assert text.endswith("It is not compared with mae, for fewer than 3 seeds are shared.")
    few = arms | {"mae": arms["mae"] | {2: 0.62}, "init=x": {0: 0.8}}
    text = road_text(roads(few, about, pairs) | {"labels_per_class": 10}, about, task)
    assert text.endswith("0.800 accuracy. It is not compared with scratch and mae, for fewer than 3 seeds are shared.")


def test_a_lower_error_is_better() -> None:
    task = Regression(("age",))
    about = task.describe("mean_absolute_error")
    arms = {"scratch": {seed: 3 + 0.1 * seed for seed in range(3)}, "mae": {seed: 2 + 0.11 * seed for seed in range(3)}}
    road = roads(arms, about, {("scratch", "mae"): np.full(2000, 1.0)}) | {"labels_per_class": 10}
    said = road_text(road, about, task)
    assert "mae has the best mean, 2.11" in said and "It is better than scratch (-0.99, 95 % interval" in said
