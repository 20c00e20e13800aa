"""What is computed in fewer bits, and what is not."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from method_cases import build
from whymask.training.device import products_for
from whymask.training.optimisation import TrainingConfig, make_optimiser
from whymask.training.state import State


@pytest.mark.parametrize(("where", "bits", "rounds"), [("cuda", "bf16-mixed", True), ("cuda", "32-true", False)])
def test_float32_is_rounded_to_tf32_only_beside_16_bits_on_a_gpu(where: str, bits: str, rounds: bool) -> None:
    def now() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = now()
    stand_in: Any = SimpleNamespace(device=torch.device(where), _precision=SimpleNamespace(precision=bits))
    with products_for(stand_in):
        assert now() == (("high", True) if rounds else ("highest", False))
    assert now() == before and before[0] == "highest"


def test_an_average_of_all_weights_at_once_has_the_bits_of_one_after_another() -> None:
    model = build("mae-cnn")
    average = {name: torch.randn_like(t) if t.is_floating_point() else t + 1 for name, t in model.state_dict().items()}
    expected = {
        name: t.lerp(model.state_dict()[name], 1 - 0.9) if t.is_floating_point() else model.state_dict()[name]
        for name, t in average.items()
    }
    State(model, make_optimiser(model, TrainingConfig(epochs=1)), average).update_average(0.9)
    assert all(torch.equal(average[name], expected[name]) for name in expected)
