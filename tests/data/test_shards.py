"""WebDataset shards: what a sample is, what says its label and split, what is missing or cut off, and what is kept."""

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from packed import IMAGES, pixels, png, samples, write_shards, write_tar
from whymask.data import archives
from whymask.data.braces import braced, refuse_holes
from whymask.data.derive import derive
from whymask.data.settings import DataSettings, LabelSettings, check_there
from whymask.data.source import Source
from whymask.data.sources import open_asked, open_source
from whymask.data.store import open_images
from whymask.errors import WhymaskError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(data: Any, cache: Path, **asked: Any) -> Source:
    return open_asked(data if isinstance(data, list) else str(data), DataSettings(store=cache, **asked))


@pytest.mark.parametrize("given", ["{}", "{}/train-{{000000..000002}}.tar", "{}/*.tar"])
def test_a_folder_braces_and_a_pattern_are_the_same_samples(given: str, tmp_path: Path, cache: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    source = opened(given.format(folder), cache)
    assert np.array_equal(pixels(source), IMAGES) and source.splits is None
    assert [source.classes[label] for label in source.labels] == ["0", "1"] * 6
    assert source.keys[5] == f"{folder.resolve()}/train-000001.tar#0005.png"
    assert source.stamp == opened(folder, cache).stamp and "12 samples of 3 tar files" in source.notes
    assert open_images(source, derive(source), cache).skipped == []


def test_one_archive_and_a_list_of_them(tmp_path: Path, cache: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    first, second = folder / "train-000000.tar", folder / "train-000001.tar"
    assert np.array_equal(pixels(opened(first, cache)), IMAGES[:4])
    assert np.array_equal(pixels(open_source([first, second], cache=cache)), IMAGES[:8])


def test_gzip_is_unpacked_once_and_goes_when_the_store_is_there(tmp_path: Path, cache: Path) -> None:
    plain = write_shards(tmp_path / "shards", count=1) / "train-000000.tar"
    packed = tmp_path / "train.tgz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    source = opened(packed, cache)
    assert np.array_equal(pixels(source), IMAGES[:4]) and len(list((cache / "fetched").glob("*.tar"))) == 1
    derive(source)
    open_images(source, derive(source), cache)
    assert not list((cache / "fetched").iterdir())
    derive(opened(packed, cache))
    assert not list((cache / "fetched").iterdir()), "unpacked again for what every command looks at"


def test_an_index_is_made_once_and_again_where_the_archive_changed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "shards")
    made: list[str] = []
    index_of = archives.index_of
    monkeypatch.setattr(archives, "index_of", lambda name, path: made.append(path.name) or index_of(name, path))
    first = opened(folder, cache)
    again = opened(folder, cache)
    assert len(made) == 3 and again.keys == first.keys and np.array_equal(again.labels, first.labels)
    write_tar(folder / "train-000001.tar", samples(range(4, 9), cls=str))
    changed = opened(folder, cache)
    assert made[3:] == ["train-000001.tar"] and len(changed) == 13 and changed.stamp != first.stamp
    for index in (cache / "indices").iterdir():
        index.write_bytes(index.read_bytes()[:-9])
    assert opened(folder, cache).keys == changed.keys


# labels and splits


def test_labels_are_in_cls_or_json_or_txt(tmp_path: Path, cache: Path) -> None:
    def labels(*, asked: LabelSettings | None = None, **texts: Any) -> tuple[list[str], Source]:
        path = write_tar(tmp_path / "one.tar", samples(range(6), **texts))
        source = open_source(path, labels=asked or LabelSettings(), cache=cache)
        named = source.labels if source.task.name == "classification" else []
        return [source.classes[label] if label >= 0 else "" for label in named], source

    animals = ["cat", "dog"] * 3
    both = {"cls": lambda n: f"{n % 3}\n", "json": lambda n: json.dumps({"label": animals[n], "width": n, "box": {}})}
    found, source = labels(**both)
    assert found == ["0", "1", "2"] * 2 and source.columns["width"].tolist() == list("012345")
    assert labels(json=both["json"])[0] == animals
    assert labels(txt=lambda n: animals[n])[0] == animals
    found, source = labels(txt=lambda n: f"a photo of {n}")
    assert found == [""] * 6 and any("taken for captions" in note for note in source.notes)
    assert labels(**both, asked=LabelSettings(label_columns=("label",)))[0] == animals
    several = labels(json=lambda n: json.dumps({"labels": ["a", "b"][: 1 + n % 2]}))[1]
    assert several.task.name == "multilabel"
    numbers = labels(json=lambda n: json.dumps({"target": n / 7}))[1]
    assert numbers.task.name == "regression"
    assert labels(json=lambda n: "{no json")[0] == [""] * 6


def test_without_labels_folders_in_the_archive_are_classes_and_splits(tmp_path: Path, cache: Path) -> None:
    names = [f"./{split}/{kind}/{n}.png" for split in ("train", "test") for kind in ("cat", "dog") for n in (0, 1)]
    path = write_tar(tmp_path / "photos.tar", {name: png(at) for at, name in enumerate(names)})
    source = opened(path, cache)
    assert source.classes == ("cat", "dog") and source.splits is not None
    assert source.splits.tolist() == ["train"] * 4 + ["test"] * 4 and source.labels.tolist() == [0, 0, 1, 1] * 2


@pytest.mark.parametrize("names", [("train-{}.tar", "val-{}.tar"), ("train/{}.tar", "valid/{}.tar")])
def test_splits_are_in_the_names_of_shards_or_their_folders(
    names: tuple[str, str], tmp_path: Path, cache: Path
) -> None:
    for at, name in enumerate(names):
        write_tar(tmp_path / "test-of-mine" / name.format("000"), samples([2 * at, 2 * at + 1], cls=str))
    source = opened(tmp_path / "test-of-mine", cache)
    assert source.splits is not None and source.splits.tolist() == ["train", "train", "test", "test"]


# what is a sample


def test_of_a_sample_the_plainest_image_is_seen_and_what_has_none_is_said(tmp_path: Path, cache: Path) -> None:
    members = {"a/1.seg.png": png(1), "a/1.png": png(0), "a/1.cls": "0", "a/2.mp4": b"no", "a/2.cls": "1", "a/.x": b"h"}
    source = opened(write_tar(tmp_path / "one.tar", members), cache)
    assert np.array_equal(pixels(source), IMAGES[:1]) and source.keys[0].endswith("one.tar#a/1.png")
    assert any("1 samples have no image" in note for note in source.notes)
    assert any("1 samples have several images" in note for note in source.notes)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"1.cls": "0"}, "no sample with an image in 1 tar files"),
        ({"1.png": b"x", "./1.PNG": b"x"}, "are of one sample"),
    ],
)
def test_what_is_no_shard_of_images_is_told(members: dict[str, bytes | str], said: str, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match=said):
        opened(write_tar(tmp_path / "one.tar", members), tmp_path)


def test_a_file_that_is_no_archive_names_itself(tmp_path: Path, cache: Path) -> None:
    for name in ("one.tar", "one.tar.gz"):
        (tmp_path / name).write_text("this is text")
        with pytest.raises(WhymaskError, match=rf"{name}.*copy it again"):
            opened(tmp_path / name, cache)


# what is missing, and what is cut off


def test_holes_are_named(tmp_path: Path, cache: Path) -> None:
    folder = write_shards(tmp_path / "shards", count=5)
    (folder / "train-000003.tar").unlink()
    braces = f"{folder}/train-{{000000..000004}}.tar"
    for ask in (lambda: opened(folder, cache), lambda: opened(f"{folder}/*.tar", cache)):
        with pytest.raises(WhymaskError, match=r"leave out train-000003\.tar|leave out .*/train-000003\.tar"):
            ask()
    for ask in (lambda: opened(braces, cache), lambda: check_there(braces)):
        with pytest.raises(WhymaskError, match=r"1 of its 5 files are not there: .*train-000003\.tar"):
            ask()
    named = f"{folder}/train-{{000000..000002,000004}}.tar"
    check_there(named)
    assert len(opened(named, cache)) == 16


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["a-00.tar", "a-02.tar", "b-00.tar", "b-01.tar"], "a-01.tar"),
        (["t-00000-of-00003.parquet", "t-00001-of-00003.parquet"], "t-00002-of-00003.parquet"),
        (["x/0001.tar.gz", "x/0003.tar.gz"], "x/0002.tar.gz"),
        (["2019.tar", "2021.tar"], None),
        (["1.tar", "3.tar"], None),
        (["cats.tar", "dogs.tar"], None),
    ],
)
def test_a_series_is_numbers_of_one_length_with_zeros(names: list[str], missing: str | None) -> None:
    if missing is None:
        refuse_holes("shards", names)
    else:
        with pytest.raises(WhymaskError, match=f"leave out {missing};"):
            refuse_holes("shards", names)


def test_braces_are_as_a_shell_has_them() -> None:
    assert braced("s/{train,val}-{08..10}.tar") == [
        f"s/{s}-{n}.tar" for s in ("train", "val") for n in ("08", "09", "10")
    ]
    assert braced("{1..3,7}.tar") == ["1.tar", "2.tar", "3.tar", "7.tar"] and braced("no{thing}.tar") == [
        "no{thing}.tar"
    ]
    with pytest.raises(WhymaskError, match="ends before it begins"):
        braced("{9..1}.tar")
    with pytest.raises(WhymaskError, match="at most 1,000,000"):
        braced("{0..9999}{0..9999}.tar")


@pytest.mark.parametrize("is_packed", [False, True])
def test_of_a_shard_that_is_cut_off_what_is_whole_is_read_and_the_rest_listed(
    is_packed: bool, tmp_path: Path, cache: Path
) -> None:
    folder = write_shards(tmp_path / "shards", count=1)
    path = folder / "train-000000.tar"
    with tarfile.open(path) as archive:
        last = archive.getmember("0003.png")
    whole = path.read_bytes()
    path.write_bytes(whole[: last.offset_data + 50])
    if is_packed:
        path.write_bytes(whole)
        packed = gzip.compress(path.read_bytes(), 0)
        path.unlink()
        path = path.with_suffix(".tar.gz")
        path.write_bytes(packed[: last.offset_data + 80])
    source = opened(folder, cache)
    assert any(f"{path.resolve()}: it is cut off within 0003.png" in note for note in source.notes)
    images = open_images(source, derive(source), cache)
    assert np.array_equal(images.images, IMAGES[:3])
    assert [key.rpartition("#")[2] for key, _ in images.skipped] == ["0003.png"]
    assert "ends in the middle of it" in images.skipped[0][1]


def test_a_shard_without_an_end_mark_is_told(tmp_path: Path, cache: Path) -> None:
    path = write_shards(tmp_path / "shards", count=1) / "train-000000.tar"
    with tarfile.open(path) as archive:
        last = archive.getmember("0003.png")
    path.write_bytes(path.read_bytes()[: last.offset])
    source = opened(path, cache)
    assert len(source) == 3 and any("without an end mark" in note for note in source.notes)
