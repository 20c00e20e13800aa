"""The paper's pretraining of its own network: equal to the theory lab, and to the mean over masks."""

import copy
import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from formulas import close, method, photos
from method_cases import build
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator
from whymask.theory.data import Sample
from whymask.theory.network import Network
from whymask.theory.objectives import PixelReconstruction, TeacherStudent


def two_layer(objective: str, size: tuple[int, int] = (16, 16), **settings: Any) -> Any:
    """Kernels so large that their activations lie below 0, on the bend and above rho."""
    model = method("two-layer", "two-layer", size, 2, objective=objective, **settings)
    model.encoder.net.conv.weight.data *= 4 / 3
    z = model.encoder.net.conv(photos(4, 2, size))
    assert all(share > 0.1 for share in ((z < 0).float().mean(), (z > 0.5).float().mean()))
    return model


def in_the_lab(model: Any, images: Tensor) -> tuple[Network, Sample]:
    """The same network and images as the theory lab has them."""
    patches = F.unfold(images, 8, stride=8).transpose(1, 2)[None]
    labels = torch.zeros(1, len(images), dtype=torch.long)
    network = Network(model.encoder.net.conv.weight.detach().flatten(1)[None], sigma=model.encoder.net.sigma)
    if model.config.objective == "pixels":
        network = network.having(decoder=model.decoder.weight.detach()[None])
    return network, Sample(patches, labels, labels.bool())


def by_mask(model: Any, images: Tensor, hidden: Tensor) -> Tensor:
    """The loss of each image under its mask by the definition, from what the encoder makes of the masked image."""
    net, theta = model.encoder.net, 1 - model.config.mask_ratio
    codes = model.encoder.pool(model.encoder(images, hidden)) / theta
    if model.config.objective == "teacher":
        teacher = net.sigma(model.config.tau * net.conv(images)).sum(dim=(2, 3))
        return (teacher - codes).square().sum(dim=1) / 2
    squares = F.unfold(images, 8, stride=8).transpose(1, 2)
    errors = (squares - model.decoder(codes)[:, None]).square().mean(dim=2)
    expected_hidden = (1 - theta) * squares.shape[1]
    return (errors * hidden.flatten(1)).sum(dim=1) / expected_hidden


OBJECTIVES = pytest.mark.parametrize("objective", ["teacher", "pixels"])


@pytest.mark.parametrize(("ratio", "tau"), [(0.5, 2 ** (1 / 3)), (0.7, 1.5), (0.2, 1.0)])
def test_the_two_layer_teachers_loss_is_that_of_the_theory_lab(ratio: float, tau: float) -> None:
    model, images = two_layer("teacher", (24, 32), mask_ratio=ratio, tau=tau), photos(5, 2, (24, 32))
    losses = model(images)
    (loss,), gradients = TeacherStudent(1 - ratio, tau).gradients(*in_the_lab(model, images))
    close(losses["loss"], loss)
    losses["loss"].backward()
    close(model.encoder.net.conv.weight.grad.flatten(1), gradients["kernels"][0], 1e-4)
    assert 0 < losses["penalty"] <= losses["loss"]


@pytest.mark.parametrize("ratio", [0.5, 0.7])
def test_the_two_layer_pixel_loss_is_that_of_the_theory_lab_for_a_hidden_pixel(ratio: float) -> None:
    model, images = two_layer("pixels", (24, 32), mask_ratio=ratio), photos(5, 2, (24, 32))
    loss = model(images)["loss"]
    (whole,), gradients = PixelReconstruction(1 - ratio).gradients(*in_the_lab(model, images))
    factor = ratio / 2 * 2 * 24 * 32  # half the squared error, over the pixels that are hidden in the mean
    close(loss * factor, whole)
    (loss * factor).backward()
    close(model.encoder.net.conv.weight.grad.flatten(1), gradients["kernels"][0], 1e-3)
    close(model.decoder.weight.grad, gradients["decoder"][0], 1e-3)


@OBJECTIVES
def test_the_two_layer_loss_is_the_mean_over_all_masks(objective: str) -> None:
    model, images = two_layer(objective, mask_ratio=0.3), photos(3, 2, (16, 16))
    loss = torch.zeros(3)
    for hidden in product([False, True], repeat=4):
        weight = 0.3 ** sum(hidden) * 0.7 ** (4 - sum(hidden))
        loss += weight * by_mask(model, images, torch.tensor(hidden).view(1, 2, 2).expand(3, 2, 2))
    close(model(images)["loss"], loss.mean())


@OBJECTIVES
def test_the_two_layer_loss_is_the_mean_over_drawn_masks(objective: str) -> None:
    model, images = two_layer(objective, (24, 32), mask_ratio=0.6), photos(2, 2, (24, 32))
    hidden = torch.rand(6000, 3, 4, generator=torch_generator(0)) < 0.6
    with torch.no_grad():
        drawn = torch.stack([by_mask(model, x.expand(6000, -1, -1, -1), hidden) for x in images]).mean(dim=0)
    error = drawn.std() / 6000**0.5
    assert error < 0.02 * drawn.mean()
    assert (drawn.mean() - model(images)["loss"]).abs() < 4 * error


def steps(model: Any, optimiser: torch.optim.Optimizer, images: Tensor, first: int, last: int) -> None:
    for step in range(first, last):
        optimiser.zero_grad()
        model(images)["loss"].backward()
        optimiser.step()
        model.after_step(step, last)


def test_a_kernel_stops_where_sigma_turns_linear_and_stays_where_it_is() -> None:
    model, images = two_layer("teacher", tau=1.5), photos(6, 2, (16, 16))
    weight = model.encoder.net.conv.weight
    optimiser = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.1)
    stopped_before = torch.zeros(16, dtype=torch.bool)
    for step in range(12):
        before = weight.detach().clone()
        reach = model.encoder.net.conv(images).amax(dim=(2, 3)).mean(dim=0)  # of the weights that the loss is of
        steps(model, optimiser, images, step, step + 1)
        assert torch.equal(model.stopped, stopped_before | (reach > 0.5))
        assert torch.equal(weight[stopped_before], before[stopped_before])
        assert (weight != before).flatten(1).any(dim=1)[~stopped_before].all()
        stopped_before = model.stopped.clone()
    assert 0 < stopped_before.sum() < 16
    close(model(images)["stopped"], stopped_before.float().mean())


def test_kernels_that_stopped_stay_so_after_resuming() -> None:
    images = photos(6, 2, (16, 16))

    def fresh() -> tuple[Any, torch.optim.Optimizer]:
        model = two_layer("teacher", tau=1.5)
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    model, optimiser = fresh()
    steps(model, optimiser, images, 0, 6)
    again, its_optimiser = fresh()
    again.load_state_dict(model.state_dict())
    its_optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    stopped, kept = model.stopped.clone(), model.encoder.net.conv.weight.detach().clone()
    assert 0 < stopped.sum() < 16
    steps(model, optimiser, images, 6, 10)
    steps(again, its_optimiser, images, 6, 10)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert torch.equal(again.encoder.net.conv.weight[stopped], kept[stopped])


def test_the_pixel_objective_stops_nothing() -> None:
    model, images = two_layer("pixels"), photos(4, 2, (16, 16))
    before = model.encoder.net.conv.weight.detach().clone()
    steps(model, torch.optim.AdamW(model.parameters(), lr=0.01), images, 0, 2)
    assert (model.encoder.net.conv.weight != before).flatten(1).any(dim=1).all()
    assert not [key for key in model.state_dict() if key not in ("encoder.net.conv.weight", "decoder.weight")]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("two-layer-two-layer", {"tau": 0.0}, "tau 0.0"),
        ("two-layer-two-layer", {"tau": math.nan}, "tau nan"),
        ("two-layer-two-layer", {"mask_ratio": 1.0}, "between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        build(name, **settings)
