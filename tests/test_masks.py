"""Masks: counts, independence from everything but the generator, and the two forms that a mask has."""

import re
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

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


# Groups, blocks and ranges of ratios


def count_of(squares: int, ratio: float) -> int:
    """How many squares are hidden: rounded, at least one hidden and one visible."""
    return min(max(round(ratio * squares), 1), squares - 1)


def draw_block(draw: st.DrawFn) -> tuple[tuple[int, int], int]:
    """A grid and the side of a block that fits it."""
    grid = draw(GRIDS)
    return grid, draw(st.integers(1, min(grid)).filter(lambda side: side * side < grid[0] * grid[1]))


BLOCKS = st.composite(draw_block)()


def in_whole_blocks(hidden: Tensor, side: int) -> Tensor:
    """Which squares (B, gh, gw) lie in some wholly hidden block of `side` squares a side: an opening."""
    room = F.pad(hidden.float().unsqueeze(1), (side,) * 4)
    corners = (F.avg_pool2d(room, side, stride=1) == 1).float()
    return F.max_pool2d(F.pad(corners, (side - 1,) * 4), side, stride=1)[:, 0, side:-side, side:-side] == 1


def box(mask: Tensor) -> tuple[int, int]:
    """Height and width of the smallest rectangle around a mask (gh, gw)."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def test_an_opening_keeps_what_lies_in_whole_blocks():
    mask = torch.tensor([[[1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 1]]]) == 1
    assert in_whole_blocks(mask, 2).int().tolist() == [[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]]
    assert torch.equal(in_whole_blocks(mask, 1), mask)


@settings(max_examples=50, deadline=None)
@given(groups=GRIDS, side=st.integers(1, 4), ratio=st.floats(0.01, 0.99), seed=st.integers(0, 10**6))
def test_uniform_hides_aligned_groups(groups, side, ratio, seed):
    grid = (groups[0] * side, groups[1] * side)
    mask = masks.uniform(4, grid, ratio, torch_generator(seed), side)
    assert mask.shape == (4, *grid) and mask.dtype == torch.bool
    parts = mask.view(4, groups[0], side, groups[1], side)
    assert torch.equal(parts.all(dim=4).all(dim=2), parts.any(dim=4).any(dim=2))
    whole = parts[:, :, 0, :, 0].flatten(1).sum(dim=1)
    assert whole.tolist() == [count_of(groups[0] * groups[1], ratio)] * 4


@pytest.mark.parametrize("grid", [(6, 4), (4, 6)])
def test_uniform_refuses_groups_that_do_not_divide_the_grid(grid):
    with pytest.raises(WhymaskError, match=f"4 squares does not divide the grid of {grid[0]}x{grid[1]}"):
        masks.uniform(2, grid, 0.5, torch_generator(0), 4)


@settings(max_examples=100, deadline=None)
@given(block=BLOCKS, ratio=st.floats(0.01, 0.99), seed=st.integers(0, 10**6))
def test_block_hides_whole_blocks_but_for_the_last_one(block, ratio, seed):
    grid, side = block
    mask = masks.block(5, grid, ratio, torch_generator(seed), side)
    assert mask.shape == (5, *grid) and mask.dtype == torch.bool
    assert mask.flatten(1).sum(dim=1).tolist() == [count_of(grid[0] * grid[1], ratio)] * 5
    for rest in mask & ~in_whole_blocks(mask, side):
        if rest.any():
            assert int(rest.sum()) < side * side and max(box(rest)) <= side


def test_block_covers_every_place_and_every_part_of_the_last_block_equally_often():
    one = masks.block(20_000, (4, 4), 1 / 16, torch_generator(0), 2).float().mean(dim=0)
    ways = torch.tensor([1.0, 2, 2, 1])  # in how many of the 3 x 3 places a block covers a square
    assert torch.allclose(one, ways.outer(ways) / 9 / 4, atol=0.01)
    pairs = masks.block(20_000, (2, 3), 2 / 6, torch_generator(0), 2).flatten(1).float()
    together = pairs.T @ pairs / len(pairs)  # 6 pairs in each of two blocks; squares 1 and 4 are in both
    assert torch.allclose(together[0, [1, 3, 4]], torch.full((3,), 1 / 12), atol=0.01)
    assert abs(together[1, 4] - 1 / 6) < 0.01 and together[0, 2] == 0


@settings(max_examples=50, deadline=None)
@given(block=BLOCKS, ratio=st.floats(0.01, 0.99), seed=st.integers(0, 10**6))
def test_inverse_block_shows_what_block_would_hide(block, ratio, seed):
    grid, side = block
    mask = masks.inverse_block(5, grid, ratio, torch_generator(seed), side)
    assert torch.equal(~mask, masks.block(5, grid, 1 - ratio, torch_generator(seed), side))
    assert (~mask).flatten(1).sum(dim=1).tolist() == [count_of(grid[0] * grid[1], 1 - ratio)] * 5


SAMPLERS = {
    "uniform": lambda batch, grid, ratio, generator: masks.uniform(batch, grid, ratio, generator, 2),
    "block": lambda batch, grid, ratio, generator: masks.block(batch, grid, ratio, generator, 3),
    "inverse-block": lambda batch, grid, ratio, generator: masks.inverse_block(batch, grid, ratio, generator, 3),
    "multiblock": lambda batch, grid, ratio, generator: torch.cat(masks.multiblock(batch, grid, generator), dim=2),
}


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_masks_are_a_function_of_the_generator_and_differ_between_samples(name):
    draw = SAMPLERS[name]
    first, again, other = (draw(4, (8, 6), 0.5, torch_generator("mask", step)) for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["uniform", "block", "inverse-block"]),
    bounds=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted).map(tuple),
    seed=st.integers(0, 10**6),
)
def test_a_ratio_between_bounds_hides_equally_much_within_a_batch(name, bounds, seed):
    hidden = SAMPLERS[name](5, (6, 8), bounds, torch_generator(seed)).flatten(1).sum(dim=1)
    size = 4 if name == "uniform" else 1
    low, high = (count_of(48 // size, bound) * size for bound in bounds)
    assert low <= hidden[0] <= high and (hidden == hidden[0]).all()


@pytest.mark.parametrize("name", ["uniform", "block", "inverse-block"])
def test_a_ratio_between_bounds_is_drawn_uniformly_for_each_batch(name):
    drawn = [SAMPLERS[name](2, (20, 20), (0.2, 0.6), torch_generator(step))[0].float().mean() for step in range(400)]
    shares = torch.stack(drawn)
    assert abs(shares.mean() - 0.4) < 0.03 and abs(shares.std() - 0.4 / 12**0.5) < 0.015
    assert shares.min() < 0.22 and shares.max() > 0.58


@pytest.mark.parametrize("ratio", [0.0, 1.0, float("nan"), (0.0, 0.5), (0.5, 1.0), (-0.1, 0.5), (0.5, float("nan"))])
def test_check_ratio_wants_every_bound_between_0_and_1(ratio):
    with pytest.raises(WhymaskError, match="between 0 and 1"):
        masks.check_ratio(ratio)


def test_check_ratio_wants_the_lower_bound_first():
    with pytest.raises(WhymaskError, match=r"from 0\.8 to 0\.4; the lower bound comes first, such as 0\.4 0\.8"):
        masks.check_ratio((0.8, 0.4))
    for ratio in (0.01, 0.99, (0.4, 0.8), (0.5, 0.5)):
        masks.check_ratio(ratio)


@settings(max_examples=100, deadline=None)
@given(grid=GRIDS, side=st.integers(-1, 12))
def test_check_block_says_which_sides_fit(grid, side):
    if 1 <= side <= min(grid) and side * side < grid[0] * grid[1]:
        masks.check_block(grid, side)
        masks.block(1, grid, 0.5, torch_generator(0), side)
        return
    with pytest.raises(WhymaskError, match=f"{grid[0]}x{grid[1]} squares: choose a block between 1 and") as error:
        masks.check_block(grid, side)
    largest = int(re.search(r"between 1 and (\d+)", str(error.value)).group(1))
    masks.check_block(grid, largest)
    for sampler in (masks.block, masks.inverse_block):
        with pytest.raises(WhymaskError, match="mask block of"):
            sampler(1, grid, 0.5, torch_generator(0), largest + 1)


# I-JEPA's masks

LARGER_GRIDS = st.tuples(st.integers(4, 14), st.integers(4, 14))
SCALES = {"target_scale": (0.15, 0.2), "target_aspect": (0.75, 1.5), "context_scale": (0.85, 1.0)}


def fits(size: tuple[int, int], grid: tuple[int, int], scale: tuple[float, float], aspect: tuple[float, float]) -> bool:
    """Whether a block's area and shape lie within the bounds, up to the rounding of its two sides."""
    (height, width), area, shape = size, grid[0] * grid[1], grid[0] / grid[1]
    small, large = (height - 0.5) * (width - 0.5) / area, (height + 0.5) * (width + 0.5) / area
    wide, tall = (height - 0.5) / (width + 0.5) / shape, (height + 0.5) / (width - 0.5) / shape
    return small <= scale[1] and large >= scale[0] and wide <= aspect[1] and tall >= aspect[0]


@settings(max_examples=100, deadline=None)
@given(grid=LARGER_GRIDS, count=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_multiblock_draws_rectangles_and_a_context_without_them(grid, count, seed):
    hidden, *targets = masks.multiblock(6, grid, torch_generator(seed), targets=count, **SCALES)
    assert len(targets) == count and all(mask.shape == (6, *grid) for mask in (hidden, *targets))
    assert all(mask.dtype == torch.bool for mask in (hidden, *targets))
    sizes = {box(target) for target in torch.cat(targets)}
    assert len(sizes) == 1
    size = sizes.pop()
    assert all(int(target.sum()) == size[0] * size[1] for target in torch.cat(targets))
    assert fits(size, grid, SCALES["target_scale"], SCALES["target_aspect"])
    shown = (~hidden).flatten(1).sum(dim=1)
    assert shown[0] > 0 and (shown == shown[0]).all()
    assert not (~hidden & torch.stack(targets).any(dim=0)).any()


def test_multiblock_finds_a_context_in_every_grid():
    for grid in product(range(4, 15), range(4, 15)):
        hidden, *_ = masks.multiblock(64, grid, torch_generator(*grid))
        assert not hidden.flatten(1).all(dim=1).any(), grid


@settings(max_examples=50, deadline=None)
@given(grid=LARGER_GRIDS, low=st.floats(0.2, 0.8), seed=st.integers(0, 10**6))
def test_multiblocks_context_is_a_block_of_its_scale_and_the_grids_shape(grid, low, seed):
    scale = (low, low + 0.2)
    one = {"targets": 1, "target_scale": (1e-6, 1e-6)}  # one square, so that all of the block but that is context
    hidden, target = masks.multiblock(1, grid, torch_generator(seed), context_scale=scale, **one)
    size = box(~hidden[0])
    assert int(target.sum()) == 1
    assert int((~hidden).sum()) in (size[0] * size[1], size[0] * size[1] - 1)
    assert fits(size, grid, scale, (1.0, 1.0))


@settings(max_examples=50, deadline=None)
@given(grid=LARGER_GRIDS, seed=st.integers(0, 10**6))
def test_multiblocks_context_is_all_of_its_block_but_the_targets(grid, seed):
    hidden, *targets = masks.multiblock(1, grid, torch_generator(seed), context_scale=(1.0, 1.0))
    assert torch.equal(hidden, torch.stack(targets).any(dim=0))


def test_multiblock_draws_sizes_for_each_batch_and_places_for_each_sample():
    drawn = [masks.multiblock(400, (10, 10), torch_generator(step)) for step in range(40)]
    assert len({box(targets[0][0]) for _, *targets in drawn}) > 2
    for _, first, second, *_ in drawn[:3]:
        height, width = box(first[0])
        corners = {tuple(target.nonzero()[0].tolist()) for target in first}
        assert corners == {(row, column) for row in range(11 - height) for column in range(11 - width)}
        assert not torch.equal(first, second)


def test_multiblock_hides_squares_of_larger_contexts_anywhere():
    """Not always the last ones, as in the paper's code: then the context would seldom reach the lower border."""
    places = [masks.multiblock(64, (8, 8), torch_generator(i), context_scale=(1.0, 1.0)) for i in range(40)]
    shown = torch.cat([~hidden for hidden, *_ in places]).float().mean(dim=0)
    assert torch.allclose(shown, shown.flip(0), atol=0.05) and torch.allclose(shown, shown.flip(1), atol=0.05)


@pytest.mark.parametrize(("grid", "scale"), [((2, 2), (1.0, 1.0)), ((6, 8), (0.99, 1.0)), ((1, 2), (0.9, 1.0))])
def test_multiblock_says_when_targets_leave_no_context(grid, scale):
    with pytest.raises(WhymaskError, match=f"no context in a grid of {grid[0]}x{grid[1]} squares"):
        masks.multiblock(2, grid, torch_generator(0), target_scale=scale, target_aspect=(1.0, 1.0))


# Parts of masks, and squares beyond the border


@settings(max_examples=50, deadline=None)
@given(grid=GRIDS, seed=st.integers(0, 10**6), data=st.data())
def test_keep_keeps_so_many_hidden_squares_of_samples_that_hide_unequally_many(grid, seed, data):
    mask = torch.rand(5, *grid, generator=torch_generator(seed)) < 0.7
    count = data.draw(st.integers(0, int(mask.flatten(1).sum(dim=1).min())))
    kept = masks.keep(mask, count, torch_generator(seed, "keep"))
    assert kept.shape == mask.shape and not (kept & ~mask).any()
    assert kept.flatten(1).sum(dim=1).tolist() == [count] * 5


def test_keep_draws_every_pair_equally_often():
    mask = torch.tensor([[[True, False, True], [True, True, False]]]).expand(20_000, 2, 3)
    kept = masks.keep(mask, 2, torch_generator(0)).flatten(1)[:, [0, 2, 3, 4]].float()
    pairs = kept.T @ kept / len(kept)
    assert torch.allclose(pairs, torch.full((4, 4), 1 / 6) + torch.eye(4) / 3, atol=0.02)


def test_subset_needs_equal_counts_and_keeps_all_at_a_share_of_1():
    mask = masks.block(3, (4, 5), 0.6, torch_generator(0), 2)
    assert torch.equal(masks.subset(mask, 1.0, torch_generator(0)), mask)
    with pytest.raises(ValueError, match="different numbers"):
        masks.subset(torch.tensor([[[True, True]], [[True, False]]]), 0.5, torch_generator(0))


@settings(max_examples=50, deadline=None)
@given(grid=GRIDS, unit=st.integers(1, 5), channels=st.integers(1, 3), data=st.data())
def test_cover_puts_squares_together_and_cuts_what_reaches_beyond(grid, unit, channels, data):
    whole = torch.randn(2, channels, grid[0] * unit, grid[1] * unit, generator=torch_generator(0))
    height, width = (side * unit - data.draw(st.integers(0, unit - 1)) for side in grid)
    assert torch.equal(masks.cover(masks.to_squares(whole, unit), unit, (height, width)), whole[:, :, :height, :width])
