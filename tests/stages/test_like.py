"""`finetune` and `probe --like RUN` do as another run did, and `explain` says in what runs differ that were not."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiny import GLYPHS, runtime
from whymask import FinetuneSettings, PretrainSettings, WhymaskError, explain, finetune, pretrain, probe
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, load_encoder
from whymask.explanations import run as explaining
from whymask.stages.like import settings_like
from whymask.stages.record import read_record
from whymask.stages.settings import SCRATCH, FinetuneTrainingSettings, PretrainTrainingSettings, ProbeSettings
from whymask.stages.taken import data_of

RUNTIME = runtime()
OTHER_IMAGES = "these are not the images, labels and split of"


@pytest.fixture(scope="module")
def runs(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mae/, and tuned/ from it with settings of its own, at 16 pixels."""
    root = tmp_path_factory.mktemp("like")
    data = DataSettings(size=16, channels=1)
    begin = PretrainSettings(
        encoder=EncoderSettings("cnn", width=4),
        data=data,
        training=PretrainTrainingSettings(epochs=1, batch_size=8),
        runtime=RUNTIME,
    )
    pretrain(pictures / "photos", out=root / "mae", settings=begin)
    training = FinetuneTrainingSettings(epochs=2, batch_size=4, learning_rate=2e-3, layer_decay=0.5)
    settings = FinetuneSettings(
        origin=str(root / "mae"), budget="3", seed=2, augment="none", training=training, runtime=RUNTIME,
        data=DataSettings(test_share=0.3),
    )  # fmt: skip
    finetune(pictures / "labelled", out=root / "tuned", settings=settings)
    return root


def record_without(folder: Path, *names: str) -> dict[str, Any]:
    return {name: value for name, value in read_record(folder).to_dict().items() if name not in names}


def test_from_scratch_like_a_run_differs_in_where_weights_come_from_alone(
    runs: Path, pictures: Path, tmp_path: Path, capsys: Any
) -> None:
    finetune(
        pictures / "labelled",
        out=tmp_path / "scratch",
        settings=FinetuneSettings(like=str(runs / "tuned"), runtime=RUNTIME),
    )
    said = capsys.readouterr().err
    ours, theirs = read_record(tmp_path / "scratch"), read_record(runs / "tuned")
    begun = ("arm", "origin", "method", "method_settings", "training")
    assert record_without(tmp_path / "scratch", *begun) == record_without(runs / "tuned", *begun)
    assert (ours.arm, theirs.arm) == ("scratch", "mae") and ours.training is not None and theirs.training is not None
    assert ours.training | {"layer_decay": 0.5} == theirs.training and ours.training["layer_decay"] == 1
    assert load_encoder(tmp_path / "scratch").size == load_encoder(runs / "tuned").size == (16, 16)
    (line,) = (line for line in said.splitlines() if line.startswith(f"as in {runs / 'tuned'}: "))
    for part in ("budget 3", "seed 2", "augment none", "epochs 2", "learning rate 0.002", "size 16", "test share 0.3"):
        assert part in line
    assert (
        "encoder cnn" in line and "width 4" in line and "given otherwise" not in line and "warning: these" not in said
    )


def test_what_is_given_counts_and_is_said(runs: Path, capsys: Any) -> None:
    asked = FinetuneSettings(
        like=str(runs / "tuned"), seed=5, encoder=EncoderSettings("vit"), training=FinetuneTrainingSettings(epochs=7)
    )
    found = settings_like(asked)
    assert (found.seed, found.budget, found.training.epochs, found.training.batch_size) == (5, "3", 7, 4)
    assert found.encoder == asked.encoder and found.data.size == 16
    assert re.search(r"; given otherwise: .*seed 5", said := capsys.readouterr().err) and "epochs 7" in said


def test_weights_bring_their_own_encoder_and_size(runs: Path) -> None:
    asked = FinetuneSettings(like=str(runs / "tuned"), origin=str(runs / "mae"))
    found = settings_like(asked)
    assert found.encoder == asked.encoder and found.data.size is None and found.data.test_share == 0.3
    assert found.training.layer_decay == 0.5 and found.origin == asked.origin
    many = settings_like(replace(asked, training=FinetuneTrainingSettings(recipe="many")))
    assert many.training.recipe == "many" and many.training.mixup is None and many.training.epochs == 2


def test_a_probe_of_random_weights_like_a_pretraining_has_its_encoder_and_size(
    runs: Path, pictures: Path, tmp_path: Path, capsys: Any
) -> None:
    asked = ProbeSettings(origin=SCRATCH, like=str(runs / "mae"), runtime=RUNTIME)
    probe(pictures / "labelled", out=tmp_path / "probe", settings=asked)
    said = capsys.readouterr().err
    assert f"as in {runs / 'mae'}: " in said and "seen at 16x16 pixels, 1 channels" in said
    pretrained = read_record(runs / "mae")
    assert read_record(tmp_path / "probe").encoder == pretrained.encoder
    probe(pictures / "labelled", out=tmp_path / "mae", origin=str(runs / "mae"), runtime=RUNTIME)
    (random, learnt), shares = (read_record(tmp_path / name) for name in ("probe", "mae")), data_of(runs / "mae")
    assert random.data == learnt.data and shares["test_share"] == 0.2, "tested on the same images, not on a fifth"
    assert (random.budget, random.seed) == (learnt.budget, learnt.seed)
    tuned = settings_like(replace(asked, like=str(runs / "tuned"), neighbours=3))
    assert (tuned.budget, tuned.seed, tuned.neighbours, tuned.data.test_share) == ("3", 2, 3, 0.3)


def test_a_studys_cell_is_a_run_to_be_like(finished: Path) -> None:
    found = settings_like(FinetuneSettings(like=str(finished / "cells" / "mae-2-1")))
    assert (found.budget, found.seed, found.training.epochs, found.encoder.width) == ("2", 1, 2, 4)
    assert found.data.size == 32 and found.training.layer_decay == 1


def test_what_is_no_run_is_refused_and_other_images_are_warned_of(
    runs: Path, pictures: Path, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    with pytest.raises(WhymaskError, match="holds no finished classifier, but an encoder"):
        settings_like(FinetuneSettings(like=str(runs / "mae")))
    assert whymask("finetune", GLYPHS, "--like", tmp_path / "nowhere", "--out", tmp_path / "out") == 2
    assert "no such folder; give the folder of a finished run" in " ".join(capsys.readouterr().err.split())
    fewer = shutil.copytree(pictures / "labelled", tmp_path / "labelled")
    (fewer / "okapi" / "0.png").unlink()
    flags = ("--like", runs / "tuned", "--out", tmp_path / "out", "--device", "cpu", "--threads", 1)
    assert whymask("finetune", fewer, *flags) == 0
    assert OTHER_IMAGES in " ".join(capsys.readouterr().err.split())
    for like, are_others in (("tuned", True), ("mae", False)):
        probe(fewer, out=tmp_path / like, origin=SCRATCH, like=str(runs / like), runtime=RUNTIME)
        assert (OTHER_IMAGES in " ".join(capsys.readouterr().err.split())) == are_others


def test_explain_warns_of_unlike_runs_before_it_opens_an_image(
    runs: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def prepared(*arguments: Any, **named: Any) -> Any:
        raise InterruptedError

    monkeypatch.setattr(explaining, "prepare", prepared)
    labelled = pictures / "labelled"
    like = FinetuneSettings(like=str(runs / "tuned"), runtime=RUNTIME)
    finetune(labelled, out=tmp_path / "like", settings=like)
    other = FinetuneSettings(
        encoder=EncoderSettings("cnn", width=8), training=FinetuneTrainingSettings(epochs=1), seed=2, runtime=RUNTIME
    )
    finetune(labelled, out=tmp_path / "other", settings=other)

    def said_of(*given: Path) -> str:
        capsys.readouterr()
        with pytest.raises(InterruptedError):
            explain(given, labelled, out=tmp_path / "why")
        return str(capsys.readouterr().err)

    assert "warning" not in said_of(runs / "tuned", tmp_path / "like")
    said = said_of(runs / "tuned", tmp_path / "other")
    assert "warning: these runs differ in more than their first weights" in said and "--like RUN" in said
    lines = {line.strip().partition(":")[0]: line for line in said.splitlines() if line.startswith("  ")}
    for name, ours, theirs, flag in (
        ("size", "16x16", "24x24", "--size"),
        ("channels", "1", "3", "--channels"),
        ("encoder width", "4", "8", "--width"),
        ("labels to train on", "3", "all", "--budget"),
        ("epochs", "2", "1", "--epochs"),
        ("augmentation", "none", "crop-flip", "--augment"),
    ):
        assert lines[name] == f"  {name}: {ours} in {runs / 'tuned'}, {theirs} in {tmp_path / 'other'} ({flag})"
    assert "--test-share" in lines["images, labels or split"] and "layer decay" not in lines


def test_a_study_is_explained_without_a_warning_and_unlike_cells_with_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(explaining, "explain_arms", lambda *arguments, **named: None)
    assert read_json(finished / "study.json")["setting"]["method"] == "mae"
    explain(finished, GLYPHS, out=tmp_path / "why")
    explain(finished, GLYPHS, out=tmp_path / "why", cells=["mae-2-0", "scratch-2-0"])
    assert "warning: these runs" not in capsys.readouterr().err
    explain(finished, GLYPHS, out=tmp_path / "why", cells=["mae-2-0", "scratch-5-0"])
    assert "labels to train on: 2 in" in capsys.readouterr().err
