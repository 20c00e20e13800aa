"""Under torch.compile a method on a ViT is one graph: nothing in it asks for values, or for the machine."""

import pytest
import torch

from method_cases import build
from tiny import digits
from whymask.masks import Mask
from whymask.randomness import torch_generator


@pytest.mark.parametrize("name", ["mae-vit", "simmim-vit", "data2vec-vit", "data2vec2-vit", "ijepa-vit"])
def test_a_forward_pass_has_no_graph_break(name: str) -> None:
    model, images = build(name), digits(4)
    masks = tuple(Mask.of(mask) for mask in model.draw(4, torch_generator(0)))
    model.look(*masks)
    torch._dynamo.reset()
    found = torch._dynamo.explain(lambda *given: model(*given))(images, *masks)
    assert found.graph_break_count == 0, [str(reason.reason) for reason in found.break_reasons]
    assert found.graph_count == 1
