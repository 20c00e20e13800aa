"""A store that is killed while it is built goes on from what was written whole, and ends with the same bytes."""

import io
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from children import exit_code_of
from whymask import cli
from whymask.data import building, decoding
from whymask.data.building import JOURNAL, partial_of, unfinished
from whymask.data.derive import derive
from whymask.data.forms import FORMS, Form
from whymask.data.source import Source
from whymask.data.sources import open_source
from whymask.data.store import open_images, store_path
from whymask.errors import WhymaskError

COUNT, ODD = 5 * decoding.BLOCK + 7, (3, 70, 71)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12, 3), dtype=np.uint8)


def source_of(fails_at: int | None = None, how: Any = KeyboardInterrupt) -> tuple[Source, list[int]]:
    """Images, of which ODD cannot be used; what is read of them; at a row it fails, by a signal or an exception."""
    source, rows = open_source(IMAGES), list[int]()

    def read(row: int) -> Any:
        if row == fails_at:
            if how is signal.SIGKILL:
                os.kill(os.getpid(), how)
            raise how
        if row in ODD:
            raise WhymaskError(f"odd {row}")
        rows.append(row)
        return source.read(row)

    return replace(source, read=read), rows


def build(source: Source, cache: Path, form: Form) -> dict[str, bytes]:
    store = open_images(source, derive(open_source(IMAGES)), cache, form=form).path
    assert [path.name for path in cache.iterdir()] == [store.name]
    return {path.name: path.read_bytes() for path in store.iterdir() if not path.name.startswith("checked")}


def is_spared(rows: list[int]) -> bool:
    """Whether the first block was not decoded again, though the last was: its images were at most looked at for their
    encoded size. How many blocks are left to decode is up to when a build was stopped."""
    return sum(row < decoding.BLOCK for row in rows) < 10 and COUNT - 1 in rows


@pytest.fixture(scope="module", params=["decoded", "encoded"])
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture(scope="module")
def unbroken(form: Form, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return build(source_of()[0], tmp_path_factory.mktemp("unbroken"), form)


@pytest.fixture
def partial(form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a build leaves that was stopped in its fourth block."""
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)  # so that two blocks, and no more, are made ahead
    with pytest.raises(KeyboardInterrupt):
        build(source_of(fails_at=3 * decoding.BLOCK)[0], tmp_path, form)
    return partial_of(store_path(open_source(IMAGES), derive(open_source(IMAGES)), tmp_path, form))


def test_files_are_as_numpy_writes_them(unbroken: dict[str, bytes]) -> None:
    for name, data in unbroken.items():
        if name.endswith(".npy"):
            again = io.BytesIO()
            np.save(again, np.load(io.BytesIO(data)))
            assert again.getvalue() == data


def test_a_stopped_build_goes_on_where_it_was(
    partial: Path, form: Form, unbroken: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    source, rows = source_of()
    done: list[int] = []
    open_images(source, derive(open_source(IMAGES)), partial.parent, lambda now, total: done.append(now), form)
    assert is_spared(rows) and done[0] > 3 * decoding.BLOCK and done[-1] == COUNT
    assert "goes on after 192 of 327 images" in capsys.readouterr().err
    assert build(source, partial.parent, form) == unbroken


def _killed(cache: Path, form: str) -> None:
    building.SECONDS, os.cpu_count = 0.0, lambda: 1
    build(source_of(fails_at=COUNT - 2, how=signal.SIGKILL)[0], cache, FORMS[form])


def _without_room(cache: Path, form: str) -> None:
    """No file may pass three blocks' bytes, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = 3 * decoding.BLOCK * (IMAGES[0].nbytes if form == "decoded" else 500)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        build(source_of()[0], cache, FORMS[form])
    except WhymaskError as error:
        assert "goes on with what is written" in str(error)
        os._exit(3)


@pytest.mark.parametrize(("work", "code"), [(_killed, -signal.SIGKILL), (_without_room, 3)])
def test_a_kill_and_a_full_disk_lose_nothing(
    work: Any, code: int, form: Form, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    assert exit_code_of(work, tmp_path, form.name) == code
    source, rows = source_of()
    assert build(source, tmp_path, form) == unbroken
    assert is_spared(rows)


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", ["tail", "journal", "torn", "image", "hashes", "empty"])
def test_what_is_not_whole_is_not_trusted(partial: Path, form: Form, unbroken: dict[str, bytes], damage: str) -> None:
    images, journal = partial / "store" / form.files[0], partial / JOURNAL
    match damage:
        case "tail":
            images.write_bytes(images.read_bytes() + b"half an image")
        case "journal":
            flipped(journal, -30)
        case "torn":
            journal.write_bytes(journal.read_bytes()[:-5])
        case "image":
            flipped(images, -1)
        case "hashes":
            flipped(partial / "store" / "hashes.npy", 200)
        case "empty":
            images.write_bytes(b"")
    assert build(source_of()[0], partial.parent, form) == unbroken


def test_a_source_that_changed_starts_anew_and_what_was_left_of_it_goes(
    partial: Path, form: Form, unbroken: dict[str, bytes]
) -> None:
    source, rows = source_of()
    build(replace(source, stamp="another"), partial.parent, form)
    assert {*rows} == {*range(COUNT)} - {*ODD} and not partial.exists()


def test_two_at_once_decode_once(form: Form, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    source, rows = source_of()
    preprocessing = derive(open_source(IMAGES))
    with ThreadPoolExecutor(2) as pool:
        opened = [pool.submit(open_images, source, preprocessing, tmp_path, None, form) for _ in range(2)]
        paths = {images.result().path for images in opened}
    assert len(paths) == 1 and len(rows) < 2 * COUNT - 100
    assert build(source, tmp_path, form) == unbroken


def test_clean_lists_what_is_left_of_a_build_but_not_what_is_built(
    partial: Path, form: Form, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHYMASK_STORE", str(partial.parent))
    with building.holding(partial):
        assert not unfinished(partial.parent, 0)
    cli.run(["clean", "--stores", "1", "--remove"])
    assert partial.exists()
    cli.run(["clean", "--stores", "0", "--remove"])
    assert not partial.exists() and "a store that was begun" in capsys.readouterr().err
