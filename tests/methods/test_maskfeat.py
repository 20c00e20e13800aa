"""MaskFeat: histograms of gradients equal to scikit-image's, and what is made of them."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from skimage.feature import _hog, _hoghistogram
from torch import nn

from formulas import close, embedded, method, photos, streams
from method_cases import build
from whymask.encoders import EncoderSettings
from whymask.errors import WhymaskError
from whymask.methods.maskfeat import hog
from whymask.randomness import torch_generator


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
@pytest.mark.parametrize(("bins", "cell"), [(9, 8), (9, 2), (9, 4), (6, 8), (18, 4), (3, 16), (5, 1)])
def test_histograms_of_gradients_equal_those_of_scikit_image(bins: int, cell: int, size: tuple[int, int]) -> None:
    """Without block norm. Cells at the border too: both take the gradient across the border to be 0. (With bins in
    multiples of 4, gradients along a diagonal lie between two bins, and rounding tells into which they fall.)"""
    image = skimage.data.camera()[100 : 100 + size[0], 150 : 150 + size[1]] / 255
    rows, columns = size[0] // cell, size[1] // cell
    expected = np.zeros((rows, columns, bins))
    down, right = _hog._hog_channel_gradient(image)
    _hoghistogram.hog_histograms(right, down, cell, cell, *size[::-1], columns, rows, bins, expected)
    result = hog(torch.from_numpy(image).float()[None, None], cell, bins)
    assert result.shape == (1, 1, bins, rows, columns) and expected.max() > 0.05
    np.testing.assert_allclose(result[0, 0].permute(1, 2, 0), expected, atol=1e-5)


def test_every_channel_and_image_has_its_own_histograms() -> None:
    images = photos(3, 2)
    apart = torch.stack([hog(image[None, None], 4)[0, 0] for image in images.flatten(0, 1)])
    assert torch.equal(hog(images, 4).flatten(0, 1), apart)


@pytest.mark.parametrize(("kind", "size"), [("vit", (32, 32)), ("cnn", (20, 28)), ("cnn", (36, 44))])
def test_maskfeats_targets_are_unit_vectors_for_each_cell_and_channel(kind: str, size: tuple[int, int]) -> None:
    model, images = method("maskfeat", kind, size, channels=2), photos(3, 2, size)
    images[0, :, :16, :16] = 5.0
    cells, stride = (model.encoder.stride // model.config.cell) ** 2, model.encoder.stride
    positions = -(-size[0] // stride) * -(-size[1] // stride)
    targets = model.targets(images)
    assert targets.shape == (3, positions, 2 * 9 * cells) and (targets >= 0).all()
    lengths = targets.view(3, positions, 2, 9, cells).norm(dim=3)
    close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))
    assert (lengths[0, 0] == 0).any() and (lengths[1:] > 0).float().mean() > 0.9  # nothing but flat cells has none


def test_maskfeats_head_predicts_the_histograms_where_they_are() -> None:
    """A bright pixel in a cell of one patch and channel makes edges down and across there, and nowhere else."""
    model = method("maskfeat", "vit", (32, 48), 3, config=EncoderSettings("vit", width=16, depth=1, heads=2, patch=16))
    assert model.config.cell == 8
    nn.init.zeros_(model.head.weight)
    for patch, channel, row, column in product(range(6), range(3), range(2), range(2)):
        images = torch.zeros(1, 3, 32, 48)
        images[0, channel, patch // 3 * 16 + row * 8 + 3, patch % 3 * 16 + column * 8 + 4] = 1.0
        wanted = torch.zeros(3, 9, 2, 2)
        wanted[channel, [0, 4], row, column] = 0.5**0.5  # from 0 and from 80 degrees
        targets = model.targets(images)[0]
        close(targets[patch], wanted.flatten(), 1e-6)
        assert targets.any(dim=1).sum() == 1
        model.head.bias.data.copy_(wanted.flatten())
        hidden = torch.zeros(1, 6, dtype=torch.bool)
        hidden[0, patch] = True
        assert model(images, hidden.view(1, 2, 3))["loss"] < 1e-10
        assert model(images, hidden.roll(1).view(1, 2, 3))["loss"] > 1e-3


def test_maskfeats_loss_is_the_mean_squared_error_at_hidden_positions() -> None:
    model, images = method("maskfeat", "vit", channels=2), photos(4, 2)
    (hidden,) = model.draw(4, torch_generator(0))
    net = model.encoder.net
    features = net.norm(streams(net, embedded(net, images, hidden, model.mask_token))[-1])[:, 1:]
    errors = (model.head(features) - model.targets(images))[hidden.flatten(1)]
    close(model(images, hidden)["loss"], errors.square().mean())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("maskfeat-vit", {"cell": 3}, "cell of 3 pixels; it must divide the 4 pixels"),
        ("maskfeat-cnn", {"cell": 5}, "cell of 5 pixels; it must divide the 8 pixels"),
        ("maskfeat-vit", {"cell": 0}, "cell of 0 pixels"),
        ("maskfeat-vit", {"bins": 1}, "1 bins"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        build(name, **settings)
