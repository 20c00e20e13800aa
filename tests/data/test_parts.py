"""Frames and tiles: every pixel is in some image, the parts of a file stay together, and a file gets one answer."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from whymask.data.derive import derive
from whymask.data.lost import FRAMES, TRANSPARENT, lost
from whymask.data.parts import in_parts, means_of_wholes
from whymask.data.pixels import native_pixels
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.sources import Source, open_source
from whymask.data.store import open_images
from whymask.errors import WhymaskError

RANDOM = np.random.default_rng(0)


def picture(height: int = 40, width: int = 64, channels: int = 3) -> np.ndarray:
    return RANDOM.integers(0, 255, (height, width, channels), dtype=np.uint8)


def pages(path: Path, count: int = 3, side: int = 16) -> list[np.ndarray]:
    found = [picture(side, side) for _ in range(count)]
    first, *rest = map(Image.fromarray, found)
    first.save(path, save_all=True, append_images=rest)
    return found


def classes(folder: Path, files: int = 10, side: int = 32) -> Path:
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for number in range(files):
            Image.fromarray(picture(side, side)).save(folder / name / f"{number}.png")
    return folder


def all_pixels(source: Source) -> list[np.ndarray]:
    return [native_pixels(source.read(index)) for index in range(len(source))]


# frames


def test_each_frame_is_an_image_with_the_label_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir(), (tmp_path / "bee").mkdir()
    two, three = pages(tmp_path / "ant" / "a.tif", 2), pages(tmp_path / "bee" / "b.tif", 3)
    source = in_parts(open_source(tmp_path), DataSettings(frames="all"))
    assert [Path(key).name for key in source.keys][:2] == ["a.tif#frame=0", "a.tif#frame=1"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert np.array_equal(all_pixels(source), [*two, *three])
    assert source.wholes is not None and len(set(source.wholes)) == 2
    assert "2 files are 5 images: their frames" in source.notes[-1] and lost(source, DataSettings(frames="all")) == []


def test_frames_as_channels_lie_one_behind_another(tmp_path: Path) -> None:
    found = pages(tmp_path / "a.tif", 2)
    raw = open_source(tmp_path).read(0)
    assert np.array_equal(native_pixels(raw, frames="channels"), np.concatenate(found, axis=2))
    assert np.array_equal(native_pixels(open_source(tmp_path).read(0)), found[0])
    assert FRAMES in lost(open_source(tmp_path))[0]


def test_frames_that_are_not_alike_are_no_channels() -> None:
    with pytest.raises(WhymaskError, match="as channels they must be alike"):
        native_pixels(_Frames([picture(8, 8), picture(8, 9)]), frames="channels")


class _Frames(Image.Image):
    """A file of frames of several sizes, as a TIFF may hold them."""

    def __init__(self, frames: list[np.ndarray]):
        super().__init__()
        self.all, self.n_frames = [Image.fromarray(frame) for frame in frames], len(frames)
        self.seek(0)

    def seek(self, frame: int) -> None:
        self.__dict__.update(self.all[frame].__dict__)


def test_an_array_of_frames_is_that_many(tmp_path: Path) -> None:
    stack = np.stack([picture(8, 8) for _ in range(3)])
    assert np.array_equal(native_pixels(stack), stack[0])
    assert native_pixels(stack, frames="channels").shape == (8, 8, 9)


# tiles


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.integers(1, 40),
    overlap=st.integers(0, 39),
    seed=st.just(0),
)
def test_tiles_cover_every_pixel_and_are_of_one_size(
    height: int, width: int, tile: int, overlap: int, seed: int
) -> None:
    overlap = min(overlap, tile - 1)
    image = np.arange(height * width, dtype=np.int32).reshape(height, width)
    source = in_parts(open_source(image[None]), DataSettings(tile=tile, overlap=overlap))
    found = all_pixels(source)
    assert {piece.shape[:2] for piece in found} == {(min(tile, height), min(tile, width))}
    assert len(np.unique(np.concatenate([piece.ravel() for piece in found]))) == height * width


def test_a_tile_knows_where_it_lies(tmp_path: Path) -> None:
    whole = picture(40, 64)
    Image.fromarray(whole).save(tmp_path / "a.png")
    source = in_parts(open_source(tmp_path), DataSettings(tile=32))
    assert [key.partition("#")[2] for key in source.keys] == [
        "tile=32x32+0+0",
        "tile=32x32+0+32",
        "tile=32x32+8+0",
        "tile=32x32+8+32",
    ]
    assert np.array_equal(native_pixels(source.read(3)), whole[8:40, 32:64])


def test_a_picture_is_decoded_once_for_all_its_tiles(tmp_path: Path) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    source = open_source(tmp_path)
    reads: list[int] = []

    def read(index: int) -> Any:
        reads.append(index)
        return source.read(index)

    counted = Source(source.name, source.keys, read, source.stamp, source.labels)
    all_pixels(in_parts(counted, DataSettings(tile=16)))
    assert len(reads) == 2  # for its size, and for its pixels


def test_pictures_are_opened_once_however_many_threads_ask_for_their_tiles(tmp_path: Path) -> None:
    classes(tmp_path / "d", 8)
    source, reads = open_source(tmp_path / "d"), Counter[int]()

    def read(index: int) -> Any:
        reads[index] += 1
        return source.read(index)

    how = DataSettings(tile=8)
    parts = in_parts(replace(source, read=read), how)
    reads.clear()
    with ThreadPoolExecutor(16) as pool:
        threaded = list(pool.map(lambda row: native_pixels(parts.read(row)), range(len(parts))))
    assert set(reads.values()) == {1} and len(reads) == 16
    assert all(map(np.array_equal, threaded, all_pixels(in_parts(source, how))))


def test_frames_are_decoded_in_order_by_each_of_several_threads(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(8, 8)) for _ in range(200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    source, seeks = open_source(tmp_path), [0]

    def read(index: int) -> Any:
        image = source.read(index)
        seek = image._seek

        def counted(frame: int, update_image: bool = True) -> None:
            seeks[0] += 1
            seek(frame, update_image)

        image._seek = counted
        return image

    how = DataSettings(frames="all", store=tmp_path / "store")
    parts = in_parts(replace(source, read=read), how)
    images = open_images(parts, derive(parts, how), tmp_path / "store")
    assert len(images) == 200 and seeks[0] < 200 * 10
    alone = in_parts(source, how)
    for row in (0, 63, 64, 150, 199):
        assert np.array_equal(images.images[row], derive(alone, how).decode(alone.read(row)))


def test_a_frame_that_cannot_be_used_is_the_only_one_that_is_left_out(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).random((24, 8, 8, 1)).astype(np.float32)
    stack[3, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", stack)
    source = in_parts(open_source(tmp_path, reader=np.load), DataSettings(frames="all"))
    images = open_images(source, derive(source, DataSettings(frames="all")), tmp_path / "store")
    ((key, reason),) = images.skipped
    assert key.endswith("#frame=3") and "not finite" in reason and len(images) == 23


@pytest.mark.parametrize("frames", ["all", "channels"])
def test_every_frame_of_a_grey_gif_is_read(frames: Any, tmp_path: Path) -> None:
    found = [np.kron(picture(4, 4)[..., 0], np.ones((6, 6))).astype(np.uint8) for _ in range(4)]
    first, *rest = [Image.fromarray(frame) for frame in found]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    source = in_parts(open_source(tmp_path), DataSettings(frames=frames))
    pixels = [native_pixels(source.read(row), frames=frames) for row in range(len(source))]
    assert len(pixels) == (4 if frames == "all" else 1)
    assert np.array_equal(
        np.concatenate(pixels, axis=2)[..., :: 3 if pixels[-1].shape[2] % 3 == 0 else 1][..., 0], found[0]
    )


def test_frames_in_any_order_are_right_and_few_are_kept(tmp_path: Path) -> None:
    found = pages(tmp_path / "a.tif", 40)
    source = in_parts(open_source(tmp_path), DataSettings(frames="all"))
    order = np.random.default_rng(0).permutation(40)
    assert all(np.array_equal(native_pixels(source.read(int(row))), found[row]) for row in order)


def test_files_without_frames_or_beyond_a_tile_are_told_so(tmp_path: Path) -> None:
    classes(tmp_path / "d", 2)
    assert "none has several tiles" in in_parts(open_source(tmp_path / "d"), DataSettings(tile=512)).notes[-1]


def test_what_is_lost_is_said_of_tiles_too(tmp_path: Path) -> None:
    image = Image.fromarray(picture(40, 40)).convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    said: list[str] = []
    prepare(tmp_path, DataSettings(store=tmp_path / "store", tile=16), say=said.append)
    assert any(TRANSPARENT in line for line in said)


def test_as_channels_files_of_other_numbers_of_frames_are_left_out(tmp_path: Path) -> None:
    for number in range(3):
        stack = [Image.fromarray(picture(12, 12)[..., 0]) for _ in range(3)]
        stack[0].save(tmp_path / f"{number}.tif", save_all=True, append_images=stack[1:])
    Image.fromarray(picture(12, 12)[..., 0]).save(tmp_path / "one.tif")
    prepared = prepare(tmp_path, DataSettings(store=tmp_path / "store", frames="channels"))
    ((key, reason),) = prepared.images.skipped
    assert Path(key).name == "one.tif" and "1 channels, as all its frames are; 3 were expected" in reason


def test_a_file_that_cannot_be_read_is_skipped_once(tmp_path: Path) -> None:
    classes(tmp_path / "d", 3)
    (tmp_path / "d" / "ant" / "bad.png").write_bytes(b"no picture")
    source = in_parts(open_source(tmp_path / "d"), DataSettings(tile=16))
    assert len(source) == 6 * 4 + 1


# who is with whom


def ready(tmp_path: Path, **settings: Any) -> Prepared:
    return prepare(tmp_path / "d", DataSettings(store=tmp_path / "store", **settings))


def test_the_tiles_of_a_file_are_never_on_both_sides_of_a_split(tmp_path: Path) -> None:
    classes(tmp_path / "d")
    prepared = ready(tmp_path, tile=16)
    assert prepared.groups is not None and len(prepared.images) == 80
    assert not {*prepared.groups[prepared.train]} & {*prepared.groups[prepared.test]}
    assert len(prepared.train) % 4 == 0 == len(prepared.test) % 4


def test_groups_of_files_hold_their_tiles(tmp_path: Path) -> None:
    classes(tmp_path / "d")
    prepared = ready(tmp_path, tile=16, group_by=r"(\d)\.png$")
    assert prepared.groups is not None and len({*prepared.groups}) == 10


def test_files_are_counted_for_the_test_share_and_the_share_that_is_drawn_is_said(tmp_path: Path) -> None:
    """60 files of four tiles in each of two classes: 240 tiles would let a fifth do, which is 12 files."""
    classes(tmp_path / "d", 60, side=8)
    said: list[str] = []
    settings = DataSettings(store=tmp_path / "store", tile=4, size=4)
    prepared = prepare(tmp_path / "d", settings, say=said.append)
    assert prepared.test_share == 0.34 and prepared.groups is not None
    assert len({*prepared.groups[prepared.test]}) in (40, 41) and len(prepared.images) == 480
    (line,) = [line for line in said if "are kept to test on" in line]
    assert line.startswith("33% of the labelled images") or len(prepared.test) > 160
    assert "20% would be about 12 files of the median class" in line
    again: list[str] = []
    assert prepare(tmp_path / "d", settings, like=prepared.identity, say=again.append).test_share == 0.34
    assert not any("are kept to test on" in line for line in again)


def test_other_tiles_have_another_store(tmp_path: Path) -> None:
    classes(tmp_path / "d", 6)
    assert ready(tmp_path, tile=16).images.path != ready(tmp_path, tile=16, overlap=4).images.path


@pytest.mark.parametrize(("settings", "said"), [({"tile": 8, "overlap": 8}, "less"), ({"overlap": 4}, "give --tile")])
def test_tiles_that_do_not_advance_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        DataSettings(**settings)  # type: ignore[arg-type]


def test_the_answer_for_a_file_is_the_mean_of_its_parts_also_across_batches() -> None:
    parts = [
        (["b", "b"], np.array([[1.0, 0.0], [0.5, 0.5]], np.float32)),
        (["b", "a"], np.array([[0.0, 1.0], [0.2, 0.8]], np.float32)),
        (["a"], np.array([[0.4, 0.6]], np.float32)),
    ]
    found = [*means_of_wholes(iter(parts))]
    assert [names for names, _ in found] == [["b"], ["a"]] and [*means_of_wholes([])] == []
    assert np.allclose(np.concatenate([means for _, means in found]), [[0.5, 0.5], [0.3, 0.7]])
    assert all(means.dtype == np.float32 for _, means in found)
