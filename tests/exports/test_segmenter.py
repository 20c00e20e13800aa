"""Segmentation networks in other programs: the card's own code, where whymask cannot be imported, gives their maps."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn

import whymask
from elsewhere import run_elsewhere
from tiny import new_encoder
from whymask import EncoderSettings, WhymaskError, load_network
from whymask.disk import read_json
from whymask.encoders import load_encoder, save_encoder
from whymask.exports.network import gather
from whymask.stages.segment import Segmenter, save_head
from whymask.tasks import Segmentation

ENCODERS = {
    "cnn": EncoderSettings("cnn", width=4),
    "resnet": EncoderSettings("test_resnet"),
    "vit": EncoderSettings("vit", width=32, depth=2, heads=2, patch=8),
    "swin": EncoderSettings("swin_tiny_patch4_window7_224", width=32),
    "cut": EncoderSettings("test_convnext2"),
    "narrow": EncoderSettings("mobilenetv3_small_050"),
}
CASES = [("cnn", "linear"), ("cnn", "fpn"), ("resnet", "fpn"), ("resnet", "linear"), ("vit", "linear"), ("vit", "fpn")]
CASES += [("swin", "fpn"), ("cut", "fpn"), ("narrow", "fpn")]


def network_of(run: Path, name: str, kind: str, folder: Path) -> Path:
    """A run like `run`, whose network is another one, with weights and statistics that no training made."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "encoder")
    size = {"cut": (36, 56), "narrow": (72, 100)}.get(name, (32, 48))
    encoder = new_encoder(ENCODERS[name], size, 3)
    task = Segmentation(("ground", "red", "green"))
    model = Segmenter(encoder, 3, kind)
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    prep = load_encoder(run).transform
    save_encoder(encoder, type(prep)(size, size, 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2)), folder / "encoder")
    save_head(model, task, folder / "head.safetensors")
    return folder


def photo_in(folder: Path) -> Image.Image:
    """photo.jpg there, as it is read back."""
    Image.fromarray(skimage.data.astronaut()[20:223, 60:361]).save(folder / "photo.jpg", quality=90)
    return Image.open(folder / "photo.jpg")


def opened(folder: Path, library: str) -> np.ndarray:
    """The logits of photo.jpg by the card's code, in a process that cannot import whymask."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    saving = "import numpy\nnumpy.save('output.npy', numpy.asarray(logits))\n"
    run_elsewhere(folder, f"{code}\nimport sys\nassert sys.modules['whymask'] is None\n{saving}", library)
    return np.load(folder / "output.npy")


def expected_of(run: Path, image: Image.Image) -> np.ndarray:
    model, _ = load_network(run)
    with torch.inference_mode():
        return model(model.encoder.transform(image)[None]).numpy()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_weights_load_into_modules_of_timm_and_torchvision_and_give_the_same_maps(
    name: str, kind: str, segmenter: Path, tmp_path: Path
) -> None:
    run = network_of(segmenter / "run", name, kind, tmp_path / "run")
    folder = whymask.export(run, "safetensors", out=tmp_path / "exported")
    expected = expected_of(run, photo_in(folder))
    found = opened(folder, "timm")
    assert found.shape == expected.shape and found.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)
    assert "whymask" not in re.sub(r'""".*?"""', "", (folder / "segmenter.py").read_text(), flags=re.DOTALL)
    np.testing.assert_array_equal(expected_of(folder, Image.open(folder / "photo.jpg")), expected)


@pytest.mark.parametrize(("name", "kind"), [("cnn", "fpn"), ("vit", "linear")])
def test_onnx_gives_the_same_maps(name: str, kind: str, segmenter: Path, tmp_path: Path) -> None:
    """Every export also compares three images itself. (A Swin does too, in 15 s.)"""
    run = network_of(segmenter / "run", name, kind, tmp_path / "run")
    folder = whymask.export(run, "onnx", out=tmp_path / "exported")
    expected = expected_of(run, photo_in(folder))
    np.testing.assert_allclose(opened(folder, "onnxruntime"), expected, atol=1e-5 * max(1, np.abs(expected).max()))
    about = read_json(folder / "preprocessing.json")
    assert (about["task"], about["classes"]) == ("segmentation", ["ground", "red", "green"])


@pytest.mark.parametrize("to", ["timm", "transformers"])
def test_what_has_no_form_for_maps_is_refused_and_the_encoder_alone_is_written(
    to: Any, segmenter: Path, tmp_path: Path
) -> None:
    run = network_of(segmenter / "run", "resnet", "fpn", tmp_path / "run")
    with pytest.raises(WhymaskError, match=rf"{to} has no form for a segmentation network of .*--encoder-alone"):
        whymask.export(run, to, out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    folder = whymask.export(run, to, out=tmp_path / "exported", encoder_alone=True)
    assert "An encoder: `test_resnet`" in (folder / "README.md").read_text()
    assert gather(run, None, True, encoder_alone=True).task is None


def test_the_card_says_what_the_maps_are(segmenter: Path, tmp_path: Path) -> None:
    card = (whymask.export(segmenter / "run", "safetensors", out=tmp_path / "a") / "README.md").read_text()
    for part in (
        "A segmentation network of 3 classes: `plain_cnn` for images of 32x48 pixels",
        "Classes: ground, red, green.",
        "Logits are (images, classes, height, width).",
        "windows of that size that overlap by half",
        "| mean IoU |",
        "pipeline_tag: image-segmentation",
        "head fpn",
    ):
        assert part in card
    card = (whymask.export(segmenter / "run", "onnx", out=tmp_path / "b", names=False) / "README.md").read_text()
    assert "Classes:" not in card and "green" not in card
