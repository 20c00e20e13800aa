"""What must hold before anything is timed. A row whose check fails is given up, with the numbers that differ."""

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.gpu.place import Place
from whymask.encoders import masked_norm
from whymask.masks import to_pixels

EXACT, HALF, GRADIENT, LEAK = 1e-3, 0.02, 1e-2, 1e-5
"""Relative: losses of float32, losses of bf16, the norm of a gradient's difference, features without hidden pixels."""

LossOf = Callable[..., Tensor]
"""(model, images, and what else is given) -> the loss."""


class CheckError(Exception):
    """What was compared, and by how much it differs."""


def check(what: str, found: float, allowed: float) -> str:
    """What was found, in words. Raises CheckError where it is above what is allowed, or no number."""
    said = f"{what} {found:.1e}"
    if not found <= allowed:
        raise CheckError(f"{said}, at most {allowed:g} was allowed")
    return said


def relative(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to that of what was expected."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def there(given: Any, device: torch.device) -> Any:
    """Images, masks and what was found in them, on the device."""
    return given.moved(lambda tensor: tensor.to(device)) if hasattr(given, "moved") else given.to(device)


def same_loss(place: Place, model: nn.Module, loss_of: LossOf, *given: Any) -> list[str]:
    """On the device the loss of the CPU's float32, in float32 and in bf16. `model` and `given` are on the CPU."""
    expected = loss_of(copy.deepcopy(model).train(), *given)
    moved = [there(one, place.device) for one in given]
    with place.products(rounded=False):
        exact = loss_of(copy.deepcopy(model).train().to(place.device), *moved)
    with place.half():
        half = loss_of(copy.deepcopy(model).train().to(place.device), *moved)
    return [
        check("loss off the CPU's by", relative(exact, expected), EXACT),
        check("in bf16 by", relative(half, expected), HALF),
    ]


@torch.no_grad()
def hidden_is_unseen(place: Place, encoder: Any, images: Tensor, hidden: Any) -> str:
    """Other pixels where an image is hidden leave the encoder's features as they are."""
    pixels = to_pixels(hidden.as_subclass(Tensor), encoder.unit)
    other = torch.where(pixels, 5 * torch.randn_like(images), images)
    encoder, hidden = copy.deepcopy(encoder).train().to(place.device), there(hidden, place.device)
    with place.products(rounded=False):
        first, second = (encoder(x.to(place.device), hidden) for x in (images, other))
    return check("features off without hidden pixels by", relative(second, first), LEAK)


def norms_agree(place: Place, model: Any, loss_of: LossOf, *given: Any) -> list[str]:
    """Masked norms by sums give the loss and the gradient of gathered ones, in float32 on the device."""
    moved, found = [there(one, place.device) for one in given], []
    for gathered in ((place.device.type,), ()):
        other = copy.deepcopy(model).train().to(place.device)
        with patch.object(masked_norm, "GATHERED", gathered), place.products(rounded=False):
            loss = loss_of(other, *moved)
            loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in other.encoder.parameters() if p.grad is not None])
        found.append((loss, gradients))
    (loss, gradient), (other_loss, other_gradient) = found
    return [
        check("masked norms off gathered ones by", relative(other_loss, loss), EXACT),
        check("their gradient by", relative(other_gradient, gradient), GRADIENT),
    ]


def finite(step: Callable[[], Any], parameters: list[Tensor]) -> str:
    """After a step all weights are finite."""
    step()
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise CheckError("a step made weights that are not finite")
    return "weights finite"
