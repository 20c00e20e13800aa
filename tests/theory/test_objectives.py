from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.randomness import torch_generator
from whymask.theory import data, sampled
from whymask.theory.augmented import Masked, Mixed
from whymask.theory.data import MultiView, Sample
from whymask.theory.network import Network, SmoothedReLU
from whymask.theory.objectives import (
    CrossEntropy,
    Gradients,
    NormalisedTargets,
    Objective,
    PixelReconstruction,
    TeacherStudent,
)
from whymask.theory.placed import Permuted, PlacedReconstruction, Settled

CLASSES = 3
OBJECTIVES = [
    TeacherStudent(0.4, 1.5),
    PixelReconstruction(0.3),
    CrossEntropy(),
    CrossEntropy(learned_head=False),
    CrossEntropy(train_kernels=False),
]
NORMALISED = NormalisedTargets(0.4, 0.7, 0.03)


@dataclass
class ByAutograd(Objective):
    """The loss of another objective, and its gradient by autograd."""

    of: Any
    trained: tuple[str, ...]

    def loss(self, network: Network, batch: Sample) -> Tensor:
        return self.of.loss(network, batch)


def trained_by(objective: Any) -> tuple[str, ...]:
    if isinstance(objective, CrossEntropy):
        return ("kernels",) * objective.train_kernels + ("head",) * objective.learned_head
    return ("kernels", "decoder") if isinstance(objective, PixelReconstruction) else ("kernels",)


def drawn(
    seeds: int = 2, images: int = 5, P: int = 4, d: int = 6, K: int = 7, copies: int = 1, q: float = 3,
    rho: float = 0.5, key: int = 0,
) -> tuple[Network, Sample]:  # fmt: skip
    """Random numbers whose correlations lie below 0, on the bend and above rho."""
    generator = torch.Generator().manual_seed(key)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(CLASSES, (seeds, images), generator=generator)
    batch = Sample(normal(seeds, images, P, d), labels, torch.zeros_like(labels, dtype=torch.bool), copies)
    tensors = {"head": normal(seeds, CLASSES, K), "decoder": normal(seeds, d, K, scale=0.3)}
    return Network(normal(seeds, K, d, scale=0.3), sigma=SmoothedReLU(q, rho), **tensors), batch


def assert_same(result: tuple[Tensor, Gradients], expected: tuple[Tensor, Gradients], tolerance: float = 1e-10) -> None:
    """The same loss, the same tensors trained, the same gradients; relative to the largest number."""
    assert result[1].keys() == expected[1].keys()
    pairs = [(result[0], expected[0])] + [(result[1][name], expected[1][name]) for name in expected[1]]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, float(theirs.abs().max())))


shapes = {
    "seeds": st.integers(1, 3), "images": st.integers(1, 3), "P": st.integers(1, 6), "d": st.integers(1, 5),
    "K": st.integers(1, 5), "q": st.sampled_from([2, 2.5, 3, 4]), "rho": st.floats(0.1, 1.5),
    "key": st.integers(0, 2**31),
}  # fmt: skip
shares = st.floats(0.1, 0.9)


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries(shapes), shares, st.floats(0.5, 2))
def test_teacher_student_equals_the_expectation_over_every_mask(shape: dict[str, Any], theta: float, tau: float):
    network, batch = drawn(**shape)
    expected = sampled.teacher_student(network, batch, theta, tau, sampled.every_mask(batch, theta))
    objective = TeacherStudent(theta, tau)
    assert_same(objective.gradients(network, batch), expected)
    torch.testing.assert_close(objective.loss(network, batch), expected[0], rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries(shapes), shares)
def test_pixel_reconstruction_equals_the_expectation_over_every_mask(shape: dict[str, Any], theta: float):
    network, batch = drawn(**shape)
    expected = sampled.pixel_reconstruction(network, batch, theta, sampled.every_mask(batch, theta))
    objective = PixelReconstruction(theta)
    assert_same(objective.gradients(network, batch), expected)
    torch.testing.assert_close(objective.loss(network, batch), expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("copies", [1, 2])
def test_normalised_targets_equal_the_expectation_over_every_mask(copies: int):
    network, batch = drawn(P=3, copies=copies)
    codes = network.codes(batch)
    targets = 0.7 * codes / codes.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(NORMALISED.targets(codes), targets)
    expected, gradients = sampled.to_targets(network, batch, 0.4, targets, sampled.every_mask(batch, 0.4))
    decay = 0.03 / 2 * network.kernels.square().sum((1, 2))
    decayed = {"kernels": gradients["kernels"] + 0.03 * network.kernels}
    assert_same(NORMALISED.gradients(network, batch), (expected + decay, decayed))


def test_shifted_targets_are_those_of_the_next_image():
    network, batch = drawn()
    codes = network.codes(batch)
    own, other = NORMALISED.targets(codes), replace(NORMALISED, shifted=True).targets(codes)
    torch.testing.assert_close(other[:, 1:], own[:, :-1])
    torch.testing.assert_close(other[:, 0], own[:, -1])


def test_masked_training_is_cross_entropy_of_the_visible_patches_and_tells_the_loss_of_whole_images():
    network, batch = drawn(seeds=2, images=40)
    loss, gradients = Masked(0.4, [3, 4]).gradients(network, batch)
    torch.testing.assert_close(loss, CrossEntropy().loss(network, batch))
    masks = [torch.rand(40, 4, generator=torch_generator(seed, "hidden", 0)) < 0.4 for seed in (3, 4)]

    def masked(moved: Network) -> Tensor:
        active = moved.sigma(batch.correlate(moved.kernels)) * torch.stack(masks)[..., None]
        logits = active.sum(2) / 0.4 @ moved.own_head.mT
        return -logits.log_softmax(2).gather(2, batch.labels[..., None])[..., 0].mean(1)

    for name, gradient in gradients.items():
        away = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = slopes(masked, network, name, away)
        torch.testing.assert_close((gradient * away).sum((1, 2)), expected, rtol=1e-6, atol=1e-7)
    alone = Masked(0.4, [4]).gradients(network.of(slice(1, 2)), batch.part(slice(1, 2), slice(None)))[1]
    torch.testing.assert_close(alone["kernels"][0], gradients["kernels"][1])


def test_mixed_training_is_cross_entropy_of_mixed_images_with_both_labels():
    network, batch = drawn(seeds=2, images=10)
    loss, gradients = Mixed([3, 4]).gradients(network, batch)
    torch.testing.assert_close(loss, CrossEntropy().loss(network, batch))
    drawn_shares = [float(torch.rand((), generator=torch_generator(seed, "mixed", 0))) for seed in (3, 4)]
    share = torch.tensor(drawn_shares, dtype=torch.float64)[:, None, None]
    patches = share[..., None] * batch.patches + (1 - share[..., None]) * batch.patches.roll(1, 1)
    onehot = torch.nn.functional.one_hot(batch.labels, CLASSES).double()
    soft = share * onehot + (1 - share) * onehot.roll(1, 1)

    def mixed(moved: Network) -> Tensor:
        logits = moved.logits(replace(batch, patches=patches))
        return -(soft * logits.log_softmax(2)).sum(2).mean(1)

    for name, gradient in gradients.items():
        away = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = slopes(mixed, network, name, away)
        torch.testing.assert_close((gradient * away).sum((1, 2)), expected, rtol=1e-6, atol=1e-7)


def test_probabilities_of_every_mask_sum_to_one_and_keep_the_share_theta():
    _, batch = drawn(P=3, copies=2)
    chances, masks = zip(*sampled.every_mask(batch, 0.3), strict=True)
    assert len(masks) == 2**6
    assert sum(chances) == pytest.approx(1)
    kept = sum(chance * mask for chance, mask in zip(chances, masks, strict=True))
    torch.testing.assert_close(kept, torch.full((1, 1, 6), 0.3, dtype=torch.float64))


def test_teacher_student_equals_every_mask_of_images_whose_copies_are_masked_apart():
    network, batch = drawn(P=2, copies=3)
    expected = sampled.teacher_student(network, batch, 0.4, 1.5, sampled.every_mask(batch, 0.4))
    assert_same(TeacherStudent(0.4, 1.5).gradients(network, batch), expected)


def test_closed_forms_equal_drawn_masks_within_their_statistical_error():
    network, batch = drawn(seeds=1, images=8, P=6, d=3, K=2)
    masks = [mask for _, mask in sampled.drawn_masks(batch, 0.4, torch.Generator().manual_seed(0), 300)]
    pairs: list[tuple[Any, Callable[[Any], tuple[Tensor, Gradients]]]] = [
        (TeacherStudent(0.4, 1.5), lambda masks: sampled.teacher_student(network, batch, 0.4, 1.5, masks)),
        (PixelReconstruction(0.4), lambda masks: sampled.pixel_reconstruction(network, batch, 0.4, masks)),
    ]
    for objective, by_masks in pairs:
        exact = flattened(objective.gradients(network, batch))
        each = torch.stack([flattened(by_masks([(1.0, mask)])) for mask in masks])
        error = each.std(0) / len(masks) ** 0.5
        assert ((each.mean(0) - exact).abs() <= 4.5 * error + 1e-12).all()
        weighted = by_masks((1 / len(masks), mask) for mask in masks)
        torch.testing.assert_close(flattened(weighted), each.mean(0))


def flattened(result: tuple[Tensor, Gradients]) -> Tensor:
    return torch.cat([result[0].flatten(), *(gradient.flatten() for gradient in result[1].values())])


@pytest.mark.parametrize("objective", [*OBJECTIVES, NORMALISED], ids=str)
@pytest.mark.parametrize("q", [2, 3, 4])
def test_gradients_equal_autograd(objective: Any, q: float):
    network, batch = drawn(q=q)
    expected = ByAutograd(objective, trained_by(objective)).gradients(network, batch)
    assert_same(objective.gradients(network, batch), expected)


@pytest.mark.parametrize("objective", [TeacherStudent(0.4, 1.5), CrossEntropy(), NORMALISED], ids=str)
def test_gradients_equal_autograd_where_patches_have_copies(objective: Any):
    network, batch = drawn(copies=3)
    expected = ByAutograd(objective, trained_by(objective)).gradients(network, batch)
    assert_same(objective.gradients(network, batch), expected)


def slopes(loss: Callable[[Network], Tensor], network: Network, name: str, away: Tensor, step: float = 1e-6) -> Tensor:
    """The derivative of each seed's loss along `away`, by central differences: (S,)."""
    at = network.tensors()[name]
    ahead, behind = (network.having(**{name: at + sign * step * away}) for sign in (1, -1))
    return (loss(ahead) - loss(behind)) / (2 * step)


@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=str)
def test_gradients_equal_finite_differences(objective: Any):
    network, batch = drawn()
    for name, gradient in objective.gradients(network, batch)[1].items():
        away = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = slopes(lambda moved: objective.loss(moved, batch), network, name, away)
        torch.testing.assert_close((gradient * away).sum((1, 2)), expected, rtol=1e-6, atol=1e-7)


def test_teacher_gets_no_gradient():
    """Finite differences with the teacher held still, (h^ - S)^2 and penalty written out, and not with it moving."""
    network, batch = drawn()
    objective = TeacherStudent(0.4, 1.5)
    still = replace(network, kernels=1.5 * network.kernels).codes(batch)

    def loss(moved: Network) -> Tensor:
        active = moved.sigma(batch.correlate(moved.kernels))
        penalty = (1 / 0.4 - 1) * active.square().sum((2, 3))
        return ((still - active.sum(2)).square().sum(2) + penalty).mean(1) / 2

    gradient = objective.gradients(network, batch)[1]["kernels"]
    away = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    along = (gradient * away).sum((1, 2))
    torch.testing.assert_close(loss(network), objective.loss(network, batch))
    torch.testing.assert_close(along, slopes(loss, network, "kernels", away), rtol=1e-6, atol=1e-7)
    moving = slopes(lambda moved: objective.loss(moved, batch), network, "kernels", away)
    assert ((along - moving).abs() > 0.01).all()


def test_theta_and_tau_of_a_kernel_act_on_this_kernel_alone():
    network, batch = drawn(K=4, copies=2)
    theta = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    tau = torch.tensor([1.0, 1.2, 1.5, 2.0], dtype=torch.float64)
    together = TeacherStudent(theta, tau)
    loss, gradients = together.gradients(network, batch)
    alone = [
        TeacherStudent(float(theta[r]), float(tau[r])).gradients(Network(network.kernels[:, r : r + 1]), batch)
        for r in range(4)
    ]
    torch.testing.assert_close(loss, torch.stack([result[0] for result in alone]).sum(0))
    torch.testing.assert_close(loss, together.loss(network, batch))
    torch.testing.assert_close(gradients["kernels"], torch.cat([result[1]["kernels"] for result in alone], dim=1))
    assert_same((loss, gradients), ByAutograd(together, ("kernels",)).gradients(network, batch))


@pytest.mark.parametrize("objective", [TeacherStudent(0.4, 1.5), *OBJECTIVES[2:]], ids=str)
def test_patches_stored_once_equal_their_copies_written_out(objective: Any):
    setting = MultiView(k=CLASSES, C_p=4, sigma=0, split="equal", d=8)
    once, written = (
        replace(setting, copied=copied).draw(torch.Generator().manual_seed(0), 20).to("cpu", torch.float64)
        for copied in (True, False)
    )
    assert (once.copies, written.copies) == (4, 1)
    network, _ = drawn(seeds=1, d=8)
    assert_same(objective.gradients(network, once), objective.gradients(network, written))
    torch.testing.assert_close(objective.loss(network, once), objective.loss(network, written))


def test_pixel_reconstruction_refuses_copies_and_a_network_without_decoder():
    network, batch = drawn(copies=2)
    with pytest.raises(WhymaskError, match="copied=False"):
        PixelReconstruction().gradients(network, batch)
    with pytest.raises(WhymaskError, match="copied=False"):
        PixelReconstruction().loss(network, batch)
    with pytest.raises(WhymaskError, match="decoder"):
        PixelReconstruction().gradients(Network(network.kernels), replace(batch, copies=1))


def test_cross_entropy_equals_pytorch():
    network, batch = drawn()
    expected = [
        torch.nn.functional.cross_entropy(logits, labels)
        for logits, labels in zip(network.logits(batch), batch.labels, strict=True)
    ]
    torch.testing.assert_close(CrossEntropy().loss(network, batch), torch.stack(expected))
    torch.testing.assert_close(CrossEntropy().gradients(network, batch)[0], torch.stack(expected))


def test_fixed_head_gives_each_class_its_own_kernels():
    network, batch = drawn(K=6)
    fixed = network.with_head(CLASSES, "fixed")
    torch.testing.assert_close(fixed.logits(batch), network.codes(batch).unflatten(2, (CLASSES, 2)).sum(3))
    assert not network.with_head(CLASSES, "learned").logits(batch).any()
    with pytest.raises(WhymaskError, match="no head"):
        Network(network.kernels).logits(batch)


@pytest.mark.parametrize("theta", [0.0, 1.0, -0.1, 1.5, float("nan"), torch.tensor([0.5, 1.0])])
def test_theta_outside_0_to_1_is_an_error(theta: Any):
    for objective in (TeacherStudent, PixelReconstruction):
        with pytest.raises(WhymaskError, match="strictly between 0 and 1"):
            objective(theta)


@pytest.mark.parametrize("objective", [*OBJECTIVES, NORMALISED], ids=str)
@pytest.mark.parametrize("elements", [1, 2 * 4 * 7, 2 * 5 * 4 * 7])  # an image, 2 of 5 images, 2 of 3 seeds at once
def test_batch_in_parts_equals_the_batch_at_once(objective: Any, elements: int, monkeypatch: pytest.MonkeyPatch):
    network, batch = drawn(seeds=3)
    assert len(list(batch.parts(7))) == 1
    expected, codes = objective.gradients(network, batch), network.codes(batch)
    monkeypatch.setattr(data, "BLOCK_ELEMENTS", {"cpu": elements})
    assert len(list(batch.parts(7))) == {1: 15, 56: 9, 280: 2}[elements]
    assert_same(objective.gradients(network, batch), expected, 1e-12)
    torch.testing.assert_close(network.codes(batch), codes)


def with_maps(**shape: Any) -> tuple[Network, Sample]:
    """Random numbers, with a decoder of each place."""
    network, batch = drawn(**shape)
    places, d = batch.patches.shape[2:]
    generator = torch.Generator().manual_seed(1)
    size = (len(network.kernels), places * d, network.kernels.shape[1])
    return network.having(decoder=0.3 * torch.randn(size, generator=generator, dtype=torch.float64)), batch


@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries(shapes), shares)
def test_placed_reconstruction_equals_the_expectation_over_every_mask(shape: dict[str, Any], theta: float):
    network, batch = with_maps(**shape)
    expected = sampled.placed_reconstruction(network, batch, theta, sampled.every_mask(batch, theta))
    objective = PlacedReconstruction(theta)
    assert_same(objective.gradients(network, batch), expected)
    assert_same(ByAutograd(objective, ("kernels", "decoder")).gradients(network, batch), expected)


def test_placed_reconstruction_is_near_drawn_masks_and_equals_the_free_decoder_where_all_maps_are_one():
    network, batch = with_maps(images=3, P=3)
    masks = sampled.drawn_masks(batch, 0.5, torch.Generator().manual_seed(0), 400)
    loss, _ = sampled.placed_reconstruction(network, batch, 0.5, masks)
    torch.testing.assert_close(PlacedReconstruction(0.5).loss(network, batch), loss, rtol=0.1, atol=0)
    one, _ = drawn(images=3, P=3)
    assert one.decoder is not None
    repeated = one.having(decoder=one.decoder.repeat(1, 3, 1))
    free, placed = PixelReconstruction(0.5).gradients(one, batch), PlacedReconstruction(0.5).gradients(repeated, batch)
    summed = placed[1] | {"decoder": placed[1]["decoder"].unflatten(1, (3, -1)).sum(1)}
    assert_same((placed[0], summed), free)
    with pytest.raises(WhymaskError, match="a decoder of each place"):
        PlacedReconstruction(0.5).loss(one, batch)


def test_permuted_images_have_the_same_patches_in_another_order_each():
    asked: dict[str, Any] = {"k": 3, "d": 12, "copied": False}
    plain, other = (kind(**asked).draw(torch_generator(0), 6).patches[0] for kind in (MultiView, Permuted))
    orders = torch.cdist(other.double(), plain.double()).argmin(2)
    for image, moved, order in zip(plain, other, orders, strict=True):
        assert sorted(order.tolist()) == list(range(len(image))) and torch.equal(image[order], moved)
    assert len(orders.unique(dim=0)) > 1


def test_settled_images_have_every_feature_at_places_of_its_own():
    data = Settled.of(MultiView(k=3, d=12, sigma=0.0))
    patches = data.draw(torch_generator(0), 40).patches[0]
    shown = (patches @ data.features.float().mT).abs() > 1e-6  # (B, P, n)
    assert data.patches == 12 and torch.equal(shown.any(0), torch.eye(6).repeat_interleave(2, 0).bool())
    assert 0.3 < shown.any(2).float().mean() < 1
