"""Between two lines of metrics the loop asks the device nothing."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from method_cases import CASES, SMALL, Case
from questions import Questions
from tiny import GLYPHS, new_encoder, runtime
from whymask.data.batches import Batch
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, resolve
from whymask.errors import WhymaskError
from whymask.masks import Mask, hides, indices, joined, once, uniform
from whymask.methods import METHODS, resolve_method
from whymask.randomness import torch_generator
from whymask.runs import RunFolder
from whymask.stages.classify import ClassifierJob, classifier_training
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretraining
from whymask.stages.recipes import resolve_finetuning
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.training.device import make_fabric
from whymask.training.log import read_together
from whymask.training.loop import Training, fit
from whymask.training.optimisation import TrainingConfig

STEPS = 6


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    prepared = prepare(GLYPHS, DataSettings(), multiple_of=4)
    return replace(prepared, pool=prepared.pool[: 8 * STEPS])


@pytest.fixture(autouse=True)
def one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has one line of metrics, behind its last step."""
    monkeypatch.setattr("whymask.training.log.LINES_PER_RUN", 1)
    monkeypatch.setattr("whymask.training.log.SECONDS_BETWEEN_READINGS", math.inf)


def context(prepared: Prepared) -> Context:
    return Context(make_fabric(replace(runtime(), device="cpu")), prepared)


def method_training(prepared: Prepared, case: Case) -> Training:
    encoder = resolve(SMALL[case.encoder], (32, 32), 1)
    settings = METHODS[case.method].Settings(**case.settings)
    job = PretrainJob(
        config=encoder,
        method=case.method,
        method_config=resolve_method(case.method, settings, encoder, (32, 32)),
        training=TrainingConfig(epochs=1, batch_size=8),
        augment="none",
        seed=3,
    )
    return pretraining(context(prepared), job)


def classification(prepared: Prepared) -> Training:
    encoder = new_encoder(EncoderSettings(width=4), (32, 32), 1, seed=0)
    asked = FinetuneTrainingSettings(epochs=1, batch_size=8)
    job = ClassifierJob(
        arm="scratch",
        seed=0,
        budget="4",
        rows=prepared.train[: 8 * STEPS],
        test=prepared.test,
        config=encoder.config,
        build=lambda: encoder,
        training=resolve_finetuning(asked, 8 * STEPS, prepared, encoder.config),
        augment="crop-flip",
    )
    return classifier_training(context(prepared), job)


def learn(training: Training, prepared: Prepared, folder: Path, **changes: Any) -> None:
    config = TrainingConfig(**{"epochs": 1, "batch_size": 8, "ema": 0.9} | changes)
    fit(context(prepared).fabric, training, config, seed=0, run=RunFolder(folder), label="test")


def questions(training: Training, prepared: Prepared, folder: Path) -> list[str]:
    """Asked in all steps but the first and the last: from one's forward pass on, until that of the other."""
    questions = Questions()

    def counting(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        if step == 1:
            questions.__enter__()
        if step == training.steps - 1:
            questions.__exit__(None, None, None)
        return training.loss_of(model, batch, step)

    learn(replace(training, loss_of=counting), prepared, folder)
    return questions.asked


@pytest.mark.parametrize("name", list(CASES))
def test_a_step_of_pretraining_asks_nothing(
    name: str, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whymask.encoders.masked_norm.GATHERED", ())  # as on a GPU
    assert questions(method_training(prepared, CASES[name]), prepared, tmp_path) == []


def test_a_step_on_labels_asks_nothing(prepared: Prepared, tmp_path: Path) -> None:
    assert questions(classification(prepared), prepared, tmp_path) == []


def test_questions_are_counted() -> None:
    x = torch.arange(6.0)
    for ask in (lambda: float(x[0]), lambda: bool((x > 1).any()), lambda: x[x > 2], lambda: x.nonzero(), x.max().item):
        with Questions() as questions:
            ask()
        assert len(questions.asked) == 1


# What is not finite


@pytest.mark.parametrize("step", [1, 3])
def test_a_step_that_is_not_finite_changes_no_weight_and_is_named_when_it_is_read(
    step: int, prepared: Prepared, tmp_path: Path
) -> None:
    training, seen = classification(prepared), {}

    def poisoned(model: nn.Module, batch: Batch, at: int) -> Mapping[str, Tensor]:
        seen[at] = [parameter.detach().clone() for parameter in training.model.parameters()]
        loss = training.loss_of(model, batch, at)["loss"]
        return {"loss": loss * float("inf") if at == step else loss}

    with pytest.raises(WhymaskError, match=f"not finite at step {step} "):
        learn(replace(training, loss_of=poisoned), prepared, tmp_path)
    assert len(seen) == STEPS  # it was read with the last one
    assert all(torch.equal(a, b) for a, b in zip(seen[step], seen[step + 1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[step - 1], seen[step], strict=True))
    described = read_json(tmp_path / "nonfinite.json")
    rows = training.batches(step).rows.tolist()
    assert described == {"step": step, "seed": 0, "loss": "inf", "rows": rows}
    assert not (tmp_path / "metrics.jsonl").exists() and RunFolder(tmp_path).load_checkpoint() is None


def test_no_checkpoint_is_made_of_what_was_not_read(prepared: Prepared, tmp_path: Path) -> None:
    training = classification(prepared)

    def poisoned(model: nn.Module, batch: Batch, at: int) -> Mapping[str, Tensor]:
        loss = training.loss_of(model, batch, at)["loss"]
        return {"loss": loss * float("nan") if at == 2 else loss}

    with pytest.raises(WhymaskError, match="not finite at step 2 "):
        learn(replace(training, loss_of=poisoned), prepared, tmp_path, checkpoint_every=2)
    kept = RunFolder(tmp_path).load_checkpoint()
    assert kept is not None and kept.step == 2 and all(t.isfinite().all() for t in kept.tensors.values())


def test_numbers_are_read_as_they_are() -> None:
    scalars = [torch.tensor(0.1), torch.tensor(0.1, dtype=torch.float64), torch.tensor(3), torch.tensor(0.2)]
    scalars = [scalars[0].reshape(1), *scalars[1:]]  # as methods of one's own may give them
    assert read_together(scalars) == [float(scalar) for scalar in scalars]
    assert read_together([]) == []


# What a mask knows


def test_a_mask_knows_what_was_found_in_it_wherever_it_is() -> None:
    plain = uniform(4, (4, 4), 0.5, torch_generator(0))
    mask = Mask.of(plain)
    expected = indices(plain)
    assert hides(mask) and all(torch.equal(a, b) for a, b in zip(indices(mask), expected, strict=True))
    moved = mask.moved(lambda tensor: tensor.clone())
    with Questions() as questions:
        assert hides(moved) and all(part.shape == (4, 8) for part in indices(moved))
    assert not questions.asked
    assert len(moved.tensors()) == 3 and torch.equal(moved.tensors()[0], plain)
    assert type(~moved) is Tensor and type(moved.flatten(1)) is Tensor


def test_masks_are_joined_with_their_index_forms() -> None:
    plain = [uniform(3, (4, 4), ratio, torch_generator(seed)) for seed, ratio in ((0, 0.5), (1, 0.5), (2, 0.25))]
    known = [Mask.of(mask) for mask in plain]
    with_forms, without = joined(tuple(known[:2])), joined(tuple(plain[:2]))
    assert torch.equal(with_forms, without) and isinstance(with_forms, Mask) and "indices" in with_forms.found
    assert all(torch.equal(a, b) for a, b in zip(indices(with_forms), indices(without), strict=True))
    with pytest.raises(ValueError, match="different numbers"):
        indices(joined(tuple(known)))


def test_what_is_found_is_asked_once() -> None:
    asked: list[Tensor] = []
    mask = Mask.of(uniform(2, (2, 2), 0.5, torch_generator(0)))
    for _ in range(3):
        once(mask, "asked", lambda mask: len(asked.append(mask) or asked))
    assert len(asked) == 1 and once(mask.as_subclass(Tensor), "asked", lambda mask: 7) == 7
