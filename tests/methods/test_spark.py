"""SparK: its formula written out, layer by layer."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from formulas import close, method, photos
from method_cases import build
from whymask import masks
from whymask.encoders.plain_cnn import ConvLayer
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """In train mode; x (B, C, ...) or (n, C)."""
    return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)


def decoded(model: Any, outputs: list[Tensor], seen: list[Tensor], layers: list[int]) -> Tensor:
    """SparK's decoder, the lowest resolution first: fill holes, then double, cut and add."""
    x = None
    decoder = model.decoder
    for fill, layer, step in zip(decoder.fillings, layers, [None, *decoder.steps][: len(layers)], strict=True):
        visible = seen[layer][:, 0]
        filled = fill.mask_token.movedim(1, 3).expand(outputs[layer].movedim(1, 3).shape).clone()
        filled[visible] = batch_norm(outputs[layer].movedim(1, 3)[visible], fill.norm)
        filled = fill.project(filled.movedim(3, 1))
        x = filled if x is None else doubled(x, step)[:, :, : filled.shape[2], : filled.shape[3]] + filled
    for step in decoder.steps[len(layers) - 1 :]:
        x = doubled(x, step)
    return decoder.predict(x)[:, :, : model.encoder.size[0], : model.encoder.size[1]]


def doubled(x: Tensor, step: Any) -> Tensor:
    up, first, norm, _, second, last_norm = step.layers
    x = F.conv_transpose2d(x, up.weight, up.bias, stride=2, padding=1)
    x = batch_norm(F.conv2d(x, first.weight, padding=1), norm).clamp(0, 6)
    return batch_norm(F.conv2d(x, second.weight, padding=1), last_norm)


@pytest.mark.parametrize(
    ("size", "layers", "cell"),
    [((24, 24), [3, 0], 4), ((20, 28), [3, 0], 4), ((32, 32), [3, 1, 0], 8), ((28, 36), [3, 1, 0], 4),
     ((31, 47), [3, 1, 0], 1), ((12, 16), [3], 2)],
)  # fmt: skip
def test_spark_is_its_formula(size: tuple[int, int], layers: list[int], cell: int) -> None:
    """Images of 28 x 36 and 31 x 47 have maps of odd sizes; where positions do not divide the grid, or are no larger
    than squares, a square is a cell."""
    model, images = method("spark", "cnn", size, 2), photos(4, 2, size)
    (hidden,) = model.draw(4, torch_generator(0))
    visible, seen = ~masks.to_pixels(hidden, model.encoder.unit), []
    for stride in model.encoder.strides:
        whole = F.pad(visible.float(), (0, visible.shape[3] % stride, 0, visible.shape[2] % stride))
        seen.append(visible := F.max_pool2d(whole, stride) > 0)
    x, outputs = images.masked_fill(masks.to_pixels(hidden, model.encoder.unit), 0), []
    for layer, where in zip(model.encoder.net.layers, seen, strict=True):
        assert isinstance(layer, ConvLayer)
        x = layer.conv(x).movedim(1, 3)
        filled = torch.zeros_like(x)
        filled[where[:, 0]] = batch_norm(x[where[:, 0]], layer.norm).relu()
        outputs.append(x := filled.movedim(3, 1))
    expected = decoded(model, outputs, seen, layers)
    close(model.predict(images, hidden), expected, 1e-4)
    errors = []
    for i, row, column in product(range(4), range(size[0] // cell), range(size[1] // cell)):
        top, left = row * cell, column * cell
        if hidden[i, top // model.encoder.unit, left // model.encoder.unit]:
            where = (i, slice(None), slice(top, top + cell), slice(left, left + cell))
            true = images[where]
            errors.append(expected[where] - (true - true.mean()) / (true.var() + 1e-6).sqrt())
    close(model(images, hidden)["loss"], torch.stack(errors).square().mean(), 1e-4)


def test_spark_can_predict_pixels_as_they_are() -> None:
    model, images = method("spark", "cnn", normalise_targets=False), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    pixels = masks.to_pixels(hidden, 4)
    predicted = model.predict(images, hidden)
    close(model(images, hidden)["loss"], (predicted - images)[pixels].square().mean())
    close(model.reconstruct(images, hidden), torch.where(pixels, predicted, images))


def test_sparks_reconstruction_has_each_cells_mean_and_contrast() -> None:
    model, images = method("spark", "cnn"), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    cells, rebuilt, predicted = (
        masks.to_squares(x, 8) for x in (images, model.reconstruct(images, hidden), model.predict(images, hidden))
    )
    hides = hidden[:, ::2, ::2].flatten(1)
    deviation, mean = torch.var_mean(cells, dim=2, keepdim=True)
    close(rebuilt[hides], (predicted * (deviation + 1e-6).sqrt() + mean)[hides])
    assert torch.equal(rebuilt[~hides], cells[~hides])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("spark-cnn", {"decoder_width": 0}, "decoder of width 0"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        build(name, **settings)
