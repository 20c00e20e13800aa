"""Both forms of the store: what is exact is so, what is not is nearly, and who is tested on does not depend on it."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiny import runtime
from whymask import pretrain
from whymask.data import store
from whymask.data.building import partial_of
from whymask.data.derive import derive, statistics
from whymask.data.forms import FORMS, EncodedImages, decode, encode
from whymask.data.prepare import ENCODED, Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.sources import open_source
from whymask.data.store import open_images
from whymask.errors import DamagedError, WhymaskError
from whymask.upkeep import check_folder

ENCODE = FORMS["encoded"]


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """40 smooth pictures in colour."""
    random = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(small).resize((24, 24), Image.Resampling.BICUBIC)) for small in random])


def encoded(images: Any, cache: Path) -> EncodedImages:
    source = open_source(images)
    found: Any = open_images(source, derive(source), cache, form=ENCODE).images
    return found


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.integers(1, 6),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 9),
)
def test_what_is_no_8_bit_picture_comes_back_to_the_bit(
    height: int, width: int, channels: int, dtype: Any, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)
    back = decode(encode(image), image.shape, image.dtype)
    assert back.shape == image.shape and back.dtype == image.dtype
    assert (dtype == np.uint8 and channels in (1, 3)) or np.array_equal(back, image)


def test_photos_come_back_nearly_and_take_less_room(photos: np.ndarray, tmp_path: Path) -> None:
    large = np.stack([np.asarray(Image.fromarray(photo).resize((96, 96))) for photo in photos])
    images = encoded(large, tmp_path)
    assert images.shape[0] == 40 and images.dtype == np.uint8
    source = open_source(large)
    pixels = np.stack([derive(source).decode(source.read(row)) for row in range(40)])
    error = images[:].astype(int) - pixels
    assert np.sqrt(np.square(error).mean()) < 3
    path = store.store_path(source, derive(source), tmp_path, ENCODE)
    size = sum(file.stat().st_size for file in path.iterdir())
    assert size < pixels.nbytes / 5 and size == pytest.approx(store.encoded_size(source, derive(source)), rel=0.2)


def test_rows_are_taken_as_of_an_array(photos: np.ndarray, tmp_path: Path) -> None:
    images = encoded(photos, tmp_path)
    whole = np.stack([images[row] for row in range(40)])
    mask = np.arange(40) % 3 == 0
    for rows in (slice(None), slice(30, 5, -4), mask, np.array([7, 7, 0]), [], np.arange(39, -1, -1)):
        assert np.array_equal(images[rows], whole[rows])
    assert np.array_equal(images[-1], whole[-1]) and len(images) == 40 and images.ndim == whole.ndim
    out = np.empty((3, *whole.shape[1:]), np.uint8)
    assert np.take(images, np.array([5, 0, 5]), axis=0, out=out, mode="clip") is out  # type: ignore[call-overload]
    assert np.array_equal(out, whole[[5, 0, 5]])
    with pytest.raises(IndexError):
        images[40]
    assert statistics(images, np.arange(30)) == statistics(whole, np.arange(30))  # type: ignore[arg-type]


def test_several_threads_read_it_at_once(photos: np.ndarray, tmp_path: Path) -> None:
    images = encoded(photos, tmp_path)
    whole = images[:]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(part, whole) for part in pool.map(images.__getitem__, [slice(None)] * 8))


# the form


def test_auto_takes_what_fits_and_what_is_there(
    photos: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(photos)
    prep = derive(source)
    assert store.form_for(source, prep, tmp_path / "not" / "there", "auto").name == "decoded"
    monkeypatch.setattr(store, "memory", lambda: 2 * photos.nbytes - 1)
    assert store.form_for(source, prep, tmp_path, "auto").name == "encoded"
    assert store.form_for(source, prep, tmp_path, "decoded").name == "decoded"
    open_images(source, prep, tmp_path)
    assert store.form_for(source, prep, tmp_path, "auto").name == "decoded"
    monkeypatch.setattr(store, "memory", lambda: None)
    free = store.shutil.disk_usage(tmp_path)._replace(free=2 * photos.nbytes - 1)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: free)
    assert store.form_for(source, prep, tmp_path / "other", "auto").name == "encoded"


def test_auto_takes_the_form_that_another_command_is_making_or_that_a_run_had(
    photos: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(photos)
    prep = derive(source)
    path = store.store_path(source, prep, tmp_path)
    partial_of(path).mkdir(parents=True)
    monkeypatch.setattr(store, "memory", lambda: 1)
    assert store.form_for(source, prep, tmp_path, "auto").name == "decoded"
    data = (photos, np.arange(40) % 2)
    lossy, exact = ready(data, tmp_path / "a", store_form="encoded"), ready(data, tmp_path / "a", store_form="decoded")
    for run in (lossy, exact):
        assert prepare(data, DataSettings(store=tmp_path / "a"), like=run.identity).identity == run.identity


def ready(images: Any, cache: Path, said: list[str] | None = None, **settings: Any) -> Prepared:
    heard = [] if said is None else said
    return prepare(images, DataSettings(store=cache, **settings), say=heard.append)


def test_the_test_images_are_the_same_and_what_is_trained_on_is_named(photos: np.ndarray, tmp_path: Path) -> None:
    data, said = (photos, np.arange(40) % 2), list[str]()
    exact = ready(data, tmp_path, said)
    lossy = ready(data, tmp_path, said, store_form="encoded")
    assert np.array_equal(exact.test, lossy.test) and exact.images.fingerprint == lossy.images.fingerprint
    assert lossy.identity == exact.identity.replace(exact.images.fingerprint, exact.images.fingerprint + ENCODED)
    assert any("decoded images are kept in" in line for line in said)
    assert any("kept encoded in" in line and "decoded they would take" in line for line in said)
    deep = (photos.astype(np.uint16) * 9, data[1])
    assert ready(deep, tmp_path).identity == ready(deep, tmp_path, store_form="encoded").identity


def test_a_share_of_an_encoded_run_is_taken_over(photos: np.ndarray, tmp_path: Path) -> None:
    data = (photos, np.arange(40) % 2)
    first = ready(data, tmp_path, store_form="encoded", test_share=0.4)
    config = DataSettings(store=tmp_path, store_form="encoded")
    assert np.array_equal(prepare(data, config, like=first.identity).test, first.test)


# what holds it


def test_damage_is_found(photos: np.ndarray, tmp_path: Path) -> None:
    source = open_source(photos)
    images = open_images(source, derive(source), tmp_path, form=ENCODE)
    assert check_folder(tmp_path).damages == ()
    for name in ENCODE.files:
        path = images.path / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert any(name in line for line in check_folder(tmp_path).damages)
        with pytest.raises(DamagedError, match=name):
            open_images(source, derive(source), tmp_path, form=ENCODE)
        path.write_bytes(whole)
    open_images(source, derive(source), tmp_path, form=ENCODE)


def test_damage_since_it_was_checked_names_the_file_and_the_image(photos: np.ndarray, tmp_path: Path) -> None:
    source = open_source(photos)
    images = open_images(source, derive(source), tmp_path, form=ENCODE)
    path = images.path / "images.bin"
    state, whole = path.stat(), bytearray(path.read_bytes())
    whole[:4] = b"none"
    path.write_bytes(whole)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DamagedError, match=r"images\.bin is damaged .*image 0"):
        open_images(source, derive(source), tmp_path, form=ENCODE).images[:5]


def test_images_of_very_many_channels_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 180), dtype=np.uint8)
    assert np.array_equal(decode(encode(image), image.shape, image.dtype), image)


def test_images_that_cannot_be_used_are_left_out(photos: np.ndarray, tmp_path: Path) -> None:
    source = open_source(photos)

    def read(row: int) -> Any:
        if row == 3:
            raise WhymaskError("odd")
        return source.read(row)

    images = open_images(replace(source, read=read), derive(source), tmp_path, form=ENCODE)
    assert len(images) == len(images.images) == 39 and images.skipped == [(source.keys[3], "odd")]


def test_a_run_learns_from_either_form(photos: np.ndarray, tmp_path: Path) -> None:
    for name, form in (("a", "encoded"), ("b", "encoded"), ("c", "decoded")):
        asked: dict[str, Any] = {"store_form": form, "epochs": 2, "batch_size": 16, "width": 4}
        pretrain(photos, out=tmp_path / name, store=tmp_path / f"store-{name}", runtime=runtime(), **asked)
    a, b, c = ((tmp_path / name / "encoder" / "encoder.safetensors").read_bytes() for name in "abc")
    assert a == b != c
