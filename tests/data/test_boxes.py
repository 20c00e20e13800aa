"""Boxes of every kind of source: the same objects give the same boxes, and what cannot be used is told."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whymask.data.annotations import CUT, ENDLESS, OUTSIDE, SMALL, SWAPPED, TWICE, Marked, mended
from whymask.data.box_files import marks_of
from whymask.data.settings import DataSettings, LabelSettings
from whymask.data.source import Source
from whymask.data.sources import open_asked, open_source
from whymask.errors import WhymaskError

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd-voc"
RANDOM = np.random.default_rng(0)
DETECTION = LabelSettings(task="detection")
Box = tuple[str, float, float, float, float]


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def photo(size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)


def put(path: Path, pixels: np.ndarray | None = None, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo() if pixels is None else pixels).save(path, **how)
    return path


def xml(path: Path, *boxes: Box, size: tuple[int, int] = (20, 30), more: str = "") -> Path:
    """Boxes of class, xmin, ymin, xmax, ymax, as they are written."""
    objects = "".join(
        f"<object><name>{name}</name>{more}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for name, a, b, c, d in boxes
    )
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{sides}{objects}</annotation>")
    return path


def boxes_of(source: Source) -> list[list[Box] | None]:
    """Of each image its objects, sorted; None of one that is unlabelled."""
    assert source.boxes is not None and source.task.name == "detection"
    found: list[list[Box] | None] = []
    for row, there in enumerate(source.boxes.there):
        at = source.boxes.of(row)
        names = [source.classes[number] for number in source.boxes.classes[at]]
        rows = [(name, *corners) for name, corners in zip(names, source.boxes.corners[at].tolist(), strict=True)]
        found.append(sorted(rows) if there else None)
    return found


def stems(source: Source) -> list[str]:
    return [Path(key).stem for key in source.keys]


# The rule


@pytest.mark.parametrize(
    ("corners", "kept", "what"),
    [
        ((2, 3, 9, 8), (2, 3, 9, 8), []),
        ((9, 3, 2, 8), (2, 3, 9, 8), [SWAPPED]),
        ((9, 8, 2, 3), (2, 3, 9, 8), [SWAPPED]),
        ((-0.9, 3, 30.9, 8), (0, 3, 30, 8), []),
        ((-5, 3, 33, 28), (0, 3, 30, 20), [CUT]),
        ((33, 28, -5, 3), (0, 3, 30, 20), [SWAPPED, CUT]),
        ((2, 3, 3, 4), (2, 3, 3, 4), []),
        ((2, 3, 2.5, 8), None, [SMALL]),
        ((2, 3, 2, 3), None, [SMALL]),
        ((29.5, 3, 40, 8), None, [OUTSIDE]),
        ((40, 3, 50, 8), None, [OUTSIDE]),
        ((2, 3, float("nan"), 8), None, [ENDLESS]),
        ((2, 3, float("inf"), 8), None, [ENDLESS]),
    ],
)
def test_what_becomes_of_a_box_is_ruled(corners, kept, what) -> None:
    objects, faults = mended([Marked("a", corners)], (20, 30))
    assert [marked.corners for marked in objects] == ([] if kept is None else [kept])
    assert [said for _, said in faults] == what and all(marked.corners == corners for marked, _ in faults)


def test_of_equal_boxes_of_one_class_the_first_is_kept() -> None:
    objects = [Marked("a", (2, 3, 9, 8), 2), Marked("a", (9, 3, 2, 8)), Marked("b", (2, 3, 9, 8))]
    kept, faults = mended(objects, (20, 30))
    assert [(marked.kind, marked.ignored) for marked in kept] == [("a", 2), ("b", 0)]
    assert [what for _, what in faults] == [TWICE]


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.tuples(*[st.floats(-50, 80)] * 4), max_size=6), st.integers(0, 1))
def test_what_is_kept_lies_on_the_image_and_all_else_is_told(corners, first) -> None:
    objects = [Marked(number, each) for number, each in enumerate(corners)]
    kept, faults = mended(objects, (20, 30), first)
    again, none = mended(kept, (20, 30))
    assert again == kept and not none
    told = {marked.kind for marked, what in faults if what in (SMALL, OUTSIDE)}
    assert {marked.kind for marked in kept} | told == {*range(len(corners))} and len(kept) + len(told) == len(corners)


# Pascal VOC


def voc(root: Path) -> Path:
    """a has two objects, b one that is difficult, c none, d no annotation; e.xml has no image."""
    for name in "abcd":
        put(root / "JPEGImages" / f"{name}.jpg")
    xml(root / "Annotations" / "a.xml", ("dog", 1, 1, 30, 20), ("cat", 3, 4, 9, 8))
    xml(root / "Annotations" / "b.xml", ("dog", 3, 4, 9, 8), more="<difficult>1</difficult><truncated>1</truncated>")
    xml(root / "Annotations" / "c.xml")
    xml(root / "Annotations" / "e.xml", ("dog", 3, 4, 9, 8))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, names in (("trainval", "a b c"), ("test", "d"), ("dog_trainval", "a 1\nb 0\nc -1"), ("dog_val", "a 1")):
        (lists / f"{split}.txt").write_text(names.replace(" ", "\n") if "_" not in split else names)
    return root


def test_voc_has_its_boxes_counted_from_1_its_classes_and_what_does_not_count(tmp_path) -> None:
    for data in (voc(tmp_path / "VOC2007"), tmp_path):
        source = open_source(data)
        assert source.classes == ("cat", "dog") and stems(source) == ["a", "b", "c", "d"]
        of_a = [("cat", 2, 3, 9, 8), ("dog", 0, 0, 30, 20)]
        assert boxes_of(source) == [of_a, [("dog", 2, 3, 9, 8)], [], None]
        assert source.labels.tolist() == [[1, 1], [0, 0], [0, 0], [-1, -1]]
        assert source.boxes is not None and source.boxes.ignored.tolist() == [0, 0, 2]
        assert source.boxes.sizes.tolist() == [[20, 30]] * 3 + [[0, 0]]
        assert sorted(source.boxes.areas.tolist()) == [35, 35, 600] and not source.mended
        notes = " ".join(source.notes)
        for said in (
            "3 boxes of objects in 3 images",
            "of these are marked 1 as difficult",
            "1 images were annotated and show no object",
            "1 images have no annotation: they are unlabelled",
            "1 annotations have the name of no image, and are not read",
        ):
            assert said in notes
        assert ".xml" not in " ".join(note for note in source.notes if note.startswith("not read"))


def test_vocs_lists_are_the_splits_and_those_of_classes_are_not(tmp_path) -> None:
    voc(tmp_path)
    main = tmp_path / "ImageSets" / "Main"
    source = open_source(tmp_path)
    assert source.splits is not None and source.splits.tolist() == ["train", "train", "train", "test"]
    assert any("the test split has no labels" in note for note in source.notes)
    (main / "test.txt").write_text("b\nd\n")
    assert open_source(tmp_path).splits.tolist() == ["train", "test", "train", "test"]
    (main / "val.txt").write_text("a\n")
    (main / "test.txt").unlink()
    assert open_source(tmp_path).splits.tolist() == ["test", "train", "train", "train"]


@pytest.mark.parametrize(
    ("image", "mark"),
    [
        ("images/train/a.jpg", "annotations/train/a.xml"),
        ("train/Images/a.jpg", "train/Annotations/A.xml"),
        ("train/a.png", "train/a.xml"),
        ("a.jpg", "a.xml"),
        ("a.jpg", "xml/a.xml"),
        ("train_images/a.jpg", "train_labels/a.txt"),
        ("images/a.jpg", "annotations/xmls/a.xml"),
        ("VOC2012/JPEGImages/a.jpg", "VOC2012/Annotations/a.xml"),
    ],
)
def test_folders_and_names_tell_whose_annotation_it_is(image, mark) -> None:
    other_image, other_mark = (f.replace("a.", "b.").replace("A.", "b.") for f in (image, mark))
    found = marks_of([image, other_image], [mark])
    assert found is not None and found.of == {image: [mark], other_image: []} and not found.alone
    found = marks_of([image], [mark, other_mark])
    assert found is not None and found.of == {image: [mark]} and found.alone == [other_mark]
    assert marks_of([image], [other_mark]) is None


def test_each_annotation_that_cannot_be_used_is_told_and_its_image_left_out(tmp_path) -> None:
    for name in "abcdefghijklmnop":
        put(tmp_path / "images" / f"{name}.png")
        xml(tmp_path / "annotations" / f"{name}.xml", ("dog", 3, 4, 9, 8))
    marks = tmp_path / "annotations"
    (marks / "a.xml").write_text("<annotation>")
    (marks / "b.xml").write_text("<other/>")
    (marks / "c.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    xml(marks / "d.xml", ("", 3, 4, 9, 8))
    xml(marks / "e.xml", ("dog", 3, 4, 9, 8), size=(30, 20))
    xml(marks / "f.xml", ("dog", 3, 4, 9, 8), size=(0, 0))
    put(tmp_path / "images" / "g.jpg")
    (tmp_path / "images" / "h.png").write_bytes(b"no picture")
    source = open_source(tmp_path)
    reasons = {}
    for row, key in enumerate(source.keys):
        try:
            source.read(row)
        except WhymaskError as error:
            reasons[Path(key).name] = str(error)
        except Exception:
            reasons[Path(key).name] = "another"
    expected = {
        "a.png": "its annotation is no XML (",
        "b.png": "its XML is of <other>",
        "c.png": "an object (dog) without the four numbers of a bndbox",
        "d.png": "an object without a name",
        "e.png": "its annotation is of 30 x 20 pixels, and it has 20 x 30, as its EXIF turns it",
        "g.jpg": "annotations/g.xml is the annotation of 2 images of that name",
        "g.png": "annotations/g.xml is the annotation of 2 images of that name",
        "h.png": "not an image that Pillow can open",
    }
    assert reasons.keys() == expected.keys()
    assert all(reasons[name].startswith(reason) for name, reason in expected.items()), reasons
    assert source.labels[source.labelled].tolist() == [[1]] * 9
    assert source.stamp != open_source(tmp_path, labels=None).stamp


def test_annotations_or_boxes_of_which_most_cannot_be_used_are_an_error(tmp_path) -> None:
    for name in "abc":
        put(tmp_path / f"{name}.png")
        xml(tmp_path / f"{name}.xml", ("dog", 3, 4, 9, 8), size=(40, 30))
    with pytest.raises(
        WhymaskError, match=r"3 of 3 annotations cannot be used .*of 40 x 30 pixels, and it has 20 x 30"
    ):
        open_source(tmp_path)
    for name in "abc":
        xml(tmp_path / f"{name}.xml", ("dog", 0.1, 0.2, 0.5, 0.6))
    with pytest.raises(WhymaskError, match=r"most of its 3 boxes do not lie .* 3 less than a .*dog 0.1 0.2 0.5 0.6"):
        open_source(tmp_path)
    for name in "abc":
        xml(tmp_path / f"{name}.xml")
    with pytest.raises(WhymaskError, match="no objects in its 3 annotations"):
        open_source(tmp_path)


def test_boxes_that_are_repaired_or_left_out_are_listed(tmp_path) -> None:
    for number in range(5):
        put(tmp_path / f"{number}.png")
        xml(tmp_path / f"{number}.xml", ("dog", 3, 4, 9, 8), ("cat", 2, 2, 8, 8))
    xml(tmp_path / "1.xml", ("dog", 9, 4, 3, 8), ("cat", 5, 5, 5, 5), ("cat", 25, 2, 44, 8))
    source = open_source(tmp_path)
    key = source.keys[1]
    assert source.mended == (
        (key, "dog 9 4 3 8", SWAPPED),
        (key, "cat 5 5 5 5", SMALL),
        (key, "cat 25 2 44 8", CUT),
    )
    assert boxes_of(source)[1] == [("cat", 24, 1, 30, 8), ("dog", 2, 3, 9, 8)]
    assert f"1 boxes {SMALL}: cat 5 5 5 5 of {key}" in source.notes
    assert source.notes[-1].startswith("that are many")


def test_classes_may_be_named_in_their_order_and_others_leave_their_images_out(tmp_path) -> None:
    for number in range(5):
        put(tmp_path / "d" / f"{number}.png")
        xml(tmp_path / "d" / f"{number}.xml", ("dog", 3, 4, 9, 8), ("cat" if number else "cow", 2, 2, 8, 8))
    (tmp_path / "names.txt").write_text("dog\nbird\ncat\n")
    source = open_source(tmp_path / "d", labels=LabelSettings(class_names=tmp_path / "names.txt"))
    assert source.classes == ("dog", "bird", "cat") and source.labels.tolist() == [[-1] * 3] + [[1, 0, 1]] * 4
    with pytest.raises(WhymaskError, match=r"an object of the class cow, which is none \(.*names.txt names 3\)"):
        source.read(0)


def test_which_of_several_labels_is_meant_is_said(tmp_path) -> None:
    for number in range(4):
        put(tmp_path / "classes" / f"c{number % 2}" / f"{number}.png")
        xml(tmp_path / "classes" / f"c{number % 2}" / f"{number}.xml", ("dog", 3, 4, 9, 8))
        put(tmp_path / "maps" / "JPEGImages" / f"{number}.png")
        put(tmp_path / "maps" / "SegmentationClass" / f"{number}.png", RANDOM.integers(0, 3, (20, 30), dtype=np.uint8))
        xml(tmp_path / "maps" / "Annotations" / f"{number}.xml", ("dog", 3, 4, 9, 8))
    for data, task in (("classes", "classification"), ("maps", "segmentation")):
        source = open_source(tmp_path / data)
        assert source.task.name == task and len(source) == 4
        assert any("are not read: --task detection learns them" in note for note in source.notes)
        found = open_source(tmp_path / data, labels=DETECTION)
        assert len(found) == 4 and boxes_of(found) == [[("dog", 2, 3, 9, 8)]] * 4
        assert open_source(tmp_path / data, labels=LabelSettings(task=task)).task.name == task
        assert len(open_source(tmp_path / data, labels=None)) == 4


def test_boxes_join_images_without_and_go_with_them(tmp_path) -> None:
    voc(tmp_path / "labelled")
    for number in range(2):
        put(tmp_path / "pool" / f"{number}.png")
    how = DataSettings(labels=str(tmp_path / "labelled"))
    source = open_asked(tmp_path / "pool", how)
    assert boxes_of(source)[:3] == [None, None, [("cat", 2, 3, 9, 8), ("dog", 0, 0, 30, 20)]]
    marks = DataSettings(labels=str(tmp_path / "labelled" / "Annotations"), task="detection")
    beside = open_asked(tmp_path / "labelled" / "JPEGImages", marks)
    assert boxes_of(beside) == boxes_of(open_source(tmp_path / "labelled"))


def test_boxes_lie_on_the_image_as_it_is_seen(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path / "a.jpg", exif=exif), put(tmp_path / "b.jpg"), put(tmp_path / "c.jpg")
    for name, size in (("a", (30, 20)), ("b", (20, 30)), ("c", (20, 30))):
        xml(tmp_path / f"{name}.xml", ("dog", 3, 4, 19, 28 if name == "a" else 18), size=size)
    source = open_source(tmp_path)
    assert source.boxes is not None and source.boxes.sizes.tolist() == [[30, 20], [20, 30], [20, 30]]
    assert boxes_of(source)[0] == [("dog", 2, 3, 19, 28)]
    xml(tmp_path / "a.xml", ("dog", 3, 4, 19, 18))
    with pytest.raises(WhymaskError, match="of 20 x 30 pixels, and it has 30 x 20, as its EXIF turns it"):
        open_source(tmp_path).read(0)


@pytest.mark.skipif(not BCCD.exists(), reason="needs the shared bccd-voc")
def test_bccd_has_its_images_splits_and_two_bad_boxes() -> None:
    source = open_source(BCCD)
    assert source.classes == ("Platelets", "RBC", "WBC") and source.labelled.all() and source.splits is not None
    assert len(source) == 364 and (source.splits == "test").sum() == 72
    assert [(Path(key).stem, box, what) for key, box, what in source.mended] == [
        ("BloodImage_00338", "RBC 504 337 504 337", SMALL),
        ("BloodImage_00343", "RBC 181 329 181 329", SMALL),
    ]
    assert source.labels.sum(axis=0).tolist() == [361, 4153, 372] and len(open_source(BCCD, labels=None)) == 364
