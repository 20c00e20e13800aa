"""The stages alone: pretrain, fine-tune, probe, predict and embed, each from data to what it leaves."""

import csv
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
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file

import whymask
from tiny import CLASSES, GLYPHS, new_encoder, runtime
from whymask import FinetuneSettings, PretrainSettings, ProbeSettings, WhymaskError
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.stages.probe import probe_encoder
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.training.loop import Interrupted

RUNTIME = runtime()
SIZES = {"cnn": EncoderSettings("cnn", width=4), "vit": EncoderSettings("vit", width=16, depth=2, patch=8)}
TUNING = FinetuneTrainingSettings(epochs=4, batch_size=8)


def pretraining(name: str) -> PretrainSettings:
    return PretrainSettings(
        encoder=SIZES[name], training=PretrainTrainingSettings(epochs=1, batch_size=16), runtime=RUNTIME
    )


def finetuning(origin: Path | str, **changes: Any) -> FinetuneSettings:
    return replace(FinetuneSettings(origin=str(origin), training=TUNING, runtime=RUNTIME), **changes)


@pytest.fixture(scope="module", params=["cnn", "vit"])
def pretrained(request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / request.param
    whymask.pretrain(pictures / "photos", out=out, settings=pretraining(request.param))
    return out


@pytest.fixture(scope="module")
def tuned(pretrained: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / pretrained.name
    whymask.finetune(pictures / "labelled", out=out, settings=finetuning(pretrained))
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_pretraining_leaves_an_encoder_its_result_and_what_was_skipped(pretrained: Path) -> None:
    result = read_json(pretrained / "result.json")
    assert result["stage"] == "pretrain" and result["images_seen"] == result["steps"] * 16 == 16
    assert result["operations"] == result["operations_per_image"] * 16
    assert [Path(row["image"]).name for row in rows_of(pretrained / "skipped.csv")] == ["broken.jpg"]
    about = read_json(pretrained / "config.json")
    assert about["provenance"]["data"]["skipped"] == 1 and about["provenance"]["threads"] == 1
    assert about["config"]["training"]["epochs"] == 1 and about["config"]["augment"] == "crop-flip"
    gallery = np.load(pretrained / "gallery.npz")
    assert {gallery[name].shape for name in ("original", "masked", "reconstructed")} == {(8, 24, 24, 3)}
    assert (gallery["masked"] != gallery["original"]).mean() > 0.3


def test_three_lines_give_an_encoder_with_its_transform(pretrained: Path, pictures: Path) -> None:
    encoder = whymask.load_encoder(pretrained)
    image = Image.open(pictures / "photos" / "1.png")
    features = encoder.pool(encoder(encoder.transform(image)[None]))
    assert features.shape == (1, encoder.dim) and bool(torch.isfinite(features).all())


def test_timm_loads_the_weights_strictly_by_name(pretrained: Path, pictures: Path) -> None:
    about = json.loads((pretrained / "encoder/encoder.json").read_text())["timm"]
    network = timm.create_model(about["name"], **about["kwargs"])
    network.load_state_dict(load_file(pretrained / "encoder/encoder.safetensors"))
    encoder = whymask.load_encoder(pretrained)
    image = encoder.transform(Image.open(pictures / "photos" / "1.png"))[None]
    with torch.inference_mode():
        assert torch.equal(network.eval()(image), encoder.pool(encoder(image)))


def test_the_same_pretraining_is_not_run_again_and_another_is_refused(
    pretrained: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whymask.stages.pretrain.fit", None)
    settings = pretraining(pretrained.name)
    result = whymask.pretrain(pictures / "photos", out=pretrained, settings=settings)
    assert result == read_json(pretrained / "result.json")
    with pytest.raises(WhymaskError, match="seed: 0 there, 1 now"):
        whymask.pretrain(pictures / "photos", out=pretrained, settings=replace(settings, seed=1))


def test_a_network_that_goes_on_is_tested_on_the_images_that_its_run_was(
    tuned: Path, pictures: Path, tmp_path: Path
) -> None:
    asked = finetuning("scratch", encoder=SIZES["cnn"], data=DataSettings(test_share=0.3), budget="2")
    whymask.finetune(pictures / "labelled", out=tmp_path / "a", settings=asked)
    on = finetuning(tmp_path / "a", budget="2")
    whymask.finetune(pictures / "labelled", out=tmp_path / "b", settings=on)
    a, b, usual = (np.load(folder / "predictions.npz")["rows"] for folder in (tmp_path / "a", tmp_path / "b", tuned))
    assert len(a) == 6 and (a == b).all() and len(usual) == 10


def test_fine_tuning_starts_from_the_pretrained_encoder(pretrained: Path, tuned: Path, pictures: Path) -> None:
    result = read_json(tuned / "result.json")
    assert result["labelled_images"] == 10
    assert {"accuracy", "balanced_accuracy", "log_loss"} <= set(result["metrics"])
    before, after = (whymask.load_encoder(folder) for folder in (pretrained, tuned))
    assert before.transform == after.transform
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert not (tuned / "checkpoints").exists()


def test_fine_tuning_from_scratch_learns_what_is_easy(pictures: Path, tmp_path: Path) -> None:
    training = FinetuneTrainingSettings(epochs=30, batch_size=8, learning_rate=3e-3)
    settings = finetuning("scratch", encoder=SIZES["cnn"], training=training, augment="none")
    result = whymask.finetune(pictures / "labelled", out=tmp_path / "run", settings=settings)
    assert result["metrics"]["accuracy"] == 1.0


def test_a_budget_is_stratified_and_stored(pretrained: Path, pictures: Path, tmp_path: Path) -> None:
    settings = finetuning(pretrained, budget="3")
    result = whymask.finetune(pictures / "labelled", out=tmp_path / "run", settings=settings)
    assert result["labelled_images"] == 6
    assert read_json(tmp_path / "run" / "config.json")["config"]["budget"] == "3"


def test_metrics_are_said_with_what_they_rest_on_and_kept_as_they_are(
    pretrained: Path, pictures: Path, tmp_path: Path, capsys: Any
) -> None:
    result = whymask.finetune(pictures / "labelled", out=tmp_path / "run", settings=finetuning(pretrained))
    said = capsys.readouterr().err
    share = result["metrics"]["accuracy"]
    assert re.search(rf"  accuracy {share:.3f} \({round(10 * share)} of 10 test images; 95 % .*; chance 0.50\)\n", said)
    assert re.search(r"  AUROC \d\.\d{3} \(10 test images; no interval; chance 0.50\)\n", said)
    assert read_json(tmp_path / "run" / "result.json")["metrics"] == result["metrics"]
    settings = ProbeSettings(origin=str(pretrained), neighbours=3, runtime=RUNTIME)
    result = whymask.probe(pictures / "labelled", out=tmp_path / "probe", settings=settings)
    told = capsys.readouterr().err.partition("knn\n")[2].split("linear\n")
    for kind, lines in zip(("knn", "linear"), told, strict=True):
        share = result[kind]["accuracy"]
        assert f"  accuracy {share:.3f} ({round(10 * share)} of 10 test images; 95 % " in lines


def test_images_that_come_in_groups_are_told_so(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    photos = sorted((pictures / "labelled").glob("*/*.png"))
    rows = [f"{path},{path.parent.name},{int(path.stem) // 2}" for path in photos]
    (tmp_path / "photos.csv").write_text("\n".join(["path,label,day", *rows]))
    settings = finetuning("scratch", encoder=SIZES["cnn"], data=DataSettings(group_by="day"))
    whymask.finetune(tmp_path / "photos.csv", out=tmp_path / "run", settings=settings)
    assert re.search(r"accuracy \d\.\d{3} \(\d of \d test images in \d groups; ", capsys.readouterr().err)


def test_a_probe_has_both_classifiers(pretrained: Path, pictures: Path, tmp_path: Path) -> None:
    settings = ProbeSettings(origin=str(pretrained), neighbours=3, runtime=RUNTIME)
    result = whymask.probe(pictures / "labelled", out=tmp_path / "probe", settings=settings)
    assert result["linear"]["accuracy"] >= 0.75 and result["knn"]["accuracy"] >= 0.75
    assert result["dimensions"] == whymask.load_encoder(pretrained).dim
    assert read_json(tmp_path / "probe" / "result.json")["knn"] == result["knn"]
    again = whymask.probe(pictures / "labelled", out=tmp_path / "probe", settings=settings)
    assert again["linear"] == result["linear"]


def test_a_probe_from_scratch_is_of_the_weights_that_pretraining_began_with(pictures: Path, tmp_path: Path) -> None:
    settings = ProbeSettings(origin="scratch", encoder=SIZES["vit"], neighbours=3, seed=1, runtime=RUNTIME)
    result = whymask.probe(pictures / "labelled", out=tmp_path / "scratch", settings=settings)
    prepared = prepare(pictures / "labelled", DataSettings(), multiple_of=8)
    encoder = new_encoder(SIZES["vit"], prepared.images.preprocessing.size, 3, seed=1)
    expected = probe_encoder(encoder, prepared, prepared.train, 3, 1)
    assert result["knn"] == expected["knn"] and result["linear"] == expected["linear"]
    assert read_json(tmp_path / "scratch" / "config.json")["config"]["arm"] == "scratch"
    with pytest.raises(WhymaskError, match=r"encoder\.width: 16 there, 24 now"):
        other = replace(settings, encoder=replace(SIZES["vit"], width=24))
        whymask.probe(pictures / "labelled", out=tmp_path / "scratch", settings=other)


def test_a_teacher_is_kept_where_that_is_asked_for_and_weights_start_from_it(pictures: Path, tmp_path: Path) -> None:
    kept: list[Any] = []

    def after_step(self: Any, step: int, steps: int) -> None:
        self.teacher.follow(self.encoder, 0.5)
        kept[:] = [{key: tensor.clone() for key, tensor in self.teacher.encoder.net.state_dict().items()}]

    settings = replace(pretraining("cnn"), method="data2vec")
    out, photos = tmp_path / "run", pictures / "photos"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whymask.methods.data2vec.Data2Vec.after_step", after_step)
        whymask.pretrain(photos, out=out, settings=settings, keep_teacher=True)
    teacher, student = (whymask.load_encoder(folder).net.state_dict() for folder in (out / "teacher", out))
    assert all(torch.equal(tensor, kept[0][key]) for key, tensor in teacher.items())
    assert any(not torch.equal(tensor, student[key]) for key, tensor in teacher.items())
    whymask.probe(pictures / "labelled", out=tmp_path / "p", origin=str(out / "teacher"), runtime=RUNTIME)
    assert read_json(tmp_path / "p" / "config.json")["config"]["arm"] == "data2vec"
    whymask.pretrain(photos, out=out, settings=settings, keep_teacher=True)  # finished, and kept
    with pytest.raises(WhymaskError, match="mae has no teacher; data2vec"):
        whymask.pretrain(photos, out=tmp_path / "mae", settings=pretraining("cnn"), keep_teacher=True)
    assert not (tmp_path / "mae").exists()
    shutil.rmtree(out / "teacher")
    with pytest.raises(WhymaskError, match="is finished, and its teacher was not kept"):
        whymask.pretrain(photos, out=out, settings=settings, keep_teacher=True)


def test_predictions_have_a_row_an_image_and_a_list_of_what_was_skipped(
    tuned: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    frame = whymask.predict(tuned, pictures / "photos", out=out, runtime=RUNTIME, threads=1)
    rows = rows_of(out)
    assert len(rows) == 23 and set(rows[0]) == {
        "path",
        "class",
        "confidence",
        *(f"probability of {name}" for name in CLASSES),
    }
    assert frame["class"].tolist() == [row["class"] for row in rows] and frame["confidence"].between(0.5, 1).all()
    for row in rows:
        shares = {name: float(row[f"probability of {name}"]) for name in CLASSES}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["class"] == max(shares, key=lambda name: shares[name])
        assert Path(row["path"]).is_file()
    skipped = rows_of(tmp_path / "predictions.skipped.csv")
    assert [Path(row["image"]).name for row in skipped] == ["broken.jpg"]


def test_predictions_are_those_that_the_run_was_tested_with(tuned: Path, pictures: Path, tmp_path: Path) -> None:
    stored = np.load(tuned / "predictions.npz")
    out = tmp_path / "p.csv"
    whymask.predict(tuned, pictures / "labelled", out=out, runtime=RUNTIME)
    probabilities = np.array([[float(row[f"probability of {name}"]) for name in CLASSES] for row in rows_of(out)])
    assert np.allclose(probabilities[stored["rows"]], np.exp(stored["log_probabilities"]), atol=2e-6)


def test_embeddings_are_the_encoders_features(pretrained: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    frame = whymask.embed(pretrained, pictures / "photos", out=out, runtime=RUNTIME)
    table = parquet.read_table(out)
    assert frame.columns.tolist() == ["path", "features"] and np.stack(frame["features"]).shape[0] == len(frame) == 23
    encoder = whymask.load_encoder(pretrained)
    assert table.column_names == ["path", "features"] and table.num_rows == 23
    path, features = table["path"][4].as_py(), table["features"][4].as_py()
    with torch.inference_mode():
        expected = encoder.pool(encoder(encoder.transform(Image.open(path))[None]))[0]
    assert torch.allclose(torch.tensor(features), expected, atol=1e-5)
    assert (tmp_path / "features.skipped.csv").exists()


def test_a_study_predicts_with_the_largest_budgets_network_and_embeds_with_the_encoder(
    finished: Path, tmp_path: Path, capsys: Any
) -> None:
    whymask.predict(finished, GLYPHS, out=tmp_path / "p.csv", runtime=RUNTIME)
    assert f"predicting with {finished / 'cells' / 'mae-5-0'}" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "p.csv")) == 288
    whymask.predict(finished, GLYPHS, out=tmp_path / "s.csv", cell="scratch-2-1", runtime=RUNTIME)
    assert f"predicting with {finished / 'cells' / 'scratch-2-1'}" in capsys.readouterr().err
    whymask.embed(finished, GLYPHS, out=tmp_path / "f.parquet", runtime=RUNTIME)
    assert f"embedding with {finished / 'cells' / 'pretrain-mae-0'}" in capsys.readouterr().err
    with pytest.raises(WhymaskError, match=r"no cell 'nope'; its cells are: mae-2-0"):
        whymask.predict(finished, GLYPHS, out=tmp_path / "n.csv", cell="nope", runtime=RUNTIME)


def test_test_images_that_pretraining_saw_are_told(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    images = pictures / "labelled"
    settings = replace(pretraining("cnn"), data=DataSettings(transductive=True))
    whymask.pretrain(images, out=tmp_path / "run", settings=settings)
    whymask.finetune(images, out=tmp_path / "tuned", settings=finetuning(tmp_path / "run"))
    assert f"10 of 10 test images were in the pretraining of {tmp_path / 'run'}" in capsys.readouterr().err


def test_a_reader_opens_what_pillow_cannot(tmp_path: Path) -> None:
    for i in range(16):
        (tmp_path / "scans").mkdir(exist_ok=True)
        np.save(tmp_path / "scans" / f"{i}.npy", np.random.default_rng(i).integers(0, 4000, (16, 16), dtype=np.uint16))
    settings = pretraining("cnn")
    result = whymask.pretrain(tmp_path / "scans", out=tmp_path / "run", settings=settings, reader=np.load)
    assert result["images_seen"] == 16


def test_a_reader_that_a_run_was_trained_with_is_asked_for_when_the_run_is_used(tmp_path: Path, capsys: Any) -> None:
    """The pictures can be opened without it, which would be of other values."""
    (tmp_path / "d").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "d" / f"{number}.png")
    run, out = tmp_path / "run", tmp_path / "features.parquet"
    whymask.pretrain(tmp_path / "d", out=run, settings=pretraining("cnn"), reader=inverted)
    assert read_json(run / "config.json")["provenance"]["data"]["reader"] == f"{__name__}:inverted"
    asked = f"a reader, {__name__}:inverted, opened the files that {run} was trained on, and none is given now"
    capsys.readouterr()
    for reader, told in ((None, 1), (inverted, 0)):
        whymask.embed(run, tmp_path / "d", out=out, runtime=RUNTIME, reader=reader)
        assert capsys.readouterr().err.count(asked) == told
    on = replace(pretraining("cnn"), origin=str(run / "encoder"), encoder=EncoderSettings())
    whymask.pretrain(tmp_path / "d", out=tmp_path / "on", settings=on)
    assert asked in capsys.readouterr().err
    with pytest.raises(WhymaskError, match=r"the reader .*:broken gave no image of any of 12 files; first .*0\.png"):
        whymask.embed(run, tmp_path / "d", out=out, runtime=RUNTIME, reader=broken)


def inverted(path: Path) -> Any:
    return 255 - np.asarray(Image.open(path))


def broken(path: Path) -> Any:
    raise KeyError(path.name)


def test_few_unlabelled_images_are_warned_of(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=pretraining("cnn"))
    assert (
        "warning: only 23 images to pretrain on: below some thousand own pretraining is not expected"
        in capsys.readouterr().err
    )
    twice = np.repeat(np.random.default_rng(0).integers(0, 256, (12, 24, 24, 3), dtype=np.uint8), 2, axis=0)
    whymask.pretrain(twice, out=tmp_path / "twice", settings=pretraining("cnn"))
    said = capsys.readouterr().err
    assert "24 images to pretrain on, 12 different ones: the others have equal pixels" in said
    assert "warning: only 12 different images to pretrain on" in said


def test_the_defaults_are_resolved_and_saved(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **kwargs: Any) -> None:
        raise Interrupted

    monkeypatch.setattr("whymask.stages.pretrain.fit", stopped)
    with pytest.raises(Interrupted):
        whymask.pretrain(pictures / "photos", out=tmp_path / "run", settings=PretrainSettings(runtime=RUNTIME))
    config = read_json(tmp_path / "run" / "config.json")["config"]
    assert config["encoder"]["name"] == "cnn" and config["encoder"]["unit"] == 4
    assert config["training"]["epochs"] == 50
    assert config["method_settings"]["mask_ratio"] == 0.5
