"""Training steps on images that lie on the device already: ours, a peer's, and a dense network's."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from unittest.mock import patch

import timm
import torch
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from benchmarks.gpu.checks import HALF, check, finite, hidden_is_unseen, norms_agree, relative, same_loss, there
from benchmarks.gpu.place import Around, Place, training
from benchmarks.gpu.scale import Network
from benchmarks.mae_step import Sizes, necessary_operations, new_encoder
from benchmarks.method_steps import LIGHTLY_MISSING, LightlyMAE
from whymask.masks import Mask
from whymask.methods import METHODS, Method, build_method, resolve_method
from whymask.randomness import torch_generator
from whymask.stages.pretrain import masks_of
from whymask.training import compiling
from whymask.training.compiling import Plan
from whymask.training.device import placed

TURNS = 4
"""Sets of masks that take turns."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a row found. `operations` are those of an image or of a product, 2 a multiply-add; `memory` is the GPU's
    peak in GiB, `wait` the share of a loop's time that it waited for data."""

    value: float
    unit: str
    checked: tuple[str, ...] = ()
    operations: float | None = None
    memory: float | None = None
    wait: float | None = None


class NotHereError(Exception):
    """Why a row cannot be measured on this machine."""


def product(place: Place, kind: torch.dtype) -> Figures:
    """Operations a second of a product of square matrices."""
    side = place.scale.product
    a, b = (torch.randn(side, side, device=place.device, dtype=kind) for _ in range(2))
    with place.products(rounded=False):
        few = relative(a[:8] @ b, a[:8].cpu().double() @ b.cpu().double())
        said = check("off the CPU's by", few, 1e-2)
        rate = 2 * side**3 / place.seconds(lambda: a @ b)
    return Figures(value=rate / 1e12, unit="TFLOP/s", checked=(said,))


def random_images(network: Network, count: int) -> Tensor:
    return torch.randn(count, 3, network.side, network.side, generator=torch_generator("bench"))


def our_step(place: Place, method: str, network: Network, compiles: bool = False) -> Figures:
    """A step of a method with its default settings, compiled as the loop compiles it, or not."""
    model: Any = method_on(network, method)
    few, draw = random_images(network, place.scale.checked), masks_of(model, 0)
    masks = draw(0, len(few), slice(None))
    checked = same_loss(place, model, our_loss, few, *masks)
    checked.append(hidden_is_unseen(place, model.encoder, few, masks[0]))
    if network.encoder == place.scale.cnn.encoder:
        checked += norms_agree(place, model, our_loss, few, *masks)
    operations = necessary_operations(model, few[:2])
    model = placed(model, place.device).train()
    images = random_images(network, network.batch).to(place.device)
    turns = [tuple(there(mask, place.device) for mask in draw(turn, len(images), slice(None))) for turn in range(TURNS)]
    plan = Plan(compiles, graphs=compiles and place.is_gpu and operations * len(images) < compiling.SMALL)
    with place.products(rounded=True):  # as when it is timed, or it would be compiled twice
        with place.half():
            plain = our_loss(model, images, *turns[0]).detach()
        with patch.object(compiling, "BACKEND", place.scale.compiler), compiling.compiled(model, plan) as forward:

            def loss_of(masks: Any) -> Tensor:
                return our_loss(model, images, *masks)

            def first() -> Tensor:
                with place.half():
                    loss = loss_of(turns[0])
                loss.backward()
                return loss.detach().clone()

            if compiles:
                checked.append(check("compiled off plain by", relative(forward.step(first), plain), HALF))
                model.zero_grad()

            return timed(place, model, len(images), loss_of, turns, checked, operations, forward.step)


def method_on(network: Network, method: str) -> Method:
    encoder = new_encoder(network.encoder, network.side, 3)
    config = resolve_method(method, METHODS[method].Settings(), encoder.config, encoder.size)
    return build_method(method, encoder, config, seed=0)


def our_loss(model: Any, images: Tensor, *masks: Mask) -> Tensor:
    return model(images, *masks)["loss"]


def transformers_step(place: Place, network: Network, sizes: Sizes) -> Figures:
    """transformers' ViTMAE of our sizes."""
    config = ViTMAEConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.width,
        decoder_hidden_size=sizes.decoder_width,
        decoder_num_hidden_layers=sizes.decoder_depth,
        decoder_num_attention_heads=sizes.decoder_heads,
        decoder_intermediate_size=4 * sizes.decoder_width,
        image_size=sizes.image,
        patch_size=sizes.patch,
        mask_ratio=0.75,
        norm_pix_loss=True,
    )
    model: Any = ViTMAEForPreTraining(config)

    def loss_of(model: Any, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return model(pixel_values=images, noise=noise).loss

    few = random_images(network, place.scale.checked)
    noise = torch.rand(len(few), (sizes.image // sizes.patch) ** 2, generator=torch_generator("bench", "noise"))
    checked = same_loss(place, model, loss_of, few, noise)
    model, images = model.to(place.device), random_images(network, sizes.batch).to(place.device)
    return timed(place, model, len(images), lambda nothing: loss_of(model, images), [None], checked)


def lightly_step(place: Place, network: Network, sizes: Sizes) -> Figures:
    """lightly's parts of our sizes, with our masks."""
    if LIGHTLY_MISSING:
        raise NotHereError(LIGHTLY_MISSING)
    draw = masks_of(method_on(network, "mae"), 0)
    model, few = LightlyMAE(sizes), random_images(network, place.scale.checked)

    def loss_of(model: Any, images: Tensor, *masks: Mask) -> Tensor:
        return model(images, *masks)

    checked = same_loss(place, model, loss_of, few, *draw(0, len(few), slice(None)))
    model, images = model.to(place.device), random_images(network, sizes.batch).to(place.device)
    turns = [tuple(there(mask, place.device) for mask in draw(turn, len(images), slice(None))) for turn in range(TURNS)]
    return timed(place, model, len(images), lambda masks: model(images, *masks), turns, checked)


def dense_step(place: Place, network: Network, layout: torch.memory_format) -> Figures:
    """A training step of the dense network of timm, of 100 classes."""

    def loss_of(model: nn.Module, images: Tensor) -> Tensor:
        return model(images).float().square().mean()

    model: Any = timm.create_model(network.encoder.name, num_classes=100)
    checked = same_loss(place, model, loss_of, random_images(network, place.scale.checked))
    model = model.to(place.device, memory_format=layout)
    images = random_images(network, network.batch).to(place.device, memory_format=layout)
    return timed(place, model, len(images), lambda nothing: loss_of(model, images), [None], checked)


def timed(
    place: Place,
    model: nn.Module,
    images: int,
    loss_of: Callable[[Any], Tensor],
    turns: list[Any],
    checked: list[str],
    operations: float | None = None,
    around: Around = lambda work: work(),
) -> Figures:
    """Images a second of training steps, of the losses of what takes turns; and the peak of memory."""
    endless = cycle(turns)
    with place.memory() as peak, place.products(rounded=True):
        step = training(model, place, lambda: loss_of(next(endless)), around)
        checked = [*checked, finite(step, list(model.parameters()))]
        seconds = place.seconds(step)
    return Figures(
        value=images / seconds,
        unit="images/s",
        checked=tuple(checked),
        operations=operations,
        memory=peak.get("memory"),
    )
