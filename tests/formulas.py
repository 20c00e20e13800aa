"""What tests of several methods' formulas share: networks whose weights have moved, and timm's modules one by one."""

from typing import Any

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from method_cases import new_method
from tiny import new_encoder
from whymask.encoders import EncoderSettings
from whymask.randomness import torch_generator

SMALL = {
    "vit": EncoderSettings("vit", width=32, depth=3, heads=2, patch=4),
    "cnn": EncoderSettings("cnn", width=8),
    "two-layer": EncoderSettings("two-layer", width=16, patch=8),
}


def photos(count: int, channels: int = 1, size: tuple[int, int] = (32, 32)) -> Tensor:
    """Cut out of a photo, (count, channels, *size), standardised."""
    camera = skimage.data.camera()
    corners = torch.randint(0, 512 - max(size), (count * channels, 2), generator=torch_generator("photos")).tolist()
    cuts = [camera[top : top + size[0], left : left + size[1]] for top, left in corners]
    images = torch.from_numpy(np.stack(cuts)).float()
    return ((images - images.mean()) / images.std()).view(count, channels, *size)


def method(
    name: str, kind: str, size: tuple[int, int] = (32, 32), channels: int = 1, config: Any = None, **settings: Any
) -> Any:
    """A method whose weights, the teacher's too, have all been moved at random: biases and norms start alike."""
    config = config or SMALL[kind]
    model = new_method(name, new_encoder(config, size, channels), **settings)
    generator = torch_generator("moved")
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def close(result: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=tolerance)


def smooth_l1(errors: Tensor, beta: float) -> Tensor:
    size = errors.abs()
    assert (size < beta).any() and (size > beta).any()  # both branches are tried
    return torch.where(size < beta, size**2 / (2 * beta), size - beta / 2).mean()


def embedded(net: Any, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
    """A ViT's tokens, (B, 1 + N, D), by timm's own embedding; those of hidden patches replaced by `token`."""
    tokens = net.patch_embed(images)
    if hidden is not None:
        tokens = torch.where(hidden.flatten(1)[:, :, None], token, tokens)
    return net._pos_embed(tokens)


def streams(net: Any, tokens: Tensor) -> list[Tensor]:
    """The stream behind every block of a ViT."""
    found = []
    for block in net.blocks:
        tokens = tokens + block.attn(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
        found.append(tokens)
    return found


def maps(net: Any, images: Tensor) -> list[Tensor]:
    """The output of every layer of a CNN, in train mode."""
    found = []
    for layer in net.layers:
        normal = F.batch_norm(layer.conv(images), None, None, layer.norm.weight, layer.norm.bias, training=True)
        found.append(images := normal.relu())
    return found


def layer_norm(x: Tensor) -> Tensor:
    return (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
