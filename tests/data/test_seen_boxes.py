"""Boxes as a network sees them: in images that are padded, and in crops that are mirrored."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from whymask.data.boxes import Boxes
from whymask.data.crops import Crops, objects_in_crops, resized_crops
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.data.store import open_images
from whymask.tasks import Classification

SIDES = st.integers(3, 90)


def boxes_of(rows: list[list[list[float]]], sizes: list[tuple[int, int]]) -> Boxes:
    """Of each image its objects: left, top, right, bottom, class, ignored."""
    counts = [len(row) for row in rows]
    every = np.array([one for row in rows for one in row], float).reshape(-1, 6)
    return Boxes(
        np.ones(len(rows), bool),
        np.concatenate([[0], np.cumsum(counts)]),
        every[:, :4],
        every[:, 4].astype(int),
        every[:, 5].astype(np.uint8),
        (every[:, 2] - every[:, 0]) * (every[:, 3] - every[:, 1]),
        np.array(sizes),
    )


@given(height=SIDES, width=SIDES, store=st.tuples(st.integers(8, 64), st.integers(8, 64)))
def test_an_image_is_seen_whole_and_grey_is_beside_it(height: int, width: int, store: tuple[int, int]) -> None:
    prep = Preprocessing(store, store, 1, pads=True)
    seen = prep.decode(np.full((height, width), 255, np.uint8))[..., 0]
    fitted = prep.fitting(height, width)
    assert seen.shape == store
    assert fitted[0] == store[0] or fitted[1] == store[1]
    assert (seen[: fitted[0], : fitted[1]] == 255).all()
    assert (seen[fitted[0] :] == 128).all() and (seen[:, fitted[1] :] == 128).all()
    assert Preprocessing.from_dict(prep.to_dict()) == prep


@given(data=st.data(), height=SIDES, width=SIDES)
def test_a_box_lies_where_its_object_is_seen(data: st.DataObject, height: int, width: int) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    image = np.zeros((height, width), np.uint8)
    image[top:bottom, left:right] = 255
    prep = Preprocessing((40, 56), (40, 56), 1, interpolation="nearest", pads=True)
    boxes = boxes_of([[[left, top, right, bottom, 0, 0]]], [(height, width)])
    ((one,),) = boxes.seen(np.array([0]), prep.fitting)
    found = np.argwhere(prep.decode(image)[..., 0] == 255)
    if len(found):
        (first, start), (last, end) = found.min(axis=0), found.max(axis=0) + 1
        assert np.abs(one[:4] - [start, first, end, last]).max() <= 0.5 + 1e-4
    assert one[4:6].tolist() == [0, 0] and one[6] == (bottom - top) * (right - left)
    fitted = prep.fitting(height, width)
    np.testing.assert_allclose(one[7], height * width / (fitted[0] * fitted[1]), rtol=1e-5)


@given(
    data=st.data(),
    flip=st.booleans(),
    corner=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    sides=st.tuples(st.integers(4, 20), st.integers(4, 20)),
)
def test_objects_move_with_the_crop_and_are_cut_off_where_it_ends(
    data: st.DataObject, flip: bool, corner: tuple[int, int], sides: tuple[int, int]
) -> None:
    """Each pixel of a crop that shows an object lies in its box, the box's sides are where the object ends, and what
    has its centre elsewhere is none."""
    box = np.sort(data.draw(st.lists(st.integers(0, 40), min_size=4, max_size=4, unique=True)))
    left, right, top, bottom = box[0], box[2], box[1], box[3]
    one = torch.zeros(1, 1, 8)
    one[0, 0, :5] = torch.tensor([left, top, right, bottom, 3.0])
    crop = Crops(*(torch.tensor([value]) for value in (*corner, *sides)), torch.tensor([flip]))
    seen = objects_in_crops(one, crop, (sides[0] * 3, sides[1] * 3))[0, 0]
    centre = ((top + bottom) / 2 - corner[0], (left + right) / 2 - corner[1])
    inside = 0 <= centre[0] < sides[0] and 0 <= centre[1] < sides[1]
    assert seen[4] == (3 if inside else -1)
    if inside:
        image = torch.zeros(1, 1, 41, 41)
        image[..., top:bottom, left:right] = 1
        shown = resized_crops(image, crop, (sides[0] * 3, sides[1] * 3))[0, 0] > 0.5
        rows, columns = (np.flatnonzero(shown.any(dim=dim).numpy()) for dim in (1, 0))
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(seen[:4], expected, atol=1e-3)
    assert torch.equal(seen[5:], one[0, 0, 5:])


def test_a_store_keeps_boxes_with_its_images_and_knows_when_they_change(tmp_path: Path) -> None:
    """An image that cannot be read takes its boxes with it; another box, class or name makes other data."""
    rows = [[[1, 1, 5, 6, 0, 0]], [[2, 2, 8, 9, 1, 0]], [], [[0, 0, 4, 4, 1, 0], [3, 3, 9, 9, 0, 2]]]
    sizes = [(10, 12)] * 4

    def read(row: int) -> Image.Image:
        if row == 1:
            raise OSError("damaged")
        return Image.new("L", (12, 10), 20 * row)

    def opened(boxes: Boxes) -> "tuple[str, np.ndarray, np.ndarray]":
        source = Source("drawn", ["a", "b", "c", "d"], read, "stamp", np.zeros(4, int), Classification(("x", "y")))
        source = Source(**(vars(source) | {"boxes": boxes}))
        images = open_images(source, Preprocessing((20, 24), (20, 24), 1, pads=True), tmp_path)
        assert images.boxes is not None
        return images.fingerprint, images.objects_of(np.arange(3)), images.boxes.counts(2)

    first, objects, counts = opened(boxes_of(rows, sizes))
    assert objects.shape == (3, 2, 8)
    assert objects[0, 0, :6].tolist() == [2, 2, 10, 12, 0, 0] and objects[0, 1, 4] == -1
    assert (objects[1, :, 4] == -1).all()
    assert objects[2, 1].tolist() == [6, 6, 18, 18, 0, 2, 36, 0.25]
    assert counts.tolist() == [[1, 0], [0, 0], [0, 1]]
    again = opened(boxes_of([*rows[:3], rows[3][::-1]], sizes))[0]
    assert again == first
    changed = [[[1, 1, 5, 7, 0, 0]], *rows[1:]], [[[1, 1, 5, 6, 1, 0]], *rows[1:]], [[[1, 1, 5, 6, 0, 1]], *rows[1:]]
    assert len({first, *(opened(boxes_of(other, sizes))[0] for other in changed)}) == 4
