"""Bad input: exit code 2 and one paragraph that says what was given, what was expected and what to do; nothing lost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import DEVICE, GLYPHS
from whymask import PretrainSettings, pretrain
from whymask.encoders import EncoderSettings
from whymask.stages.settings import PretrainTrainingSettings

Command = Callable[..., int]

SMALL = ("--device", DEVICE, "--threads", 1)
TINY = ("--seeds", 1, "--width", 4, "--pretrain.epochs", 1, "--finetune.epochs", 1)  # what is not refused is short


def refuses(whymask: Command, capsys: Any, *arguments: Any) -> str:
    """The message of a command that must end with exit code 2."""
    capsys.readouterr()
    assert whymask(*arguments, *SMALL) == 2
    printed = capsys.readouterr().err
    message = printed[printed.index("error: ") :]
    assert "Traceback" not in printed and "\n\n" not in message.strip()
    assert len(message) > 40
    return message


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def encoder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained CNN of width 4 on 24-pixel colour images."""
    folder = tmp_path_factory.mktemp("encoder") / "run"
    settings = PretrainSettings(encoder=EncoderSettings(width=4), training=PretrainTrainingSettings(epochs=1))
    pretrain(pictures / "photos", out=folder, settings=settings)
    return folder


# data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["study", "pretrain"])
def test_an_empty_folder(command: str, whymask: Command, capsys: Any, tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refuses(whymask, capsys, command, tmp_path / "empty", "--out", out)
    assert "no images in this folder (no files)" in message and "check the path" in message
    assert not out.exists()


@pytest.mark.parametrize("command", ["study", "pretrain"])
def test_a_method_that_does_not_fit_is_told_before_an_image_is_opened(
    command: str, whymask: Command, capsys: Any, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    flags = ("--method", "spark", "--encoder", "vit", "--out", out)
    assert "method 'spark' does not fit encoder 'vit'" in refuses(whymask, capsys, command, tmp_path, *flags)


def test_a_folder_whose_name_rich_would_make_a_picture_of(
    whymask: Command, capsys: Any, tmp_path: Path, out: Path
) -> None:
    (tmp_path / ":smile:" / "[red]").mkdir(parents=True)
    message = refuses(whymask, capsys, "pretrain", tmp_path / ":smile:" / "[red]", "--out", out)
    assert message.startswith(f"error: {tmp_path}/:smile:/[red]: no images in this folder")


def test_a_folder_that_is_not_there(whymask: Command, capsys: Any, tmp_path: Path, out: Path) -> None:
    assert "no such file or folder" in refuses(whymask, capsys, "study", tmp_path / "nowhere", "--out", out)
    assert not out.exists()


def test_a_folder_where_most_images_are_broken(whymask: Command, capsys: Any, tmp_path: Path, out: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(b"\xff\xd8 not a picture")
    Image.new("L", (16, 16)).save(tmp_path / "3.png")
    message = refuses(whymask, capsys, "pretrain", tmp_path, "--out", out)
    assert "more than half" in message or "none of" in message or "cannot be used" in message
    assert not out.exists()


@pytest.mark.parametrize("command", ["study", "finetune"])
def test_no_labels(command: str, whymask: Command, capsys: Any, pictures: Path, out: Path) -> None:
    message = refuses(whymask, capsys, command, pictures / "photos", "--out", out)
    assert "has no labelled images" in message and "subfolder" in message and "--labels" in message
    assert not out.exists()


@pytest.mark.parametrize("command", ["study", "finetune", "probe"])
def test_no_labels_where_some_are_needed(
    command: str, whymask: Command, capsys: Any, pictures: Path, encoder: Path, out: Path
) -> None:
    flags = ("--labels", "none", "--out", out, *(("--from", encoder) if command == "probe" else ()))
    message = refuses(whymask, capsys, command, pictures / "labelled", *flags)
    assert "--labels none says that no image is labelled" in message and "leave it out, or give" in message
    assert not out.exists()


def test_one_class(whymask: Command, capsys: Any, pictures: Path, tmp_path: Path, out: Path) -> None:
    shutil.copytree(pictures / "labelled" / "zebra", tmp_path / "labelled" / "zebra")
    message = refuses(whymask, capsys, "study", tmp_path / "labelled", "--out", out)
    assert "all images lie in the folder zebra, which is taken for no class" in message and "a subfolder" in message
    assert not out.exists()


def test_classes_of_one_image(whymask: Command, capsys: Any, pictures: Path, tmp_path: Path, out: Path) -> None:
    for name in ("okapi", "zebra"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        shutil.copy(pictures / "labelled" / name / "0.png", tmp_path / "labelled" / name)
    message = refuses(whymask, capsys, "study", tmp_path / "labelled", "--out", out)
    assert "too few labelled images to keep any for testing" in message


@pytest.mark.parametrize("flags", [(), ("--hours", 1), ("--plan",)])
def test_a_budget_larger_than_a_class_lists_the_counts(
    flags: tuple[Any, ...], whymask: Command, capsys: Any, pictures: Path, out: Path
) -> None:
    message = refuses(whymask, capsys, "study", pictures / "labelled", "--budgets", 2, 50, "--out", out, *flags)
    assert "budget 50 is larger than a class" in message and "okapi: 5, zebra: 5" in message
    assert not out.exists()


@pytest.mark.parametrize("budget", ["0", "-3", "many", "0%", "200%"])
def test_a_budget_that_is_none(budget: str, whymask: Command, capsys: Any, pictures: Path, out: Path) -> None:
    message = refuses(whymask, capsys, "finetune", pictures / "labelled", f"--budget={budget}", "--out", out)
    assert f"budget '{budget}'" in message and "1%" in message


def test_a_group_that_does_not_match(whymask: Command, capsys: Any, pictures: Path, out: Path) -> None:
    message = refuses(whymask, capsys, "study", pictures / "labelled", "--group-by", r"patient(\d+)", "--out", out)
    assert "does not match 20 of 20 images" in message


# networks and settings -----------------------------------------------------------------------------------------


def test_an_unknown_encoder_offers_the_nearest(whymask: Command, capsys: Any, out: Path) -> None:
    message = refuses(whymask, capsys, "study", GLYPHS, "--encoder", "vitt", "--out", out)
    assert "unknown encoder 'vitt'" in message and "nearest: vit" in message
    assert not out.exists()


def test_an_image_smaller_than_a_patch(whymask: Command, capsys: Any, tmp_path: Path, out: Path) -> None:
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    message = refuses(whymask, capsys, "pretrain", tmp_path, "--encoder", "vit", "--patch", 16, "--out", out)
    assert "16" in message and "12" in message and "patch" in message
    assert not out.exists()


def test_a_patch_that_does_not_divide(whymask: Command, capsys: Any, out: Path) -> None:
    size = ("--encoder", "vit", "--patch", 5, "--size", 32)
    assert "5" in refuses(whymask, capsys, "pretrain", GLYPHS, *size, "--out", out)


@pytest.mark.parametrize("ratio", [0, 1, -0.5, 1.5])
@pytest.mark.parametrize("command", ["study", "pretrain"])
def test_a_mask_ratio_outside_0_to_1(command: str, ratio: float, whymask: Command, capsys: Any, out: Path) -> None:
    message = refuses(whymask, capsys, command, GLYPHS, f"--mae.mask-ratio={ratio}", "--out", out)
    assert f"mask ratio {float(ratio)}" in message and "strictly between 0 and 1" in message
    assert not out.exists()


def test_an_unknown_metric(whymask: Command, capsys: Any, out: Path) -> None:
    message = refuses(whymask, capsys, "study", GLYPHS, "--metric", "acuracy", "--out", out)
    assert "metric 'acuracy' is unknown" in message and "balanced_accuracy" in message
    assert not out.exists()


def test_a_metric_of_a_tag_that_the_data_do_not_have(whymask: Command, capsys: Any, pictures: Path, out: Path) -> None:
    arguments = ("study", pictures / "labelled", "--metric", "accuracy/single_view", *TINY, "--out", out)
    message = refuses(whymask, capsys, *arguments)
    assert "the tags are: none" in message and "another metric" in message
    assert not out.exists()


def test_a_study_without_seeds(whymask: Command, capsys: Any, out: Path) -> None:
    assert "at least 1" in refuses(whymask, capsys, "study", GLYPHS, "--seeds", 0, "--out", out)


@pytest.mark.parametrize("share", ["0/2", "3/2", "half"])
def test_a_share_that_is_none(share: str, whymask: Command, capsys: Any, out: Path) -> None:
    message = refuses(whymask, capsys, "study", GLYPHS, "--cells", share, *TINY, "--out", out)
    assert f"--cells {share}" in message and "such as 1/4" in message
    assert not out.exists()


def test_no_epochs(whymask: Command, capsys: Any, out: Path) -> None:
    assert "epochs 0" in refuses(whymask, capsys, "study", GLYPHS, "--pretrain.epochs", 0, "--out", out)


def test_layer_decay_of_one_side_only(whymask: Command, capsys: Any, out: Path) -> None:
    message = refuses(whymask, capsys, "study", GLYPHS, "--finetune.layer-decay", 0.5, *TINY, "--out", out)
    assert "--layer-decay" in message
    assert not out.exists()


def test_a_device_that_is_not_there(whymask: Command, capsys: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    capsys.readouterr()
    assert whymask("pretrain", GLYPHS, "--device", "cuda", "--out", out) == 2
    assert "PyTorch sees no GPU" in capsys.readouterr().err


# folders -------------------------------------------------------------------------------------------------------


def test_an_output_folder_that_holds_another_study(whymask: Command, capsys: Any, finished: Path) -> None:
    before = (finished / "study.json").read_bytes()
    message = refuses(whymask, capsys, "study", GLYPHS, "--seeds", 4, "--out", finished)
    assert "holds a run with other settings" in message and "settings.seeds: 2 there, 4 now" in message
    assert "another --out" in message
    assert (finished / "study.json").read_bytes() == before


@pytest.mark.parametrize("below", ["", "study"])
@pytest.mark.parametrize("command", ["study", "pretrain"])
def test_an_output_folder_that_cannot_be_written(
    command: str, below: str, whymask: Command, capsys: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    message = refuses(whymask, capsys, command, GLYPHS, "--out", tmp_path / "file" / below)
    assert str(tmp_path / "file") in message and "another --out" in message
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_a_file_that_cannot_be_written(
    command: str, whymask: Command, capsys: Any, tmp_path: Path, finished: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    message = refuses(whymask, capsys, command, finished, GLYPHS, "--out", tmp_path / "file" / "p.csv")
    assert "cannot be written" in message


@pytest.mark.parametrize("command", ["finetune", "probe"])
def test_from_a_folder_without_encoder(
    command: str, whymask: Command, capsys: Any, pictures: Path, tmp_path: Path, out: Path
) -> None:
    message = refuses(whymask, capsys, command, pictures / "labelled", "--from", tmp_path, "--out", out)
    assert f"{tmp_path} holds no finished encoder" in message and "a finished run" in message
    assert not out.exists()


def test_from_a_run_of_another_architecture(
    whymask: Command, capsys: Any, pictures: Path, encoder: Path, out: Path
) -> None:
    wanted = ("--encoder", "vit", "--patch", 8)
    arguments = ("finetune", pictures / "labelled", "--from", encoder, *wanted, "--out", out)
    message = refuses(whymask, capsys, *arguments)
    assert "another architecture" in message and "name cnn there, vit asked for" in message
    assert not out.exists()


def test_from_a_run_with_a_damaged_encoder(
    whymask: Command, capsys: Any, pictures: Path, encoder: Path, tmp_path: Path, out: Path
) -> None:
    shutil.copytree(encoder, tmp_path / "damaged")
    (tmp_path / "damaged/encoder/encoder.safetensors").write_bytes(b"half")
    message = refuses(whymask, capsys, "probe", pictures / "labelled", "--from", tmp_path / "damaged", "--out", out)
    assert "encoder.safetensors is damaged" in message


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_a_run_that_is_none(command: str, whymask: Command, capsys: Any, tmp_path: Path) -> None:
    message = refuses(whymask, capsys, command, tmp_path / "nowhere", GLYPHS, "--out", tmp_path / "p")
    assert str(tmp_path / "nowhere") in message and "finished" in message
    assert not (tmp_path / "p").exists()


def test_predicting_with_an_encoder(whymask: Command, capsys: Any, encoder: Path, tmp_path: Path) -> None:
    message = refuses(whymask, capsys, "predict", encoder, GLYPHS, "--out", tmp_path / "p.csv")
    assert "holds no finished classifier, but an encoder" in message and "whymask finetune DATA --from" in message


def test_a_checkpoint_that_does_not_fit(whymask: Command, capsys: Any, encoder: Path, out: Path) -> None:
    weights = encoder / "encoder" / "encoder.safetensors"
    message = refuses(whymask, capsys, "study", GLYPHS, *TINY, "--init", weights, "--out", out)
    assert "another architecture: strides [2, 2, 1, 1] instead of [2, 2, 2, 1]" in message
    assert not out.exists()
