"""The examples do what they say."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tiny import GLYPHS
from whymask import PretrainSettings, load_encoder, pretrain
from whymask.data.crops import Augment
from whymask.encoders import EncoderSettings
from whymask.stages.settings import PretrainTrainingSettings
from whymask.training.settings import RuntimeSettings

EXAMPLE = Path(__file__).parents[1] / "examples" / "pretrain_in_one_file.py"
SMALL = EncoderSettings("vit", width=16, depth=2, heads=2, patch=8)


@pytest.mark.parametrize(("name", "augment"), [("crop-flip", Augment()), ("none", None)])
def test_pretraining_in_one_file_gives_the_weights_of_the_loop(
    name: str, augment: Augment | None, tmp_path: Path
) -> None:
    settings = PretrainSettings(
        method="mae",
        encoder=SMALL,
        augment=name,
        seed=3,
        training=PretrainTrainingSettings(epochs=2, batch_size=32),
        runtime=RuntimeSettings(device="cpu", threads=1),
    )
    result = pretrain(GLYPHS, out=tmp_path / "loop", settings=settings)
    by_loop = load_encoder(tmp_path / "loop").state_dict()

    example = runpy.run_path(str(EXAMPLE))
    encoder, _ = example["pretrain"](GLYPHS, SMALL, epochs=2, batch_size=32, augment=augment, seed=3)
    assert result["steps"] >= 8
    assert encoder.state_dict().keys() == by_loop.keys()
    for weight, expected in zip(encoder.state_dict().values(), by_loop.values(), strict=True):
        assert torch.equal(weight, expected)


def test_pretraining_in_one_file_runs_as_a_command(pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLE, pictures / "photos", tmp_path / "encoder"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load_encoder(tmp_path / "encoder").kind == "vit"
