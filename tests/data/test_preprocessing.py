"""From raw images of every mode, depth, size and channel count to what the network sees."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whymask.data.derive import derive, statistics
from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import INTERPOLATIONS, Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.source import Source
from whymask.data.sources import open_source
from whymask.errors import WhymaskError


def source_of(images: list) -> Source:
    """A source of raw images in memory, of any kinds; an exception in the list is raised on reading."""

    def read(index: int):
        if isinstance(images[index], Exception):
            raise images[index]
        return images[index]

    count = len(images)
    return Source("test", [f"image {i}" for i in range(count)], read, "stamp", np.full(count, -1, np.int64))


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype=dtype, endpoint=True)


RGB = Image.fromarray(noise(6, 8, 3))


# Native pixels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"])
def test_every_mode_becomes_grey_colour_or_numbers(mode):
    image = RGB.convert("L").convert(mode) if mode == "I;16" else RGB.convert("P" if mode == "PA" else mode)
    image = image.convert("PA") if mode == "PA" else image
    pixels = native_pixels(image)
    grey = mode in ("1", "L", "LA", "I;16", "I", "F")
    assert pixels.shape == (6, 8, 1 if grey else 3)
    assert pixels.dtype == {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)


def test_alpha_is_dropped_and_palettes_are_resolved():
    with_alpha = RGB.copy()
    with_alpha.putalpha(Image.fromarray(noise(6, 8, seed=1)))
    assert np.array_equal(native_pixels(with_alpha), np.asarray(RGB))
    palette = RGB.quantize(16)
    palette.info["transparency"] = bytes(range(16))
    assert np.array_equal(native_pixels(palette), np.asarray(RGB.quantize(16).convert("RGB")))
    assert native_pixels(Image.new("1", (2, 2), 1)).max() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    RGB.save(tmp_path / "x.png", exif=exif)
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }[orientation]
    source = open_source(tmp_path)
    assert np.array_equal(native_pixels(source.read(0)), turn(np.asarray(RGB)))
    assert derive(source).size == ((6, 8) if orientation < 5 else (8, 6))


def test_16_bit_png_is_kept(tmp_path):
    values = noise(6, 8, dtype="uint16")
    Image.fromarray(values).save(tmp_path / "x.png")
    source = open_source(tmp_path)
    preprocessing = derive(source)
    assert (preprocessing.low, preprocessing.high, preprocessing.channels) == (0, 65535, 1)
    assert np.array_equal(preprocessing.decode(source.read(0))[..., 0], values)


@pytest.mark.parametrize("raw", [np.zeros(3), np.zeros((1, 2, 2, 2, 2)), np.zeros((0, 3)), np.zeros((2, 2), complex)])
def test_arrays_that_are_no_image(raw):
    with pytest.raises(WhymaskError, match="an image is"):
        native_pixels(raw)


def test_values_that_are_not_finite():
    with pytest.raises(WhymaskError, match="not finite"):
        native_pixels(np.array([[1.0, np.nan]]))


# Channels and values


def test_grey_repeats_and_colour_becomes_luminance():
    grey = noise(4, 4)
    colour = Preprocessing((4, 4), (4, 4), channels=3)
    assert np.array_equal(colour.decode(grey), np.repeat(grey[..., None], 3, axis=2))
    single = replace(colour, channels=1)
    assert np.array_equal(single.decode(colour.decode(grey))[..., 0], grey)
    expected = np.asarray(RGB.crop((0, 0, 4, 4)).convert("L")).astype(int)
    assert np.abs(single.decode(RGB.crop((0, 0, 4, 4)))[..., 0] - expected).max() <= 1


@pytest.mark.parametrize(("given", "wanted"), [(5, 3), (3, 5), (4, 1), (1, 4)])
def test_other_channel_counts_are_an_error_naming_both(given, wanted):
    with pytest.raises(WhymaskError, match=f"{given} channels; {wanted} were expected"):
        Preprocessing((4, 4), (4, 4), wanted).decode(noise(4, 4, given))


def test_depths_are_scaled_each_by_its_own():
    eight, sixteen = Preprocessing((1, 2), (1, 2), 1), Preprocessing((1, 2), (1, 2), 1, 0, 65535)
    assert eight.dtype == np.uint8 and sixteen.dtype == np.uint16
    assert sixteen.decode(np.array([[1, 255]], np.uint8)).ravel().tolist() == [257, 65535]
    assert eight.decode(np.array([[257, 65535]], np.uint16)).ravel().tolist() == [1, 255]
    assert eight.decode(np.array([[False, True]])).ravel().tolist() == [0, 255]


def test_other_numbers_are_scaled_by_low_and_high_and_clipped():
    images = [np.array([[-2.0, 0.0, 2.0]]), np.array([[1.0, 1.0, 1.0]])]
    preprocessing = derive(source_of(images))
    assert (preprocessing.low, preprocessing.high, preprocessing.dtype) == (-2, 2, np.uint16)
    assert preprocessing.decode(images[0]).ravel().tolist() == [0, 32768, 65535]
    assert preprocessing.decode(np.array([[-9.0, 9.0, 1.0]])).ravel().tolist() == [0, 65535, 49151]


def test_constant_numbers_can_be_scaled():
    preprocessing = derive(source_of([np.full((2, 2), 7.0)]))
    assert preprocessing.decode(np.full((2, 2), 7.0)).max() == 0


# Size


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resize_equals_pillow_and_centre_crop(interpolation):
    image = Image.fromarray(noise(60, 90, 3))
    decoded = Preprocessing((20, 20), (20, 20), 3, interpolation=interpolation).decode(image)
    whole = np.asarray(image.resize((30, 20), Image.Resampling[interpolation.upper()]))
    assert np.array_equal(decoded, whole[:, 5:25])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_16_bit_and_many_channels_resize_as_8_bit_does(channels):
    image = noise(60, 90, channels)
    eight = Preprocessing((16, 16), (20, 24), channels).decode(image)
    sixteen = Preprocessing((16, 16), (20, 24), channels, 0, 65535).decode(image.astype(np.uint16) * 257)
    assert eight.shape == sixteen.shape == (20, 24, channels)
    assert np.abs(eight - sixteen / 257).max() < 1.5  # Pillow rounds between its two passes at 8 bit


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    store=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    channels=st.integers(1, 5),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "int32"]),
)
def test_any_image_takes_the_store_form_and_flat_stays_flat(height, width, store, channels, dtype):
    high = {"uint8": 255.0, "uint16": 65535.0}.get(dtype, 200.0)
    preprocessing = Preprocessing(store, store, channels, 0.0, high)
    raw = np.full((height, width, channels), 100, dtype=dtype)
    decoded = preprocessing.decode(raw)
    assert decoded.shape == (*store, channels) and decoded.dtype == preprocessing.dtype
    assert (decoded == {"uint8": 100, "uint16": 100}.get(dtype, 32768)).all()
    filled = replace(preprocessing, mean=(0.5,) * channels, std=(0.5,) * channels)
    assert filled(raw).shape == (channels, *store)


@settings(max_examples=40, deadline=None)
@given(
    sides=st.lists(st.tuples(st.integers(8, 150), st.integers(8, 150)), min_size=1, max_size=5),
    multiple=st.sampled_from([1, 4, 8]),
)
def test_derived_size_is_a_multiple_that_fits(sides, multiple):
    preprocessing = derive(source_of([np.zeros(side, np.uint8) for side in sides]), multiple_of=multiple)
    assert all(side % multiple == 0 and multiple <= side <= 96 for side in preprocessing.size)
    assert all(stored >= side for stored, side in zip(preprocessing.store, preprocessing.size, strict=True))
    assert (preprocessing.store == preprocessing.size) == (set(sides) == {preprocessing.size})


@pytest.mark.parametrize(
    ("sides", "size", "multiple", "expected", "store"),
    [
        ([(32, 32)] * 3, None, 4, (32, 32), (32, 32)),
        ([(32, 64)] * 3, None, 16, (32, 64), (32, 64)),
        ([(28, 28)] * 3, None, 16, (16, 16), (18, 18)),
        ([(200, 200)] * 3, None, 8, (96, 96), (110, 110)),
        ([(50, 200), (70, 61), (80, 90)], None, 8, (56, 56), (64, 64)),
        ([(224, 224)] * 3, 224, 16, (224, 224), (224, 224)),
        ([(400, 500)] * 3, 224, 16, (224, 224), (256, 256)),
        ([(32, 32)] * 3, (16, 32), 4, (16, 32), (18, 37)),
    ],
)
def test_derived_size_of_known_cases(sides, size, multiple, expected, store):
    found = derive(source_of([np.zeros(side, np.uint8) for side in sides]), DataSettings(size=size), multiple)
    assert (found.size, found.store) == (expected, store)


def test_image_smaller_than_a_patch_and_size_that_is_no_multiple():
    source = source_of([np.zeros((10, 12), np.uint8)])
    with pytest.raises(WhymaskError, match=r"10 pixels.*one patch of 16"):
        derive(source, multiple_of=16)
    with pytest.raises(WhymaskError, match=r"30 x 30.*multiples of the patch, 4.*give 32"):
        derive(source, DataSettings(size=30), multiple_of=4)


def test_derive_skips_what_cannot_be_read():
    bad = OSError("truncated")
    assert derive(source_of([bad, np.zeros((8, 8), np.uint8), bad])).size == (8, 8)
    with pytest.raises(WhymaskError, match=r"none of 2 images that were tried.*image 0: OSError: truncated"):
        derive(source_of([bad, bad]))


def test_derived_channels():
    grey, colour, five = noise(4, 4), noise(4, 4, 3), noise(4, 4, 5)
    assert derive(source_of([grey, grey])).channels == 1
    assert derive(source_of([grey, grey, colour])).channels == 3
    assert derive(source_of([five, five, grey])).channels == 5
    assert derive(source_of([colour]), DataSettings(channels=1)).channels == 1


# Statistics and normalisation


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_statistics_equal_numpy(dtype):
    images, top = noise(50, 5, 6, 2, dtype=dtype), np.iinfo(dtype).max
    rows = np.array([40, 3, 7, 8])
    mean, std = statistics(images, rows)
    values = images[rows] / top
    assert np.allclose(mean, values.mean((0, 1, 2)), rtol=1e-12)
    assert np.allclose(std, values.std((0, 1, 2)), rtol=1e-9)
    assert statistics(images, np.isin(np.arange(50), rows)) == (mean, std)


def test_statistics_of_a_constant_channel_and_of_nothing():
    assert statistics(np.full((3, 2, 2, 1), 51, np.uint8)) == ((0.2,), (1.0,))
    with pytest.raises(WhymaskError, match="no images"):
        statistics(np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, bool))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_normalise(dtype, as_tensor):
    batch = noise(2, 4, 5, 3) if dtype == "uint8" else noise(2, 4, 5, 3, dtype="uint16")
    top = np.iinfo(batch.dtype).max
    batch = (batch / top).astype(np.float32) if dtype == "float32" else batch
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.25, 0.2])
    expected = ((batch / (1 if dtype == "float32" else top) - mean) / std).transpose(0, 3, 1, 2)
    preprocessing = Preprocessing((4, 5), (4, 5), 3, mean=tuple(mean), std=tuple(std))
    found = preprocessing.normalise(torch.tensor(batch) if as_tensor else batch)
    assert found.dtype == torch.float32 and found.is_contiguous()
    assert np.allclose(found.numpy(), expected, atol=2e-6)


def test_normalise_without_mean_says_so():
    with pytest.raises(WhymaskError, match=r"0 means.*3 channels.*statistics"):
        Preprocessing((4, 4), (4, 4), 3)(noise(4, 4, 3))


def test_centre_crop_takes_the_middle():
    image = torch.arange(36.0).view(1, 1, 6, 6)
    cropped = Preprocessing((2, 4), (6, 6), 1).centre_crop(image)
    assert torch.equal(cropped, image[..., 2:4, 1:5])


def test_calling_twice_gives_the_same_and_leaves_the_image_alone():
    image = RGB.copy()
    image.getexif()[0x0112] = 6
    preprocessing = Preprocessing((6, 6), (8, 6), 3, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert torch.equal(preprocessing(image), preprocessing(image))
    assert image.size == (8, 6) and image.getexif()[0x0112] == 6


def test_dict_round_trip_through_json():
    preprocessing = Preprocessing((4, 5), (6, 7), 2, -1.5, 1 / 3, (0.1, 0.2), (0.3, 0.4))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
