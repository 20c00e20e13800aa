"""Batch norms over visible positions: by sums, as on a GPU, they are what gathering gives."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from method_cases import build, losses_of
from tiny import digits
from whymask.encoders.masked_norm import GATHERED, at_visible, by_sums, norm_visible
from whymask.masks import to_pixels

NORMS: dict[str, Any] = {
    "plain": nn.BatchNorm2d(5),
    "without weights": nn.BatchNorm2d(5, affine=False),
    "without statistics": nn.BatchNorm2d(5, track_running_stats=False),
    "mean of all batches": nn.BatchNorm2d(5, momentum=None),
    "with an activation": BatchNormAct2d(5, act_layer=nn.SiLU),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def a_map(kind: torch.dtype, share: float = 0.4) -> tuple[Tensor, Tensor]:
    """Far from zero where it is visible; and what is visible."""
    generator = torch.Generator().manual_seed(1)
    visible = torch.rand(3, 1, 6, 7, generator=generator) < share
    visible[0, 0, 2, 3] = True
    x = 2 + torch.randn(3, 5, 6, 7, dtype=torch.float64, generator=generator) * torch.arange(1, 6).view(-1, 1, 1)
    return (x * visible).to(kind), visible


def trained(norm: Any, by: Any, x: Tensor, visible: Tensor) -> list[Tensor]:
    """Output, gradients and state after two batches."""
    norm, x = copy.deepcopy(norm).to(x.dtype), x.clone().requires_grad_()
    for parameter in norm.parameters():
        parameter.data += torch.arange(5.0) / 3
    by(norm, -x.detach(), visible)
    y = by(norm, x, visible)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    gradients = [parameter.grad for parameter in (x, *norm.parameters())]
    return [y, *gradients, *(tensor.to(x.dtype) for tensor in norm.state_dict().values())]


def gathered(norm: Any, x: Tensor, visible: Tensor) -> Tensor:
    return at_visible(x, visible, norm)


def summed(norm: Any, x: Tensor, visible: Tensor) -> Tensor:
    return by_sums(x, visible, norm)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kind", list(TOLERANCE))
@pytest.mark.parametrize("name", list(NORMS))
def test_sums_give_what_gathering_gives(
    name: str, kind: torch.dtype, share: float, layout: torch.memory_format
) -> None:
    x, visible = a_map(kind, share)
    if share == 0:
        visible[1, 0, 1, 1] = True  # a batch norm needs two values
        x[1, :, 1, 1] = torch.arange(5.0)
    x = x.contiguous(memory_format=layout)
    found, expected = (trained(NORMS[name], by, x, visible) for by in (summed, gathered))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE[kind], rtol=TOLERANCE[kind])
    assert found[0].is_contiguous(memory_format=layout)
    assert not found[0].masked_select(~visible).any()


def test_hidden_values_are_not_counted_even_where_they_are_not_zero() -> None:
    x, visible = a_map(torch.float64)
    other = torch.where(visible, x, 7.0)
    found, expected = (trained(NORMS["plain"], summed, given, visible) for given in (other, x))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


def test_its_gradients_are_those_of_differences() -> None:
    x, visible = a_map(torch.float64)

    def computed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        norm = SimpleNamespace(weight=weight, bias=bias, eps=1e-5, track_running_stats=False)
        return by_sums(x, visible, norm)

    given = (x, torch.linspace(0.5, 2, 5).double(), torch.linspace(-1, 1, 5).double())
    assert torch.autograd.gradcheck(computed, tuple(part.requires_grad_() for part in given))


def test_statistics_of_bfloat16_are_in_float32() -> None:
    x, visible = a_map(torch.float32)
    norm, exact = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
    y = by_sums(x.bfloat16(), visible, norm)
    by_sums(x.bfloat16().float(), visible, exact)
    assert y.dtype == torch.bfloat16 and norm.running_mean is not None and norm.running_mean.dtype == torch.float32
    torch.testing.assert_close(norm.running_var, exact.running_var, atol=1e-6, rtol=1e-6)


def test_a_cpu_gathers_and_in_eval_mode_nothing_is_counted() -> None:
    x, visible = a_map(torch.float32)
    norm = nn.BatchNorm2d(5)
    assert GATHERED == ("cpu",)
    assert torch.equal(norm_visible(x, visible, norm, norm), at_visible(x, visible, copy.deepcopy(norm)))


@pytest.mark.parametrize("name", ["fcmae-cnn", "spark-cnn"])
def test_a_method_learns_the_same_by_sums(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, gradients = [], []
    for gathered in (GATHERED, ()):
        monkeypatch.setattr("whymask.encoders.masked_norm.GATHERED", gathered)
        model = build(name)
        loss = losses_of(model, digits(8))["loss"]
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in model.parameters()] + [b for b in model.buffers() if b.is_floating_point()])
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["fcmae-cnn", "spark-cnn"])
def test_hidden_pixels_change_nothing_by_sums(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whymask.encoders.masked_norm.GATHERED", ())
    model, images = build(name), digits(4)
    masks = model.draw(4, torch.Generator().manual_seed(0))
    hidden = to_pixels(masks[0], model.encoder.unit)
    found = []
    for replacement in (0.0, torch.nan):
        copied = copy.deepcopy(model)
        with torch.no_grad():
            features = copied.encoder(images.masked_fill(hidden, replacement), masks[0])
        found.append([features, *copied.encoder.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
