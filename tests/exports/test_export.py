"""Exports open in programs that know nothing of whymask, and compute the same from a raw image file."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image

import whymask
from elsewhere import run_elsewhere
from tiny import bars, runtime
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_record
from whymask.encoders import EncoderSettings, load_encoder
from whymask.encoders.checkpoints import load_checkpoint
from whymask.encoders.described import described
from whymask.errors import WhymaskError
from whymask.exports.card import named
from whymask.exports.network import gather
from whymask.exports.to_onnx import refuse_dynamic_sizes
from whymask.exports.to_timm import crop_share, data_config
from whymask.methods.files import load_method
from whymask.randomness import torch_generator
from whymask.stages.alone import FinetuneSettings, PretrainSettings
from whymask.stages.network import load_classifier
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings

RUNTIME = runtime()
SEEN = DataSettings(size=32)  # of larger photos, so that they are resized and cropped
ENCODERS = {
    "vit": EncoderSettings("vit", width=32, depth=2, heads=2, patch=8),
    "resnet": EncoderSettings("test_resnet"),
    "convnext": EncoderSettings("test_convnext2"),
    "cnn": EncoderSettings("cnn", width=4),
}
PHOTOS = {"wide": (301, 203), "tall": (130, 397), "square": (64, 64), "sized": (37, 37)}
"""Width and height in pixels; of the last one nothing is resampled."""

Runs = dict[str, Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A pretraining of each encoder, and a classifier of each; and one that reads the class token."""
    folder = tmp_path_factory.mktemp("runs")
    photo = Image.fromarray(skimage.data.astronaut())
    for number, name in enumerate(("left", "right")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(8):
            box = (250 * number + 9 * i, 11 * i, 250 * number + 9 * i + 120, 11 * i + 100)
            photo.crop(box).save(folder / "photos" / name / f"{i}.png")
    made = {}
    for name, encoder in ENCODERS.items():
        made[name] = folder / name
        settings = PretrainSettings(
            encoder=encoder, data=SEEN, training=PretrainTrainingSettings(epochs=2, batch_size=8), runtime=RUNTIME
        )
        whymask.pretrain(folder / "photos", out=made[name], settings=settings)
        made[f"{name} classifier"] = tuned(folder, name)
    made["token classifier"] = tuned(folder, "vit", pool="token")
    return made


def tuned(folder: Path, name: str, pool: Any = None) -> Path:
    settings = FinetuneSettings(
        origin=str(folder / name),
        encoder=EncoderSettings(pool=pool),
        data=SEEN,
        training=FinetuneTrainingSettings(epochs=2, batch_size=8),
        runtime=RUNTIME,
    )
    out = folder / f"{name}-{pool or 'tuned'}"
    whymask.finetune(folder / "photos", out=out, settings=settings)
    return out


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """The export of a run to a target, made once. Tests read it; one that writes copies it."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def made(run: Path, to: str) -> Path:
        return whymask.export(run, to, out=folder / f"{run.name}-{to}")

    return made


def photo_in(folder: Path, name: str) -> Image.Image:
    """photo.jpg in `folder`, of this shape; as it is read back."""
    width, height = PHOTOS[name]
    pixels = skimage.data.astronaut()[20 : 20 + height, 60 : 60 + width]
    Image.fromarray(pixels).save(folder / "photo.jpg", quality=90)
    return Image.open(folder / "photo.jpg")


def expected_of(run: Path, image: Image.Image) -> np.ndarray:
    """What whymask makes of it: the head's outputs, or pooled features."""
    with torch.inference_mode():
        if (run / "head.json").exists():
            model, _ = load_classifier(run)
            return model(model.encoder.transform(image)[None]).numpy()
        encoder = load_encoder(run)
        return encoder.pool(encoder(encoder.transform(image)[None])).numpy()


def opened(folder: Path, only: str) -> np.ndarray:
    """The card's code, run as written beside photo.jpg, in a process that cannot import whymask."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    output = re.findall(r"\(?(logits|values|features|predictions),?\)? = ", code)[0]
    assert re.search(rf"^(from|import) {only}\b", code, re.MULTILINE)
    run_elsewhere(folder, f"{code}\nimport numpy\nnumpy.save('output.npy', numpy.asarray({output}))\n", only)
    return np.load(folder / "output.npy")


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)


# Each target, in a process of its own

TARGETS = [
    ("timm", "vit classifier"),
    ("timm", "resnet"),
    ("transformers", "convnext classifier"),
    ("transformers", "token classifier"),
    ("onnx", "vit"),
    ("onnx", "cnn classifier"),
]
"""Each form that an export has. Every export also opens itself, in whymask's process: see below."""


@pytest.mark.parametrize("to", ["timm", "transformers", "onnx", "safetensors"])
def test_every_run_can_be_exported_to_what_knows_its_network(
    to: str, runs: Runs, exported: Callable[[Path, str], Path]
) -> None:
    for run, path in runs.items():
        if to == "onnx" and run in ("vit classifier", "resnet classifier", "convnext"):
            continue  # a graph takes seconds: one of each encoder, and each form of a head
        if not run.startswith("cnn") or to in ("onnx", "safetensors"):
            folder = exported(path, to)
            assert (folder / "README.md").exists()
            assert (folder / "decoder.safetensors").exists() == (path / "decoder.safetensors").exists()


@pytest.mark.parametrize(("to", "run"), TARGETS)
def test_an_export_opened_elsewhere_gives_the_same_of_a_photo_file(
    to: str, run: str, runs: Runs, exported: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported(runs[run], to), tmp_path / "exported"))
    image = photo_in(folder, "wide")
    close(opened(folder, "onnxruntime" if to == "onnx" else to), expected_of(runs[run], image))


@pytest.mark.parametrize("shape", PHOTOS)
@pytest.mark.parametrize("store", [37, 39, 46])
def test_timms_transform_sees_every_shape_of_photo_as_whymask_does(
    shape: str, store: int, runs: Runs, tmp_path: Path
) -> None:
    what = gather(runs["resnet"], None, True)
    what.encoder.transform = Preprocessing((32, 32), (store, store), 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2))
    image = photo_in(tmp_path, shape)
    transform = timm.data.create_transform(**data_config(what) | {"is_training": False})
    torch.testing.assert_close(transform(image), what.encoder.transform(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", PHOTOS)
def test_onnx_preprocessing_by_hand_sees_every_shape_of_photo_as_whymask_does(
    shape: str, runs: Runs, exported: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported(runs["cnn"], "onnx"), tmp_path / "exported"))
    image = photo_in(folder, shape)
    close(opened(folder, "onnxruntime"), expected_of(runs["cnn"], image))


@pytest.mark.parametrize("shape", PHOTOS)
def test_oblong_images_are_seen_as_whymask_does(shape: str, runs: Runs, tmp_path: Path) -> None:
    what = gather(runs["resnet"], None, True)
    what.encoder.transform = Preprocessing((28, 44), (32, 50), 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2))
    image = photo_in(tmp_path, shape)
    transform = timm.data.create_transform(**data_config(what) | {"is_training": False})
    torch.testing.assert_close(transform(image), what.encoder.transform(image), atol=1e-5, rtol=0)
    with pytest.raises(WhymaskError, match="cannot crop 28x44 pixels from 32x60"):
        crop_share((28, 44), (32, 60))


def test_transformers_has_the_whole_masked_autoencoder(runs: Runs, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, TimmWrapperImageProcessor, ViTMAEForPreTraining

    folder = whymask.export(runs["vit"], "transformers", out=tmp_path / "exported")
    image = photo_in(folder, "tall")
    assert opened(folder, "transformers").shape == (1, 16, 192)
    ours: Any = load_method(runs["vit"])
    exact = TimmWrapperImageProcessor.from_pretrained(folder, image_processor_filename="timm_preprocessing.json")
    for processor in (exact, AutoImageProcessor.from_pretrained(folder, backend="pil")):
        seen = processor(image, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(seen[0], ours.encoder.transform(image), atol=1e-5, rtol=0)
    (hidden,) = ours.draw(1, torch_generator(3))
    theirs = ViTMAEForPreTraining.from_pretrained(folder).eval()
    assert theirs.config.mask_ratio == ours.config.mask_ratio == 0.75
    noise = hidden.flatten(1).float() + 0.5 * torch.rand(1, 16)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(seen, noise=noise).loss, ours(seen, hidden)["loss"], atol=1e-5, rtol=1e-5)
    encoder = load_encoder(runs["vit"])
    before = encoder.net.state_dict()
    assert "all 30 tensors" in load_checkpoint(encoder, folder)  # and back again
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.net.state_dict().items())
    assert described(folder).encoder.width == 32 and described(folder).moments is not None


@pytest.mark.parametrize("run", ["vit", "cnn classifier", "resnet"])
def test_safetensors_are_the_run_without_the_rest(run: str, runs: Runs, tmp_path: Path) -> None:
    folder = whymask.export(runs[run], "safetensors", out=tmp_path / "exported")
    image = photo_in(folder, "square")
    close(expected_of(folder, image), expected_of(runs[run], image))
    assert (folder / "decoder.safetensors").exists() == (runs[run] / "decoder.safetensors").exists()


@pytest.mark.parametrize("channels", [1, 5])
def test_images_that_are_no_photos_export_as_what_takes_normalised_arrays(channels: int, tmp_path: Path) -> None:
    arrays = {"images": np.random.default_rng(0).normal(size=(24, 16, 16, channels)).astype(np.float32)}
    np.savez(tmp_path / "data.npz", **arrays, labels=np.arange(24) % 2)
    settings = PretrainSettings(
        encoder=EncoderSettings("test_resnet"),
        training=PretrainTrainingSettings(epochs=1, batch_size=8),
        runtime=RUNTIME,
    )
    whymask.pretrain(tmp_path / "data.npz", out=tmp_path / "run", settings=settings)
    folder = whymask.export(tmp_path / "run", "timm")
    assert folder == tmp_path / "run-timm"
    assert f"cannot be these: {channels} channels" in " ".join((folder / "README.md").read_text().split())
    images = torch.randn(2, channels, 16, 16)
    encoder = load_encoder(tmp_path / "run")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(images), encoder.pool(encoder(images)), atol=1e-5, rtol=1e-5)


def test_an_export_is_where_a_stage_can_start_from(runs: Runs, tmp_path: Path) -> None:
    folder = whymask.export(runs["resnet"], "timm", out=tmp_path / "exported")
    settings = PretrainSettings(
        origin=str(folder),
        training=PretrainTrainingSettings(epochs=1, batch_size=8, learning_rate=1e-12),
        runtime=RUNTIME,
    )
    whymask.pretrain(runs["vit"].parent / "photos", out=tmp_path / "next", settings=settings)
    before, after = load_encoder(runs["resnet"]), load_encoder(tmp_path / "next")
    assert after.transform == before.transform
    for a, b in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


# Of every task


@pytest.fixture(scope="module")
def by_task(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Networks of several classes an image and of numbers, "TASK ENCODER"; vit reads the class token."""
    folder, made = tmp_path_factory.mktemp("tasks"), {}
    for task in ("multilabel", "regression"):
        data = bars(task)
        data["images"] = data["images"][..., None].repeat(3, axis=-1)  # transformers' pipeline makes colour of all
        for name, encoder in (("resnet", ENCODERS["resnet"]), ("vit", replace(ENCODERS["vit"], pool="token"))):
            made[f"{task} {name}"] = folder / f"{task}-{name}"
            training = FinetuneTrainingSettings(epochs=2, batch_size=16)
            settings = FinetuneSettings(encoder=encoder, training=training, runtime=RUNTIME)
            whymask.finetune(data, out=made[f"{task} {name}"], settings=settings)
    return made


NAMES = {"multilabel": ["0", "1", "2"], "regression": ["target 0", "target 1"]}
PROBLEMS = {"multilabel": "multi_label_classification", "regression": "regression"}
GIVES = {"multilabel": "logits", "regression": "values"}


@pytest.mark.parametrize(
    ("to", "run"),
    [
        ("timm", "regression resnet"),
        ("transformers", "regression vit"),
        ("transformers", "multilabel resnet"),
        ("onnx", "multilabel resnet"),
    ],
)
def test_an_export_of_any_task_gives_the_same_of_an_image_file(
    to: str, run: str, by_task: Runs, exported: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported(by_task[run], to), tmp_path / "exported"))
    image = photo_in(folder, "wide")
    close(opened(folder, "onnxruntime" if to == "onnx" else to), expected_of(by_task[run], image))
    code = (folder / "README.md").read_text()
    assert re.search(rf"\b{GIVES[run.split()[0]]}\b.*= ", code)


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("encoder", ["resnet", "vit"])
def test_transformers_is_told_the_problem_and_the_names(task: str, encoder: str, by_task: Runs, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    folder = whymask.export(by_task[f"{task} {encoder}"], "transformers", out=tmp_path / "exported")
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert model.config.problem_type == PROBLEMS[task]
    assert model.config.id2label == dict(enumerate(NAMES[task])) and model.config.num_labels == len(NAMES[task])
    images = torch.randn(2, 3, 16, 16)
    targets = {"multilabel": torch.ones(2, 3), "regression": torch.ones(2, 2)}[task]
    assert torch.isfinite(model(images, labels=targets).loss)


def test_transformers_is_told_that_an_image_has_one_class(runs: Runs, tmp_path: Path) -> None:
    folder = whymask.export(runs["token classifier"], "transformers", out=tmp_path / "exported")
    assert read_json(folder / "config.json")["problem_type"] == "single_label_classification"


def test_transformers_pipeline_gives_values_in_the_targets_units(by_task: Runs, tmp_path: Path) -> None:
    from transformers import ViTForImageClassification, pipeline

    folder = whymask.export(by_task["regression vit"], "transformers", out=tmp_path / "exported")
    image = photo_in(folder, "sized").resize((16, 16))
    whole = pipeline("image-classification", model=str(folder), image_processor=str(folder), top_k=None)
    assert isinstance(whole.model, ViTForImageClassification)
    found = {row["label"]: row["score"] for row in whole(image)}
    (expected,) = expected_of(by_task["regression vit"], image)
    assert [found[name] for name in NAMES["regression"]] == pytest.approx(expected.tolist(), rel=1e-3)


@pytest.mark.parametrize("run", ["multilabel resnet", "regression vit"])
def test_safetensors_keep_the_task(run: str, by_task: Runs, tmp_path: Path) -> None:
    folder = whymask.export(by_task[run], "safetensors", out=tmp_path / "exported", names=False)
    image = photo_in(folder, "square")
    close(expected_of(folder, image), expected_of(by_task[run], image))
    task = load_classifier(folder)[1]
    assert task.name == run.split()[0] and task.names == tuple(map(str, range(len(task.names))))
    assert f"{GIVES[task.name]} = model(" in (folder / "README.md").read_text()


def test_an_onnx_graph_comes_with_what_its_outputs_are(by_task: Runs, exported: Callable[[Path, str], Path]) -> None:
    folder = exported(by_task["regression resnet"], "onnx")
    about = read_json(folder / "preprocessing.json")
    assert (about["output"], about["task"], about["targets"]) == ("values", "regression", NAMES["regression"])


def test_the_card_says_what_the_task_is(by_task: Runs, tmp_path: Path) -> None:
    card = (whymask.export(by_task["regression resnet"], "timm", out=tmp_path / "a") / "README.md").read_text()
    for part in ("A regressor of 2 targets", "Targets: target 0, target 1. Values are", "| mean absolute error |"):
        assert part in card
    assert '"regression"' in card.partition("tags: ")[2].partition("\n")[0]
    card = (whymask.export(by_task["multilabel vit"], "timm", out=tmp_path / "b") / "README.md").read_text()
    for part in ("A multilabel classifier of 3 classes", "sigmoid of a logit", "| mean average precision |"):
        assert part in card


# The card


def test_the_card_tells_of_data_method_recipe_and_numbers(runs: Runs, tmp_path: Path) -> None:
    card = (whymask.export(runs["vit classifier"], "timm", out=tmp_path / "a") / "README.md").read_text()
    about = read_json(runs["vit classifier"] / "config.json")
    assert about["provenance"]["data"]["fingerprint"] in card
    for part in ("pipeline_tag: image-classification", "Classes: left, right.", "recipe few", "| accuracy |", "0.1.0"):
        assert part in card
    assert "license: other" in card and "apache" not in (tmp_path / "a" / "config.json").read_text()
    card = (whymask.export(runs["vit"], "timm", out=tmp_path / "b") / "README.md").read_text()
    assert "pretraining: mae (mask_ratio 0.75" in card and "images seen" in card


def test_the_card_says_that_a_masked_autoencoder_draws_masks_and_how_whole_images_are_seen(
    runs: Runs, tmp_path: Path
) -> None:
    from transformers import ViTMAEModel

    folder = whymask.export(runs["vit"], "transformers", out=tmp_path / "a")
    card = (folder / "README.md").read_text()
    assert "hides a share of 0.75 of the patches" in card and 'from_pretrained(".", mask_ratio=0.0)' in card
    encoder = load_encoder(runs["vit"])
    images = torch.randn(2, encoder.channels, *encoder.size, generator=torch_generator(1))
    with torch.inference_mode():
        seen = ViTMAEModel.from_pretrained(folder, mask_ratio=0.0).eval()(images).last_hidden_state[:, 1:].mean(dim=1)
        torch.testing.assert_close(seen, encoder.pool(encoder(images)), atol=1e-5, rtol=1e-5)
    other = (whymask.export(runs["vit"], "timm", out=tmp_path / "b") / "README.md").read_text()
    assert "draws a new mask" not in other


def test_the_card_tells_a_stride_that_the_network_s_name_does_not(
    runs: Runs, exported: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    card = (whymask.export(runs["resnet"], "timm", out=tmp_path / "a") / "README.md").read_text()
    assert "test_resnet has output stride 8: its last map has 4x4 positions" in card
    assert "built without `output_stride=8`" in card
    encoder = load_encoder(runs["resnet"])
    usual: Any = timm.create_model("test_resnet", num_classes=0, in_chans=encoder.channels).eval()
    usual.load_state_dict(encoder.net.state_dict())
    images = torch.randn(2, encoder.channels, *encoder.size, generator=torch_generator(1))
    with torch.inference_mode():
        assert not torch.allclose(usual(images), encoder.pool(encoder(images)), atol=1e-2)
    assert "stride" not in (exported(runs["cnn"], "onnx") / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("photos/", "photos"),
        ("/home/me/photos + ../labelled/", "photos + labelled"),
        ("photos + labels.csv", "photos + labels.csv"),
        ("/home/me/photos/*.jpg and 2 more", "photos/*.jpg and 2 more"),
        ("glyphs:unlabelled=5,train=3", "glyphs:unlabelled=5,train=3"),
        (". + labelled", "(not named) + labelled"),
        ("arrays", "arrays"),
    ],
)
def test_the_card_names_its_data_by_their_last_parts(given: str, shown: str) -> None:
    assert named(given) == shown


def test_data_of_a_pool_and_of_labels_are_both_named(pictures: Path, tmp_path: Path) -> None:
    data = DataSettings(labels=str(pictures / "labelled"), size=16)
    training = FinetuneTrainingSettings(epochs=1, batch_size=8)
    settings = FinetuneSettings(encoder=EncoderSettings("cnn", width=4), data=data, training=training, runtime=RUNTIME)
    whymask.finetune(pictures / "photos", out=tmp_path / "run", settings=settings)
    card = (whymask.export(tmp_path / "run", "safetensors") / "README.md").read_text()
    assert "- data: photos + labelled, 43 images, fingerprint" in " ".join(card.split()) and str(pictures) not in card
    assert "\n- 33 images to pretrain on, 10 labelled ones, 10 to test\n" in card
    config = read_json(tmp_path / "run" / "config.json")
    config["provenance"]["data"]["distinct"] = 30
    write_record(tmp_path / "run" / "config.json", config)
    card = (whymask.export(tmp_path / "run", "safetensors", out=tmp_path / "b", names=False) / "README.md").read_text()
    assert "- data: (not named), 43 images" in card and "33 images to pretrain on (30 different ones), 10" in card


def test_names_stay_at_home_when_asked(runs: Runs, tmp_path: Path) -> None:
    folder = whymask.export(runs["vit classifier"], "timm", out=tmp_path / "exported", names=False)
    texts = [path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".json")]
    assert not any("left" in text or str(runs["vit"].parent) in text for text in texts)
    assert read_json(folder / "config.json")["label_names"] == ["0", "1"]


def test_a_study_exports_its_classifier_with_intervals(finished: Path, tmp_path: Path) -> None:
    folder = whymask.export(finished, "onnx", out=tmp_path / "exported")
    card, study = (folder / "README.md").read_text(), read_json(finished / "study.json")
    assert study["verdict"]["text"] in card and study["data"]["fingerprint"] in card
    assert "95 % over seeds" in card and ", 2 seeds |" in card
    other = whymask.export(finished, "safetensors", out=tmp_path / "other", cell="pretrain-mae-0")
    assert (other / "decoder.safetensors").exists()


def test_the_licence_that_weights_began_with_is_carried_along(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["vit"], run)
    about = read_json(run / "encoder" / "encoder.json")
    origin = "weights from mae.pth, all 30 tensors; licence: CC-BY-NC 4.0, as its key names are those of MAE"
    (run / "encoder" / "encoder.json").write_text(json.dumps(about | {"origin": origin}))
    folder = whymask.export(run, "timm")
    assert (
        origin in (folder / "README.md").read_text() and "license: CC-BY-NC 4.0\n" in (folder / "README.md").read_text()
    )
    assert read_json(folder / "config.json")["pretrained_cfg"]["license"] == "CC-BY-NC 4.0"


# Bad input


def test_what_cannot_be_exported_is_said_and_nothing_is_left(
    runs: Runs, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    def refuses(*arguments: Any) -> str:
        assert whymask("export", *arguments) == 2
        assert not list(tmp_path.iterdir())
        return " ".join(capsys.readouterr().err.split())

    out = ("--out", tmp_path / "exported")
    assert "timm has no plain_cnn" in refuses(runs["cnn"], "--to", "timm", *out)
    assert "transformers has no plain_cnn" in refuses(runs["cnn"], "--to", "transformers", *out)
    assert "holds no finished encoder" in refuses(runs["cnn"].parent / "photos", "--to", "onnx", *out)
    assert refuses(runs["cnn"], "--to", "tensorflow", *out)
    (tmp_path / "exported").mkdir()
    assert whymask("export", runs["cnn"], "--to", "onnx", *out) == 2
    assert "exists; give another --out" in " ".join(capsys.readouterr().err.split())


def test_a_network_of_dynamic_sizes_is_no_graph() -> None:
    net = timm.create_model("test_vit", dynamic_img_size=True)
    with pytest.raises(WhymaskError, match=r"test_vit has dynamic_img_size: .* an ONNX graph has one size"):
        refuse_dynamic_sizes(net, "test_vit")


def test_without_the_exporter_its_installation_is_told(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(WhymaskError, match=r"pip install 'whymask\[onnx\]'"):
        whymask.export(runs["cnn"], "onnx", out=tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_an_export_that_computes_something_else_is_refused(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whymask.exports.network import Exported

    original = Exported.output
    monkeypatch.setattr(Exported, "output", lambda self, images: original(self, images) + 0.01)
    with pytest.raises(WhymaskError, match="differs from the network"):
        whymask.export(runs["resnet"], "timm", out=tmp_path / "exported")
    assert not list(tmp_path.iterdir())
