"""The teacher, a moving average of the student: how it follows, what is compared with it, and when it collapses."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from method_cases import WITH_TEACHER, build, losses_of
from tiny import digits
from whymask.errors import WhymaskError
from whymask.methods.teacher import HORIZON, Teacher, collapse, compare, decay_at
from whymask.randomness import torch_generator
from whymask.training.optimisation import TrainingConfig, make_optimiser

TAUGHT = pytest.mark.parametrize("name", WITH_TEACHER)


@TAUGHT
def test_a_teacher_is_a_copy_that_shares_nothing_with_its_student(name: str) -> None:
    model: Any = build(name)
    student, teacher = (module.state_dict() for module in (model.encoder, model.teacher.encoder))
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[key], teacher[key]) for key in student)
    places = [{tensor.data_ptr() for tensor in state.values()} for state in (student, teacher)]
    assert not places[0] & places[1]


@TAUGHT
def test_a_teacher_changes_only_when_it_follows(name: str) -> None:
    model: Any = build(name)
    optimiser = make_optimiser(model, TrainingConfig(epochs=1, learning_rate=0.1, beta2=0.95))
    before = copy.deepcopy(dict(model.teacher.named_parameters()))
    start = copy.deepcopy(dict(model.encoder.named_parameters()))
    losses_of(model, digits(8))["loss"].backward()
    optimiser.step()
    assert all(torch.equal(value, before[key]) for key, value in model.teacher.named_parameters())
    assert any(not torch.equal(value, start[key]) for key, value in model.encoder.named_parameters())
    model.after_step(0, 10)  # too few steps to average over: the student itself
    student = dict(model.encoder.named_parameters())
    assert all(torch.equal(value, student[key]) for key, value in model.teacher.encoder.named_parameters())


@TAUGHT
@pytest.mark.parametrize("decay", [0.0, 0.25, 0.9, 0.9999])
def test_a_teacher_follows_by_the_formula(name: str, decay: float) -> None:
    model: Any = build(name)
    teacher: Teacher = model.teacher
    for i, tensor in enumerate(model.encoder.state_dict().values()):
        with torch.no_grad():  # buffers too
            tensor.copy_(torch.randint(1, 9, tensor.shape, generator=torch_generator(i)))
    before, student = (copy.deepcopy(module.state_dict()) for module in (teacher.encoder, model.encoder))
    teacher.follow(model.encoder, decay)
    for key, now in teacher.encoder.state_dict().items():
        if decay == 0 or not now.is_floating_point():
            assert torch.equal(now, student[key]), key
        else:
            torch.testing.assert_close(now, decay * before[key] + (1 - decay) * student[key], msg=key)
        assert torch.equal(model.encoder.state_dict()[key], student[key]), key


@given(
    steps=st.integers(1, 10**7),
    place=st.floats(0, 1),
    decays=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    fixed=st.floats(0, 1, exclude_max=True),
)
def test_a_teacher_averages_over_a_twentieth_of_the_run_at_most(
    steps: int, place: float, decays: tuple[float, float], fixed: float
) -> None:
    step, (start, end) = min(int(place * steps), steps - 1), sorted(decays)
    decay = decay_at(step, steps, start, end, None)
    assert 0 <= decay < 1
    assert decay == 0 or 1 / (1 - decay) <= HORIZON * steps * (1 + 1e-6)
    assert decay <= decay_at(min(step + 1, steps - 1), steps, start, end, None) <= end + 1e-12
    assert decay_at(step, steps, start, end, fixed) == fixed


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("data2vec-cnn", 0.9998, 0.9998),
        ("data2vec-vit", 0.9998, 0.9998),
        ("data2vec2-vit", 0.9998, 0.99999),
        ("ijepa-vit", 0.996, 1 - 1 / (HORIZON * 10**7)),
    ],
)
def test_in_a_long_run_the_decay_is_the_papers(
    name: str, start: float, end: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    decays: list[float] = []
    monkeypatch.setattr(Teacher, "follow", lambda self, encoder, decay: decays.append(decay))
    model, fixed = build(name), build(name, decay=0.5)
    for step, steps in ((0, 10**7), (10**7 - 1, 10**7), (0, 50), (49, 50)):
        model.after_step(step, steps)
    fixed.after_step(49, 50)
    assert decays == pytest.approx([start, end, 0.6, 0.6, 0.5], abs=1e-9)


@TAUGHT
@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_a_decay_out_of_range_is_refused(name: str, decay: float) -> None:
    with pytest.raises(WhymaskError, match=rf"teacher decay {decay}; it must lie in \[0, 1\)"):
        build(name, decay=decay)


# What a teacher's losses are compared with


def test_compare_is_its_formula_on_rows_that_are_spread_unevenly() -> None:
    generator = torch_generator("compare")
    predictions, targets = torch.randn(2, 23, 5, generator=generator)
    targets[4] += 3
    places = torch.tensor([7] + [0] * 9 + [3] * 2 + [5] * 11)[torch.randperm(23, generator=generator)]
    result = compare(predictions.requires_grad_(), targets, places, int(places.max()) + 1, F.l1_loss)

    def centre(values: np.ndarray) -> np.ndarray:
        means = {place: values[places.numpy() == place].mean(axis=0) for place in places.tolist()}
        return np.stack([means[place] for place in places.tolist()])

    true, guess = targets.double().numpy(), predictions.detach().double().numpy()
    expected = {
        "loss": np.abs(guess - true).mean(),
        "target_std": np.sqrt(((true - centre(true)) ** 2).mean()),
        "prediction_std": np.sqrt(((guess - centre(guess)) ** 2).mean()),
        "mean_loss": np.abs(centre(true) - true).mean(),
    }
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        assert abs(float(result[key].detach()) - value) < 1e-6, key
        assert result[key].requires_grad == (key == "loss")


def test_compare_tells_features_that_are_the_same_for_every_image() -> None:
    """They may differ between places all the same."""
    same = torch.randn(6, 4, generator=torch_generator(0)).repeat(8, 1)
    result = compare(same, same, torch.arange(6).repeat(8), 6, F.mse_loss)
    assert result["target_std"] < 1e-6 and result["prediction_std"] < 1e-6 and result["mean_loss"] < 1e-10


# Collapse


@pytest.mark.parametrize("now", [0.0, 0.2, 0.49, math.nan])
def test_collapse_is_told_with_its_value(now: float) -> None:
    warning = collapse({"loss": 1.0, "target_std": 1.0}, {"loss": 1.0, "target_std": now})
    assert warning is not None and "collapsing" in warning and f"by {now:.3g} " in warning and "1 at first" in warning


@pytest.mark.parametrize(
    ("first", "now"),
    [
        ({"target_std": 1.0}, {"target_std": 0.5}),
        ({"target_std": 0.01}, {"target_std": 3.0}),
        ({"target_std": 0.0}, {"target_std": 0.0}),
        ({"loss": 1.0}, {"loss": 0.1}),
    ],
)
def test_where_nothing_collapses_nothing_is_said(first: dict[str, float], now: dict[str, float]) -> None:
    assert collapse(first, now) is None
