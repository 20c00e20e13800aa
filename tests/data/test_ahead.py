"""Batches that a thread makes ahead: the same bits in the same order, errors where they belong, no thread left over."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whymask.data.ahead import Ahead
from whymask.data.batches import Batch, Batches
from whymask.data.crops import Augment
from whymask.data.moving import CHUNK, Moves, Resident, Staging, fits
from whymask.data.preprocessing import Preprocessing
from whymask.data.strong import Strong

CPU = torch.device("cpu")


def batches(side: int = 12, count: int = 40, batch_size: int = 8, kind: type = np.uint8, **given_: Any) -> Batches:
    """Of noise, three channels, of which the network sees all but 2 pixels a side."""
    high = float(np.iinfo(kind).max)
    pixels = np.random.default_rng(0).integers(int(high) + 1, size=(count, side, side, 3)).astype(kind)
    prep = Preprocessing((side - 2, side - 2), (side, side), 3, 0.0, high, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    images: Any = SimpleNamespace(images=pixels, labels=np.arange(count), preprocessing=prep)
    asked = {"rows": np.arange(count), "batch_size": batch_size, "seed": 0, "augment": Augment()}
    return Batches(images, **(asked | given_))


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(one.tensors(), other.tensors(), strict=True)
    return np.array_equal(one.rows, other.rows) and all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = {*threading.enumerate()}
    yield
    assert {*threading.enumerate()} <= before


STRONG = Strong("rand-m9-mstd0.5-inc1", 0.5)


@given(
    depth=st.integers(0, 5),
    first=st.integers(0, 9),
    count=st.integers(1, 12),
    side=st.sampled_from([12, 40]),
    strong=st.sampled_from([None, STRONG]),
    augment=st.sampled_from([None, Augment()]),
)
@settings(deadline=None, max_examples=40)
def test_batches_do_not_depend_on_how_far_ahead_they_are_made(
    depth: int, first: int, count: int, side: int, strong: Strong | None, augment: Augment | None
) -> None:
    made = batches(side, strong=strong, augment=augment)
    steps = range(first, first + count)
    with made.ahead(steps, depth):
        taken = [made(step) for step in steps]
    alone = batches(side, strong=strong, augment=augment)
    assert all(same(batch, alone(step)) for batch, step in zip(taken, steps, strict=True))


@given(parts=st.sampled_from([1, 2, 4]), world=st.sampled_from([1, 2]), depth=st.integers(0, 3))
@settings(deadline=None, max_examples=20)
def test_parts_and_ranks_together_are_the_whole_batch(parts: int, world: int, depth: int) -> None:
    whole, found = batches(strong=STRONG), []
    for rank in range(world):
        made = batches(strong=STRONG, parts=parts, rank=rank, world=world)
        with made.ahead(range(2, 4), depth):
            found.append([made(turn) for turn in range(2 * parts, 4 * parts)])
            assert np.array_equal(made.rows_of(2), whole(2).rows)  # of all ranks
    for i, step in enumerate((2, 3)):
        together = [of_rank[i * parts + part] for part in range(parts) for of_rank in found]
        assert torch.equal(torch.cat([part.images for part in together]), whole(step).images)
        assert np.array_equal(np.concatenate([part.rows for part in together]), whole(step).rows)


def test_a_step_out_of_turn_is_made_on_the_spot() -> None:
    made, alone = batches(), batches()
    with made.ahead(range(3, 6)):
        for step in (7, 3, 0, 4, 4, 5, 6):
            assert same(made(step), alone(step))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("augment", [None, Augment()])
def test_batches_by_buffers_that_are_used_again_are_those_of_fresh_memory(kind: type, augment: Augment | None) -> None:
    made, staging = batches(kind=kind, augment=augment), Staging(CPU)
    taken = [staging.together(lambda moves, step=step: made.made(step, moves))[0] for step in range(7)]
    assert len(staging.buffers) == 4  # pixels and labels, in two turns
    assert all(same(batch, made(step)) for step, batch in enumerate(taken))


def test_buffers_grow_with_what_they_hold() -> None:
    staging = Staging(CPU, turns=1)
    given_ = [torch.arange(size, dtype=kind) for size, kind in ((3, torch.int64), (9, torch.int64), (5, torch.uint8))]
    given_.append(torch.tensor([True, False]))
    taken = [staging.together(lambda moves, tensor=tensor: moves(tensor))[0] for tensor in given_]
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(taken, given_, strict=True))
    assert list(staging.buffers) == [(0, 0)] and len(staging.buffers[0, 0]) == 72


def test_images_that_all_lie_on_the_device_make_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whymask.data.batches.fits", lambda images, rows, device: True)
    monkeypatch.setattr("whymask.data.moving.CHUNK", 1000)  # a few images at a time
    made, staging = batches(rows=np.array([30, 2, 5, 7, 11, 13, 17, 19, 23])), Staging(CPU)
    with made.ahead(range(0)):  # where it is decided
        pass
    taken = [staging.together(lambda moves, step=step: made.made(step, moves))[0] for step in range(5)]
    assert made._resident is not None and len(made._resident.pixels) == 9
    assert all(same(batch, made(step)) for step, batch in enumerate(taken))


def test_a_tenth_of_the_free_memory_of_a_gpu_holds_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, gpu = np.zeros((8, 10, 10, 1), np.uint8), torch.device("cuda")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (8000, 10**6))
    assert fits(images, np.arange(8), gpu) and not fits(np.zeros((9, 10, 10, 1), np.uint8), np.arange(9), gpu)
    assert not fits(images, np.arange(8), CPU) and not fits(images.astype(np.uint16), np.arange(2), gpu)
    assert CHUNK >= 2**20


def test_rows_of_resident_images_are_found_by_their_numbers() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(10, 2, 1, 1)
    there = Resident(images, np.array([7, 3, 7, 1]), CPU)
    assert torch.equal(there.rows(np.array([3, 1, 7]), Moves(CPU)), torch.from_numpy(images[[3, 1, 7]]))


def test_an_error_is_raised_where_its_step_is_taken() -> None:
    def make(step: int) -> int:
        if step == 3:
            raise OSError("the disk is gone")
        return step * step

    with Ahead(make, range(6)) as ahead:
        assert [ahead.take() for _ in range(3)] == [0, 1, 4]
        with pytest.raises(OSError, match="the disk is gone"):
            ahead.take()
        assert ahead.next is None


def test_no_more_are_made_than_may_wait() -> None:
    begun, is_begun = list[int](), threading.Semaphore(0)

    def make(step: int) -> None:
        begun.append(step)
        is_begun.release()

    with Ahead(make, range(100), depth=3) as ahead:
        for taken in range(50):
            for _ in range(1 if taken else 4):
                is_begun.acquire()
            assert begun == [*range(taken + 4)]  # three wait, one has no room
            ahead.take()


def test_whoever_leaves_early_leaves_no_thread() -> None:
    with pytest.raises(ZeroDivisionError), Ahead(lambda step: time.sleep(0.01), range(1000)) as ahead:
        ahead.take()
        raise ZeroDivisionError
    assert not ahead._thread.is_alive()


def test_what_a_step_draws_is_not_what_the_thread_draws() -> None:
    """PyTorch's global generator is the step's alone, whatever is made meanwhile."""
    made = batches(strong=STRONG)
    torch.manual_seed(5)
    expected = [torch.rand(4) for _ in range(30)]
    with made.ahead(range(30)):
        torch.manual_seed(5)
        for step in range(30):
            made(step)
            assert torch.equal(torch.rand(4), expected[step])
