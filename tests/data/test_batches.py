import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from tiny import scenes
from whymask.data.batches import Batches, Images, in_order
from whymask.data.crops import (
    SMALL,
    Augment,
    Crops,
    crop_bytes,
    draw_crops,
    nearest_crops,
    resized_crops,
    resized_in_turn,
)
from whymask.data.derive import derive
from whymask.data.prepare import prepare
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.sources import open_source
from whymask.data.store import open_images
from whymask.errors import WhymaskError
from whymask.randomness import torch_generator

MEAN, STD = (0.4, 0.5, 0.6, 0.7), (0.2, 0.25, 0.3, 0.35)


@dataclass
class Decoded:
    """A `whymask.data.batches.Images`."""

    images: np.ndarray
    labels: np.ndarray
    preprocessing: Preprocessing


def decoded(images: np.ndarray, size: tuple[int, int] | None = None) -> Decoded:
    n, height, width, channels = images.shape
    high = 255.0 if images.dtype == np.uint8 else 65535.0
    prep = Preprocessing(size or (height, width), (height, width), channels, 0.0, high, MEAN[:channels], STD[:channels])
    return Decoded(images, np.arange(n) % 10 - 1, prep)


def noise(n: int, height: int = 8, width: int = 8, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(np.iinfo(dtype).max, size=(n, height, width, channels), endpoint=True).astype(dtype)


def photo(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 out of the astronaut."""
    image = torch.from_numpy(skimage.data.astronaut()).movedim(-1, 0)
    return TF.resize(image, [height, width], antialias=True).movedim(0, -1).numpy()


def batches(images: Images, rows: np.ndarray | None = None, **changes) -> Batches:
    given_ = {"batch_size": 8, "seed": 0, "augment": Augment(), **changes}
    return Batches(images, np.arange(len(images.images)) if rows is None else rows, **given_)


# --------------------------------------------------------------------------------------------- order


@given(n=st.integers(1, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 99), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_an_epoch_has_each_row_once_but_for_the_rest(n, batch_size, seed, epoch):
    images = decoded(noise(n, 2, 2))
    rows = np.arange(n)[::-1].copy()
    made = batches(images, rows, batch_size=batch_size, seed=seed, augment=None)
    size = min(n, batch_size)
    assert made.steps_per_epoch == n // size
    seen = [made(epoch * made.steps_per_epoch + i).rows for i in range(made.steps_per_epoch)]
    assert {len(s) for s in seen} == {size}
    together = np.concatenate(seen)
    assert len(set(together)) == len(together) == n - n % size


def test_only_the_given_rows_are_used_in_another_order_each_epoch():
    rows = np.array([3, 5, 7, 11, 13, 17, 19, 23])
    made = batches(decoded(noise(30)), rows)
    orders = [made(epoch).rows for epoch in range(3)]
    assert all(sorted(order) == rows.tolist() for order in orders)
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])


def test_rows_that_one_epoch_drops_another_has():
    made = batches(decoded(noise(15)), augment=None)
    seen = np.concatenate([made(epoch).rows for epoch in range(20)])
    assert set(seen) == set(range(15))


def test_a_batch_is_a_function_of_seed_and_step_alone():
    images = decoded(noise(40))
    one, other = batches(images), batches(images)
    forwards = [one(step) for step in range(12)]
    for step in (11, 3, 0, 7, 3):
        again = other(step)
        assert torch.equal(again.images, forwards[step].images)
        np.testing.assert_array_equal(again.rows, forwards[step].rows)
    changed = batches(images, seed=1)(3)
    assert not np.array_equal(changed.rows, forwards[3].rows)


def test_each_step_draws_its_own_crops():
    made = batches(decoded(np.repeat(noise(1, 16, 16), 8, axis=0)), augment=Augment())
    first, second = made(0).images, made(1).images
    assert not torch.equal(first, second)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 8


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("augment", [None, Augment()])
def test_the_slices_of_all_ranks_are_the_batch_of_one(world, augment):
    images = decoded(noise(30, 12, 10))
    whole = batches(images, augment=augment)
    parts = [batches(images, augment=augment, rank=rank, world=world) for rank in range(world)]
    for step in (0, 5):
        expected, slices = whole(step), [part(step) for part in parts]
        assert torch.equal(torch.cat([s.images for s in slices]), expected.images)
        assert torch.equal(torch.cat([s.labels for s in slices]), expected.labels)
        np.testing.assert_array_equal(np.concatenate([s.rows for s in slices]), expected.rows)


def test_labels_are_those_of_the_rows():
    images = decoded(noise(40))
    batch = batches(images)(2)
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == images.labels[batch.rows].tolist()
    assert len(batch) == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"rows": np.array([], int)}, "no images"), ({"world": 3}, "8 images over 3"), ({"batch_size": 0}, "batch of 0")],
)
def test_what_cannot_be_batched(changes, said):
    with pytest.raises(WhymaskError, match=said):
        batches(decoded(noise(20)), **changes)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan])
def test_a_crop_is_a_share_of_the_image(share):
    with pytest.raises(WhymaskError, match="area share"):
        Augment(min_scale=share)


# -------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_without_augmentation_the_centre_is_normalised(dtype, channels):
    raw = noise(9, 11, 8, channels, dtype)
    images = decoded(raw, size=(7, 6))
    made = batches(images, augment=None)(0)
    unit = raw[made.rows][:, 2:9, 1:7].astype(np.float64) / np.iinfo(dtype).max
    expected = ((unit - MEAN[:channels]) / STD[:channels]).transpose(0, 3, 1, 2)
    assert made.images.shape == (8, channels, 7, 6) and made.images.dtype == torch.float32
    assert made.images.is_contiguous()
    np.testing.assert_allclose(made.images.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_in_order_covers_all_rows_and_agrees_with_the_transform(dtype):
    raw = noise(11, 10, 10, 3, dtype)
    images = decoded(raw, size=(8, 8))
    rows = np.array([4, 2, 9, 0, 10])
    made = list(in_order(images, rows, 2))
    assert [len(b) for b in made] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([b.rows for b in made]), rows)
    expected = torch.stack([images.preprocessing(raw[row]) for row in rows])
    assert torch.equal(torch.cat([b.images for b in made]), expected)
    assert torch.cat([b.labels for b in made]).tolist() == images.labels[rows].tolist()


def crops_of(stored: tuple[int, int], n: int = 24, **augment) -> Crops:
    return draw_crops(n, stored, Augment(**augment), torch.Generator().manual_seed(0))


def reference_crop(image: torch.Tensor, crops: Crops, i: int, size: tuple[int, int]) -> torch.Tensor:
    """Crop i of a float (C, H, W) image by torchvision."""
    top, left, height, width = (int(t[i]) for t in (crops.top, crops.left, crops.height, crops.width))
    crop = TF.resized_crop(image, top, left, height, width, list(size), antialias=True)
    return TF.hflip(crop) if crops.flip[i] else crop


@pytest.mark.parametrize(("stored", "size"), [((32, 32), (32, 32)), ((110, 110), (96, 96)), ((60, 90), (20, 30))])
def test_crops_are_those_of_torchvision(stored, size):
    image = torch.from_numpy(photo(*stored)).movedim(-1, 0).float()
    crops = crops_of(stored)
    made = resized_crops(image.expand(24, -1, -1, -1), crops, size)
    assert made.shape == (24, 3, *size)
    for i in range(24):
        torch.testing.assert_close(made[i], reference_crop(image, crops, i, size), atol=0.02, rtol=0)


@pytest.mark.parametrize(("stored", "size"), [((32, 32), (32, 32)), ((110, 110), (96, 96)), ((60, 90), (20, 30))])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bytes_are_cropped_as_numbers_are_but_for_rounding(stored, size, channels):
    image = np.concatenate([photo(*stored), photo(*stored)[::-1]], axis=-1)[..., :channels]
    images = torch.from_numpy(image).expand(24, -1, -1, -1)
    crops = crops_of(stored)
    made = crop_bytes(images, crops, size)
    assert made.dtype == torch.uint8 and made.shape == (24, *size, channels)
    difference = made.movedim(-1, 1).float() - resized_crops(images.movedim(-1, 1).float(), crops, size)
    assert difference.abs().max() < 1.05
    assert difference.abs().mean() < 0.4


class Largest(TorchDispatchMode):
    """Within, `floats` becomes the number of values of the largest tensor of floats that is made."""

    floats = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.is_floating_point():
            self.floats = max(self.floats, made.numel())
        return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_of_stored_images_a_few_at_a_time_are_floats(dtype, monkeypatch):
    """As a GPU crops them: equal to all at once."""
    scale, size = np.iinfo(dtype).max // 255, (40, 44)
    stored = np.stack([photo(90, 100)[:, ::step] for step in (1, -1)] * 12)
    images = torch.from_numpy(stored.astype(dtype) * dtype(scale))
    crops = crops_of((90, 100))
    whole = resized_crops(images.movedim(-1, 1).float(), crops, size)
    monkeypatch.setattr("whymask.data.crops.CHUNK", 5 * 4 * 3 * 90 * 100)  # of 24 images the last turn has 4
    with Largest() as largest:
        made = resized_in_turn(images, crops, size)
    torch.testing.assert_close(made, whole, rtol=1e-6, atol=1e-3 * scale)
    assert largest.floats == 5 * 3 * 90 * 100


@pytest.mark.parametrize(("stored", "size"), [((24, 30), (21, 26)), ((40, 50), (35, 44))])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_training_batch_is_cropped_flipped_and_normalised(dtype, stored, size):
    scale = np.iinfo(dtype).max // 255
    raw = np.repeat(photo(*stored)[None].astype(dtype) * dtype(scale), 8, axis=0)
    images = decoded(raw, size=size)
    made = batches(images, seed=5)(3).images
    crops = draw_crops(8, stored, Augment(), torch_generator(5, "augment", 3))
    assert crops.flip.any() and not crops.flip.all()
    unit = torch.from_numpy(raw[0].astype(np.float32) / np.iinfo(dtype).max).movedim(-1, 0)
    mean, std = (torch.tensor(v[:3])[:, None, None] for v in (MEAN, STD))
    as_bytes = dtype == np.uint8 and math.prod(stored) > SMALL
    rounding = 1.05 / 255 / min(STD) if as_bytes else 1e-3
    for i in range(8):
        expected = (reference_crop(unit, crops, i, size) - mean) / std
        torch.testing.assert_close(made[i], expected, atol=rounding, rtol=0)


def test_the_whole_image_is_itself_and_flipped_itself_mirrored():
    image = torch.from_numpy(photo(20, 30)).movedim(-1, 0).float()[None].repeat(2, 1, 1, 1)
    zero = torch.zeros(2, dtype=torch.int64)
    whole = Crops(zero, zero, torch.full((2,), 20), torch.full((2,), 30), torch.tensor([False, True]))
    made = resized_crops(image, whole, (20, 30))
    torch.testing.assert_close(made[0], image[0])
    torch.testing.assert_close(made[1], image[1].flip(-1))


def test_a_crop_does_not_see_what_lies_around_it():
    image = torch.full((1, 1, 30, 30), 1e6)
    image[..., 5:15, 8:22] = 1.0
    top, left, height, width, flip = (torch.tensor([v]) for v in (5, 8, 10, 14, False))
    box = Crops(top, left, height, width, flip)
    for size in ((30, 30), (4, 4)):
        torch.testing.assert_close(resized_crops(image, box, size), torch.ones(1, 1, *size))


# -------------------------------------------------------------------------------------------- boxes


@given(height=st.integers(1, 70), width=st.integers(1, 70), scale=st.floats(0.01, 1), seed=st.integers(0, 999))
@settings(deadline=None)
def test_boxes_lie_in_the_image(height, width, scale, seed):
    crops = draw_crops(20, (height, width), Augment(min_scale=scale), torch.Generator().manual_seed(seed))
    assert (crops.top >= 0).all() and (crops.left >= 0).all()
    assert (crops.height >= 1).all() and (crops.width >= 1).all()
    assert (crops.top + crops.height <= height).all() and (crops.left + crops.width <= width).all()


@pytest.mark.parametrize("stored", [(64, 64), (48, 80)])
def test_boxes_are_distributed_as_in_torchvision(stored):
    n = 4000
    crops = draw_crops(n, stored, Augment(), torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    image = torch.zeros(1, *stored)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.4, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    ours = torch.stack([crops.top, crops.left, crops.height, crops.width], 1).numpy()
    for a, b in zip(ours.T, theirs.T, strict=True):
        spread = b.std() / math.sqrt(n)
        assert abs(a.mean() - b.mean()) < 6 * spread
        assert np.quantile(a, [0.1, 0.25, 0.5, 0.75, 0.9]) == pytest.approx(
            np.quantile(b, [0.1, 0.25, 0.5, 0.75, 0.9]), abs=3
        )
    assert crops.flip.float().mean() == pytest.approx(0.5, abs=0.04)
    assert not draw_crops(50, stored, Augment(flip=False), torch.Generator().manual_seed(1)).flip.any()


def test_where_no_box_fits_the_largest_of_an_allowed_aspect_is_taken():
    crops = draw_crops(5, (100, 10), Augment(min_scale=1.0), torch.Generator().manual_seed(0))
    assert crops.height.tolist() == [13] * 5 and crops.width.tolist() == [10] * 5
    assert crops.top.tolist() == [43] * 5 and crops.left.tolist() == [0] * 5


# --------------------------------------------------------------------------------------- a real store


def test_batches_of_a_decode_store(tmp_path):
    digits = load_digits()
    pixels = (digits.images[:200] / 16 * 255).round().astype(np.uint8)
    source = open_source((pixels, digits.target[:200]))
    prep = derive(source)
    prep = replace(prep, mean=(0.3,), std=(0.37,))
    images = open_images(source, prep, tmp_path)
    batch = batches(images, batch_size=64)(1)
    assert batch.images.shape == (64, 1, 8, 8) and torch.isfinite(batch.images).all()
    assert batch.labels.tolist() == digits.target[batch.rows].tolist()
    whole = next(in_order(images, np.arange(200), 200))
    np.testing.assert_allclose(whole.images[:, 0].numpy() * 0.37 + 0.3, digits.images[:200] / 16, atol=0.003)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.sampled_from([(16, 16), (12, 20), (24, 8)]))
def test_label_maps_are_cropped_as_their_images_are_by_the_nearest_pixel(seed, side):
    maps = torch.from_numpy(np.random.default_rng(seed).integers(0, 5, (6, 16, 20)).astype(np.uint8))
    crops = draw_crops(6, (16, 20), Augment(), torch.Generator().manual_seed(seed))
    found = nearest_crops(maps, crops, side)
    for i, (top, left, height, width, flip) in enumerate(torch.stack(crops.tensors(), 1).tolist()):
        box = maps[i, top : top + height, left : left + width]
        expected = F.interpolate(box[None, None].float(), size=side, mode="nearest-exact")[0, 0]
        assert torch.equal(found[i].float(), expected.flip(1) if flip else expected)


def test_a_batch_of_label_maps_moves_with_its_images():
    """Images that are their own label maps: what is bright is of class 1, in whatever crop."""
    maps = np.zeros((8, 32, 32), np.uint8)
    maps[:, 8:24, 4:20] = 1
    made = Batches(
        prepare(
            scenes(200 * maps + np.arange(8, dtype=np.uint8)[:, None, None], maps, np.ones(8, bool)),
            DataSettings(test_share=0.2),
        ).images,
        np.arange(8),
        batch_size=8,
        seed=0,
        augment=Augment(),
        targets="maps",
    )
    for step in range(4):
        batch = made(step)
        bright = batch.images[:, 0] > batch.images.mean()
        assert batch.labels.dtype == torch.int64 and batch.labels.shape == bright.shape
        assert (bright == (batch.labels == 1)).float().mean() > 0.97
