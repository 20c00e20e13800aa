"""Networks that see whole images only: they are fine-tuned, probed and applied, and never pretrained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from small_timm import SMALL_TIMM
from tiny import DEVICE, digits, new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, kinds, load_encoder, save_encoder
from whymask.encoders.catalogue import support_of
from whymask.errors import WhymaskError
from whymask.explanations.evidence import evidence, means_of
from whymask.explanations.networks import Member
from whymask.methods import METHODS, encoder_for
from whymask.stages.network import Classifier

NAMES = ("test_coatnet", "test_vit_relpos", "test_mambaout", "test_nfnet", "small_beit")
"""Maps with channels first and last, and tokens; and weights that public checkpoints have (BEiT, data2vec)."""
assert "small_beit" in SMALL_TIMM


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_network_of_timm_of_any_size_and_comes_back(name: str, tmp_path: Path) -> None:
    size = (32, 64)
    encoder = new_encoder(EncoderSettings(name), size, 2, 0).eval()
    images = torch.randn(2, 2, *size)
    other = timm.create_model(encoder.timm_name, **encoder.timm_kwargs).eval()
    other.load_state_dict(encoder.net.state_dict(), strict=True)
    features = encoder(images)
    torch.testing.assert_close(features, other.forward_features(images))
    torch.testing.assert_close(encoder.pool(features), other(images))
    assert encoder.pool(features).shape == (2, encoder.dim)
    assert encoder.mean_over_positions(encoder.outputs(images)[0]).shape[0] == 2
    seen: list[Any] = []
    torch.testing.assert_close(encoder.features_by(_Seen(seen), images), features)
    assert seen[0].ndim == 4 and seen[0].flatten(2).shape[::2] == encoder.rows(features).shape[:2]
    assert encoder.layer_of(next(name for name, _ in encoder.named_parameters())) <= encoder.layers
    save_encoder(encoder, Preprocessing(size, size, 2, mean=(0.5,) * 2, std=(0.2,) * 2), tmp_path)
    again = load_encoder(tmp_path)
    assert again.config == encoder.config and torch.equal(again(images), features)


class _Seen(torch.nn.Module):
    def __init__(self, seen: list[Any]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.seen.append(features)
        return features


@pytest.mark.parametrize("name", NAMES)
def test_no_method_takes_it_and_says_why(name: str) -> None:
    for method in METHODS:
        with pytest.raises(WhymaskError) as refused:
            encoder_for(method, EncoderSettings(name))
        assert "It can be fine-tuned, probed and applied" in str(refused.value)
        assert support_of(name).reason in str(refused.value)
    assert "whole" not in kinds()
    assert support_of(name).starts == ("scratch", "init", "frozen")
    encoder = new_encoder(EncoderSettings(name), (32, 32), 1, 0)
    hidden = torch.ones(2, *encoder.grid, dtype=torch.bool)
    with pytest.raises(WhymaskError, match="cannot be shown a part of an image"):
        encoder(digits(2), hidden)


@pytest.mark.parametrize("name", NAMES)
def test_its_evidence_is_found(name: str) -> None:
    encoder = new_encoder(EncoderSettings(name), (32, 32), 1, 0)
    encoder.transform = Preprocessing((32, 32), (32, 32), 1, mean=(0.5,), std=(0.2,))
    network = Member("baseline", "scratch", 0, Classifier(encoder, 3).eval(), encoder.transform)
    images, labels = digits(2), torch.tensor([0, 1])
    has_map = name in ("test_vit_relpos", "small_beit")  # others have one position of images as small
    assert means_of(network, images, labels) == ("grad-cam" if has_map else "occlusion")
    assert evidence(network, images, labels, (8, 8)).shape == (2, 8, 8)


def test_a_size_that_it_cannot_see_is_refused() -> None:
    with pytest.raises(WhymaskError, match="coat_tiny gives no features of images of 32x32"):
        new_encoder(EncoderSettings("coat_tiny"), (32, 32), 3, 0)
    assert support_of("coat_tiny").status == "unusable" and support_of("coat_tiny").starts == ()


def test_it_is_trained_on_labels_probed_and_applied_and_pretraining_is_refused(
    pictures: Path, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    labelled, run = pictures / "labelled", tmp_path / "run"
    small = ("--epochs", 1, "--batch-size", 8, "--device", DEVICE, "--threads", 1, "--encoder", "small_beit")
    assert whymask("pretrain", pictures / "photos", "--out", tmp_path / "no", *small) == 2
    assert "mixes positions by attention" in " ".join(capsys.readouterr().err.split())
    assert whymask("finetune", labelled, "--out", run, *small) == 0
    assert read_json(run / "config.json")["config"]["encoder"]["name"] == "small_beit"
    assert whymask("embed", run, labelled, "--out", tmp_path / "features.parquet") == 0
    assert whymask("predict", run, labelled, "--out", tmp_path / "predicted.csv") == 0
    probing = ("--from", run, "--neighbours", 3, "--device", DEVICE, "--threads", 1)
    assert whymask("probe", labelled, "--out", tmp_path / "probe", *probing) == 0
