"""Masked forms of a CNN's layers: what is hidden is not seen, and counts in no statistic.

A convolution mixes positions, so what is zero at the input does not stay zero. After every layer the hidden positions
are therefore set to zero again, and norms and pools count visible positions only: the features depend on nothing but
visible pixels, and their statistics are those of a dense network rather than of one fed with holes (SparK, arXiv
2301.03580; FCMAE, arXiv 2301.00808).

``mask_layers(net, name)`` gives every layer of a dense network its masked form, without touching the network's code,
and ``with hiding(net, visible):`` says what its layers may see. Outside it the network is the dense one. Such contexts
nest, every network has its own, and they may be entered inside or around a compiled forward.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import timm.layers
import torch
from torch import Tensor, nn

from whymask.encoders.masked_forms import FORMS, Masking, Visibility
from whymask.errors import WhymaskError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def hiding(net: nn.Module, visible: Tensor | None) -> AbstractContextManager[None]:
    """Within, the layers of `net`, which `mask_layers` has prepared, see only what is visible; None is everything.

    Args:
        visible: BoolTensor (B, 1, H, W) over the pixels of the next input; every image has a visible pixel.

    The input itself is the caller's: hidden pixels that are not zero are seen by the first layer.
    """
    return showing(net, None if visible is None else Visibility(visible))


@contextmanager
def showing(net: nn.Module, visibility: Visibility | None) -> Iterator[None]:
    """`hiding`, where the caller asks afterwards of which sizes the maps were."""
    masking: Masking = net.masking  # type: ignore[assignment]
    masking.stack.append(visibility)
    try:
        yield
    finally:
        masking.stack.pop()


def mask_layers(net: nn.Module, name: str) -> None:
    """Gives every layer of the dense CNN `net`, called `name`, its masked form, in place. Its state stays the same.

    Raises:
        WhymaskError: naming the layer, where one has no masked form.
    """
    masking = Masking()
    for layer_name, layer in _layers_in(net, ""):
        dense, where = type(layer), f"{layer_name} of {name}"
        if dense not in FORMS:
            raise WhymaskError(
                f"layer {where}, a {dense.__name__}, has no masked form, so the network cannot be shown a part of an "
                f"image; choose another encoder ('whymask list NAME' says of any network whether it can)"
            )
        layer.__class__ = type(f"Masked{dense.__name__}", (FORMS[dense], dense), {})
        layer.masking = masking  # type: ignore[assignment]
        layer.where = where  # type: ignore[assignment]
    net.masking = masking  # type: ignore[assignment]


def _layers_in(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers that need a masked form, from the outside in; none within such a layer, none that see one position."""
    if type(module) in FORMS:
        yield name, module
    elif any(module.children()) or type(module) in CONTAINERS:
        for child_name, child in module.named_children():
            yield from _layers_in(child, f"{name}.{child_name}".removeprefix("."))
    elif not _keeps_zeros(module):
        yield name, module


def _keeps_zeros(module: nn.Module) -> bool:
    """Whether it is an activation, a dropout or the like: what is zero stays zero, and no position sees another."""
    library = type(module).__module__
    pointwise = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
    if library in pointwise and next(module.parameters(), None) is None:
        return not module(torch.zeros(1)).any()
    return type(module) in (nn.Identity, nn.Dropout, nn.Dropout2d, nn.PReLU, nn.Flatten, timm.layers.DropPath)
