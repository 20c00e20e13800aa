"""The decode-once store: what is kept, skipped, reused, rebuilt, and never half-written."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whymask.data import building, decoding, store
from whymask.data.derive import derive, statistics
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.source import Source
from whymask.data.sources import merge, open_source
from whymask.data.store import ImageSet, open_images, store_path, store_size
from whymask.errors import DamagedError, WhymaskError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)


def opened(source: Source, cache: Path, size: int | None = None, multiple_of: int = 1) -> ImageSet:
    return open_images(source, derive(source, DataSettings(size=size), multiple_of), cache)


def counting(source: Source) -> tuple[Source, list[int]]:
    """The source, and the list of rows that were read from it."""
    rows: list[int] = []

    def read(index: int):
        rows.append(index)
        return source.read(index)

    return replace(source, read=read), rows


def write_classes(folder: Path, count: int = 6, suffix: str = "png") -> Path:
    for number in range(count):
        path = folder / ("cat" if number % 2 else "dog") / f"{number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).save(path)
    return folder


def test_images_of_the_right_size_are_kept_bit_for_bit(tmp_path):
    source = open_source((IMAGES, np.arange(10) % 2))
    images = opened(source, tmp_path)
    assert isinstance(images.images, np.memmap) and np.array_equal(images.images, IMAGES)
    assert images.labels.tolist() == source.labels.tolist() and images.keys == source.keys
    assert images.skipped == [] and len(images) == 10
    assert images.nbytes >= store_size(source, images.preprocessing) == IMAGES.nbytes
    assert images.path == store_path(source, images.preprocessing, tmp_path)


def test_many_blocks_keep_their_order_and_report_progress(tmp_path):
    count = 5 * decoding.BLOCK + 7
    values = np.arange(count, dtype=np.uint16)[:, None, None].repeat(4, axis=1)
    done: list[tuple[int, int]] = []
    source = open_source(values)
    images = open_images(source, derive(source), tmp_path, progress=lambda *now: done.append(now))
    assert np.array_equal(images.images[:, 0, 0, 0], np.rint(np.arange(count) / 511 * 65535))  # of 9 bits
    assert done == sorted(done) and done[-1] == (count, count) and len(done) == 6


def test_damaged_images_are_skipped_with_the_reason(tmp_path):
    write_classes(tmp_path / "data", 8, "jpg")
    jpeg = tmp_path / "data" / "dog" / "2.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-20])
    (tmp_path / "data" / "cat" / "1.jpg").unlink()
    (tmp_path / "data" / "cat" / "a.png").write_text("this is text")
    np.save(tmp_path / "data" / "cat" / "b.npy", IMAGES[0])
    source = open_source(tmp_path / "data")
    images = opened(source, tmp_path / "cache")
    assert [(Path(key).name, reason) for key, reason in images.skipped] == [
        ("a.png", "not an image that Pillow can open"),
        ("2.jpg", next(reason for key, reason in images.skipped if "2.jpg" in key)),
    ]
    assert "truncated" in images.skipped[1][1]
    names = [Path(key).name for key in images.keys]
    assert names == ["3.jpg", "5.jpg", "7.jpg", "0.jpg", "4.jpg", "6.jpg"]
    assert len(images) == len(images.images) == len(images.hashes) == len(images.labels) == 6
    assert [images.classes[label] for label in images.labels] == ["cat"] * 3 + ["dog"] * 3
    assert opened(source, tmp_path / "cache").skipped == images.skipped


def test_source_of_which_most_fail_is_an_error_and_leaves_nothing(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_text("text")
    Image.fromarray(IMAGES[0]).save(tmp_path / "d.png")
    cache = tmp_path / ".cache"
    with pytest.raises(WhymaskError, match=r"more than half of 4 images.*a\.png: not an image"):
        opened(open_source(tmp_path), cache)
    assert list(cache.iterdir()) == []


def test_wrong_channels_are_skipped_naming_both(tmp_path):
    raw = [IMAGES[0], IMAGES[1], IMAGES[2][..., 0], np.zeros((8, 8, 5), np.uint8)]
    source = Source("mixed", list("abcd"), lambda index: raw[index], "stamp", np.zeros(4, np.int64))
    images = opened(source, tmp_path)
    assert images.skipped[0][0] == "d" and "5 channels; 3 were expected" in images.skipped[0][1]
    assert np.array_equal(images.images[2], IMAGES[2][..., :1].repeat(3, axis=2))


def test_five_channels(tmp_path):
    five = np.random.default_rng(1).integers(0, 65536, (6, 9, 9, 5), dtype=np.uint16)
    source = open_source(five)
    assert np.array_equal(opened(source, tmp_path).images, five)
    smaller = opened(source, tmp_path, size=4, multiple_of=4)
    assert smaller.images.shape == (6, 5, 5, 5) and smaller.images.dtype == np.uint16


def test_store_is_reused_without_reading(tmp_path):
    source, rows = counting(open_source((IMAGES, np.zeros(10, int))))
    preprocessing = derive(source)
    first = open_images(source, preprocessing, tmp_path)
    rows.clear()
    again = open_images(source, preprocessing, tmp_path)
    assert rows == [] and again.path == first.path
    assert again.fingerprint == first.fingerprint and np.array_equal(again.hashes, first.hashes)
    open_images(source, replace(preprocessing, size=(4, 4)), tmp_path)  # which also places the stored middle
    assert len(rows) == 10
    rows.clear()
    other = open_images(source, replace(preprocessing, store=(6, 6)), tmp_path)
    assert len(rows) == 10 and other.path != first.path and np.array_equal(other.hashes, first.hashes)


def test_changed_file_is_decoded_again_and_changed_label_is_not(tmp_path):
    write_classes(tmp_path / "data", 4)
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(f"data/dog/{n}.png,{n}\n" for n in (0, 2)))
    first = opened(open_source(tmp_path / "l.csv"), tmp_path / "cache")
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(f"data/dog/{n}.png,5\n" for n in (0, 2)))
    source, rows = counting(open_source(tmp_path / "l.csv"))
    relabelled = open_images(source, first.preprocessing, tmp_path / "cache")
    assert rows == [] and relabelled.labels.tolist() == [0, 0] and relabelled.fingerprint != first.fingerprint
    Image.fromarray(IMAGES[7]).save(tmp_path / "data" / "dog" / "2.png")
    changed = opened(open_source(tmp_path / "l.csv"), tmp_path / "cache")
    assert np.array_equal(changed.images[1], IMAGES[7]) and changed.path != first.path


def test_equal_pixels_have_equal_hashes_whatever_the_file(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    Image.fromarray(IMAGES[0]).save(tmp_path / "b.bmp")
    Image.fromarray(IMAGES[0]).convert("RGBA").save(tmp_path / "c.png")
    Image.fromarray(IMAGES[1]).save(tmp_path / "d.png")
    Image.fromarray(IMAGES[0].reshape(4, 16, 3)).save(tmp_path / "e.png")
    hashes = opened(open_source(tmp_path), tmp_path / ".cache").hashes.tolist()
    assert hashes[0] == hashes[1] == hashes[2] and len(set(hashes)) == 3


def test_hashes_are_of_native_pixels(tmp_path):
    big = np.random.default_rng(2).integers(0, 256, (3, 40, 40), dtype=np.uint8)
    big[1] = big[0]
    big[2] = big[0]
    big[2, 0, 0] ^= 1
    images = opened(open_source(big), tmp_path, size=4)
    assert images.hashes[0] == images.hashes[1] != images.hashes[2]


def test_fingerprint_is_of_the_content_not_the_place_or_order(tmp_path):
    first = opened(open_source(write_classes(tmp_path / "one")), tmp_path / "cache")
    other = write_classes(tmp_path / "far" / "away")
    (other / "cat" / "1.png").rename(other / "cat" / "renamed.png")
    second = opened(open_source(other), tmp_path / "cache")
    assert first.fingerprint == second.fingerprint and first.path != second.path
    (other / "cat" / "3.png").rename(other / "dog" / "3.png")
    assert opened(open_source(other), tmp_path / "cache").fingerprint != first.fingerprint


def test_merged_source_is_stored_whole(tmp_path):
    write_classes(tmp_path / "pool" / "sorted")
    Image.fromarray(IMAGES[8]).save(tmp_path / "pool" / "x.png")
    both = merge(open_source(tmp_path / "pool"), open_source(tmp_path / "pool" / "sorted"))
    images = opened(both, tmp_path / "cache")
    assert np.array_equal(images.images[0], IMAGES[8])
    assert sorted(images.labels.tolist()) == [-1, 0, 0, 0, 1, 1, 1] and images.classes == ("cat", "dog")


def test_transform_of_a_raw_file_is_the_stored_image_normalised_and_cropped(tmp_path):
    photo = np.random.default_rng(3).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for number in range(3):
        Image.fromarray(np.roll(photo, number, axis=0)).save(tmp_path / f"{number}.jpg")
    source = open_source(tmp_path)
    images = opened(source, tmp_path / ".cache", size=16, multiple_of=4)
    mean, std = statistics(images.images)
    preprocessing = replace(images.preprocessing, mean=mean, std=std)
    for row in range(3):
        expected = preprocessing.centre_crop(preprocessing.normalise(images.images[row : row + 1]))[0]
        with Image.open(source.keys[row]) as image:
            assert torch.equal(preprocessing(image), expected)
    assert expected.shape == (3, 16, 16) and images.images.shape[1:] == (18, 18, 3)


def test_grey_image_in_a_colour_set(tmp_path):
    for number in range(3):
        Image.fromarray(IMAGES[number]).save(tmp_path / f"{number}.png")
    Image.fromarray(IMAGES[3, ..., 0]).save(tmp_path / "3.png")
    images = opened(open_source(tmp_path), tmp_path / ".cache")
    assert images.skipped == [] and np.array_equal(images.images[3], IMAGES[3][..., :1].repeat(3, axis=2))


def test_build_that_was_interrupted_before_its_first_block_leaves_nothing(tmp_path):
    def read(index: int) -> np.ndarray:
        if index == 7:
            raise KeyboardInterrupt
        return IMAGES[index]

    source = open_source(IMAGES)
    preprocessing = derive(source)
    with pytest.raises(KeyboardInterrupt):
        open_images(replace(source, read=read), preprocessing, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert np.array_equal(open_images(source, preprocessing, tmp_path).images, IMAGES)


def test_another_process_that_was_faster_is_no_error(tmp_path):
    source = open_source(IMAGES)
    preprocessing = derive(source)

    def read(index: int) -> np.ndarray:
        if index == 9:  # the other process finishes while this one decodes
            (tmp_path / "other").mkdir(exist_ok=True)
            made = open_images(source, preprocessing, tmp_path / "other").path
            made.rename(store_path(source, preprocessing, tmp_path))
        return source.read(index)

    images = open_images(replace(source, read=read), preprocessing, tmp_path)
    assert np.array_equal(images.images, IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["other", images.path.name])


def test_damaged_store_and_unwritable_cache_are_clear_errors(tmp_path):
    source = open_source(IMAGES)
    images = opened(source, tmp_path)
    (images.path / "images.npy").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"images\.npy is damaged .*delete the folder"):
        opened(source, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(WhymaskError, match=r"cannot be written there.*another cache folder"):
        opened(source, tmp_path / "file")


def flip(path, place=-1):
    """Change a bit of the file, and nothing else that a folder tells of it."""
    status, whole = path.stat(), bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(bytes(whole))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["hashes.npy", "index.json"])
def test_hashes_and_index_are_compared_with_their_checksums_at_each_opening(name, tmp_path):
    source = open_source(IMAGES)
    images = opened(source, tmp_path)
    flip(images.path / name, -3)
    with pytest.raises(DamagedError, match=f"{name} is damaged"):
        opened(source, tmp_path)


def test_images_are_compared_where_a_machine_sees_them_first_or_after_they_were_written_to(tmp_path, monkeypatch):
    source = open_source(IMAGES)
    images = opened(source, tmp_path)
    path = images.path / "images.npy"
    compared = []
    check_file = store.check_file
    monkeypatch.setattr(
        store, "check_file", lambda path, digest: (compared.append(path.name), check_file(path, digest))
    )
    opened(source, tmp_path)
    assert compared == ["hashes.npy"]
    flip(path)
    monkeypatch.setattr(building.socket, "gethostname", lambda: "another")
    with pytest.raises(DamagedError, match=r"images\.npy is damaged .*checksum"):
        opened(source, tmp_path)
    flip(path)
    opened(source, tmp_path)
    path.touch()
    compared.clear()
    opened(source, tmp_path)
    assert compared == ["images.npy", "hashes.npy"]


def test_disk_that_is_too_small(tmp_path, monkeypatch):
    usage = building.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(WhymaskError, match=r"100 B free; the decode store needs [\d.]+ k?B; give"):
        opened(open_source(IMAGES), tmp_path)


def test_glyphs_are_stored_at_16_bit(tmp_path):
    source = open_source("glyphs:unlabelled=30,train=10,test=10")
    images = opened(source, tmp_path, multiple_of=4)
    preprocessing = images.preprocessing
    assert images.images.shape == (50, 32, 32, 1) and images.images.dtype == np.uint16
    back = images.images[:, ..., 0] / 65535 * (preprocessing.high - preprocessing.low) + preprocessing.low
    raw = np.stack([source.read(row) for row in range(50)])
    assert np.abs(back - raw).max() < 1e-4 * (preprocessing.high - preprocessing.low)
    assert images.tags is not None and (images.tags == "single_view").sum() == 5


def test_preprocessing_of_the_store_is_the_one_given(tmp_path):
    preprocessing = Preprocessing((8, 8), (8, 8), 3, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert open_images(open_source(IMAGES), preprocessing, tmp_path).preprocessing == preprocessing
