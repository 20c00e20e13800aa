"""Of several classes an image, networks are asked about one: is it there or not. Of numbers there is nothing to ask."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tiny import bars, runtime, small_explanation
from whymask import Explanation, FinetuneSettings, PretrainSettings, WhymaskError, explain, finetune, pretrain
from whymask.data.batches import in_order
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.explanations.cast import Cast
from whymask.explanations.choice import choose_images
from whymask.explanations.evidence import evidence
from whymask.explanations.networks import open_runs, two_arms
from whymask.explanations.readout import ABSENT, fit_readout
from whymask.explanations.settings import NAMES
from whymask.stages.context import Context
from whymask.stages.network import load_classifier
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.studies import why
from whymask.tasks import Classification, Multilabel, Regression
from whymask.training.device import make_fabric

RUNTIME = runtime()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Of each task a pretrained and a scratch run of two seeds."""
    root = tmp_path_factory.mktemp("runs")
    cnn = EncoderSettings("cnn", width=4)
    once = PretrainTrainingSettings(epochs=1, batch_size=32)
    pretrain(
        bars("multilabel"),
        out=root / "mae",
        settings=PretrainSettings(encoder=cnn, training=once, runtime=RUNTIME),
    )
    training = FinetuneTrainingSettings(epochs=6, batch_size=16, learning_rate=3e-3)
    made: dict[str, list[Path]] = {}
    for task, seeds in (("multilabel", 2), ("regression", 1)):
        for seed in range(seeds):
            settings = FinetuneSettings(training=training, seed=seed, augment="none", runtime=RUNTIME)
            own = [root / f"{task}-{kind}-{seed}" for kind in ("ft", "scratch")]
            finetune(bars(task), out=own[0], settings=replace(settings, origin=str(root / "mae")))
            finetune(bars(task), out=own[1], settings=replace(settings, encoder=cnn))
            made.setdefault(task, []).extend(own)
    return made


@pytest.fixture(scope="module")
def explained(runs: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    """By every measure, of class 1."""
    out = tmp_path_factory.mktemp("why") / "why"
    settings = replace(small_explanation(), label="1")
    return explain(runs["multilabel"], bars("multilabel"), out=out, settings=settings)


def cast_of(runs: list[Path], label: str | None = None) -> Cast:
    prepared = prepare(bars("multilabel"), DataSettings())
    return Cast.of(Context(make_fabric(RUNTIME), prepared), two_arms(open_runs(runs)), label)


def test_a_class_of_several_is_explained_by_every_measure(explained: Explanation) -> None:
    assert {row.measure for row in explained.numbers} == set(NAMES) - {"features", "known-views"}
    assert {arm["role"] for arm in explained.arms} == {
        "pretrained", "baseline", "erased", "readout", "random", "shuffled",
    }  # fmt: skip
    assert explained.lead.startswith("Does an image show 1? Whether pretrained networks recognise an image by more ")
    assert explained.setting["label"] == "1" and explained.setting["classes"] == ["no 1", "1"]
    page = (explained.folder / "report.html").read_text()
    assert "Does an image show 1?" in page
    assert set(explained.pictures["labels"].tolist()) == {0, 1}


def test_accuracy_is_how_often_presence_and_absence_are_told(
    explained: Explanation, runs: dict[str, list[Path]]
) -> None:
    """The numbers are those of the run's own log odds of the class, on the images that were shown."""
    found = {
        (row.arm, row.seed): row.value
        for row in explained.select(measure="robustness", quantity="accuracy")
        if row.seed is not None and " - " not in row.arm
    }
    cast = cast_of(runs["multilabel"], "1")
    rows = choose_images(cast.prepared, None, small_explanation())
    batch = next(in_order(cast.context.prepared.images, rows, 1000))
    for seed in range(2):
        for place, arm in enumerate(("mae", "scratch")):
            model, _ = load_classifier(runs["multilabel"][2 * seed + place])
            with torch.inference_mode():
                says = model(batch.images)[:, 1] > 0
            right = (says == (batch.labels[:, 1] == 1)).double().mean()
            assert found[arm, seed] == pytest.approx(float(right))


def test_the_logits_differ_by_the_log_odds_and_both_have_evidence(runs: dict[str, list[Path]]) -> None:
    cast = cast_of(runs["multilabel"], "2")
    network = cast.networks["baseline"][0]
    batch = next(in_order(cast.context.prepared.images, cast.prepared.test, 20))
    model, _ = load_classifier(runs["multilabel"][1])
    with torch.inference_mode():
        expected = model(batch.images)[:, 2]
    logits = network(batch.images)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], expected)
    torch.testing.assert_close(logits.log_softmax(dim=1)[:, 1], torch.nn.functional.logsigmoid(expected))
    there, absent = (evidence(network, batch.images, torch.full((20,), c), (4, 4)) for c in (1, 0))
    torch.testing.assert_close(there, -absent)
    assert there.abs().max() > 0


def test_networks_beside_them_are_trained_on_all_classes_and_asked_about_one(
    explained: Explanation, runs: dict[str, list[Path]]
) -> None:
    for folder in (explained.folder / "controls").iterdir():
        told = read_json(folder / "head.json")
        assert (told["task"], told["classes"]) == ("multilabel", ["0", "1", "2"])
    cast = cast_of(runs["multilabel"])
    assert cast.prepared.task == Classification(("no 0", "0")) and isinstance(cast.context.prepared.task, Multilabel)
    assert cast.prepared.images.labels.shape == cast.context.prepared.images.labels.shape[:1]


def test_the_class_nearest_to_half_is_asked_about_unless_one_is_named() -> None:
    task = Multilabel(("seldom", "often", "always", "half"))
    test = np.arange(10)
    labels = np.array([[row < 2, row < 8, True, row < 5] for row in test]).astype(int)
    question = task.question(labels, test, None)
    assert question.about == "half" and "0.500 of the test images show it" in question.note
    assert question.labels.tolist() == labels[:, 3].tolist()
    named = task.question(labels, test, "often")
    assert named.about == "often" and not named.note and named.task.names == ("no often", "often")
    with pytest.raises(WhymaskError, match="--label cow was given; the classes are seldom, often"):
        task.question(labels, test, "cow")
    with pytest.raises(WhymaskError, match="all of the 10 test images show always"):
        task.question(labels, test, "always")


def test_a_question_is_asked_where_there_is_one(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    labels = np.array([0, 1])
    task = Classification(("a", "b"))
    assert task.question(labels, np.arange(2), None).task is task
    with pytest.raises(WhymaskError, match="--label a was given; each image is of one of 2 classes"):
        task.question(labels, np.arange(2), "a")
    with pytest.raises(WhymaskError, match="regression of age has no classes"):
        Regression(("age",)).question(np.ones((2, 1)), np.arange(2), None)
    with pytest.raises(WhymaskError, match="regression of target 0, target 1 has no classes"):
        explain(runs["regression"], bars("regression"), out=tmp_path / "why", settings=small_explanation())
    assert not (tmp_path / "why").exists()


def test_a_study_of_numbers_says_in_a_sentence_that_it_has_no_explanation(
    runs: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(why, "open_runs", lambda folders: open_runs(runs["regression"]))
    context = Context(make_fabric(RUNTIME), prepare(bars("regression"), DataSettings()))
    runner: Any = SimpleNamespace(out=tmp_path, context=context)
    why.explain_study(runner, bars("regression"), images=True, names=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "no explanation: regression of target 0, target 1 has no classes that a network could recognise" in said
    assert not (tmp_path / "why").exists()


@pytest.mark.usefixtures("undrawn")
def test_another_class_is_another_explanation(explained: Explanation, runs: dict[str, list[Path]]) -> None:
    data = bars("multilabel")
    again = replace(small_explanation(), label="1")
    assert explain(runs["multilabel"], data, out=explained.folder, settings=again).lead == explained.lead
    with pytest.raises(WhymaskError, match="label"):
        explain(runs["multilabel"], data, out=explained.folder, settings=replace(again, label="2"))


def test_names_stay_at_home(explained: Explanation, tmp_path: Path) -> None:
    copied = replace(explained, folder=Path(shutil.copytree(explained.folder, tmp_path / "why")))
    page = copied.write_page(names=False).read_text()
    assert "Does an image show" not in page and "no 1" not in page


def test_of_two_classes_a_readout_has_evidence_for_either() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 3))
    weight, bias = fit_readout(features, (features[:, 0] > 0).astype(int), 2)
    np.testing.assert_allclose(weight[0], -weight[1])
    assert bias[0] == -bias[1] and np.abs(weight[0]).max() > 0


def test_a_readout_of_a_single_class_says_it_of_everything() -> None:
    weight, bias = fit_readout(np.random.default_rng(0).normal(size=(8, 3)), np.ones(8, int), 2)
    assert not weight.any() and bias.tolist() == [ABSENT, 0]


def test_runs_of_another_task_are_refused(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    settings: Any = small_explanation()
    with pytest.raises(WhymaskError, match="give --task multilabel"):
        explain(runs["multilabel"], bars("classification"), out=tmp_path / "why", settings=settings)
