"""Blocks that compute on the way back again what they would keep: the same bits, from less memory."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from method_cases import build
from tiny import GLYPHS, digits, new_encoder
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.encoders.branches import drop_branches
from whymask.errors import WhymaskError
from whymask.methods import Method
from whymask.randomness import torch_generator

SWIN = "swin_tiny_patch4_window7_224"
NAMES = ["mae-vit", "mae-vit-cross", "data2vec-vit", "simmim-vit"]


def learnt(model: Method, images: Tensor) -> tuple[int, list[Tensor]]:
    """Bytes that are kept for the way back, but for weights; the loss and all gradients."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(0)
    masks = model.draw(len(images), torch_generator(0, "mask"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(images, *masks)["loss"]
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return sum(kept.values()), [loss.detach(), *gradients]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_the_same_bits(name: str) -> None:
    model = build(name)
    drop_branches(model.encoder.net, 0.3)  # draws within the blocks
    again = copy.deepcopy(model)
    again.encoder.use_recomputing()
    (plain, expected), (_, found) = (learnt(each, digits(8)) for each in (model, again))
    assert plain > 0 and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_deep_network_keeps_less() -> None:
    kept = []
    for recompute in (False, True):
        encoder = new_encoder(EncoderSettings("vit", width=32, depth=8, patch=4))
        encoder.use_recomputing(recompute)
        total = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            encoder(digits(8), torch.rand(8, 8, 8).argsort(dim=2) < 4)
        kept.append(total)
    assert kept[1] < kept[0] / 3


def test_whole_images_are_computed_again_too() -> None:
    encoder = new_encoder(EncoderSettings("vit", width=16, depth=3, patch=8))
    again = copy.deepcopy(encoder)
    again.use_recomputing()
    for each in (encoder, again):
        each(digits(4)).square().sum().backward()
    pairs = zip(encoder.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None)


@pytest.mark.parametrize(
    "encoder", [("--encoder", "vit", "--width", 16, "--depth", 2, "--patch", 8), ("--encoder", "cnn", "--width", 4)]
)
def test_a_run_counts_operations_once_and_ends_with_the_same_weights(
    encoder: tuple[Any, ...], tmp_path: Path, whymask: Any
) -> None:
    size = (*encoder, "--epochs", 1, "--device", "cpu")
    for name, flags in (("plain", ()), ("again", ("--recompute",))):
        assert whymask("pretrain", GLYPHS, *size, *flags, "--threads", 1, "--out", tmp_path / name) == 0
    plain, again = (read_json(tmp_path / name / "result.json") for name in ("plain", "again"))
    assert plain["operations"] == again["operations"] and plain["loss"] == again["loss"]
    file = "encoder/encoder.safetensors"
    assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize("asked", ["cnn", "resnet18", "convnext_atto", "efficientnet_b0", "regnety_002", SWIN])
def test_a_cnn_counts_a_batch_once_and_has_the_same_bits(asked: str) -> None:
    """Masked and whole images; statistics of batch norms, gradients, and weights after a step."""
    encoder = new_encoder(EncoderSettings(asked, **({"width": 8} if asked == "cnn" else {})), channels=3)
    drop_branches(encoder.net, 0.3)
    again = copy.deepcopy(encoder)
    again.use_recomputing()
    hidden = torch.rand(4, *encoder.grid, generator=torch_generator(0)) < 0.5
    images, kept = digits(4).expand(-1, 3, -1, -1), []
    token = nn.Parameter(encoder.mask_token().detach()) if asked == SWIN else None
    for each in (encoder, again):
        torch.manual_seed(0)
        optimiser = torch.optim.SGD(each.parameters(), lr=0.1)
        total = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = each(images, hidden, token).square().mean() + each(images).square().mean()
        loss.backward()
        optimiser.step()
        kept.append(total)
    assert kept[1] < kept[0] / 2
    found, expected = again.state_dict(), encoder.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    pairs = zip(encoder.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None)


@pytest.mark.parametrize("by_sums", [False, True])
@pytest.mark.parametrize("name", ["spark-cnn", "data2vec-cnn"])
def test_a_method_on_a_cnn_does_too(name: str, by_sums: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whymask.encoders.masked_norm.GATHERED", () if by_sums else ("cpu",))
    model = build(name)
    again = copy.deepcopy(model)
    again.encoder.use_recomputing()
    (_, expected), (_, found) = (learnt(each, digits(8)) for each in (model, again))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


def test_a_network_that_cannot_is_refused() -> None:
    with pytest.raises(
        WhymaskError, match="encoder 'two-layer' cannot compute its layers again; leave --recompute out"
    ):
        new_encoder(EncoderSettings("two-layer", width=4)).use_recomputing()
    new_encoder(EncoderSettings("two-layer", width=4)).use_recomputing(False)
