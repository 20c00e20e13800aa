"""Whose pixels a store holds, what is said of values that are not as expected, and what is not read."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whymask.data.pixels import native_pixels
from whymask.data.prepare import prepare
from whymask.data.preprocessing import Preprocessing
from whymask.data.readers import reader_named, reader_text
from whymask.data.settings import DataSettings, as_sides
from whymask.data.sources import open_source
from whymask.errors import WhymaskError
from whymask.training.settings import RuntimeSettings


def read(path: Path, top: int = 255) -> np.ndarray:
    return np.full((4, 4), top, np.uint8)


def bound(top: int) -> Any:
    return lambda path: np.full((4, 4), top, np.uint8)


class Scaled:
    def __init__(self, top: int):
        self.top = top

    def __call__(self, path: Path) -> np.ndarray:
        return np.full((4, 4), self.top, np.uint8)

    def read(self, path: Path) -> np.ndarray:
        return self(path)


READERS = {
    "partial": lambda top: partial(read, top=top),
    "closure": bound,
    "object": Scaled,
    "method": lambda top: Scaled(top).read,
}


@pytest.mark.parametrize("kind", READERS)
def test_readers_made_with_other_values_do_not_share_a_store(kind: str, tmp_path: Path) -> None:
    make = READERS[kind]
    assert reader_text(make(255)) == reader_text(make(255)) != reader_text(make(50))
    (tmp_path / "d").mkdir()
    for number in range(4):
        (tmp_path / "d" / f"{number}.raw").write_bytes(b"x")
    seen = [
        int(prepare(tmp_path / "d", DataSettings(store=tmp_path / "store"), reader=make(top)).images.images.max())
        for top in (255, 50)
    ]
    assert seen == [255, 50]


class Slotted:
    __slots__ = ("top",)

    def __init__(self, top: Any):
        self.top = top

    def __call__(self, path: Path) -> np.ndarray:
        return np.full((4, 4), self.top, np.uint8)


LEVEL = 1


def of_the_module(path: Path) -> np.ndarray:
    return read(path, LEVEL)


@pytest.mark.parametrize("make", [lambda top: partial(read, top=top), bound, Scaled, Slotted])
def test_readers_that_hold_long_arrays_are_told_apart_by_every_value(make: Any) -> None:
    table = np.arange(5000)
    other = table.copy()
    other[2500] = -1
    assert repr(table) == repr(other)
    assert reader_text(make(table)) == reader_text(make(table.copy())) != reader_text(make(other))


def test_a_reader_is_told_apart_by_the_values_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reader_text(of_the_module)
    assert reader_text(of_the_module) == before
    monkeypatch.setattr(sys.modules[__name__], "LEVEL", 2)
    assert reader_text(of_the_module) != before


def test_a_reader_that_nothing_tells_apart_is_another_each_time() -> None:
    opaque = partial(read, top=object())  # type: ignore[arg-type]
    assert reader_text(opaque) != reader_text(opaque)


def test_pixels_that_changed_with_their_time_set_back_are_decoded_again(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    paths = [tmp_path / "d" / f"{number}.bmp" for number in range(4)]
    for path in paths:
        Image.new("L", (8, 8), 10).save(path)
    stamp, state = open_source(tmp_path / "d").stamp, paths[0].stat()
    clock = tmp_path / "clock"
    clock.touch()
    while clock.stat().st_ctime_ns <= state.st_ctime_ns:  # older systems date changes by ticks of milliseconds
        clock.touch()
    Image.new("L", (8, 8), 200).save(paths[0])
    os.utime(paths[0], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert paths[0].stat().st_size == state.st_size and open_source(tmp_path / "d").stamp != stamp


def test_what_is_not_read_is_counted_by_suffix(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for name in ("b.NEF", "c.nef", "d.svg", "e", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (note,) = open_source(tmp_path).notes
    assert "opened here: 2 .nef, 1 .svg, 1 without suffix, 1 .txt; a picture without a suffix" in note


def test_deeper_images_than_a_network_knows_are_warned_of(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 4096, (8, 16, 16)).astype(np.uint16)
    eight = Preprocessing((16, 16), (16, 16), 1, mean=(0.5,), std=(0.2,))
    said: list[str] = []
    prepare(images, DataSettings(store=tmp_path), preprocessing=eight, say=said.append)
    assert any(
        line.startswith("warning: these images have 16 bits a value, those that the network was") for line in said
    )
    said.clear()
    prepare((images // 16).astype(np.uint8), DataSettings(store=tmp_path), preprocessing=eight, say=said.append)
    assert not any("warning" in line for line in said)


def test_one_image_is_not_taken_for_many() -> None:
    data = np.zeros((48, 48, 3), np.uint8)
    said = r"one image in colour or 48 grey ones of 48 x 3 pixels; give images\[None\]"
    with pytest.raises(WhymaskError, match=said):
        open_source(data)


@pytest.mark.parametrize("asked", [{"threads": 0}, {"devices": 0}, {"threads": -1}])
def test_no_thread_and_no_device_are_refused(asked: dict[str, int]) -> None:
    with pytest.raises(WhymaskError, match="at least 1 was expected"):
        RuntimeSettings(**asked)


def test_no_home_is_needed_where_the_store_is_said_and_asked_for_where_it_is_not(tmp_path: Path) -> None:
    """As in a container whose user has neither HOME nor an entry."""
    code = (
        "import pathlib\n"
        "def none(cls): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = classmethod(none)\n"
        "from whymask.data.settings import default_store\n"
        "print(default_store())\n"
    )
    bare = {key: value for key, value in os.environ.items() if key not in ("HOME", "WHYMASK_STORE", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=bare | {"WHYMASK_STORE": str(tmp_path)}, capture_output=True, text=True)
    assert said.stdout.strip() == str(tmp_path)
    refused = subprocess.run(command, env=bare, capture_output=True, text=True)
    assert "give --store FOLDER, or set WHYMASK_STORE" in refused.stderr


def clear(folder: Path) -> Path:
    """Four pictures, black where they are seen, which their transparency alone shows; no two alike."""
    folder.mkdir()
    for number in range(4):
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[number : number + 8, 2:9, 3] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_transparency_is_dropped_and_said_or_laid_on_white_or_a_channel(tmp_path: Path) -> None:
    data = clear(tmp_path / "d")
    said: list[str] = []
    dropped = prepare(data, DataSettings(store=tmp_path / "store"), say=said.append).images
    assert not dropped.images.any() and len(set(dropped.hashes.tolist())) == 1
    assert any(line.startswith("warning: 4 of 4 images looked at have transparent parts") for line in said)
    white = prepare(data, DataSettings(store=tmp_path / "store", alpha="white")).images
    assert white.images[0, 0, 2].tolist() == [0] * 3 and white.images[0, 15, 15].tolist() == [255] * 3
    assert len(set(white.hashes.tolist())) == 4
    fourth = prepare(data, DataSettings(store=tmp_path / "store", alpha="channel")).images
    assert fourth.preprocessing.channels == 4 and fourth.images[0, 0, 2].tolist() == [0, 0, 0, 255]
    with Image.open(data / "0.png") as picture:
        assert np.array_equal(white.preprocessing.decode(picture), white.images[0])


def test_opaque_pictures_are_the_same_on_white(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("L"), Image.fromarray(pixels).convert("P")):
        assert np.array_equal(native_pixels(image), native_pixels(image, "white"))


# what the command line asks for


def test_a_reader_is_found_by_its_name_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_scans.py").write_text(
        "import numpy as np\n\ndef read(path):\n    return np.full((4, 4), 7, 'u1')\n"
    )
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.bin").write_bytes(b"x")
    assert native_pixels(open_source("d", reader="my_scans:read").read(0)).tolist() == np.full((4, 4, 1), 7).tolist()
    assert prepare("d", DataSettings(reader="my_scans:read", store=tmp_path / "s")).images.images[0, 0, 0, 0] == 7
    monkeypatch.delitem(sys.modules, "my_scans")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scans", "MODULE:FUNCTION was expected"),
        ("nowhere_at_all:read", "No module named"),
        ("math:nothing", "no attribute 'nothing'"),
        ("math:pi", "no function"),
    ],
)
def test_a_reader_that_is_none_is_told(name: str, said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        reader_named(name)


def fails(path: Path) -> Any:
    raise ValueError(f"no scan of {path.name}")


def test_a_reader_that_fails_on_all_files_is_named_with_their_number_and_the_first_error(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(3):
        (tmp_path / "d" / f"{number}.bin").write_bytes(b"x")
    said = rf"the reader {__name__}:fails gave no image of any of 3 files; first .*0\.bin: ValueError: no scan of 0"
    for bad in (fails, partial(fails)):
        with pytest.raises(WhymaskError, match=said):
            prepare(tmp_path / "d", DataSettings(store=tmp_path / "store"), reader=bad)
    with pytest.raises(WhymaskError, match=r"the reader .*<lambda> gave no image of any of 3 files.*of shape \(\)"):
        prepare(tmp_path / "d", DataSettings(store=tmp_path / "store"), reader=lambda path: "no image")
    with pytest.raises(WhymaskError, match=rf"more than half of 3 images cannot be used .* the files, or {__name__}:"):
        prepare(tmp_path / "d", DataSettings(store=tmp_path / "s"), reader=of_the_first)


def of_the_first(path: Path) -> Any:
    return np.full((4, 4), 7, np.uint8) if path.name == "0.bin" else fails(path)


def test_a_size_may_be_height_and_width(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    found = prepare(tmp_path, DataSettings(size=(16, 64), store=tmp_path / ".s")).images.preprocessing
    assert found.size == (16, 64) and as_sides(16) == (16, 16)
