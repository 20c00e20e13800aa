"""data2vec 2.0: targets and loss are their formulas written out."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from formulas import close, embedded, layer_norm, method, photos, streams
from method_cases import build
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator


@pytest.mark.parametrize("norm", ["instance", "layer"])
@pytest.mark.parametrize("top", [1, 2])
def test_data2vec2s_targets_are_the_formula(norm: str, top: int) -> None:
    """Of the stream behind each block, as data2vec's; the paper's code, of post-norm blocks, has the MLP's output."""
    model, images = method("data2vec2", "vit", top_layers=top, target_norm=norm), photos(4)
    teacher = model.teacher.encoder.net
    outputs = [x[:, 1:] for x in streams(teacher, embedded(teacher, images))[-top:]]
    mean = [x.mean(dim=1, keepdim=True) for x in outputs]  # of each channel over the image's patches
    deviation = [(x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt() for x in outputs]
    instance = [(x - m) / d for x, m, d in zip(outputs, mean, deviation, strict=True)]
    normalised = instance if norm == "instance" else [layer_norm(x) for x in outputs]
    close(model.targets(images), layer_norm(torch.stack(normalised).mean(0)), 1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_data2vec2s_loss_is_the_formula(weight: float) -> None:
    model, images = method("data2vec2", "vit", masks=3, class_weight=weight, mask_ratio=0.6), photos(4)
    hidden = model.draw(4, torch_generator(0))
    assert len(hidden) == 3 and not torch.equal(hidden[0], hidden[1])
    targets, net, decoder = model.targets(images), model.encoder.net, model.decoder
    torch.manual_seed(1)
    noises = (0.01 * torch.randn(12, 64, 32)).chunk(3)
    errors, class_errors = [], []
    for mask, noise in zip(hidden, noises, strict=True):
        visible = ~mask.flatten(1)
        tokens = embedded(net, images)
        shown = torch.stack([t[F.pad(v, (1, 0), value=True)] for t, v in zip(tokens, visible, strict=True)])
        features = net.norm(streams(net, shown)[-1])
        class_errors.append(features[:, 0] - targets.mean(dim=1))
        x = noise.masked_scatter(visible[:, :, None], features[:, 1:]).transpose(1, 2).reshape(4, 32, 8, 8)
        for layer in decoder.layers:
            x = x + F.gelu(layer_norm(layer(x).movedim(1, 3)).movedim(3, 1))
        errors.append((decoder.predict(x.flatten(2).transpose(1, 2)) - targets)[mask.flatten(1)])
    expected = torch.cat(errors).square().mean() + weight * torch.cat(class_errors).square().mean()
    torch.manual_seed(1)
    losses = model(images, *hidden)
    close(losses["loss"], expected)
    assert ("class_loss" in losses) == (weight > 0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("data2vec2-vit", {"top_layers": 3}, "top_layers 3; the encoder has 2 blocks: choose 1 to 2"),
        ("data2vec2-vit", {"top_layers": 0}, "choose 1 to 2"),
        ("data2vec2-vit", {"masks": 0}, "masks 0"),
        ("data2vec2-vit", {"decoder_depth": 0}, "decoder_depth 0"),
        ("data2vec2-vit", {"class_weight": -1.0}, "class_weight -1"),
        ("data2vec2-vit", {"class_weight": math.nan}, "class_weight nan"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        build(name, **settings)
