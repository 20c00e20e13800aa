"""What is said of how many images there are: copies, files that are not there, images that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from whymask.data import prepare as preparing
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.sources import open_asked, open_source
from whymask.errors import WhymaskError
from whymask.fabric import Fabric
from whymask.stages.context import Context

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)


def write(root: Path, numbers: range) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(IMAGES[number]).save(root / f"{number}.png")


def prepared(data: Any, tmp_path: Path, said: list[str] | None = None, **settings: Any) -> Prepared:
    heard = [] if said is None else said
    return prepare(data, DataSettings(store=tmp_path / "store", **settings), say=heard.append)


# copies


@pytest.fixture
def twice(tmp_path: Path) -> Prepared:
    """30 photos, and copies of 20 of them as the labelled ones."""
    write(tmp_path / "photos", range(30))
    write(tmp_path / "labelled" / "a", range(10))
    write(tmp_path / "labelled" / "b", range(10, 20))
    return prepared(str(tmp_path / "photos"), tmp_path, labels=str(tmp_path / "labelled"), test_share=0.2)


def test_copies_of_an_image_are_one_image_to_pretrain_on(twice: Prepared) -> None:
    assert len(twice.test) == twice.leaking == 4 and len(twice.pool) == 50 - 8
    assert twice.distinct == 30 - 4 and twice.describe()["distinct"] == 26 and twice.describe()["pool"] == 42
    assert twice.copies.startswith("42 images to pretrain on, 26 different ones")


def test_they_are_one_where_it_is_said_whether_images_are_few(twice: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    assert twice.few.startswith("only 26 different images to pretrain on: below some thousand")
    monkeypatch.setattr(preparing, "FEW_UNLABELLED", 27)
    assert twice.few
    monkeypatch.setattr(preparing, "FEW_UNLABELLED", 26)
    assert not twice.few


def test_without_copies_nothing_is_said_of_them(tmp_path: Path) -> None:
    alone = prepared(IMAGES, tmp_path)
    assert not alone.copies and alone.few.startswith("only 30 images to pretrain on")


# files that are not there


def listed(path: Path, *names: str) -> str:
    path.write_text("path,label\n" + "".join(f"{name},{'ab'[at % 2]}\n" for at, name in enumerate(names)))
    return str(path)


def test_files_of_a_table_of_which_none_is_there_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "photos", range(4))
    table = listed(tmp_path / "l.csv", "x/0.png", "x/1.png")
    told = rf"l\.csv: none of its 2 files is there: tried {tmp_path}/x/0\.png, .*whole ones, were expected; correct"
    with pytest.raises(WhymaskError, match=told):
        open_source(table)
    with pytest.raises(WhymaskError, match=rf"tried .*{tmp_path}/photos/x/0\.png"):
        open_asked(str(tmp_path / "photos"), DataSettings(labels=table))


def test_files_that_are_not_there_are_counted_apart(tmp_path: Path) -> None:
    write(tmp_path / "photos", range(4))
    table = listed(tmp_path / "l.csv", *(f"photos/{number}.png" for number in range(6)))
    said: list[str] = []
    found = prepared(table, tmp_path, said, test_share=0.5)
    gone = f"2 not there, such as {tmp_path}/photos/4.png"
    assert f"4 of them labelled, 0 unlabelled, {gone}: classification of 2 classes (a 2, b 2)" in said[1]
    assert len(found.images) == 4 and [reason for _, reason in found.images.skipped] == ["no such file"] * 2
    said.clear()
    prepared(str(tmp_path / "photos"), tmp_path, said, labels=table, test_share=0.5)
    assert said[1].startswith(f"4 of them labelled, 0 unlabelled, {gone}: ")


def test_a_table_of_several_classes_or_numbers_has_none_of_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    for column, values in (("label", ("a|b", "a", "b")), ("target", ("0.5", "1.5", "2.5"))):
        rows = "".join(f"{number}.png,{value}\n" for number, value in enumerate(values))
        (tmp_path / "l.csv").write_text(f"path,{column}\n{rows}")
        assert open_source(tmp_path / "l.csv").labelled.tolist() == [True, True, False]


# images that cannot be used


def test_images_that_cannot_be_used_are_named_and_a_run_says_where_they_are_listed(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "d", range(10))
    for number in range(5):
        (tmp_path / "d" / f"bad {number}.png").write_bytes(b"no picture")
    said: list[str] = []
    found = prepared(str(tmp_path / "d"), tmp_path, said)
    (line,) = [line for line in said if "cannot be used" in line]
    bad = ", ".join(f"{tmp_path}/d/bad {number}.png (not an image that Pillow can open)" for number in range(3))
    assert line == f"5 images cannot be used and are left out: {bad} and 2 more"
    assert not any("skipped.csv" in each for each in said)
    Context(Fabric(), found).list_unused(tmp_path)
    assert f"cannot be used are listed in {tmp_path / 'skipped.csv'}" in capsys.readouterr().err
    assert len((tmp_path / "skipped.csv").read_text().splitlines()) == 6
