"""I-JEPA: its formula written out, block by block."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from formulas import close, embedded, layer_norm, method, photos, smooth_l1, streams
from method_cases import build
from whymask import masks
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator


def in_blocks(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The mask, the numbers of each target block's squares (B, n), and what is predicted there, block by block."""
    hidden, *targets = model.draw(len(images), torch_generator(0))
    net, predictor = model.encoder.net, model.predictor
    visible = F.pad(~hidden.flatten(1), (1, 0), value=True)
    tokens = torch.stack([t[v] for t, v in zip(embedded(net, images), visible, strict=True)])
    places = [torch.stack([mask.flatten().nonzero()[:, 0] for mask in target]) for target in targets]
    positions = predictor.positions.expand(len(images), -1, -1)
    seen = torch.stack([p[v] for p, v in zip(positions, visible, strict=True)])
    seen = predictor.embed(net.norm(streams(net, tokens)[-1])) + seen
    predictions = []
    for block in places:
        asked = predictor.mask_token + predictor.positions[block + 1]
        out = streams(predictor, torch.cat([seen, asked], dim=1))[-1]
        predictions.append(predictor.predict(predictor.norm(out))[:, -block.shape[1] :])
    return hidden, places, predictions


def test_ijepa_is_its_formula() -> None:
    model, images = method("ijepa", "vit", predictor_depth=2), photos(4)
    teacher = model.teacher.encoder.net
    features = teacher.norm(streams(teacher, embedded(teacher, images))[-1])[:, 1:]
    close(model.targets(images), layer_norm(features))
    hidden, places, predictions = in_blocks(model, images)
    errors = [predictions[t][i] - layer_norm(features)[i, block[i]] for t, block in enumerate(places) for i in range(4)]
    losses = model(images, *model.draw(4, torch_generator(0)))
    close(losses["loss"], smooth_l1(torch.cat(errors), 1.0))
    context = model.encoder(images, hidden)
    close(model.predictor(context, hidden, torch.cat(places), len(places)), torch.cat(predictions))


def test_ijepas_target_blocks_do_not_see_each_other() -> None:
    model, images = method("ijepa", "vit"), photos(4)
    hidden, *targets = model.draw(4, torch_generator(0))
    places = [masks.indices(target)[1] for target in targets]
    context = model.encoder(images, hidden)
    together = model.predictor(context, hidden, torch.cat(places), 4).chunk(4)
    for block, predictions in zip(places, together, strict=True):
        close(model.predictor(context, hidden, block, 1), predictions, 1e-6)
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ijepa-vit", {"predictor_width": 36}, "predictor of width 36; it must be a multiple of 4 times .* 2 heads"),
        ("ijepa-vit", {"predictor_width": 0}, "predictor of width 0"),
        ("ijepa-vit", {"predictor_width": -8}, "predictor of width -8"),
        ("ijepa-vit", {"predictor_depth": 0}, "depth 0"),
        ("ijepa-vit", {"targets": 0}, "0 targets"),
        ("ijepa-vit", {"target_scale": (0.3, 0.2)}, "target_scale from 0.3 to 0.2"),
        ("ijepa-vit", {"target_scale": (0.9, 1.0)}, "leave no context in a grid of 8x8"),
        ("ijepa-vit", {"context_scale": (0.5, 1.5)}, "context_scale from 0.5 to 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        build(name, **settings)
