"""Detection networks in other programs: the card's own code, where whymask cannot be imported, finds the same boxes."""

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
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import save_encoder
from whymask.stages.detect import Detector, Kind, Rules, anchors_for, maps_looked_at, save_detector
from whymask.tasks import Detection

SIZE = (64, 96)
ENCODERS = {
    "cnn": EncoderSettings("cnn", width=4),
    "resnet": EncoderSettings("test_resnet"),
    "vit": EncoderSettings("vit", width=32, depth=2, heads=2, patch=8),
    "swin": EncoderSettings("swin_tiny_patch4_window7_224", width=32),
}
CASES: list[tuple[str, Kind]] = [("cnn", "fcos"), ("resnet", "faster-rcnn"), ("vit", "fcos"), ("swin", "faster-rcnn")]
BOXES = np.array([[2.0, 3, 14, 12], [20, 8, 46, 30], [30, 2, 70, 50]])


def network_of(run: Path, name: str, kind: Kind, folder: Path) -> Path:
    """A run like `run`, whose network is another one, with weights and statistics that no training made."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "encoder")
    encoder = new_encoder(ENCODERS[name], SIZE, 3)
    anchors = anchors_for(BOXES, maps_looked_at(encoder)) if kind == "faster-rcnn" else None
    model = Detector(encoder, 2, kind, anchors, Rules(0.0, 0.4))
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    prep = Preprocessing(SIZE, SIZE, 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2), pads=True)
    save_encoder(encoder, prep, folder / "encoder")
    save_detector(model, Detection(("green", "red")), folder / "head.safetensors")
    return folder


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_weights_load_into_torchvisions_detector_and_find_the_same_boxes(
    name: str, kind: Kind, detector: Path, tmp_path: Path
) -> None:
    run = network_of(detector / "run", name, kind, tmp_path / "run")
    folder = whymask.export(run, "safetensors", out=tmp_path / "exported")
    Image.fromarray(skimage.data.astronaut()[20:223, 60:261]).save(folder / "photo.jpg", quality=90)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    saving = (
        "import numpy\nassert type(model).__module__.startswith('torchvision.')\n"
        "numpy.savez('found.npz', own=boxes, **{key: value for key, value in detections[0].items()})\n"
    )
    run_elsewhere(folder, f"{code}\nimport sys\nassert sys.modules['whymask'] is None\n{saving}", "timm")
    found, model = np.load(folder / "found.npz"), load_network(folder)[0]
    assert isinstance(model, Detector)
    image = Image.open(folder / "photo.jpg")
    with torch.inference_mode():
        (expected,) = model(model.encoder.transform(image)[None]).numpy()
    count = len(found["boxes"])
    assert count > 5 and (expected[count:, 5] == -1).all()
    np.testing.assert_allclose(found["boxes"], expected[:count, :4], atol=1e-3)
    np.testing.assert_allclose(found["scores"], expected[:count, 4], atol=1e-5)
    np.testing.assert_array_equal(found["labels"] - model.first_class, expected[:count, 5])
    height, width = model.encoder.transform.fitting(203, 201)
    scale = np.array([width / 201, height / 203, width / 201, height / 203])
    np.testing.assert_allclose(found["own"] * scale, expected[:count, :4], atol=1e-3)
    assert "whymask" not in re.sub(r'""".*?"""', "", (folder / "detector.py").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("to", ["timm", "transformers", "onnx"])
def test_what_has_no_form_for_boxes_is_refused_and_the_encoder_alone_is_written(
    to: Any, detector: Path, tmp_path: Path
) -> None:
    with pytest.raises(WhymaskError, match=rf"{to} has no form for a detection network of .* here.*--encoder-alone"):
        whymask.export(detector / "run", to, out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_card_says_what_the_boxes_are(detector: Path, tmp_path: Path) -> None:
    card = (whymask.export(detector / "run", "safetensors", out=tmp_path / "a") / "README.md").read_text()
    for part in (
        "A detection network of 2 classes: `plain_cnn` for images of 32x48 pixels",
        "Classes: green, red.",
        "the longer side), with grey (128 of 255) at the right and below",
        "whose labels are the classes, counted from 0",
        "| AP50 |",
        "pipeline_tag: object-detection",
        "head fcos",
    ):
        assert part in card
