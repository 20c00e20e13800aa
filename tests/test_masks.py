"""Masks: counts, independence from everything but the generator, and the two forms that a mask has."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from whymask import masks
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator

GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda grid: grid[0] * grid[1] >= 2)


@settings(max_examples=50, deadline=None)
@given(grid=GRIDS, ratio=st.floats(0.01, 0.99), seed=st.integers(0, 10**6))
def test_uniform_hides_the_rounded_share_in_every_sample(grid, ratio, seed):
    mask = masks.uniform(5, grid, ratio, torch_generator(seed))
    squares = grid[0] * grid[1]
    assert mask.shape == (5, *grid) and mask.dtype == torch.bool
    counts = mask.flatten(1).sum(dim=1)
    assert counts.tolist() == [min(max(round(ratio * squares), 1), squares - 1)] * 5


def test_uniform_is_a_function_of_the_generator_and_differs_between_samples():
    first, again, other = (masks.uniform(4, (8, 8), 0.5, torch_generator("mask", step)) for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_uniform_hides_every_square_and_every_pair_equally_often():
    mask = masks.uniform(20_000, (2, 3), 0.5, torch_generator(0)).flatten(1).float()
    assert torch.allclose(mask.mean(dim=0), torch.full((6,), 0.5), atol=0.02)
    pairs = mask.T @ mask / len(mask)  # 3 of 6 hidden: both of a pair in 1 / 5 of the draws
    assert torch.allclose(pairs[~torch.eye(6, dtype=torch.bool)], torch.full((30,), 0.2), atol=0.02)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(WhymaskError, match="between 0 and 1"):
        masks.uniform(2, (4, 4), ratio, torch_generator(0))


def test_a_single_square_cannot_be_masked():
    with pytest.raises(WhymaskError, match="smaller patch"):
        masks.uniform(2, (1, 1), 0.5, torch_generator(0))


@settings(max_examples=50, deadline=None)
@given(grid=GRIDS, ratio=st.floats(0.1, 0.9), share=st.floats(0.01, 1), seed=st.integers(0, 10**6))
def test_subset_keeps_the_rounded_share_of_the_hidden_squares(grid, ratio, share, seed):
    mask = masks.uniform(4, grid, ratio, torch_generator(seed))
    kept = masks.subset(mask, share, torch_generator(seed, "subset"))
    assert not (kept & ~mask).any()
    assert kept.flatten(1).sum(dim=1).tolist() == [max(round(share * int(mask[0].sum())), 1)] * 4


def test_subset_draws_every_hidden_square_equally_often():
    mask = torch.tensor([[[True, False, True], [True, True, False]]]).expand(20_000, 2, 3)
    kept = masks.subset(mask, 0.5, torch_generator(0)).float().mean(dim=0)
    assert torch.allclose(kept, torch.tensor([[0.5, 0, 0.5], [0.5, 0.5, 0]]), atol=0.02)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(WhymaskError, match="share"):
        masks.subset(masks.uniform(2, (4, 4), 0.5, torch_generator(0)), share, torch_generator(0))


@settings(max_examples=50, deadline=None)
@given(grid=GRIDS, ratio=st.floats(0.1, 0.9), seed=st.integers(0, 10**6))
def test_index_form_lists_visible_and_hidden_squares_in_ascending_order(grid, ratio, seed):
    mask = masks.uniform(3, grid, ratio, torch_generator(seed))
    visible, hidden = masks.indices(mask)
    for row in range(3):
        flat = mask[row].flatten().tolist()
        assert visible[row].tolist() == [i for i, h in enumerate(flat) if not h]
        assert hidden[row].tolist() == [i for i, h in enumerate(flat) if h]


def test_index_form_needs_equal_counts():
    unequal = torch.tensor([[[True, True, False, False]], [[True, False, False, False]], [[True, True, True, False]]])
    with pytest.raises(ValueError, match="different numbers"):
        masks.indices(unequal)


def test_squares_are_those_of_unfold_and_come_back():
    images = torch.randn(2, 3, 12, 8)
    squares = masks.to_squares(images, 4)
    assert torch.equal(squares, F.unfold(images, 4, stride=4).transpose(1, 2))
    assert torch.equal(masks.from_squares(squares, 4, (12, 8)), images)


def test_pixels_and_squares_number_alike():
    mask = masks.uniform(2, (3, 2), 0.5, torch_generator(0))
    pixels = masks.to_pixels(mask, 4)
    assert pixels.shape == (2, 1, 12, 8)
    assert torch.equal(masks.to_squares(pixels, 4).all(dim=2), mask.flatten(1))
    assert torch.equal(masks.to_squares(pixels, 4).any(dim=2), mask.flatten(1))


def test_take_picks_rows_of_each_sample():
    tokens, index = torch.randn(3, 5, 2), torch.tensor([[4, 0], [1, 1], [2, 3]])
    assert torch.equal(masks.take(tokens, index), torch.stack([t[i] for t, i in zip(tokens, index, strict=True)]))
