"""Boxes of every kind of source: the same objects give the same boxes, and what cannot be used is told."""

import contextlib
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whymask.data.annotations import CUT, ENDLESS, OUTSIDE, SMALL, SWAPPED, TWICE, Marked, mended
from whymask.data.box_files import marks_of
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings, LabelSettings
from whymask.data.source import Source
from whymask.data.sources import open_asked, open_source
from whymask.errors import WhymaskError
from whymask.fabric import Fabric
from whymask.overviews.run import overview
from whymask.stages.context import Context

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd-voc"
NAMES = ("dog", "cat", "cow")
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


# Every form


class OfTorch(torch.utils.data.Dataset):
    """As torchvision's references for detection give images: class 0 is the background."""

    classes = ("__background__", *NAMES)

    def __init__(self, images: list[np.ndarray], objects: list[list[Box]]):
        self.images, self.objects = images, objects

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        boxes = torch.tensor([box[1:] for box in self.objects[index]]).reshape(-1, 4)
        labels = torch.tensor([self.classes.index(box[0]) for box in self.objects[index]], dtype=torch.int64)
        return torch.from_numpy(self.images[index]).permute(2, 0, 1), {
            "boxes": boxes,
            "labels": labels,
            "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
            "image_id": index,
        }


def coco(path: Path, images: list[np.ndarray], objects: list[list[Box]]) -> Path:
    """NUMBER.png beside, of categories 10, 20 ..., in another order than their ids."""
    shown = [
        {"id": number, "file_name": f"{number}.png", "height": len(image), "width": len(image[0])}
        for number, image in enumerate(images)
    ]
    boxes = [
        {"image_id": number, "category_id": 10 * (1 + NAMES.index(name)), "bbox": [a, b, c - a, d - b], "iscrowd": 0}
        for number, several in enumerate(objects)
        for name, a, b, c, d in several
    ]
    kinds = [{"id": 10 * (1 + at), "name": name} for at, name in reversed([*enumerate(NAMES)])]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": shown, "annotations": boxes, "categories": kinds}))
    return path


def yolo(path: Path, size: tuple[int, ...], objects: list[Box]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size[:2]
    rows = [
        (NAMES.index(name), (a + c) / 2 / width, (b + d) / 2 / height, (c - a) / width, (d - b) / height)
        for name, a, b, c, d in objects
    ]
    path.write_text("".join(" ".join(map(repr, row)) + "\n" for row in rows))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def in_every_form(root: Path, images: list[np.ndarray], objects: list[list[Box]]) -> dict[str, Any]:
    names = [f"{number}.png" for number in range(len(images))]
    classes, numbers = datasets.ClassLabel(names=list(NAMES)), datasets.Value("float64")
    kind = {"bbox": datasets.List(datasets.List(numbers)), "category": datasets.List(classes)}
    features = datasets.Features({"image": datasets.Image(), "objects": kind})
    cells = [
        {"bbox": [[a, b, c - a, d - b] for _, a, b, c, d in several], "category": [name for name, *_ in several]}
        for several in objects
    ]
    table = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": png(image), "path": None} for image in images],
            "objects": [cell | {"category": list(map(NAMES.index, cell["category"]))} for cell in cells],
        },
        features=features,
    )
    rows = [(name, *box) for name, several in zip(names, objects, strict=True) for box in several or [("",) * 5]]
    lines = []
    for name, image, several, cell in zip(names, images, objects, cells, strict=True):
        for place in ("voc/JPEGImages", "yolo/images", "coco", "csv", "meta"):
            put(root / place / name, image)
        stem = name.removesuffix(".png")
        xml(
            root / "voc" / "Annotations" / f"{stem}.xml",
            *((kind, a + 1, b + 1, c, d) for kind, a, b, c, d in several),
            size=image.shape[:2],
        )
        yolo(root / "yolo" / "labels" / f"{stem}.txt", image.shape, several)
        lines.append(json.dumps({"file_name": name, "objects": cell}))
    (root / "yolo" / "data.yaml").write_text(f"names: {list(NAMES)}\nnc: {len(NAMES)}\ntrain: images\n")
    (root / "meta" / "metadata.jsonl").write_text("\n".join(lines))
    frame = pd.DataFrame(rows, columns=["filename", "class", "xmin", "ymin", "xmax", "ymax"])
    frame.to_csv(root / "csv" / "boxes.csv", index=False)
    coco(root / "coco" / "train.json", images, objects)
    (root / "p").mkdir()
    table.to_parquet(root / "p" / "data.parquet")
    listed = [[{"box": box, "label": name} for box, name in zip(*cell.values(), strict=True)] for cell in cells]
    pd.DataFrame({"image": [png(image) for image in images], "marks": listed}).to_parquet(root / "p" / "lists.parquet")
    table.save_to_disk(str(root / "disk"))
    return {
        "voc": root / "voc",
        "yolo": root / "yolo",
        "coco": root / "coco" / "train.json",
        "csv": root / "csv" / "boxes.csv",
        "csv beside": root / "csv",
        "metadata": root / "meta",
        "frame": frame.assign(filename=[str(root / "csv" / name) for name in frame["filename"]]),
        "parquet": root / "p" / "data.parquet",
        "lists": root / "p" / "lists.parquet",
        "disk": root / "disk",
        "dataset": table,
        "dict": datasets.DatasetDict({"train": table}),
        "torch": OfTorch(images, objects),
    }


@settings(max_examples=4, deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(3, 30), st.integers(3, 30)), min_size=2, max_size=3), st.integers(0, 99))
def test_boxes_on_images_of_any_size_are_the_same_in_every_form(sizes, seed) -> None:
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    objects: list[list[Box]] = []
    for place, (height, width) in enumerate(sizes):
        left, top = draw.integers(0, [width - 1, height - 1], (3, 2)).T
        right, bottom = draw.integers(left + 2, width + 1), draw.integers(top + 2, height + 1)
        several = {
            (left[at], top[at], right[at], bottom[at]): NAMES[at] for at in range(3 if place == 0 else place - 1)
        }
        objects.append([(name, *map(int, corners)) for corners, name in several.items()])
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "names.txt").write_text("\n".join(NAMES))
        asked = LabelSettings(task="detection", class_names=Path(root) / "names.txt")
        for form, data in in_every_form(Path(root), images, objects).items():
            source = open_source(data, labels=asked)
            assert source.classes == NAMES, form
            for found, of in zip(boxes_of(source), objects, strict=True):
                assert found is not None and [row[0] for row in found] == sorted(row[0] for row in of), form
                np.testing.assert_allclose([row[1:] for row in found], [row[1:] for row in sorted(of)], err_msg=form)
            counts = [[sum(row[0] == name for row in of) for name in NAMES] for of in objects]
            assert source.labels.tolist() == counts and not source.mended, form
            alone = open_source(data, labels=None)
            assert alone.boxes is None and len(alone) == len(images), form
            for row, image in enumerate(images):
                np.testing.assert_array_equal(np.asarray(source.read(row)), image, err_msg=form)
                np.testing.assert_array_equal(np.asarray(alone.read(row)), image, err_msg=form)


def test_each_form_is_known_without_being_named(tmp_path) -> None:
    images = [photo() for _ in range(3)]
    objects: list[list[Box]] = [[("dog", 2, 3, 9, 8), ("cat", 1, 1, 7, 9)], [("cow", 5, 5, 30, 20)], []]
    for form, data in in_every_form(tmp_path, images, objects).items():
        source = open_source(data)
        assert source.task.name == "detection" and [len(of or []) for of in boxes_of(source)] == [2, 1, 0], form
        own = ("cat", "cow", "dog") if form in ("voc", "csv", "csv beside", "metadata", "frame", "lists") else NAMES
        assert source.classes == own, form
        with pytest.raises(WhymaskError) if form in ("coco", "torch", "csv", "frame") else contextlib.nullcontext():
            assert open_source(data, labels=LabelSettings(task="multilabel")).boxes is None, form


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


def test_a_run_lists_the_boxes_that_were_repaired_or_left_out(tmp_path, capsys) -> None:
    for number in range(6):
        put(tmp_path / "d" / f"{number}.png")
        xml(tmp_path / "d" / f"{number}.xml", ("dog", 3, 4, 9, 8), ("cat", 5, 5, 5 + (number > 0), 9))
    said: list[str] = []
    data = prepare(tmp_path / "d", DataSettings(store=tmp_path / "store"), say=said.append)
    assert f"1 boxes are repaired or left out: cat 5 5 5 9 of {tmp_path}/d/0.png ({SMALL})" in said
    assert not (tmp_path / "boxes.csv").exists()
    assert data.task.counts(data.images.labels) == [5, 6] and data.images.preprocessing.pads
    Context(Fabric(), data).list_unused(tmp_path)
    assert f"are listed in {tmp_path / 'boxes.csv'}" in capsys.readouterr().err
    header, row = (tmp_path / "boxes.csv").read_text().splitlines()
    assert header == "image,box,what" and row == f'{tmp_path}/d/0.png,cat 5 5 5 9,"{SMALL}"'
    told = overview(tmp_path / "d", out=tmp_path / "data.html", settings=DataSettings())
    assert told["mended"] == [[f"{tmp_path}/d/0.png", "cat 5 5 5 9", SMALL]]
    assert "Boxes repaired or left out" in (tmp_path / "data.html").read_text()


def test_classes_may_be_named_in_their_order_and_others_leave_their_images_out(tmp_path) -> None:
    for number in range(5):
        put(tmp_path / "d" / f"{number}.png")
        xml(tmp_path / "d" / f"{number}.xml", ("dog", 3, 4, 9, 8), ("cat" if number else "cow", 2, 2, 8, 8))
    (tmp_path / "names.txt").write_text("dog\nbird\ncat\n")
    source = open_source(tmp_path / "d", labels=LabelSettings(class_names=tmp_path / "names.txt"))
    assert source.classes == ("dog", "bird", "cat") and source.labels.tolist() == [[-1] * 3] + [[1, 0, 1]] * 4
    with pytest.raises(WhymaskError, match=r"an object of the class cow, which is none \(.*names.txt names 3\)"):
        source.read(0)


def test_which_of_several_folders_is_meant_is_said(tmp_path) -> None:
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


# COCO


def scene(path: Path, size: tuple[int, int] | None = (20, 30)) -> dict[str, Any]:
    """Of 1.png a dog, a crowd and a region without a box; of 2.png nothing; a box of no image."""
    sides = {} if size is None else {"height": size[0], "width": size[1]}
    images = [{"id": number, "file_name": f"{number}.png"} | sides for number in (1, 2)]
    boxes = [
        {"image_id": 1, "category_id": 7, "bbox": [2, 3, 7, 5], "area": 20.5},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        {"image_id": 1, "category_id": 3},
        {"image_id": 9, "category_id": 3, "bbox": [2, 3, 7, 5]},
    ]
    kinds = [{"id": 7, "name": "dog", "supercategory": "pets"}, {"id": 3, "name": "cat", "supercategory": "pets"}]
    kinds.append({"id": 0, "name": "pets", "supercategory": "none"})
    content = {"images": images, "annotations": boxes, "categories": kinds}
    for number in (1, 2):
        put(path / f"{number}.png")
    (path / "instances.json").write_text(json.dumps(content))
    return content


def test_boxes_of_coco_have_their_areas_and_crowds_do_not_count(tmp_path) -> None:
    for size in ((20, 30), None):
        scene(tmp_path, size)
        for data in (tmp_path, tmp_path / "instances.json"):
            source = open_source(data)
            assert source.classes == ("cat", "dog") and source.labels.tolist() == [[0, 1], [0, 0]] and source.boxes
            assert boxes_of(source) == [[("cat", 0, 0, 30, 20), ("dog", 2, 3, 9, 8)], []]
            assert source.boxes.areas.tolist() == [20.5, 600] and source.boxes.ignored.tolist() == [0, 1]
            notes = " ".join(source.notes)
            assert "1 of its annotations: regions without a box" in notes and "of no image that it names" in notes
            assert "of these are marked 1 as crowd" in notes


def test_categories_of_coco_are_none_but_by_their_own_ids(tmp_path) -> None:
    """One that is its own supercategory, as COCO's person is, is a class also where none is shown."""
    content = scene(tmp_path)
    content["categories"].append({"id": 1, "name": "person", "supercategory": "person"})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    source = open_source(tmp_path / "instances.json")
    assert source.classes == ("person", "cat", "dog") and source.labels.tolist() == [[0, 0, 1], [0, 0, 0]]
    content["categories"].append({"id": 7, "name": "wolf"})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(WhymaskError, match="the categories dog and wolf have one id, 7"):
        open_source(tmp_path / "instances.json")


def test_boxes_have_no_class_that_is_ignored_by_name(tmp_path) -> None:
    scene(tmp_path)
    with pytest.raises(WhymaskError, match="--ignored dog: pixels of label maps were expected"):
        open_source(tmp_path, labels=LabelSettings(ignored="dog"))


def test_an_image_of_coco_whose_name_is_a_number_is_told(tmp_path) -> None:
    content = scene(tmp_path)
    content["images"][0]["file_name"] = 1
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(WhymaskError, match="file_name, height and width were expected"):
        open_source(tmp_path / "instances.json")


def test_of_regions_and_boxes_regions_are_taken_unless_boxes_are_asked_for(tmp_path) -> None:
    content = scene(tmp_path)
    content["annotations"][0]["segmentation"] = [[2, 3, 9, 3, 9, 8, 2, 8]]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    source = open_source(tmp_path)
    assert source.task.name == "segmentation"
    assert any("boxes are not read: --task detection learns these" in note for note in source.notes)
    for data in (tmp_path, tmp_path / "instances.json"):
        assert boxes_of(open_source(data, labels=DETECTION))[1] == []
    with pytest.raises(WhymaskError, match="--task segmentation or detection was expected, and regression was given"):
        open_source(tmp_path / "instances.json", labels=LabelSettings(task="regression"))


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"category_id": 7, "bbox": [1, 2, 3]}, r"a box \[1, 2, 3\], and left, top, width and height were expected"),
        ({"category_id": 7, "bbox": "box!"}, "a box box!, and left"),
        ({"category_id": 8, "bbox": [1, 2, 3, 4]}, "a box of the category 8, which is none of the file's"),
    ],
)
def test_a_box_of_coco_that_says_nothing_plain_leaves_its_image_out(tmp_path, mark, reason) -> None:
    content = scene(tmp_path)
    content["annotations"].append({"image_id": 2} | mark)
    (tmp_path / "instances.json").write_text(json.dumps(content))
    source = open_source(tmp_path)
    with pytest.raises(WhymaskError, match=reason):
        source.read(1)
    assert source.labelled.tolist() == [True, False]


def test_a_json_a_split_may_lie_in_annotations_or_beside_its_images(tmp_path) -> None:
    for split in ("train", "val"):
        scene(tmp_path / "a" / split)
        (tmp_path / "a" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "a" / split / "instances.json").rename(tmp_path / "a" / "annotations" / f"{split}.json")
        scene(tmp_path / "b" / split)
        (tmp_path / "b" / split / "instances.json").rename(tmp_path / "b" / split / "_annotations.coco.json")
    for folder in ("a", "b"):
        source = open_source(tmp_path / folder)
        assert len(source) == 4 and source.splits is not None and source.task.name == "detection"
        assert source.splits.tolist() == ["train", "train", "test", "test"]


# YOLO


def yolo_set(root: Path, *places: str, names: str | None = "names: [dog, cat]\n") -> Path:
    """An image and its text a place, such as train/images/a.png."""
    for place in places:
        put(root / place)
        yolo((root / place.replace("images", "labels")).with_suffix(".txt"), (20, 30), [("cat", 3, 5, 9, 8)])
    if names is not None:
        (root / "data.yaml").write_text(names)
    return root


@pytest.mark.parametrize(
    "places", [("images/train/a.png", "images/val/b.png"), ("train/images/a.png", "valid/images/b.png")]
)
def test_yolo_has_its_splits_as_folders_in_either_order_and_its_names(tmp_path, places) -> None:
    source = open_source(yolo_set(tmp_path, *places, names="names: {1: cat, 0: dog}\ntrain: ../x\n"))
    assert (
        source.classes == ("dog", "cat") and source.splits is not None and source.splits.tolist() == ["train", "test"]
    )
    for found in boxes_of(source):
        assert found is not None and found[0][0] == "cat"
        np.testing.assert_allclose(found[0][1:], (3, 5, 9, 8))
    assert not any(".txt" in note or ".yaml" in note for note in source.notes if note.startswith("not read"))


def test_yolo_has_splits_that_its_yaml_names_by_folders_or_lists(tmp_path) -> None:
    yolo_set(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    (tmp_path / "data.yaml").write_text("names: [dog, cat]\npath: .\ntrain: train.txt\nval: [val.txt]\n")
    (tmp_path / "train.txt").write_text("./images/a.png\n/somewhere/else/images/b.png\n")
    (tmp_path / "val.txt").write_text("images/c.png\n")
    assert open_source(tmp_path).splits.tolist() == ["train", "train", "test"]
    yolo_set(
        tmp_path / "d",
        "images/one/a.png",
        "images/two/b.png",
        names="names: [dog, cat]\ntrain: images/one\ntest: images/two\n",
    )
    source = open_source(tmp_path / "d", labels=DETECTION)  # else the folders may be classes
    assert source.splits is not None and source.splits.tolist() == ["train", "test"]


def test_a_text_of_yolo_may_begin_with_the_mark_of_utf_8(tmp_path) -> None:
    yolo_set(tmp_path, "images/a.png")
    text = tmp_path / "labels/a.txt"
    expected = boxes_of(open_source(tmp_path))
    text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes())
    assert boxes_of(open_source(tmp_path)) == expected and len(expected[0]) == 1


def test_yolo_has_names_of_a_text_or_numbers(tmp_path) -> None:
    yolo_set(tmp_path, "images/a.png", "images/b.png", names=None)
    assert open_source(tmp_path).classes == ("1",)
    (tmp_path / "labels" / "classes.txt").write_text("dog\ncat\n")
    source = open_source(tmp_path)
    assert source.classes == ("dog", "cat") and not any("name of no image" in note for note in source.notes)
    (tmp_path / "labels" / "classes.txt").write_text("dog\n")
    with pytest.raises(WhymaskError, match=r"2 of 2 annotations cannot be used .* of the class 1, which is none"):
        open_source(tmp_path)
    (tmp_path / "data.yaml").write_text("names: {0: dog, 2: cat}")
    with pytest.raises(WhymaskError, match=r"names of the classes \[0, 2\]; 0, 1, 2 ... were expected"):
        open_source(tmp_path)


def test_lines_that_are_no_boxes_are_told_for_what_they_are(tmp_path) -> None:
    lines = {
        "b": "0 .5 .5 .2 .2 .9",
        "c": "0 .1 .1 .5 .1 .5 .5",
        "d": "1 .1 .1 .5 .1 .5 .5 .1 .5",
        "e": "0 .5 .5 .2",
        "f": "0 .5 .5 x .2",
    }
    yolo_set(tmp_path, *(f"images/{name}.png" for name in "abcdefghijk"))
    for name, line in lines.items():
        (tmp_path / "labels" / f"{name}.txt").write_text(line + "\n")
    (tmp_path / "labels" / "g.txt").write_text("")
    (tmp_path / "labels" / "h.txt").unlink()
    source = open_source(tmp_path)
    assert source.labels.tolist() == [[0, 1], *[[-1, -1]] * 5, [0, 0], [-1, -1], *[[0, 1]] * 3]
    turned = "polygons and boxes that are turned"
    for row, said in enumerate(("answers with their confidence", turned, turned, "too few", "a line '0 .5"), 1):
        with pytest.raises(WhymaskError, match=said):
            source.read(row)
    source.read(7)


def test_texts_that_tell_of_images_are_no_boxes(tmp_path) -> None:
    for name in "abc":
        put(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("a dog beside a cat")
    assert not open_source(tmp_path).labelled.any() and len(open_source(tmp_path, labels=DETECTION)) == 3


# Tables


@pytest.mark.parametrize(
    ("form", "numbers"), [("xywh", (2, 3, 7, 5)), ("xyxy", (2, 3, 9, 8)), ("cxcywh", (5.5, 5.5, 7, 5))]
)
def test_what_four_numbers_are_is_asked_for(tmp_path, form, numbers) -> None:
    cells = [{"bbox": [list(map(float, numbers))], "category": ["dog"], "area": [9.0], "iscrowd": [1]}, None]
    pd.DataFrame({"image": [png(photo())] * 2, "objects": cells}).to_parquet(tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", labels=LabelSettings(box_format=form))
    assert boxes_of(source) == [[("dog", 2, 3, 9, 8)], None] and source.boxes is not None
    assert source.boxes.areas.tolist() == [9] and source.boxes.ignored.tolist() == [1]


def test_numbers_that_plainly_are_another_form_are_refused(tmp_path) -> None:
    cells = [{"bbox": [[20.0, 12.0, 29.0, 19.0]], "category": ["dog"]}] * 3
    pd.DataFrame({"image": [png(photo())] * 3, "objects": cells}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(WhymaskError, match=r"most of its 3 boxes do not lie .* beyond their image.*--box-format says"):
        open_source(tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", labels=LabelSettings(box_format="xyxy")).labels.tolist() == [[1]] * 3


def test_a_form_of_numbers_is_refused_where_they_have_one_or_there_are_none(tmp_path) -> None:
    (tmp_path / "coco").mkdir()
    scene(tmp_path / "coco")
    Image.new("RGB", (9, 9)).save(tmp_path / "alone.png")
    form = LabelSettings(box_format="xyxy")
    with pytest.raises(WhymaskError, match=r"--box-format xyxy: .* are of a kind whose numbers mean one thing"):
        open_source(tmp_path / "coco", labels=replace(form, task="detection"))
    with pytest.raises(WhymaskError, match=r"--box-format xyxy: .* has no boxes; leave it out"):
        open_source(tmp_path / "alone.png", labels=form)


def test_a_json_without_annotations_is_not_taken_for_images_that_show_nothing(tmp_path) -> None:
    content = scene(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(WhymaskError, match=r"no boxes and no regions in it .0 annotations"):
        open_source(tmp_path / "instances.json")
    assert not open_source(tmp_path).labelled.any()


def test_objects_of_a_table_that_cannot_be_used_leave_their_images_out(tmp_path) -> None:
    fine = {"bbox": [[2.0, 3, 7, 5]], "category": ["dog"]}
    odd = [{"bbox": [[2.0, 3, 7]], "category": ["dog"]}, {"bbox": [[2.0, 3, 7, 5]], "category": []},
           {"bbox": [[2.0, 3, 7, 5]], "category": [None]}]  # fmt: skip
    pd.DataFrame({"image": [png(photo())] * 7, "objects": [*odd, *[fine] * 4]}).to_parquet(tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    for row, said in enumerate(("four numbers were expected", "1 boxes and 0 classes", "an object without a class")):
        with pytest.raises(WhymaskError, match=said):
            source.read(row)
    sides = {"height": [20] * 6 + [21], "width": [30] * 7}
    pd.DataFrame({"image": [png(photo())] * 7, "objects": [fine] * 7} | sides).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(WhymaskError, match="its annotation is of 21 x 30 pixels, and it has 20 x 30"):
        open_source(tmp_path / "t.parquet").read(6)


def test_what_may_be_two_labels_is_asked_about(tmp_path) -> None:
    cell = {"bbox": [[2.0, 3, 7, 5]], "category": ["dog"]}
    table = {"image": [png(photo())] * 2, "objects": [cell] * 2, "label": ["a", "b"]}
    pd.DataFrame(table).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(WhymaskError, match=r"the column objects holds boxes, and label other labels; give --task det"):
        open_source(tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", labels=DETECTION).labels.tolist() == [[1], [1]]
    assert open_source(tmp_path / "t.parquet", labels=LabelSettings(task="classification")).classes == ("a", "b")
    put(tmp_path / "a.png"), put(tmp_path / "b.png")
    rows = "a.png,dog,2,3,9,8,train\nb.png,cat,2,3,9,8,test\n"
    (tmp_path / "t.csv").write_text("path,label,xmin,ymin,xmax,ymax,split\n" + rows)
    with pytest.raises(WhymaskError, match="the corners of one box for each image; give --task detection"):
        open_source(tmp_path / "t.csv")
    source = open_source(tmp_path / "t.csv", labels=DETECTION)
    assert boxes_of(source) == [[("dog", 2, 3, 9, 8)], [("cat", 2, 3, 9, 8)]] and source.splits is not None
    assert open_source(tmp_path / "t.csv", labels=LabelSettings(task="classification")).labelled.all()
    (tmp_path / "t.csv").write_text("path,xmin,ymin,xmax,ymax\na.png,2,3,9,8\nb.png,2,3,9,8\n")
    with pytest.raises(WhymaskError, match="corners of boxes, and no column of their classes"):
        open_source(tmp_path / "t.csv", labels=DETECTION)


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
