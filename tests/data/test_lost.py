"""What of pictures is not seen is said, and nothing is said of ordinary ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whymask.data.lost import FRAMES, TRANSPARENT, lost
from whymask.data.sources import open_source

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
PLAIN = Image.fromarray(PIXELS)


def said(path: Path) -> list[str]:
    return lost(open_source(path))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp"])
def test_of_an_ordinary_picture_nothing_is_lost(suffix: str, tmp_path: Path) -> None:
    PLAIN.save(tmp_path / f"x.{suffix}")
    PLAIN.convert("L").save(tmp_path / f"grey.{suffix}")
    assert said(tmp_path) == []


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_further_frames_are_counted(suffix: str, tmp_path: Path) -> None:
    PLAIN.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[PLAIN.rotate(90)])
    PLAIN.save(tmp_path / f"b.{suffix}")
    (line,) = said(tmp_path)
    assert line.startswith("warning: 1 of 2 images") and FRAMES in line


def test_transparency_counts_where_a_pixel_is_not_opaque(tmp_path: Path) -> None:
    opaque, shape = PLAIN.convert("RGBA"), PLAIN.convert("RGBA")
    shape.putpixel((3, 3), (0, 0, 0, 0))
    opaque.save(tmp_path / "a.png")
    assert said(tmp_path) == []
    shape.save(tmp_path / "b.png")
    (line,) = said(tmp_path)
    assert line.startswith("warning: 1 of 2 images") and TRANSPARENT in line


def test_grey_of_16_bits_is_seen_whole(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 16).save(tmp_path / "x.png")
    assert said(tmp_path) == []
