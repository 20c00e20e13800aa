"""What Pillow shows in part, or not at all, is read whole by the extra `formats`; without it that is said."""

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageOps
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from whymask.data import formats, opening
from whymask.data.derive import derive
from whymask.data.lost import DEPTH, FRAMES, LARGE, TRANSPARENT, lost, other_depth
from whymask.data.opening import open_bytes, whole_pictures
from whymask.data.parts import in_parts
from whymask.data.pixels import ORIENTATION, TURNED, native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.sources import open_source
from whymask.errors import WhymaskError

DEEP = np.random.default_rng(0).integers(0, 4096, (24, 20, 3), dtype=np.uint16)


def tiff(pixels: np.ndarray, **how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **how)
    return file.getvalue()


def seen(data: bytes) -> np.ndarray:
    return native_pixels(open_bytes(data))


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "has", lambda package: False)


# colours of 16 bits


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_tiff_in_16_bit_colour_keeps_every_bit(compression: str | None) -> None:
    assert np.array_equal(seen(tiff(DEEP, photometric="rgb", compression=compression)), DEEP)


def test_a_png_in_16_bit_colour_keeps_every_bit_and_drops_its_transparency() -> None:
    assert np.array_equal(seen(imagecodecs.png_encode(DEEP)), DEEP)
    assert np.array_equal(seen(imagecodecs.png_encode(np.dstack([DEEP, DEEP[..., :1]]))), DEEP)
    assert np.array_equal(seen(tiff(np.dstack([DEEP, DEEP[..., :1]]), photometric="rgb")), DEEP)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_transparency_of_16_bits_is_dropped_laid_on_white_or_a_channel(kind: str, tmp_path: Path) -> None:
    alpha = np.full((*DEEP.shape[:2], 1), 65535, np.uint16)
    alpha[:4], alpha[4:8] = 0, 32768
    pixels = np.dstack([DEEP, alpha])
    data = (
        imagecodecs.png_encode(pixels)
        if kind == "png"
        else tiff(pixels, photometric="rgb", extrasamples=["unassalpha"])
    )
    raw = open_bytes(data)
    assert np.array_equal(native_pixels(raw), DEEP) and np.array_equal(native_pixels(raw, "channel"), pixels)
    white = native_pixels(raw, "white")
    assert white.dtype == np.uint16 and (white[:4] == 65535).all() and np.array_equal(white[8:], DEEP[8:])
    assert np.abs(white[4:8].astype(int) - (DEEP[4:8].astype(int) + 65535) / 2).max() <= 1
    (tmp_path / f"a.{kind}").write_bytes(data)
    assert TRANSPARENT in lost(open_source(tmp_path))[0]
    assert lost(open_source(tmp_path), DataSettings(alpha="white")) == []


def test_colours_that_are_multiplied_by_their_transparency_are_divided_by_it() -> None:
    pixels = np.full((8, 8, 4), (20_000, 20_000, 20_000, 32_768), np.uint16)
    raw = open_bytes(tiff(pixels, photometric="rgb", extrasamples=["assocalpha"]))
    assert np.abs(native_pixels(raw).astype(int) - 40_000).max() <= 1
    assert np.abs(native_pixels(raw, "white").astype(int) - 52_767).max() <= 1


def test_opaque_colours_of_16_bits_get_a_channel_beside_transparent_ones() -> None:
    for data in (imagecodecs.png_encode(DEEP), tiff(DEEP, photometric="rgb")):
        pixels = native_pixels(open_bytes(data), "channel")
        assert np.array_equal(pixels[..., :3], DEEP) and (pixels[..., 3] == 65535).all()


def test_16_bits_for_three_colours_of_a_bmp_are_all_there_are(tmp_path: Path) -> None:
    header = struct.pack(
        "<2sIHHIIiiHHIIiiIIIII", b"BM", 66 + 8, 0, 0, 66, 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F
    )
    (tmp_path / "a.bmp").write_bytes(header + bytes(8))
    assert native_pixels(open_source(tmp_path).read(0)).shape == (2, 2, 3) and lost(open_source(tmp_path)) == []


def test_without_the_packages_the_upper_8_bits_are_read_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(DEEP * 16))
    assert lost(open_source(tmp_path)) == []
    without(monkeypatch)
    (line,) = lost(open_source(tmp_path))
    assert DEPTH in line and "whymask[formats]" in line
    assert np.array_equal(native_pixels(open_source(tmp_path).read(0)), DEEP >> 4)


def test_a_store_is_made_anew_where_a_package_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(DEEP))
    stamp = open_source(tmp_path).stamp
    without(monkeypatch)
    assert open_source(tmp_path).stamp != stamp


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_what_pillow_reads_whole_stays_with_it(mode: str) -> None:
    file = io.BytesIO()
    image = Image.fromarray(DEEP[..., 0]) if mode == "I;16" else Image.fromarray((DEEP >> 4).astype("u1")).convert(mode)
    for kind in ("png", "tiff"):
        image.save(file := io.BytesIO(), kind)
        assert isinstance(open_bytes(file.getvalue()), Image.Image)


# values above 8 bits


@pytest.mark.parametrize(("largest", "high"), [(4000, 4095), (4095, 4095), (4096, 8191), (65535, 65535), (7, 511)])
def test_16_bit_values_count_by_the_bits_that_the_data_use(largest: int, high: int, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, largest]], np.uint16)).save(tmp_path / "a.png")
    prep = derive(open_source(tmp_path))
    assert (prep.low, prep.high) == (0, high)
    assert prep.decode(np.array([[0, largest]], np.uint16)).ravel().tolist() == [0, round(largest / high * 65535)]


def test_values_beyond_those_trained_on_are_said(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 5000]], np.uint16)).save(tmp_path / "a.png")
    of_twelve = Preprocessing((1, 2), (1, 2), 1, 0, 4095)
    assert "values from 0 to 5,000" in str(other_depth(open_source(tmp_path), of_twelve))
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "a.png")
    assert other_depth(open_source(tmp_path), of_twelve) is None


# arrays, pages and axes of TIFF


@pytest.mark.parametrize("how", [{}, {"photometric": "minisblack", "planarconfig": "contig"}])
def test_a_tiff_of_an_array_has_its_height_width_and_channels(how: dict[str, Any]) -> None:
    bands = np.random.default_rng(1).integers(0, 4096, (64, 48, 6), dtype=np.uint16)
    assert np.array_equal(seen(tiff(bands, **how)), bands)


def test_bands_that_lie_one_behind_another_become_channels() -> None:
    bands = np.random.default_rng(1).integers(0, 4096, (6, 48, 64), dtype=np.uint16)
    found = seen(tiff(bands, photometric="minisblack", planarconfig="separate"))
    assert np.array_equal(found, np.moveaxis(bands, 0, -1))


def test_pages_stay_pages() -> None:
    pages = np.random.default_rng(1).integers(0, 255, (5, 48, 64), dtype=np.uint8)
    image = open_bytes(tiff(pages))
    assert np.array_equal(native_pixels(image)[..., 0], pages[0])
    assert np.array_equal(native_pixels(image, frames="channels"), np.moveaxis(pages, 0, -1))


@pytest.mark.parametrize("orientation", [1, *TURNED])
def test_turning_is_that_of_pillow(orientation: int) -> None:
    image = Image.fromarray((DEEP >> 4).astype(np.uint8))
    image.getexif()[ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    turned = TURNED.get(orientation, lambda pixels: pixels)((DEEP >> 4).astype(np.uint8))
    assert np.array_equal(turned, upright)


def test_an_orientation_in_a_tiff_of_16_bit_colour_is_applied() -> None:
    data = tiff(DEEP, photometric="rgb", extratags=[(ORIENTATION, "H", 1, 6, True)])
    assert np.array_equal(seen(data), TURNED[6](DEEP))


# HEIC


def test_heic_is_a_picture_like_others(tmp_path: Path) -> None:
    flat = Image.new("RGB", (64, 48), (200, 100, 50))
    pillow_heif.from_pillow(flat).save(tmp_path / "a.HEIC")
    source = open_source(tmp_path)
    pixels = native_pixels(source.read(0))
    assert pixels.shape == (48, 64, 3) and np.abs(pixels.astype(int) - (200, 100, 50)).max() < 6


# DICOM


def dicom(pixels: np.ndarray, kind: str = "MONOCHROME2", stored: int = 12, **tags: Any) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    frames, (data.Rows, data.Columns) = (len(pixels) if pixels.ndim == 3 else 1), pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, kind, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, stored, stored - 1
    if frames > 1:
        data.NumberOfFrames = frames
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.astype("<u2").tobytes()
    data.save_as(file := io.BytesIO(), enforce_file_format=True)
    return file.getvalue()


def test_dicom_gives_its_stored_values_and_bright_is_bright() -> None:
    values = DEEP[..., 0]
    assert np.array_equal(seen(dicom(values))[..., 0], values)
    assert np.array_equal(seen(dicom(values, "MONOCHROME1"))[..., 0], 4095 - values)


def test_dicom_gives_hounsfield_units_where_it_says_how() -> None:
    values = DEEP[..., 0]
    found = seen(dicom(values, RescaleSlope="2", RescaleIntercept="-1024"))
    assert np.array_equal(found[..., 0], 2.0 * values - 1024)


def test_frames_of_dicom_are_counted_and_may_be_channels(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(np.moveaxis(DEEP, -1, 0)))
    source = open_source(tmp_path)
    assert FRAMES in lost(source)[0]
    assert np.array_equal(native_pixels(source.read(0))[..., 0], DEEP[..., 0])
    assert np.array_equal(native_pixels(source.read(0), frames="channels"), DEEP)


# without the packages


@pytest.mark.parametrize("name", ["a.heic", "a.dcm"])
def test_files_that_a_package_would_read_are_named_with_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    monkeypatch.setattr(opening, "image_suffixes", None)
    (tmp_path / name).write_bytes(b"x")
    assert f"{Path(name).suffix}" in formats.wanting([Path(name).suffix])
    with pytest.raises(OSError, match=r"DICOM file; pip install 'whymask\[formats\]'"):
        open_bytes(dicom(DEEP[..., 0]))


# very large pictures


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_a_very_large_picture_is_reduced_while_it_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LARGEST_WHOLE", 10_000)
    Image.linear_gradient("L").resize((320, 240)).save(tmp_path / f"a.{kind}", kind)
    source = open_source(tmp_path)
    whole = np.asarray(Image.open(tmp_path / f"a.{kind}")).astype(int)
    pixels = native_pixels(source.read(0))
    assert pixels.shape == (80, 107, 1) or (kind == "jpeg" and pixels.shape[0] * pixels.shape[1] <= 10_000)
    assert abs(pixels.mean() - whole.mean()) < 2 and np.ptp(pixels) > 240
    assert LARGE in lost(source)[0]
    with whole_pictures():
        assert native_pixels(source.read(0)).shape == (240, 320, 1)


@pytest.mark.parametrize("mode", ["1", "P", "PA", "I;16", "LA", "F"])
def test_pictures_of_every_mode_are_reduced(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = Image.linear_gradient("L").resize((320, 240))
    image = (
        ramp.convert("RGB").convert("P").convert("PA")
        if mode == "PA"
        else ramp.convert("I").convert(mode)
        if (mode == "I;16")
        else ramp.convert(mode)
    )
    whole = native_pixels(image)
    monkeypatch.setattr(opening, "LARGEST_WHOLE", 10_000)
    reduced = native_pixels(opening._in_bounds(image))
    assert reduced.shape == (80, 107, whole.shape[2]) and reduced.dtype == whole.dtype
    assert abs(float(reduced.mean()) - float(whole.mean())) < 2


def test_a_large_picture_of_several_pages_is_still_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = Image.linear_gradient("L").resize((320, 240))
    ramp.save(tmp_path / "a.tif", save_all=True, append_images=[ramp])
    monkeypatch.setattr(opening, "LARGEST_WHOLE", 10_000)
    assert any(FRAMES in line for line in lost(open_source(tmp_path)))
    every = in_parts(open_source(tmp_path), DataSettings(frames="all"))
    assert len(every) == 2
    with pytest.raises(WhymaskError, match="give --tile"):
        every.read(1)
    assert len(in_parts(open_source(tmp_path), DataSettings(frames="all", tile=160))) == 8


def test_a_picture_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LARGEST", 10_000)
    Image.new("L", (320, 240)).save(file := io.BytesIO(), "png")
    with pytest.raises(WhymaskError, match=r"320 x 240 pixels; at most"):
        open_bytes(file.getvalue())


def test_pillows_own_limit_neither_warns_nor_refuses(monkeypatch: pytest.MonkeyPatch, recwarn: Any) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (320, 240)).save(file := io.BytesIO(), "png")
    assert native_pixels(open_bytes(file.getvalue())).shape == (240, 320, 1)
    assert not recwarn.list and Image.MAX_IMAGE_PIXELS == 1000
