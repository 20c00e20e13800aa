"""data2vec: its formula written out, on a ViT and on a CNN."""

import math
from typing import Any

import pytest
import torch

from formulas import close, embedded, layer_norm, maps, method, photos, smooth_l1, streams
from method_cases import build
from whymask import masks
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator


@pytest.mark.parametrize("top", [1, 2, 3])
def test_data2vec_on_a_vit_is_its_formula(top: int) -> None:
    model, images = method("data2vec", "vit", top_layers=top, beta=0.5), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    teacher, student = model.teacher.encoder.net, model.encoder.net
    targets = torch.stack([layer_norm(x[:, 1:]) for x in streams(teacher, embedded(teacher, images))[-top:]]).mean(0)
    close(model.targets(images), targets)
    features = student.norm(streams(student, embedded(student, images, hidden, model.mask_token))[-1])[:, 1:]
    errors = (model.head(features) - targets)[hidden.flatten(1)]
    losses = model(images, hidden)
    close(losses["loss"], smooth_l1(errors, 0.5))
    assert losses.keys() == {"loss", "target_std", "prediction_std", "mean_loss"}


@pytest.mark.parametrize(("top", "beta"), [(1, 2.0), (2, 0.5)])
def test_data2vec_on_a_cnn_is_its_formula(top: int, beta: float) -> None:
    model = method("data2vec", "cnn", top_layers=top, beta=beta, mask="uniform", mask_block=1, mask_ratio=0.8)
    images = photos(6)
    (hidden,) = model.draw(6, torch_generator(0))
    last = [x.flatten(2).transpose(1, 2) for x in maps(model.teacher.encoder.net, images)[-top:]]  # (B, 4 * 4, D)
    targets = torch.stack([layer_norm(x) for x in last]).mean(0)
    close(model.targets(images), targets)
    pixels = masks.to_pixels(hidden, 4)
    shown = torch.where(pixels, model.mask_token.repeat(1, 1, 8, 8), images)
    features = maps(model.encoder.net, shown)[-1].flatten(2).transpose(1, 2)
    whole = hidden.view(6, 4, 2, 4, 2).all(dim=4).all(dim=2).flatten(1)  # positions are 2 x 2 squares
    assert 0 < whole.sum() < hidden.view(6, 4, 2, 4, 2).any(dim=4).any(dim=2).sum()
    close(model(images, hidden)["loss"], smooth_l1((model.head(features) - targets)[whole], beta))


def test_data2vec_averages_the_layers_of_a_cnn_that_are_alike() -> None:
    """Of strides 2, 2, 2, 1 and widths 8, 16, 32, 32 the last two; of 2, 1, 1, 1 the last two, by their width."""
    assert method("data2vec", "cnn").config.top_layers == 2
    assert method("data2vec", "cnn", (12, 12)).config.top_layers == 2


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("data2vec-vit", {"top_layers": 3}, "top_layers 3; the vit has 2 blocks .* choose 1 to 2"),
        ("data2vec-vit", {"top_layers": 0}, "choose 1 to 2"),
        ("data2vec-cnn", {"top_layers": 3}, "the cnn has 2 blocks of the last one's size"),
        ("data2vec-cnn", {"beta": -1.0}, "beta -1.0"),
        ("data2vec-vit", {"beta": math.nan}, "beta nan"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        build(name, **settings)
