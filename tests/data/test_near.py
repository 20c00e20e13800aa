"""Near copies of test images: what is found, what is not, and that they leave training."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dctn
from sklearn.datasets import load_digits, load_sample_image

from tiny import GLYPHS
from whymask.data.near import LIKENESS, contours, likenesses, near_copies
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.studies.page.pictures import near_copies as shown_on_the_page
from whymask.studies.shown import save_near_copies

SIDE, PHOTOS = 64, 36


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Parts of two photographs, 96 pixels a side, none of which overlap."""
    whole = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    places = [(picture, x, y) for picture in whole for y in range(0, 384, 96) for x in range(0, 576, 96)]
    parts = [picture.crop((x, y, x + 96, y + 96)) for picture, x, y in places]
    edges = [np.abs(np.diff(np.asarray(part.convert("L"), float))).mean() for part in parts]
    return [parts[place] for place in sorted(np.argsort(edges)[-PHOTOS:])]  # no mere sky


def stored(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture.convert("RGB").resize((SIDE, SIDE))) for picture in pictures])


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def scaled(picture: Image.Image, by: float) -> Image.Image:
    return picture.resize((round(picture.width * by), round(picture.height * by)), Image.Resampling.BICUBIC)


def turned(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 95": lambda picture: encoded(picture, 95),
    "JPEG of quality 50": lambda picture: encoded(picture, 50),
    "half as large": lambda picture: scaled(picture, 0.5),
    "twice as large": lambda picture: scaled(picture, 2),
    "mirrored": turned,
    "mirrored, smaller and JPEG": lambda picture: encoded(scaled(turned(picture), 0.75), 75),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "flatter": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
    "grey": lambda picture: picture.convert("L"),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_nothing_else(photos: list[Image.Image], name: str) -> None:
    half = len(photos) // 2
    test, others = photos[:half], photos[half:]
    images = stored([*test, *others, *map(COPIES[name], test)])
    rest = np.arange(half, len(images))
    found = near_copies(images, np.arange(half), rest)
    assert set(found.rows) == set(range(len(photos), len(images)))
    np.testing.assert_array_equal(found.of, found.rows - len(photos))
    assert found.untold == 0
    assert (np.diff(found.likeness) >= 0).all() and found.likeness[0] >= LIKENESS


def test_likeness_is_the_correlation_of_weighed_cosines(photos: list[Image.Image]) -> None:
    """By the formula, once more: pHash's transform of grey values, frequencies weighed by their distance from zero."""
    images = stored(photos[:5])

    def plainly(image: np.ndarray) -> np.ndarray:
        cosines = dctn(image @ [0.299, 0.587, 0.114], norm="ortho")[:16, :16]
        return np.array([[np.hypot(u, v) * cosines[u, v] for v in range(16)] for u in range(16)])

    for i, one in enumerate(images):
        for j, other in enumerate(images):
            found = likenesses(contours(images[i : i + 1]), contours(images[j : j + 1])).item()
            sides = [plainly(picture) for picture in (other, other[:, ::-1])]
            left = plainly(one)
            expected = max((left * side).sum() / np.sqrt((left**2).sum() * (side**2).sum()) for side in sides)
            assert found == pytest.approx(expected, abs=1e-4)


def test_sixteen_bits_size_and_further_channels_change_no_likeness(photos: list[Image.Image]) -> None:
    images = stored(photos[:8])
    bare = contours(images)
    np.testing.assert_allclose(contours(images.astype(np.uint16) * 257), bare, atol=1e-5)
    grey = np.rint(images @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None]
    for form in (grey, np.repeat(grey, 4, axis=-1), np.repeat(np.repeat(grey, 2, axis=1), 2, axis=2)):
        assert (np.diag(likenesses(contours(form), bare)) > 0.99).all()


def test_the_order_of_the_images_changes_no_pair(photos: list[Image.Image]) -> None:
    images = stored([*photos, *map(turned, photos[:9])])
    order = np.random.default_rng(0).permutation(len(images))
    place = np.argsort(order)

    def pairs(images: np.ndarray, test: np.ndarray, rest: np.ndarray, names: np.ndarray) -> set[tuple[int, int]]:
        found = near_copies(images, test, rest)
        return set(zip(names[found.rows].tolist(), names[found.of].tolist(), strict=True))

    test, rest = np.arange(20), np.arange(20, len(images))
    names = np.arange(len(images))
    assert pairs(images, test, rest, names) == pairs(images[order], place[test], place[rest], order) != set()


def test_of_many_pictures_of_one_kind_none_is_taken_for_a_copy_and_it_is_said(photos: list[Image.Image]) -> None:
    digits = (load_digits().images * 15.9).astype(np.uint8)[..., None]
    found = near_copies(digits, np.arange(400), np.arange(400, len(digits)))
    assert len(found) == 0 < found.untold
    noise = np.random.default_rng(0).normal(0, 8, (40, SIDE, SIDE, 3))
    parts = (stored(photos[:1]) + noise).clip(0, 255).astype(np.uint8)  # parts that pass before one camera
    found = near_copies(parts, np.arange(10), np.arange(10, 40))
    assert (len(found), found.untold) == (0, 30)


def test_pictures_of_a_few_pixels_are_not_compared() -> None:
    small = np.random.default_rng(0).integers(0, 256, (8, 2, 64, 1), dtype=np.uint8)
    small = np.concatenate([small, small[:, :, ::-1]])
    assert len(near_copies(small, np.arange(8), np.arange(8, 16))) == 0
    large = small.repeat(16, axis=1)
    assert len(near_copies(large, np.arange(8), np.arange(8, 16))) == 8


def test_blank_pictures_are_like_nothing() -> None:
    random = np.random.default_rng(0)
    blank = np.concatenate([np.full((4, 32, 32, 1), 7), random.integers(100, 102, (4, 32, 32, 1))]).astype(np.uint8)
    blank = np.concatenate([blank, blank[:, ::-1]])
    assert len(near_copies(blank, np.arange(8), np.arange(8, 16))) == 0
    assert len(near_copies(blank, np.arange(0), np.arange(16))) == len(near_copies(blank, np.arange(16), [])) == 0


def test_glyphs_have_no_near_copies(tmp_path: Path) -> None:
    prepared = prepare(GLYPHS, DataSettings(store=tmp_path))
    about = prepared.describe()
    assert (about["near_duplicates"], about["near_untold"], about["near_pairs"]) == (0, 0, [])
    assert prepared.identity == prepared.images.fingerprint
    assert len(prepared.pool) + len(prepared.test) == len(prepared.images)


# --------------------------------------------------------------------------------------- in training


def leaky(photos: list[Image.Image]) -> dict[str, Any]:
    """Images to train on, four of which are copies of test images: two equal, two near, one mislabelled."""
    test, train = stored(photos[:16]), stored(photos[16:])
    train[:2] = test[:2]
    train[2:4] = stored([encoded(photos[2], 60), turned(photos[3])])
    labels = np.arange(len(train)) % 2
    labels[3] = 0  # its picture is tested on as 1
    return {"x_train": train, "y_train": labels, "x_test": test, "y_test": np.arange(16) % 2}


def prepared_of(photos: list[Image.Image], tmp_path: Path, like: str | None = None, **settings: Any) -> Prepared:
    said: list[str] = []
    prepared = prepare(leaky(photos), DataSettings(store=tmp_path, **settings), like=like, say=said.append)
    assert [line for line in said if line.startswith("2 images are near copies of a test image")]
    return prepared


def test_near_copies_leave_all_training_and_are_counted_apart_from_equal_ones(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    prepared = prepared_of(photos, tmp_path)
    about = prepared.describe()
    assert (about["duplicates"], about["near_duplicates"], about["near_kept"]) == (2, 2, False)
    assert about["images"] == about["pool"] + about["test"] + about["duplicates"] + about["near_duplicates"]
    assert set(prepared.near.rows) == {2, 3} and not {2, 3} & (set(prepared.pool) | set(prepared.train))
    keys = prepared.images.keys
    shown = {(pair["image"], pair["test"]) for pair in about["near_pairs"]}
    assert shown == {(keys[2], keys[prepared.test[2]]), (keys[3], keys[prepared.test[3]])}


def test_near_copies_are_kept_when_asked_and_counted_all_the_same(photos: list[Image.Image], tmp_path: Path) -> None:
    prepared = prepared_of(photos, tmp_path, near_duplicates="keep")
    about = prepared.describe()
    assert (about["near_duplicates"], about["near_kept"]) == (2, True)
    assert {2, 3} <= set(prepared.pool) and {2, 3} <= set(prepared.train)


def test_what_goes_on_from_a_run_that_kept_them_keeps_them(photos: list[Image.Image], tmp_path: Path) -> None:
    left_out, kept = (prepared_of(photos, tmp_path, near_duplicates=how) for how in ("leave-out", "keep"))
    assert left_out.identity != kept.identity == kept.images.fingerprint  # as it was before there was a choice
    assert prepared_of(photos, tmp_path, like=kept.identity).near_kept
    assert not prepared_of(photos, tmp_path, like=left_out.identity).near_kept


def test_a_share_that_was_drawn_is_drawn_again_where_near_copies_left(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    images = stored([*photos, *map(turned, photos)])
    arrays = {"images": images, "labels": np.arange(len(images)) % len(photos) % 2}
    asked = DataSettings(store=tmp_path, test_share=0.3)
    run = prepare(arrays, asked)
    assert 0 < len(run.near) == len(run.images) - len(run.pool) - len(run.test)
    again = prepare(arrays, DataSettings(store=tmp_path), like=run.identity)
    assert again.identity == run.identity
    np.testing.assert_array_equal(again.test, run.test)
    np.testing.assert_array_equal(again.pool, run.pool)


def test_what_shares_a_test_images_group_is_no_near_copy_besides(photos: list[Image.Image], tmp_path: Path) -> None:
    """Every photo has a mirrored copy; every other copy is of its photo's group."""
    count = len(photos)
    copies = [f"photo {i}" if i % 2 else f"copy {i}" for i in range(count)]
    arrays = {
        "images": stored([*photos, *map(turned, photos)]),
        "labels": np.arange(2 * count) % count % 4 // 2,
        "of": np.array([*(f"photo {i}" for i in range(count)), *copies]),
    }
    prepared = prepare(arrays, DataSettings(store=tmp_path, group_by="of"))
    test, near = set(prepared.test.tolist()), set(prepared.near.rows.tolist())
    twin = {row: (row + count) % (2 * count) for row in range(2 * count)}
    alone = {row for row in range(2 * count) if row % count % 2 == 0}
    assert near == {row for row in alone - test if twin[row] in test} != set()
    assert not {twin[row] for row in test} & (set(prepared.pool.tolist()) | set(prepared.train.tolist()))


def test_the_pairs_of_a_page_are_the_pixels_that_were_compared(photos: list[Image.Image], tmp_path: Path) -> None:
    prepared = prepared_of(photos, tmp_path / "store")
    pairs = prepared.describe()["near_pairs"]
    save_near_copies(tmp_path, prepared)
    with np.load(tmp_path / "near.npz") as saved:
        for number, pair in enumerate(pairs):
            for side in ("image", "test"):
                row = prepared.images.keys.index(pair[side])
                np.testing.assert_array_equal(saved[side][number], prepared.images.images[row])
    assert [len(row["pictures"]) for row in shown_on_the_page(tmp_path, pairs, images=True)] == [2, 2]
    assert [row["pictures"] for row in shown_on_the_page(tmp_path, pairs, images=False)] == [[], []]
