"""Folders and tables as people have them: what is plain is taken and said, what could be two things is asked about."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings, LabelSettings
from whymask.data.source import Source, split_named
from whymask.data.sources import open_asked, open_source
from whymask.disk import printable
from whymask.errors import WhymaskError


def write(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def classes(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    """Class folders of so many images, no two alike."""
    for name, count in counts.items():
        for number in range(count):
            first += 1
            write(root / name / f"{number}.png", first)
    return root


def prepared(data: Any, tmp_path: Path, said: list[str] | None = None, **settings: Any) -> Prepared:
    heard = [] if said is None else said
    return prepare(data, DataSettings(store=tmp_path / "store", **settings), say=heard.append)


def named(source: Source) -> list[str]:
    return [source.classes[label] if label >= 0 else "" for label in source.labels]


# split folders


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Training", ("train", "")), ("TEST", ("test", "")), ("seg_train", ("train", "seg"))),
        *(("images-eval", ("validation", "images")), ("valid", ("validation", "")), ("cats", None)),
        *(("train_test", None), ("trains", None), ("latest", None)),
    ],
)
def test_what_a_folders_name_says_of_splits(name: str, split: tuple[str, str] | None) -> None:
    assert split_named(name) == split


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("seg_train", "seg_test"), ("train", "eval"), ("training", "validation")],
)
def test_split_folders_by_other_words_are_no_classes(train: str, test: str, tmp_path: Path) -> None:
    classes(tmp_path / "d" / train, {"c0": 2, "c1": 2}), classes(tmp_path / "d" / test, {"c0": 1, "c1": 1}, 10)
    source = open_source(tmp_path / "d")
    assert source.classes == ("c0", "c1") and source.splits is not None
    assert [split for key, split in zip(source.keys, source.splits, strict=True) if test in key] == ["test", "test"]


def test_classes_whose_names_hold_a_splits_word_stay_classes(tmp_path: Path) -> None:
    source = open_source(classes(tmp_path / "d", {"train_station": 1, "test_tube": 1}))
    assert source.classes == ("test_tube", "train_station") and source.splits is None


def test_folders_that_hold_the_same_subfolders_are_no_classes_and_both_readings_are_named(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "monday", {"c0": 2, "c1": 2}), classes(tmp_path / "d" / "friday", {"c0": 1, "c1": 1})
    unclear = prepared(tmp_path / "d", tmp_path)
    assert len(unclear.pool) == 6  # to pretrain on, they are as good as others
    both = r"friday, monday all hold the subfolders c0, c1.*If c0, c1 are the classes.*; if friday, monday are"
    with pytest.raises(WhymaskError, match=rf"no labelled images \(the folders {both}"):
        unclear.require_labels()


def test_a_stray_picture_beside_split_folders_makes_no_classes_of_them(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "train", {"c0": 10, "c1": 10}), classes(tmp_path / "d" / "test", {"c0": 3, "c1": 3}, 40)
    write(tmp_path / "d" / "preview.png", 99)
    source = open_source(tmp_path / "d")
    assert source.classes == ("c0", "c1") and int(source.labelled.sum()) == 26 and source.splits is not None
    assert source.notes == ("1 of 27 images (preview.png) lie beside the splits: they are unlabelled",)
    assert sorted(source.splits[~source.labelled]) == ["train"]


def test_a_folder_beside_train_and_test_makes_no_classes_of_them_and_both_readings_are_named(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "seg_train", {"c0": 2, "c1": 2}), classes(tmp_path / "d" / "seg_test", {"c0": 1, "c1": 1})
    write(tmp_path / "d" / "seg_pred" / "0.png")
    both = r"seg_test, seg_train are named after splits, seg_pred beside them not.*If they are splits.*if all are"
    with pytest.raises(WhymaskError, match=rf"no labelled images \(the folders {both}"):
        prepared(tmp_path / "d", tmp_path).require_labels()


def test_one_class_may_be_called_train(tmp_path: Path) -> None:
    assert open_source(classes(tmp_path / "d", {"car": 2, "train": 2})).classes == ("car", "train")


# stray images


def test_a_stray_picture_does_not_turn_labels_off_and_is_named(tmp_path: Path) -> None:
    root = classes(tmp_path / "d", {"c0": 10, "c1": 10})
    write(root / "preview.png", 99)
    source = open_source(root)
    assert sorted(named(source)) == [""] + ["c0"] * 10 + ["c1"] * 10
    assert source.notes == (
        "1 of 21 images lie beside the subfolders (preview.png): they are unlabelled, the 2 subfolders are classes",
    )


def test_a_stray_picture_in_a_split_is_no_class_either(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "train", {"c0": 10, "c1": 10}), classes(tmp_path / "d" / "test", {"c0": 3, "c1": 3}, 40)
    write(tmp_path / "d" / "train" / "logo.png", 99)
    source = open_source(tmp_path / "d")
    assert int(source.labelled.sum()) == 26 and source.classes == ("c0", "c1")


def test_many_pictures_beside_subfolders_are_the_named_reason_for_no_labels(tmp_path: Path) -> None:
    root = classes(tmp_path / "d", {"c0": 6, "c1": 6})
    for number in range(6):
        write(root / f"{number}.png", 50 + number)
    with pytest.raises(
        WhymaskError, match=r"6 of 18 images lie beside the subfolders \(0\.png, .*no labelled|no labelled"
    ):
        prepared(root, tmp_path).require_labels()
    with pytest.raises(WhymaskError, match=r"6 of 18 images lie beside the subfolders"):
        prepared(root, tmp_path).require_labels()


# tables


def table(folder: Path, header: str, rows: list[str], name: str = "list.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


@pytest.mark.parametrize("column", ["class", "category", "labels", "class_name", "Y", "target"])
@pytest.mark.parametrize("path", ["path", "filename", "file", "image", "file_name"])
def test_the_usual_names_of_columns_are_read(column: str, path: str, tmp_path: Path) -> None:
    write(tmp_path / "a.png"), write(tmp_path / "b.png", 1)
    given = table(tmp_path, f"{path},{column}", ["a.png,cat", "b.png,dog"])
    source = open_source(given, labels=LabelSettings(task="classification"))
    assert named(source) == ["cat", "dog"]
    if column not in ("target",):
        assert f"the column {column} is read as the labels" in source.notes


def test_two_columns_that_may_be_the_labels_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.png"), write(tmp_path / "b.png", 1)
    given = table(tmp_path, "path,class,category", ["a.png,cat,x", "b.png,dog,y"])
    source = open_source(given)
    assert not source.labelled.any()
    with pytest.raises(WhymaskError, match=r"no column of labels among class, category; --label-columns names one"):
        prepared(given, tmp_path).require_labels()
    assert named(open_source(given, labels=LabelSettings(label_columns=("class",)))) == ["cat", "dog"]


def test_only_empty_cells_and_nan_are_unlabelled_in_a_table(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path / f"{number}.png", number)
    labels = ["-1", "0", "1", "", "nan", "NaN"]
    given = table(tmp_path, "path,label", [f"{n}.png,{label}" for n, label in enumerate(labels)])
    assert named(open_source(given)) == ["-1", "0", "1", "", "", ""]
    said = LabelSettings(unlabelled="-1")
    assert named(open_source(given, labels=said)) == ["", "0", "1", "", "", ""]


def test_a_class_folder_may_be_called_nan(tmp_path: Path) -> None:
    assert open_source(classes(tmp_path / "d", {"nan": 2, "roti": 2})).classes == ("nan", "roti")


def test_in_an_array_minus_one_says_unlabelled_and_the_counts_are_told(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (72, 8, 8), dtype=np.uint8)
    said: list[str] = []
    prepared((images, np.repeat([-1, 0, 1], 24)), tmp_path, said)
    assert "48 of them labelled, 24 unlabelled: classification of 2 classes (0 24, 1 24)" in said


@pytest.mark.parametrize("written", ["photos/{}.png", "photos\\{}.png", "{}.png"])
def test_paths_relative_to_the_photos_or_the_working_folder_or_with_backslashes_are_found(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write(tmp_path / "photos" / f"{number}.png", number)
    rows = [f"{written.format(number)},{'ab'[number % 2]}" for number in range(4)]
    given = table(tmp_path / "elsewhere", "path,label", rows)
    monkeypatch.chdir(tmp_path)
    source = open_source(given, beside=tmp_path / "photos")
    assert sorted(source.keys) == [str(tmp_path / "photos" / f"{number}.png") for number in range(4)]
    assert source.notes and all("read" in note for note in source.notes)


def test_a_table_of_files_that_are_nowhere_says_where_they_were_sought(tmp_path: Path) -> None:
    given = table(tmp_path / "lists", "path,label", ["a.png,cat", "b.png,dog"])
    with pytest.raises(WhymaskError, match=r"none of its 2 files is there: tried .*lists/a\.png"):
        prepared(given, tmp_path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_hugging_faces_metadata_beside_images_gives_their_labels(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(4):
        write(root / f"{number}.png", number)
    labels = ["cat", "dog", "cat", "dog"]
    if kind == "csv":
        table(root, "file_name,label", [f"{n}.png,{label}" for n, label in enumerate(labels)], "metadata.csv")
    else:
        lines = [json.dumps({"file_name": f"{n}.png", "label": label}) for n, label in enumerate(labels)]
        (root / "metadata.jsonl").write_text("\n".join(lines))
    assert named(open_source(root)) == labels


def test_metadata_in_split_folders_names_the_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number in range(3):
            write(tmp_path / "d" / split / f"{number}.png", number + 10 * (split == "test"))
        rows = [f"{number}.png,{'ab'[number % 2]}" for number in range(3)]
        table(tmp_path / "d" / split, "file_name,label", rows, "metadata.csv")
    source = open_source(tmp_path / "d")
    assert source.splits is not None and sorted(source.splits) == ["test"] * 3 + ["train"] * 3
    assert source.classes == ("a", "b") and source.labelled.all()


@pytest.mark.parametrize("rows", ["file_name,width\nc0/0.png,12\n", "file_name,label\nelsewhere/0.png,x\n"])
def test_metadata_without_labels_or_of_other_images_changes_nothing(rows: str, tmp_path: Path) -> None:
    root = classes(tmp_path / "d", {"c0": 2, "c1": 2})
    (root / "metadata.csv").write_text(rows)
    source = open_source(root)
    assert source.classes == ("c0", "c1") and "no labels are taken of metadata.csv" in source.notes


# what the test set is worth


def test_classes_without_test_or_training_images_are_named(tmp_path: Path) -> None:
    drawn = prepared(classes(tmp_path / "few", {"a": 40, "b": 20, "c": 1}), tmp_path)
    assert any(doubt.startswith("no test images of c: nothing will be known") for doubt in drawn.warnings())
    classes(tmp_path / "given" / "train", {"a": 6, "b": 6}), classes(tmp_path / "given" / "test", {"a": 2, "d": 2}, 50)
    given = prepared(tmp_path / "given", tmp_path)
    assert any(doubt.startswith("no training images of d: no network can") for doubt in given.doubts())
    assert any(doubt.startswith("no test images of b") for doubt in given.doubts())


def test_groups_that_leave_a_class_untested_are_refused_with_the_numbers(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for label, videos in (("a", ("v1", "v2")), ("b", ("v3",))):
        for video in videos:
            for number in range(6):
                write(root / label / f"{video}_{number}.png", hash_of(label, video, number))
    with pytest.raises(WhymaskError, match=r"leaves no test images of b \(1 groups\); a class needs two groups"):
        prepared(root, tmp_path, group_by=r"(v\d)_")


def hash_of(label: str, video: str, number: int) -> int:
    return 1000 * ord(label) + 100 * int(video[1]) + number


def test_one_picture_under_two_labels_is_named(tmp_path: Path) -> None:
    root = classes(tmp_path / "d", {"a": 8, "b": 8})
    write(root / "a" / "same.png", 999), write(root / "b" / "same.png", 999)
    (doubt,) = [each for each in prepared(root, tmp_path).doubts() if "equal pixels" in each]
    assert doubt.startswith("2 images have equal pixels and other labels, such as ") and "(a) and " in doubt


# what is no picture


def test_a_pipe_a_device_and_what_starts_programs_are_listed_and_not_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(8):
        write(root / f"{number}.png", number)
    os.mkfifo(root / "pipe.jpg")
    (root / "endless.png").symlink_to("/dev/zero")
    (root / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    skipped = {Path(key).name: reason for key, reason in prepared(root, tmp_path).images.skipped}
    assert skipped.keys() == {"pipe.jpg", "endless.png", "script.jpg"}
    assert "no regular file" in skipped["pipe.jpg"] and "no regular file" in skipped["endless.png"]


def test_links_to_what_is_not_there_are_told_whatever_they_are_called(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(8):
        write(root / f"{number}.png", number)
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "gone class").symlink_to("nowhere", target_is_directory=True)
    (root / "notes.txt").write_text("x")
    found = prepared(root, tmp_path)
    assert [Path(key).name for key, _ in found.images.skipped] == ["gone.png"]
    notes = open_source(root).notes
    assert any("not there: gone class" in note and "notes.txt" not in note for note in notes)
    assert any("1 .txt" in note and "suffix" not in note for note in notes)


@pytest.mark.parametrize("kind", ["tif", "jpg", "png"])
def test_a_turned_picture_keeps_its_edges(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "d").mkdir()
    for number in range(3):
        image.save(tmp_path / "d" / f"{number}.{kind}", exif=exif)
    assert prepared(tmp_path / "d", tmp_path).images.preprocessing.size == (30, 20)


# folders around folders


def test_one_folder_around_all_images_is_no_class(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "data" / "images", {"c0": 3, "c1": 3})
    source = open_source(tmp_path / "d")
    assert source.classes == ("c0", "c1")
    (note,) = source.notes
    assert note.endswith("the folder data/images, which is taken for no class; the classes are those within it: c0, c1")
    write(tmp_path / "e" / "JPEGImages" / "0.png")
    assert not open_source(tmp_path / "e").labelled.any()


def test_split_folders_may_hold_their_own_name_again(tmp_path: Path) -> None:
    for split, count in (("seg_train", 4), ("seg_test", 2)):
        classes(tmp_path / "d" / split / split, {"c0": count, "c1": count}, first=10 * count)
    source = open_source(tmp_path / "d")
    assert source.classes == ("c0", "c1") and source.splits is not None
    assert [int((source.splits == split).sum()) for split in ("train", "test")] == [8, 4]


@pytest.mark.parametrize(
    ("train", "test"), [("trainset", "holdout"), ("TrainingData", "TestData"), ("trainset", "testset")]
)
def test_other_words_for_splits(train: str, test: str, tmp_path: Path) -> None:
    classes(tmp_path / "d" / train, {"c0": 3, "c1": 3}), classes(tmp_path / "d" / test, {"c0": 2, "c1": 2}, first=40)
    source = open_source(tmp_path / "d")
    assert source.classes == ("c0", "c1") and source.splits is not None and int((source.splits == "test").sum()) == 4


# tables by other names


def listed(tmp_path: Path, name: str, *lines: str) -> Path:
    for number in range(4):
        write(tmp_path / "d" / f"{number}.png", number)
    (tmp_path / name).write_text("\n".join(lines))
    return tmp_path / name


@pytest.mark.parametrize("between", [";", "\t"])
def test_what_stands_between_values_is_that_of_the_header(between: str, tmp_path: Path) -> None:
    rows = [f"d/{n}.png{between}{'a, b' if n % 2 else 'c'}" for n in range(4)]
    source = open_source(listed(tmp_path, "l.csv", f"path{between}label", *rows))
    assert source.classes == ("a, b", "c") and source.labels.tolist() == [1, 0, 1, 0]


def test_paths_may_leave_out_their_suffix_and_be_called_id(tmp_path: Path) -> None:
    source = open_source(listed(tmp_path, "d/l.csv", "id,label", *(f"{n},{'ab'[n % 2]}" for n in range(4))))
    assert [Path(key).name for key in source.keys] == [f"{n}.png" for n in range(4)] and source.read(2)


def test_each_path_may_have_its_own_slashes_and_escapes(tmp_path: Path) -> None:
    odd = os.fsdecode(b"d/caf\xe9.png")
    write(tmp_path / odd, 9)
    written = ["d/0.png", "d\\1.png", printable(odd)]
    source = open_source(listed(tmp_path, "l.csv", "path,label", *(f"{path},a" for path in written)))
    assert [Path(key).exists() for key in source.keys] == [True] * 3
    assert "backslashes in 1 paths are read as slashes" in source.notes


def test_a_folders_own_table_gives_its_labels(tmp_path: Path) -> None:
    listed(tmp_path, "d/labels.csv", "image,label", "0.png,a", "1.png,b", "2.png,a")
    source = open_source(tmp_path / "d")
    assert source.classes == ("a", "b") and int(source.labelled.sum()) == 3 and len(source) == 4
    assert source.notes[0] == "labels are those of labels.csv"


def test_a_folder_keeps_its_splits_and_images_beside_a_table_of_labels(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / "d" / ("train" if number < 6 else "test") / f"{number}.png", number)
    rows = [f"{'train' if number < 6 else 'test'}/{number}.png,{'ab'[number % 2]},box{number}" for number in range(10)]
    listed(tmp_path, "d/labels.csv", "path,label,box", *rows, *(f"gone/{number}.png,a,x" for number in range(30)))
    for number in range(4):  # of those that `listed` makes
        (tmp_path / "d" / f"{number}.png").unlink(missing_ok=True)
    source = open_source(tmp_path / "d")
    assert len(source) == 10 and source.labelled.all() and source.splits is not None
    assert {
        Path(key).parent.name for key, split in zip(source.keys, source.splits, strict=True) if split == "test"
    } == {"test"}
    assert source.columns["box"].tolist() == [f"box{Path(key).stem}" for key in source.keys]
    assert source.notes == ("labels are those of labels.csv", "30 of its 40 rows name none of these images")


def test_a_tables_splits_are_taken_where_the_folder_has_none(tmp_path: Path) -> None:
    listed(
        tmp_path, "d/labels.csv", "path,label,split", *(f"{n}.png,{'ab'[n % 2]},{'test' * (n > 1)}" for n in range(4))
    )
    source = open_source(tmp_path / "d")
    assert source.splits is not None and source.splits.tolist() == ["train", "train", "test", "test"]


def test_a_tables_splits_stay_where_the_folders_name_no_test_split(tmp_path: Path) -> None:
    for folder, number in (("train", 0), ("train", 1), ("unlabelled", 2), ("train", 3), ("train", 4)):
        write(tmp_path / "d" / folder / f"{number}.png", number)
    rows = [f"train/{number}.png,{'ab'[number % 2]},{'test' * (number > 1)}" for number in (0, 1, 3, 4)]
    (tmp_path / "d" / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    source = open_source(tmp_path / "d")
    assert source.splits is not None
    assert [Path(key).name for key in np.array(source.keys)[source.splits == "test"]] == ["3.png", "4.png"]


def test_labels_elsewhere_keep_the_splits_of_the_images(tmp_path: Path) -> None:
    for split, number in (("train", 0), ("train", 1), ("test", 2), ("test", 3)):
        write(tmp_path / "d" / split / f"{number}.png", number)
    rows = ["d/train/0.png,a", "d/train/1.png,b", "d/test/2.png,a"]
    (tmp_path / "l.csv").write_text("\n".join(["path,label", *rows]))
    both = open_asked(tmp_path / "d", DataSettings(labels=str(tmp_path / "l.csv")))
    found = {Path(key).name: str(split) for key, split in zip(both.keys, both.splits, strict=True)}  # type: ignore[arg-type]
    assert found == {"0.png": "train", "1.png": "train", "2.png": "test", "3.png": "train"}
    assert any("the splits are those of" in note for note in both.notes)


def test_rows_of_metadata_without_a_name_are_passed_over_and_counted(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "d" / f"{number}.png", number)
    lines = [{"file_name": "0.png", "label": "a"}, {"label": "b"}, {"file_name": "1.png", "label": "b"}]
    (tmp_path / "d" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = open_source(tmp_path / "d")
    assert source.labelled.all() and "1 rows without file_name are passed over" in source.notes


def test_answers_of_a_network_are_no_labels(tmp_path: Path) -> None:
    listed(tmp_path, "d/predictions.csv", "path,class,confidence", "0.png,a,0.9", "1.png,b,0.8")
    source = open_source(tmp_path / "d")
    assert not source.labelled.any() and "holds a network's answers" in source.notes[0]
    both = open_asked(tmp_path / "d", DataSettings(labels=str(tmp_path / "d" / "predictions.csv")))
    assert int(both.labelled.sum()) == 2


def test_of_two_tables_that_give_labels_none_is_taken(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        listed(tmp_path, f"d/{name}", "path,label", "0.png,a", "1.png,b")
    source = open_source(tmp_path / "d")
    assert not source.labelled.any() and "a.csv, b.csv each give labels" in source.notes[0]


def test_tables_that_are_read_are_not_among_those_that_are_not(tmp_path: Path) -> None:
    listed(tmp_path, "d/labels.csv", "path,label", "0.png,a", "1.png,b")
    (tmp_path / "d" / "notes.txt").write_text("x")
    assert open_source(tmp_path / "d").notes[-1].endswith("1 .txt")
    (tmp_path / "d" / "labels.csv").rename(tmp_path / "d" / "metadata.csv")
    (tmp_path / "d" / "metadata.csv").write_text("file_name,label\n0.png,a\n1.png,b\n")
    assert open_source(tmp_path / "d").notes[-1].endswith("1 .txt")


def test_metadata_goes_before_class_folders_and_images_that_it_leaves_out_stay(tmp_path: Path) -> None:
    root = classes(tmp_path / "d", {"c0": 3, "c1": 3})
    table(root, "file_name,label", ["c0/0.png,x", "c1/0.png,y", "gone.png,y"], "metadata.csv")
    source = open_source(root)
    assert len(source) == 6 and sorted(named(source)) == ["", "", "", "", "x", "y"]
    said = " ".join(source.notes)
    assert "labels are those of metadata.csv" in said and "such as c0, are taken for no classes" in said
    assert "1 of its 3 rows name none of these images" in said and "4 images are not in it, and unlabelled" in said


def test_metadata_with_another_column_of_paths_is_a_table_like_others(tmp_path: Path) -> None:
    listed(tmp_path, "d/metadata.csv", "filename,label", "0.png,a", "1.png,b")
    source = open_source(tmp_path / "d")
    assert int(source.labelled.sum()) == 2 and source.notes[0] == "labels are those of metadata.csv"


def test_tables_may_lie_in_the_folder_around_all_images_and_have_tabs(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "d" / "photos" / f"{number}.png", number)
    (tmp_path / "d" / "photos" / "labels.tsv").write_text("image\tlabel\n0.png\ta\n1.png\tb\n")
    source = open_source(tmp_path / "d")
    assert int(source.labelled.sum()) == 2 and "labels are those of photos/labels.tsv" in source.notes


def test_bare_names_are_found_in_the_folders_below_where_there_is_one_of_each(tmp_path: Path) -> None:
    for split, number in (("train", 0), ("train", 1), ("test", 2), ("test", 1)):
        write(tmp_path / "d" / "images" / split / f"{number}.png", number)
    (tmp_path / "l.csv").write_text("id,label\n0,a\n2.png,b\n1.png,b\n")
    both = open_asked(tmp_path / "d", DataSettings(labels=str(tmp_path / "l.csv")))
    assert any("names of files anywhere in" in note for note in both.notes)
    named = [Path(key).name for key, known in zip(both.keys, both.labelled, strict=True) if known]
    assert sorted(named) == ["0.png", "2.png"] and [Path(key).name for key in both.missing] == ["1.png"]


@pytest.mark.parametrize(("column", "is_read"), [("set", True), ("Subset", True), ("fold", False)])
def test_a_column_of_splits_may_be_called_otherwise(column: str, is_read: bool, tmp_path: Path) -> None:
    rows = [f"{number}.png,{'ab'[number % 2]},{'test' if number > 1 else 'train'}" for number in range(4)]
    source = open_source(listed(tmp_path, "l.csv", f"path,label,{column}", *rows))
    assert (source.splits is not None) == is_read == (column not in source.columns)
    assert is_read == any(f"the column {column} is read as the splits" in note for note in source.notes)


def test_a_tables_splits_that_the_folders_contradict_are_told(tmp_path: Path) -> None:
    for split, number in (("train", 0), ("train", 1), ("test", 2), ("test", 3)):
        write(tmp_path / "d" / split / f"{number}.png", number)
    rows = ["train/0.png,a,test", "train/1.png,b,test", "test/2.png,a,train", "test/3.png,b,train"]
    (tmp_path / "d" / "l.csv").write_text("\n".join(["path,label,split", *rows]))
    source = open_source(tmp_path / "d")
    assert source.splits is not None and source.splits.tolist() == ["test", "test", "train", "train"]
    assert any("splits are those of the folders" in note for note in source.notes)


def test_class_folders_that_share_subfolders_are_told(tmp_path: Path) -> None:
    for place in ("a/c0", "a/c1", "b/c0", "b/c1", "b/c2"):
        write(tmp_path / "d" / place / "0.png", 1)
    source = open_source(tmp_path / "d")
    assert source.classes == ("a", "b") and "hold the same subfolders, c0, c1: if these" in source.notes[-1]


def test_a_test_folder_without_labels_is_told(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "train", {"a": 3, "b": 3})
    write(tmp_path / "d" / "test" / "0.png")
    assert any("the test split has no labels" in note for note in open_source(tmp_path / "d").notes)


def test_hidden_pictures_are_told_and_what_systems_leave_is_not(tmp_path: Path) -> None:
    write(tmp_path / "d" / "0.png"), write(tmp_path / "d" / ".cache" / "1.png")
    write(tmp_path / "d" / "__MACOSX" / "2.png"), write(tmp_path / "d" / "._0.png")
    source = open_source(tmp_path / "d")
    assert len(source) == 1 and source.notes == ("not read, as their names are hidden ones: .cache",)


@pytest.mark.parametrize("written", ["-1", "-1.0"])
def test_what_says_unlabelled_may_be_written_as_another_number(written: str, tmp_path: Path) -> None:
    table = listed(tmp_path, "l.csv", "path,label", "0.png,-1.0", "1.png,0.0", "2.png,1.0")
    assert open_source(table, labels=DataSettings(unlabelled=written, task="classification")).classes == ("0.0", "1.0")


def test_few_whole_numbers_in_a_column_called_target_are_asked_about(tmp_path: Path) -> None:
    rows = [f"{number}.png,{number % 3}" for number in range(4)]
    with pytest.raises(WhymaskError, match="may be classes or amounts"):
        open_source(listed(tmp_path, "l.csv", "path,target", *rows))


def test_one_pillow_image_is_one_image() -> None:
    assert len(open_source(Image.new("RGB", (8, 8)))) == 1


def test_pictures_of_another_shape_are_told_to_lose_their_ends(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    Image.new("RGB", (256, 64)).save(tmp_path / "d" / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "d" / "b.png")
    said: list[str] = []
    prepared(tmp_path / "d", tmp_path, said)
    assert any("1 of 2 images looked at are of another shape" in line for line in said)
    whole: list[str] = []
    prepared(tmp_path / "d", tmp_path, whole, size=(64, 256))
    assert any("1 of 2 images looked at are of another shape" in line for line in whole)


def test_images_beside_masks_of_no_class_numbers_are_told_to_be_given_alone(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for split in ("train", "val", "test"):
            write(tmp_path / "d" / kind / split / "0.png")
    with pytest.raises(WhymaskError, match=r"3 of 3 label maps .* in colours; .* or give the images without them"):
        open_source(tmp_path / "d")
    (note,) = open_source(tmp_path / "d", labels=LabelSettings(task="classification")).notes
    assert "each hold the splits test, train, val" in note and note.endswith("such as images, to read it alone")
    assert open_source(tmp_path / "d" / "images").splits is not None


def test_the_validation_split_of_three_is_trained_on_and_that_is_said(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        classes(tmp_path / "d" / split, {"a": 2, "b": 2})
    source = open_source(tmp_path / "d")
    assert source.splits is not None and (source.splits == "train").sum() == 8
    assert any("the validation split is trained on" in note for note in source.notes)


def test_paths_may_be_of_linked_folders_or_long_and_any_suffix_may_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / "far" / "0.bmp", 1)
    write(tmp_path / "d" / "1.2.3.webp", 2)
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "d" / "x").mkdir()
    (tmp_path / "d" / "l.csv").write_text(f"id,label\nlinked/0,a\n1.2.3,b\nx,a\n{'n' * 300},b\n")
    source = open_source(tmp_path / "d")
    assert len(source) == 2 and source.labelled.all()
    assert "2 of its 4 rows name none of these images" in source.notes


def test_a_frame_takes_the_same_column_for_paths_as_a_csv(tmp_path: Path) -> None:
    rows = [
        {"id": f"p{number}", "path": str(write(tmp_path / f"{number}.png")), "label": "ab"[number]} for number in (0, 1)
    ]
    source = open_source(pd.DataFrame(rows))
    assert [Path(key).name for key in source.keys] == ["0.png", "1.png"] and source.columns["id"].tolist() == [
        "p0",
        "p1",
    ]


@pytest.mark.parametrize(("line", "said"), [("x,y", "gives no labels"), ("image,label", "gives no labels")])
def test_a_table_of_something_else_is_named(line: str, said: str, tmp_path: Path) -> None:
    listed(tmp_path, "d/other.csv", line, "nowhere.png,2")
    source = open_source(tmp_path / "d")
    assert not source.labelled.any() and any(said in note for note in source.notes)


def test_labels_of_minus_one_and_one_in_arrays_are_asked_about() -> None:
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([-1, 1, -1, 1])
    with pytest.raises(WhymaskError, match="may be two classes, or no label"):
        open_source((images, labels))
    assert open_source((images, labels), labels=DataSettings(unlabelled="-1")).labels.tolist() == [-1, 0, -1, 0]


def test_tables_that_are_not_asked_are_named(tmp_path: Path) -> None:
    root = classes(tmp_path / "d", {"a": 1, "b": 1})
    (root / "predictions.csv").write_text("path,class\na/0.png,b\n")
    assert open_source(root).notes == ("no labels are taken of predictions.csv",)
    assert open_source(root, labels=None).notes == ()
