"""Attacks: equal to the closed form where there is one, within their ball and the pixels' range, and never in vain."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from questions import Questions
from tiny import digits, new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import EncoderSettings
from whymask.explanations import batching, conclusions
from whymask.explanations.compared import Compared
from whymask.explanations.measures import adversarial
from whymask.explanations.measures.adversarial import (
    ACCURACY,
    ATTACK,
    BOUND,
    CHANGES,
    EPS,
    INCREASE,
    NOISE,
    NORMS,
    RANGES,
    RELATIVE_SHIFT,
    SHIFT,
    STILL,
    Norm,
    adversarial_scores,
    attack,
    head_lipschitz,
    noises,
    of,
    size,
    starts,
)
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key, Number, Scores, summarise
from whymask.randomness import torch_generator
from whymask.stages.network import Classifier

SHAPE = torch.Size((6, 3, 8, 8))
VIEW = Preprocessing((32, 32), (32, 32), 1, mean=(0.5,), std=(0.25,))


def weights(scale: float = 3) -> Tensor:
    """Of a linear network of two classes on the pixels of `SHAPE`."""
    return scale * torch.randn(2, SHAPE[1:].numel(), generator=torch_generator(0, "weights"))


def linear_losses(weight: Tensor, labels: Tensor, pixels: Tensor) -> Tensor:
    return F.cross_entropy((pixels - 0.5).flatten(1) @ weight.T, labels, reduction="none")


def grey(spread: float = 0.1) -> Tensor:
    """Pixels far from the ends of their range."""
    return 0.5 + spread * (torch.rand(SHAPE, generator=torch_generator(0, "grey")) - 0.5)


def member(name: str, **settings: object) -> tuple[Member, Tensor, Tensor]:
    """A network, and digits whose classes it says of half of them."""
    encoder = new_encoder(EncoderSettings(name, **settings), (32, 32), 1, 0)  # type: ignore[arg-type]
    encoder.transform = Preprocessing((32, 32), (32, 32), 1, mean=(0.3,), std=(0.5,))
    classifier = Classifier(encoder, 3)
    with torch.no_grad():
        classifier.head.weight.mul_(20)
    network, images = Member("baseline", "scratch", 0, classifier, VIEW), (digits(8).clamp(-1, 1) + 0.2) * 1.5
    return network, images, torch.where(torch.arange(8) < 4, network(images).argmax(1), torch.arange(8) % 3)


@pytest.fixture(scope="module")
def asked() -> tuple[Scores, Member, Tensor, Tensor]:
    network, images, labels = member("cnn", width=8)
    return adversarial_scores(network, images, labels), network, images, labels


# the attack ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "close"), [("L-inf", 1e-4), ("L2", 0.03)])
def test_of_a_linear_network_it_is_the_closed_form(norm: Norm, close: float) -> None:
    """The margin falls by eps |w|_1, or by eps sqrt(d) |w|_2: the loss is log(1 + exp(eps |w| - margin))."""
    weight, labels, pixels, eps = weights(), torch.arange(6) % 2, grey(), 0.02
    losses = partial(linear_losses, weight, labels)
    gap = weight[1] - weight[0]
    d = gap.numel()
    length = gap.abs().sum() if norm == "L-inf" else d**0.5 * gap.norm()
    margin = ((pixels - 0.5).flatten(1) @ gap) * (2 * labels - 1)
    expected = F.softplus(eps * length - margin)
    found = losses(attack(losses, pixels, starts(norm, SHAPE), eps, norm))
    assert (expected > losses(pixels) + 1).all()  # so much is to be found
    assert torch.allclose(found, expected, rtol=close, atol=close)
    if norm == "L2":  # from the middle there is nothing to turn
        straight = losses(attack(losses, pixels, torch.zeros(SHAPE), eps, norm))
        assert torch.allclose(straight, expected, rtol=1e-4, atol=1e-4) and (found <= expected + 1e-4).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [1 / 255, 0.3])
def test_it_leaves_neither_the_ball_nor_the_range_of_pixels(norm: Norm, eps: float) -> None:
    pixels = torch.rand(SHAPE, generator=torch_generator(1)).round(decimals=1)  # some at the ends
    seen: list[Tensor] = []

    def losses(shown: Tensor) -> Tensor:
        seen.append(shown.detach())
        return linear_losses(weights(), torch.arange(6) % 2, shown)

    seen.append(attack(losses, pixels, starts(norm, SHAPE), eps, norm))
    assert len(seen) == 1 + adversarial.STEPS + 1 + 1
    for shown in seen:
        change = shown - pixels
        largest = change.abs().amax() if norm == "L-inf" else size(change).amax()
        assert largest <= eps * (1 + 1e-5) + 1e-7 and shown.amin() >= 0 and shown.amax() <= 1


@pytest.mark.parametrize("norm", NORMS)
def test_the_loss_is_never_below_that_of_the_image_or_of_any_step(norm: Norm) -> None:
    """Of a loss with many hills, which steps jump over."""
    seen: list[Tensor] = []

    def losses(shown: Tensor) -> Tensor:
        loss = torch.sin(300 * shown).sum(dim=(1, 2, 3))
        seen.append(loss.detach())
        return loss

    found = losses(attack(losses, grey(), starts(norm, SHAPE), 0.1, norm))
    assert torch.equal(found.detach(), torch.stack(seen[:-1]).amax(dim=0))
    assert found.mean() > seen[0].mean() and (seen[-2] < found).any()


def test_without_a_gradient_the_best_stays() -> None:
    pixels = grey()
    for norm in NORMS:
        flat = attack(lambda shown: 0 * shown.sum(dim=(1, 2, 3)), pixels, starts(norm, SHAPE), 0.1, norm)
        assert torch.equal(flat, pixels)
        tiny = attack(lambda shown: 1e-30 * shown.sum(dim=(1, 2, 3)), pixels, torch.zeros(SHAPE), 0.1, norm)
        assert torch.allclose(tiny - pixels, torch.full(SHAPE, 0.1), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_starts_lie_in_the_ball_and_noise_on_its_edge(norm: Norm) -> None:
    start, noise = starts(norm, SHAPE), noises(norm, SHAPE)
    assert torch.equal(start, starts(norm, SHAPE)) and torch.equal(noise, noises(norm, SHAPE))
    assert torch.allclose(size(noise), torch.ones(6, 1, 1, 1))
    if norm == "L-inf":
        assert start.abs().amax() <= 1 and (noise.abs() == 1).all()
    else:
        assert (size(start) <= 1 + 1e-6).all() and (size(start) > 0.9).all()


# the bound -------------------------------------------------------------------------------------------------------


def test_the_lipschitz_constant_of_a_head_holds_and_is_reached() -> None:
    weight = torch.randn(4, 5, generator=torch_generator(2))
    constant = head_lipschitz(weight)
    assert head_lipschitz(weight + 7 * torch.ones(4, 1) @ torch.randn(1, 5)) == pytest.approx(constant, rel=1e-5)
    random = torch_generator(3)
    before, after = (3 * torch.randn(2000, 5, generator=random) for _ in range(2))
    labels = torch.randint(4, (2000,), generator=random)
    rise = (F.cross_entropy(after @ weight.T, labels, reduction="none")
            - F.cross_entropy(before @ weight.T, labels, reduction="none"))  # fmt: skip
    assert (rise.abs() <= constant * (after - before).norm(dim=1)).all()
    steep = torch.tensor([[1.0], [-1.0]])  # of two classes: the log odds change by 2, and so does the loss
    far = F.cross_entropy(torch.tensor([[-90.0, 90.0]]), torch.tensor([0])) - F.cross_entropy(
        torch.tensor([[-80.0, 80.0]]), torch.tensor([0])
    )
    assert head_lipschitz(steep) * 10 == pytest.approx(float(far))


@pytest.mark.parametrize(
    ("name", "sizes"), [("vit", {"width": 32, "depth": 1, "heads": 2}), ("two-layer", {"width": 8})]
)
def test_of_any_network_the_loss_rises_within_its_bound(name: str, sizes: dict[str, int]) -> None:
    check_bound(adversarial_scores(*member(name, **sizes)))


def check_bound(scores: Scores) -> None:
    for norm in NORMS:
        for eps in EPS:
            rise, bound = (scores[Key(of(quantity, norm, ATTACK), at=eps)] for quantity in (INCREASE, BOUND))
            assert (rise >= 0).all() and (rise <= bound + 1e-5).all() and rise.max() > 1e-4
            noise = scores[Key(of(INCREASE, norm, NOISE), at=eps)]
            assert (np.abs(noise) <= scores[Key(of(BOUND, norm, NOISE), at=eps)] + 1e-5).all()
            assert noise.mean() < rise.mean()


def test_scores_of_a_network(asked: tuple[Scores, Member, Tensor, Tensor]) -> None:
    scores, network, images, labels = asked
    check_bound(scores)
    whole = network.recognises(images, labels).numpy()
    assert np.array_equal(scores[Key(ACCURACY)], whole) and 0 < whole.sum() < 8
    for norm in NORMS:
        for change in CHANGES:
            still = [scores[Key(of(STILL, norm, change), at=eps)] for eps in EPS]
            assert all(np.array_equal(np.isnan(row), ~whole) for row in still)
            assert np.array_equal(
                scores[Key(f"{of(STILL, norm, change)} mean")], np.mean(still, axis=0), equal_nan=True
            )
            for eps in EPS:
                shift, relative = (scores[Key(of(q, norm, change), at=eps)] for q in (SHIFT, RELATIVE_SHIFT))
                features = torch.from_numpy(network.pooled(images)).norm(dim=1).numpy()
                assert np.allclose(shift / relative, features, rtol=1e-3)
        rises = [scores[Key(of(INCREASE, norm, ATTACK), at=eps)].mean() for eps in EPS]
        assert rises == sorted(rises)
    summarise("adversarial", "scratch", {0: scores}, ranges=RANGES)  # every value is within its range


def test_the_head_reads_what_a_frozen_classifiers_norm_gives_it() -> None:
    network, images, labels = member("cnn", width=8)
    frozen = Classifier(network.encoder, 3, frozen=True)
    frozen.norm.running_mean.fill_(0.2)  # type: ignore[union-attr, operator]
    scores = adversarial_scores(replace(network, classifier=frozen), images, labels)
    eps = EPS[-1]
    relative, shift = (scores[Key(of(q, "L2", ATTACK), at=eps)] for q in (RELATIVE_SHIFT, SHIFT))
    with torch.inference_mode():
        read = frozen.norm(torch.from_numpy(network.pooled(images))).norm(dim=1).numpy()
    assert np.allclose(shift / relative, read, rtol=1e-3)


def test_bits_repeat_and_batches_do_not_matter(
    asked: tuple[Scores, Member, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, network, images, labels = asked
    again = adversarial_scores(network, images, labels)
    assert all(np.array_equal(scores[key], again[key], equal_nan=True) for key in scores)
    shown: list[int] = []
    network.encoder.register_forward_pre_hook(lambda module, given: shown.append(len(given[0])))
    monkeypatch.setattr(batching, "BATCH", 3)
    parts = adversarial_scores(network, images, labels)
    assert max(shown) == 3
    assert all(np.allclose(scores[key], parts[key], atol=2e-3, equal_nan=True) for key in scores)


def test_a_network_is_asked_nothing_while_it_is_attacked(
    asked: tuple[Scores, Member, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU each question would wait for the 20 steps before."""
    _, network, images, labels = asked
    questions, together = Questions(), Member.together

    def watched(member: Member, kind: str, compute: Callable[..., Tensor], *given: Tensor) -> Tensor:
        with questions:
            return together(member, kind, compute, *given)

    monkeypatch.setattr(Member, "together", watched)
    monkeypatch.setattr(adversarial, "EPS", EPS[:1])
    adversarial_scores(network, images, labels)
    assert questions.asked == []


def test_weights_get_no_gradient_and_the_network_is_as_it_was(asked: tuple[Scores, Member, Tensor, Tensor]) -> None:
    _, network, _, _ = asked
    assert all(p.grad is None and not p.requires_grad for p in network.classifier.parameters())
    assert not any(module.training for module in network.classifier.modules() if isinstance(module, nn.Module))


# what may be concluded -------------------------------------------------------------------------------------------


def test_a_conclusion_needs_both_norms_and_the_third_network() -> None:
    def rows(other: str, *of_norms: tuple[float, float]) -> list[Number]:
        return [
            Number("adversarial", f"{of(STILL, norm, ATTACK)} mean", f"mae - {other}", sum(b) / 2, *b, 5, "seeds")
            for norm, b in zip(NORMS, of_norms, strict=True)
        ]

    def verdict(numbers: list[Number]) -> str:
        (found,) = conclusions.draw(numbers, Compared("mae", "scratch", ("mae", "scratch")))
        return found.verdict

    better, unclear, worse = (0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1)
    third = rows("scratch-erased", better, better)
    assert verdict(rows("scratch", better, better) + third) == "supported"
    assert verdict(rows("scratch", better, better)) == verdict(rows("scratch", better, unclear) + third) == "open"
    assert verdict(rows("scratch", worse, worse)) == "against"
