"""Label maps of every kind of source: the same maps give the same pixels, and what cannot be used is told."""

import io
import json
import struct
import sys
import tempfile
import zlib
from dataclasses import replace
from functools import partial
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
from pycocotools import mask as masks
from pycocotools.coco import COCO

from whymask import progress
from whymask.data import building, decoding, voc
from whymask.data.class_names import read_classes
from whymask.data.coco import painted
from whymask.data.coco_regions import Region, run_lengths
from whymask.data.derive import derive
from whymask.data.map_files import paired
from whymask.data.map_values import values_of
from whymask.data.opening import open_file
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings, LabelSettings
from whymask.data.source import Source
from whymask.data.sources import merge, open_asked, open_source
from whymask.data.store import ImageSet, open_images
from whymask.errors import WhymaskError

NAMES = ("background", "ant", "bee", "cow")
CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid-small"
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def photo(size: tuple[int, int] = (8, 6)) -> np.ndarray:
    return RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)


def a_map(size: tuple[int, int] = (8, 6), most: int = 4) -> np.ndarray:
    """Of all values below `most`."""
    values = RANDOM.integers(0, most, size, dtype=np.uint8)
    values.ravel()[:most] = np.arange(most)
    return values


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(path: Path, pixels: np.ndarray | Image.Image, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **how)
    return path


def folder_of(root: Path, maps: list[np.ndarray | None], names: tuple[str, ...] | None = None) -> Path:
    """images/0.png ... with masks/0.png ... beside."""
    for number, pixels in enumerate(maps):
        put(root / "images" / f"{number}.png", photo((8, 6) if pixels is None else pixels.shape[:2]))
        if pixels is not None:
            put(root / "masks" / f"{number}.png", pixels)
    if names is not None:
        (root / "classes.txt").write_text("\n".join(names))
    return root


def label_maps(source: Source) -> list[np.ndarray | None]:
    assert source.maps is not None
    return [source.maps.read(row) if source.maps.there[row] else None for row in range(len(source))]


def stored(source: Source, cache: Path, size: tuple[int, int] | None = None) -> ImageSet:
    return open_images(source, derive(source, DataSettings(size=size)), cache)


# Every form


def coco_of(path: Path, maps: list[np.ndarray]) -> Path:
    """Regions of run lengths, packed and not in turn; ignored pixels are a crowd."""
    images, regions = [], []
    for number, values in enumerate(maps):
        images.append({"id": number, "file_name": f"{number}.png", "height": len(values), "width": len(values[0])})
        for value in {*np.unique(values).tolist()} - {0}:
            packed = masks.encode(np.asfortranarray(values == value))
            text = packed["counts"].decode()
            counts = text if value % 2 else run_lengths(text)
            regions.append(
                {
                    "image_id": number,
                    "category_id": 10 * value if value < 255 else 10,
                    "iscrowd": int(value == 255),
                    "segmentation": {"size": packed["size"], "counts": counts},
                }
            )
    kinds = [{"id": 10 * at, "name": name} for at, name in enumerate(NAMES) if at]
    path.write_text(json.dumps({"images": images, "annotations": regions, "categories": kinds}))
    return path


class OfTorch(torch.utils.data.Dataset):
    def __init__(self, images: list[np.ndarray], maps: list[np.ndarray]):
        self.images, self.maps = images, maps

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        values = self.maps[index]
        return self.images[index], Image.fromarray(values) if index else torch.from_numpy(values.astype(np.int64))


def in_every_form(root: Path, images: list[np.ndarray], maps: list[np.ndarray]) -> dict[str, Any]:
    for number, (image, values) in enumerate(zip(images, maps, strict=True)):
        put(root / "d" / "images" / f"{number}.png", image)
        put(root / "d" / "masks" / f"{number}.png", values)
        put(root / "palette" / "JPEGImages" / f"{number}.png", image)
        drawn = Image.fromarray(values, "P")
        drawn.putpalette(voc.palette().ravel().tolist())
        put(root / "palette" / "SegmentationClass" / f"{number}.png", drawn)
        put(root / "coco" / "train" / f"{number}.png", image)
    names = [f"{number}.png" for number in range(len(images))]
    rows = pd.DataFrame({"path": [f"d/images/{n}" for n in names], "mask": [f"d/masks/{n}" for n in names]})
    rows.to_csv(root / "rows.csv", index=False)
    cells = {"image": [{"bytes": png(image), "path": None} for image in images]}
    cells |= {"annotation": [{"bytes": png(values), "path": None} for values in maps]}
    (root / "p").mkdir()
    pd.DataFrame(cells).to_parquet(root / "p" / "data.parquet")
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    table = datasets.Dataset.from_dict(cells, features=features)
    table.save_to_disk(str(root / "disk"))
    coco_of(root / "coco" / "instances.json", maps)
    coco_of(root / "coco" / "train" / "own.json", maps)
    forms = {
        "folders": root / "d",
        "voc": root / "palette",
        "csv": root / "rows.csv",
        "frame": rows.map(lambda path: str(root / path)),
        "parquet": root / "p",
        "disk": root / "disk",
        "dataset": table,
        "dict": datasets.DatasetDict({"train": table}),
        "torch": OfTorch(images, maps),
        "coco beside": root / "coco",
        "coco": root / "coco" / "train" / "own.json",
    }
    if len({image.shape for image in images}) == 1:
        both = np.stack(images), np.stack(maps)
        np.savez(root / "arrays.npz", images=both[0], masks=both[1].astype(np.int64))
        np.savez(root / "parts.npz", x_train=both[0][1:], y_train=both[1][1:], x_test=both[0][:1], y_test=both[1][:1])
        forms |= {"arrays": both, "npz": root / "arrays.npz", "parts": root / "parts.npz"}
    return forms


@settings(max_examples=5, deadline=None, database=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=3), st.booleans(), st.integers(0, 99)
)
def test_maps_of_any_size_are_the_same_in_every_form(sizes, are_alike, seed) -> None:
    sizes = [sizes[0]] * len(sizes) if are_alike else sizes
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    maps = [draw.choice([0, 1, 2, 3, 255], size, p=[0.3, 0.2, 0.2, 0.2, 0.1]).astype(np.uint8) for size in sizes]
    for values in maps:
        values[0, 0] = draw.integers(0, 4)  # not all ignored
    maps[0][0, 0] = draw.integers(1, 4)  # some region, at least
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "names.csv").write_text("name\n" + "\n".join(NAMES))
        asked = LabelSettings(class_names=Path(root) / "names.csv")
        expected = [np.bincount(values.ravel(), minlength=256)[:4].tolist() for values in maps]
        for form, data in in_every_form(Path(root), images, maps).items():
            source = open_source(data, labels=asked)
            order = [1, 2, 0][: len(maps)] if form == "parts" and len(maps) == 3 else [*range(len(maps))]
            order = [1, 0] if form == "parts" and len(maps) == 2 else order
            assert source.classes == NAMES and source.task.name == "segmentation", form
            assert source.labels.tolist() == [expected[row] for row in order], form
            for row, found in zip(order, label_maps(source), strict=True):
                np.testing.assert_array_equal(found, maps[row], err_msg=form)
                np.testing.assert_array_equal(
                    np.asarray(open_source(data, labels=None).read(order.index(row))), images[row]
                )
            assert (source.splits is not None) == (form == "parts")


def test_images_alone_are_read_of_each_form_where_labels_do_not_matter(tmp_path) -> None:
    images, maps = [photo() for _ in range(3)], [a_map() for _ in range(3)]
    for form, data in in_every_form(tmp_path, images, maps).items():
        source = open_source(data, labels=None)
        assert len(source) == 3 and source.maps is None and not source.labelled.any(), form
        assert {np.asarray(source.read(row)).tobytes() for row in range(3)} == {i.tobytes() for i in images}, form


# COCO


def scene(path: Path) -> Path:
    """Overlapping polygons, a crowd, a box alone and a line, on two images, of which one shows nothing."""
    square = [[2.0, 2, 12, 2, 12, 12, 2, 12]]
    regions = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[5.0, 5, 9, 5, 9.5, 9, 5, 8]], "area": 1},
        {"id": 2, "image_id": 7, "category_id": 9, "segmentation": square, "iscrowd": 0, "area": 2},
        {
            "id": 3,
            "image_id": 7,
            "category_id": 9,
            "segmentation": [[13, 1, 15, 1, 15, 7, 13, 7], [1, 13, 6, 13, 6, 15]],
        },
        {
            "id": 4,
            "image_id": 7,
            "category_id": 3,
            "iscrowd": 1,
            "segmentation": {"size": [16, 20], "counts": [0, 64, 256]},
        },
        {"id": 5, "image_id": 7, "category_id": 3, "segmentation": [], "bbox": [1, 1, 3, 3]},
        {"id": 6, "image_id": 7, "category_id": 3, "segmentation": [[1, 1, 2, 2]]},
        {"id": 7, "image_id": 99, "category_id": 3, "segmentation": square},
    ]
    for region in regions:
        region.setdefault("iscrowd", 0)
    images = [{"id": number, "file_name": f"{number}.png", "height": 16, "width": 20} for number in (7, 8)]
    kinds = [{"id": 9, "name": "cat", "supercategory": "pets"}, {"id": 3, "name": "dog", "supercategory": "pets"}]
    kinds.append({"id": 0, "name": "pets", "supercategory": "none"})
    put(path / "7.png", photo((16, 20))), put(path / "8.png", photo((16, 20)))
    (path / "instances.json").write_text(json.dumps({"images": images, "annotations": regions, "categories": kinds}))
    return path


def test_regions_are_those_of_pycocotools_the_smallest_above(tmp_path) -> None:
    scene(tmp_path)
    source = open_source(tmp_path)
    assert source.classes == ("background", "dog", "cat") and source.labelled.all()
    reference = COCO(str(tmp_path / "instances.json"))
    by_id = {number: reference.annToMask(reference.anns[number]).astype(bool) for number in (1, 2, 3, 4)}
    expected = np.zeros((16, 20), np.uint8)
    expected[by_id[4]] = 255
    for number, value in ((2, 2), (3, 2), (1, 1)):
        expected[by_id[number]] = value
    found, empty = label_maps(source)
    np.testing.assert_array_equal(found, expected)
    assert not np.asarray(empty).any() and {*np.unique(expected)} == {0, 1, 2, 255}
    notes = " ".join(source.notes)
    assert "1 of its annotations: boxes without a region are passed over" in notes
    assert "polygons of fewer than three corners" in notes and "of no image that it names" in notes


def test_the_background_counts_unless_it_is_ignored_by_number_or_name(tmp_path) -> None:
    scene(tmp_path)
    for ignored in (0, "background"):
        source = open_source(tmp_path / "instances.json", labels=LabelSettings(ignored=ignored))
        assert source.classes == ("dog", "cat") and source.labelled.tolist() == [True, False]
        assert any("1 label maps hold ignored pixels alone" in note for note in source.notes)
    with pytest.raises(WhymaskError, match=r"--ignored sky: a number, or one of the classes background, dog, cat"):
        open_source(tmp_path, labels=LabelSettings(task="segmentation", ignored="sky"))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([[1, 1, 2e9, 1, 3, 3]], "corners further than 100 pixels away"),
        ([[1, 1, float("nan"), 1, 3, 3]], "corners further"),
        ([[1, 1, 5, 1, 3]], "corners of other than two numbers"),
        ({"size": [16, 20], "counts": [0, 64]}, "runs of 64 pixels, and an image of 320"),
        ({"size": [16, 20], "counts": [-1, 321]}, "runs of 320"),
        ({"size": [16, 21], "counts": [336]}, "of 16 x 21 pixels"),
        ({"size": [16, 20], "counts": "a0"}, "runs of"),
        ("polygon", "neither polygons nor run lengths"),
    ],
)
def test_a_region_that_cannot_lie_on_its_image_leaves_this_out(tmp_path, shape, reason) -> None:
    content = json.loads((scene(tmp_path) / "instances.json").read_text())
    content["annotations"].append({"image_id": 8, "category_id": 3, "segmentation": shape})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    found = stored(open_source(tmp_path), tmp_path / "store", (16, 20))
    ((key, said),) = found.skipped
    assert key.endswith("8.png") and reason in said and found.labelled.all()


def test_json_that_is_not_of_regions_is_refused_and_named(tmp_path) -> None:
    content = json.loads((scene(tmp_path) / "instances.json").read_text())
    panoptic = content | {"annotations": [{"image_id": 7, "file_name": "7.png", "segments_info": []}]}
    for other, message in (
        (panoptic, "a panoptic JSON, whose regions lie in pictures beside it, which is not read here"),
        ([1], "a JSON without images, annotations and categories"),
        (content | {"images": [{"id": 1, "file_name": "7.png"}]}, "file_name, height and width were expected"),
        (content | {"categories": [{"id": 1}]}, "a category without id or name"),
    ):
        (tmp_path / "instances.json").write_text(json.dumps(other))
        with pytest.raises(WhymaskError, match=message):
            open_source(tmp_path / "instances.json")
        source = open_source(tmp_path)  # whose images may still be pretrained on
        assert not source.labelled.any() and any(message in note for note in source.notes)
    boxes = content | {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 1, 3, 3]}]}
    (tmp_path / "instances.json").write_text(json.dumps(boxes))
    with pytest.raises(WhymaskError, match=r"1 annotations, none with a region .* or give --task detection"):
        open_source(tmp_path / "instances.json", labels=LabelSettings(task="segmentation"))
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(WhymaskError, match="no JSON"):
        open_source(tmp_path, labels=LabelSettings(task="segmentation"))


def test_without_pycocotools_the_extra_is_named_and_the_images_can_be_used(tmp_path, monkeypatch) -> None:
    scene(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(WhymaskError, match=r"painted by pycocotools; install it: pip install 'whymask\[dense\]'"):
        open_source(tmp_path / "instances.json")
    source = open_source(tmp_path)
    assert len(source) == 2 and any("whymask[dense]" in note for note in source.notes)
    assert len(open_source(tmp_path / "instances.json", labels=None)) == 2


def test_splits_of_coco_are_in_names_or_folders_and_other_pictures_are_no_images(tmp_path) -> None:
    for split in ("train", "val"):
        scene(tmp_path / f"{split}2017")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"{split}2017" / "instances.json").rename(tmp_path / "annotations" / f"instances_{split}2017.json")
        put(tmp_path / "annotations" / f"panoptic_{split}2017" / "7.png", photo((16, 20)))
    source = open_source(tmp_path)
    assert len(source) == 4 and source.labelled.all() and source.splits is not None
    assert source.splits.tolist() == ["train", "train", "test", "test"]
    assert len(open_source(tmp_path, labels=None)) == 4
    alone = open_source(tmp_path / "annotations" / "instances_val2017.json")
    assert alone.keys == source.keys[2:] and alone.labels.tolist() == source.labels[2:].tolist()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None, database=None)
def test_run_lengths_are_unpacked_as_pycocotools_packs_them(lengths) -> None:
    packed = masks.frPyObjects({"size": [1, max(1, sum(lengths))], "counts": lengths}, 1, max(1, sum(lengths)))
    assert run_lengths(packed["counts"].decode()) == lengths


def test_of_equally_large_regions_the_later_one_is_seen() -> None:
    shape = (np.array([1.0, 1, 5, 1, 5, 5, 1, 5]),)
    first, second = Region(1, False, shape), Region(2, False, shape)
    assert {*np.unique(painted([first, second], (8, 8), masks))} == {0, 2}
    assert {*np.unique(painted([second, first], (8, 8), masks))} == {0, 1}


# Pascal VOC


def voc_folder(root: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    """a and b have maps; a is trained on, b validated on, c in a list without a map."""
    for name in names:
        put(root / "JPEGImages" / f"{name}.jpg", photo())
    for name in names[:2]:
        drawn = Image.fromarray(a_map(), "P")
        drawn.putpalette(voc.palette().ravel().tolist())
        put(root / "SegmentationClass" / f"{name}.png", drawn)
        put(root / "SegmentationObject" / f"{name}.png", drawn)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, listed in (("train", "a\nc\n"), ("val", "b\n"), ("trainval", "a\nb\nc\n")):
        (lists / f"{split}.txt").write_text(listed)
    return root


def test_voc_has_its_splits_its_names_and_images_without_maps(tmp_path) -> None:
    voc_folder(tmp_path / "VOC2012")
    for data in (tmp_path, tmp_path / "VOC2012"):
        source = open_source(data)
        assert [Path(key).stem for key in source.keys] == ["a", "b", "c", "d"]
        assert source.splits is not None and source.splits.tolist() == ["train", "test", "train", "train"]
        assert source.labelled.tolist() == [True, True, False, False] and source.classes == voc.NAMES
        notes = " ".join(source.notes)
        assert "2 images have no label map" in notes and "SegmentationObject/a.png" in notes
    (tmp_path / "VOC2012" / "classes.txt").write_text("\n".join(NAMES))
    assert open_source(tmp_path / "VOC2012").classes == NAMES


def test_the_palette_is_vocs() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {number: tuple(voc.palette()[number].tolist()) for number in known} == known


# Names and colours


COLOURS = {"Sky": (128, 128, 128), "Void": (0, 0, 0), "Car": (64, 0, 128), "Tree": (128, 128, 0)}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("file", ["class_dict.csv", "label_colors.txt"])
def test_colours_become_the_classes_that_a_file_beside_names(tmp_path, mode, file) -> None:
    values = [a_map(), a_map()]
    table = np.array([*COLOURS.values()], np.uint8)
    folder_of(tmp_path, [None, None])
    for number, of in enumerate(values):
        drawn = Image.fromarray(table[of])
        put(tmp_path / "masks" / f"{number}_L.png", drawn.quantize(4) if mode == "P" else drawn.convert(mode))
    rows = [(name, *colour) for name, colour in COLOURS.items()]
    csv = "name, r, g, b\n" + "\n".join(",".join(map(str, row)) for row in rows)
    text = "\n".join(f"{r} {g} {b}\t{name}" for name, r, g, b in rows)
    (tmp_path / file).write_text(csv if file.endswith("csv") else text)
    source = open_source(tmp_path)
    assert source.classes == tuple(COLOURS) and any(file in note for note in source.notes)
    for found, of in zip(label_maps(source), values, strict=True):
        np.testing.assert_array_equal(found, of)
    without = open_source(tmp_path, labels=LabelSettings(ignored="Void"))
    assert without.classes == ("Sky", "Car", "Tree")
    np.testing.assert_array_equal(label_maps(without)[0], np.array([0, 255, 1, 2])[values[0]])


def test_unknown_colours_are_told_with_their_pixels(tmp_path) -> None:
    table = np.array([*COLOURS.values()], np.uint8)
    folder_of(tmp_path, [table[a_map()] for _ in range(3)])
    (tmp_path / "class_dict.csv").write_text(
        "name,r,g,b\n" + "\n".join(f"{n},{r},{g},{b}" for n, (r, g, b) in COLOURS.items())
    )
    odd = table[a_map()]
    odd[2:4, 1:3] = (1, 2, 3)
    put(tmp_path / "masks" / "1.png", odd)
    source = open_source(tmp_path)
    assert source.labelled.tolist() == [True, False, True]
    assert any("1 label maps have pixels in colours that" in n and "(1, 2, 3) (4)" in n for n in source.notes)
    put(tmp_path / "masks" / "1.png", a_map())
    with pytest.raises(WhymaskError, match="its label map is grey, and others are in colours"):
        open_source(tmp_path).read(1)
    for number in range(3):
        put(tmp_path / "masks" / f"{number}.png", odd)
    with pytest.raises(WhymaskError, match=r"3 of 3 label maps cannot be used .*\(1, 2, 3\) \(12\)"):
        open_source(tmp_path)


def test_greys_of_a_table_are_colours_also_in_grey_pictures(tmp_path) -> None:
    values = a_map(most=2)
    folder_of(tmp_path, [255 * values, 255 * values])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,255,255,255\nother,0,0,0\n")
    source = open_source(tmp_path)
    assert source.classes == ("road", "other")
    np.testing.assert_array_equal(label_maps(source)[0], 1 - values)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("n.txt", "a\na\n", "2 class names, 1 of them different"),
        ("n.csv", "kind,r\na,1\n", "name, and for maps in colours r, g and b, were expected"),
        ("n.csv", "name,r,g,b\na,1,2,3\nb,1,2,3\n", "2 classes and 1 different colours"),
        ("n.csv", "name,r,g,b\na,1,2,333\n", "three numbers from 0 to 255"),
        ("n.csv", "name,r,g,b\na,1,2,x\n", "a colour that is no number"),
        ("none.txt", None, "--class-names .* a text file with a class a line was expected"),
    ],
)
def test_files_of_class_names_that_say_nothing_plain_are_refused(tmp_path, file, content, message) -> None:
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(WhymaskError, match=message):
        read_classes(tmp_path / file)


# What cannot be used


def test_each_map_that_cannot_be_used_is_listed_and_its_image_left_out(tmp_path) -> None:
    folder_of(tmp_path, [a_map() for _ in range(13)], NAMES)
    broken = tmp_path / "masks"
    (broken / "1.png").write_bytes(b"no picture")
    put(broken / "2.png", a_map((8, 7)))
    put(broken / "3.png", np.full((8, 6), 9, np.uint8))
    (broken / "4.png").unlink()
    put(broken / "4.jpg", a_map())
    put(broken / "5_mask.png", a_map())
    put(broken / "6.png", np.full((8, 6), 300, np.uint16))
    source = open_source(tmp_path)
    found = stored(source, tmp_path / "store", (8, 6))
    reasons = {Path(key).stem: reason for key, reason in found.skipped}
    expected = {
        "1": "its label map cannot be read: not an image",
        "2": "its label map has 8 x 7 pixels, and it has 8 x 6",
        "3": f"its label map holds 9, which is no class ({tmp_path / 'classes.txt'} names 4)",
        "4": "its label map is a JPEG, which does not keep class numbers",
        "5": "it has 2 label maps, masks/5.png and masks/5_mask.png; one was expected",
        "6": "its label map holds 300 (uint16); class numbers from 0 to 255 were expected",
    }
    assert reasons.keys() == expected.keys()
    assert all(reasons[stem].startswith(reason) for stem, reason in expected.items()), reasons
    assert len(found) == 7 and found.labelled.all() and found.maps is not None


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (
            a_map(),
            ("a", "b"),
            r"3 of 3 label maps cannot be used .* holds 2, which is no class .*names 2\).*hold 0, 1, 2, 3",
        ),
        (np.full((8, 6), 255, np.uint8), None, "all pixels of its 3 label maps hold 255, which is ignored"),
        (photo(), None, "its label map is in colours; class numbers .* or give --class-names FILE.csv"),
        (np.full((8, 6), 700, np.uint16), None, r"holds 700 \(uint16\)"),
    ],
)
def test_maps_of_which_most_cannot_be_used_are_an_error(tmp_path, values, names, message) -> None:
    folder_of(tmp_path, [values] * 3, names)
    with pytest.raises(WhymaskError, match=message):
        open_source(tmp_path)


def test_maps_of_other_names_are_told_of_and_are_no_images(tmp_path) -> None:
    folder_of(tmp_path, [a_map(), a_map()])
    put(tmp_path / "masks" / "other.png", a_map())
    assert any("1 label maps have the name of no image" in note for note in open_source(tmp_path).notes)
    for number in (0, 1):
        (tmp_path / "masks" / f"{number}.png").rename(tmp_path / "masks" / f"m{number}.png")
    with pytest.raises(WhymaskError, match=r"none of which has the name of an image.*or give --task class"):
        open_source(tmp_path)
    assert len(open_source(tmp_path, labels=None)) == 2
    assert open_source(tmp_path, labels=LabelSettings(task="classification")).classes == ("images", "masks")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/train/a.jpg", "masks/train/a.png"),
        ("train/Images/a.jpg", "train/Label_Maps/A.png"),
        ("train/a.png", "train_labels/a_L.png"),
        ("train/a.png", "trainannot/a.png"),
        ("train_images/a.jpg", "train-masks/a_mask.gif"),
        ("a.jpg", "masks/a.png"),
        ("images/a.jpg", "annotations/trimaps/a.png"),
        ("VOC2012/JPEGImages/a.jpg", "VOC2012/SegmentationClass/a.png"),
        ("images/training/a.jpg", "annotations/training/a.png"),
    ],
)
def test_folders_and_names_tell_whose_map_it_is(image, mask) -> None:
    (other_image, other_mask) = (
        name.replace("a.", "b.").replace("A.", "b.").replace("a_", "b_") for name in (image, mask)
    )
    found = paired("d", [image, other_image, mask])
    assert found is not None and found.maps == {image: [mask], other_image: []} and not found.alone
    found = paired("d", [image, mask, other_mask])
    assert found is not None and found.maps == {image: [mask]} and found.alone == [other_mask]


@pytest.mark.parametrize(
    "files",
    [
        ["with_mask/1.jpg", "without_mask/1.jpg"],
        ["mask/1.jpg", "face/1.jpg"],
        ["images/mask/1.jpg", "images/face/1.jpg"],
        ["train/mask/1.png", "train/no_mask/1.png", "test/mask/1.png", "test/no_mask/1.png"],
        ["images/a.jpg", "photos/b.jpg"],
        ["masks/a.jpg", "masks/b.jpg"],
        ["a.jpg"],
    ],
)
def test_classes_that_are_called_masks_are_no_label_maps(files) -> None:
    assert paired("d", files) is None and paired("d", files, is_asked=False) is None


def test_binary_maps_of_0_and_255_have_two_classes(tmp_path) -> None:
    folder_of(tmp_path, [255 * a_map(most=2), 255 * a_map(most=2)])
    assert open_source(tmp_path).classes == ("0", "255")
    (tmp_path / "classes.txt").write_text("other\nroad\n")
    source = open_source(tmp_path)
    assert source.classes == ("other", "road") and {*np.unique(label_maps(source)[0])} == {0, 1}


def test_a_stray_value_makes_no_foreground_vanish_without_a_word(tmp_path) -> None:
    stray = np.resize(np.array([0, 255], np.uint8), (8, 6))
    stray[0, 0] = 128
    source = open_source(str(folder_of(tmp_path, [stray, np.resize(np.array([0, 255], np.uint8), (8, 6))])))
    assert source.classes == ("0", "128")
    assert any("50% of the pixels of label maps hold 255, which is no class" in note for note in source.notes)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_pictures_of_few_bits_hold_the_numbers_that_were_written(tmp_path, bits) -> None:
    """As optimisers write them, and Pillow does not."""
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) % min(2**bits, 16)
    rows = [np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel() for row in values]
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    parts = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    chunks = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts]
    path = tmp_path / "map.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    found = values_of(open_file(path))
    assert np.array_equal(found, values)


def test_a_map_is_one_images_alone(tmp_path) -> None:
    for name in ("x", "x_l", "z"):
        put(tmp_path / "images" / f"{name}.png", photo())
    for suffix in ("png", "bmp"):
        put(tmp_path / "images" / f"y.{suffix}", photo())
    for name in ("x_l", "y", "z"):
        put(tmp_path / "masks" / f"{name}.png", a_map())
    source = open_source(str(tmp_path))
    labelled = {Path(key).name for key, there in zip(source.keys, source.labelled, strict=True) if there}
    assert labelled == {"x_l.png", "z.png"}
    with pytest.raises(WhymaskError, match=r"masks/y.png is the label map of 2 images of that name"):
        source.read([Path(key).name for key in source.keys].index("y.bmp"))


def test_values_of_16_bits_and_numbers_that_are_no_bytes_may_be_ignored() -> None:
    values = a_map().astype(np.uint16)
    values[0, 0] = 65535
    assert values_of(values, ignored=65535)[0, 0] == 255 and values_of(values, ignored=65535)[0, 1] == values[0, 1]
    assert values_of(np.array([[-1, 3]], np.int8), ignored=-1).tolist() == [[255, 3]]
    with pytest.raises(WhymaskError, match=r"holds -1 \(int8\)"):
        values_of(np.array([[-1, 3]], np.int8))


def test_a_map_is_turned_as_its_own_exif_says(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = put(tmp_path / "m.png", a_map((8, 6)), exif=exif)
    with Image.open(path) as turned:
        assert values_of(turned).shape == (6, 8)


def test_a_map_that_a_table_names_and_is_not_there_is_told(tmp_path) -> None:
    folder_of(tmp_path, [a_map() for _ in range(4)])
    (tmp_path / "masks" / "1.png").unlink()
    rows = "".join(f"images/{n}.png,{f'masks/{n}.png' if n < 3 else ''}\n" for n in range(4))
    (tmp_path / "t.csv").write_text("path,label_map\n" + rows)
    source = open_source(tmp_path / "t.csv")
    assert source.labelled.tolist() == [True, False, True, False]
    with pytest.raises(WhymaskError, match=r"its label map masks/1.png is not there"):
        source.read(1)
    assert any("1 images have no label map" in note for note in source.notes)


def test_what_may_be_two_labels_is_asked_about(tmp_path) -> None:
    folder_of(tmp_path, [a_map(), a_map()])
    (tmp_path / "t.csv").write_text("path,mask,label\nimages/0.png,masks/0.png,x\nimages/1.png,masks/1.png,y\n")
    cells = {"image": [png(photo()), png(photo())], "label": [0, 1], "mask": [png(a_map()), png(a_map())]}
    pd.DataFrame(cells).to_parquet(tmp_path / "t.parquet")
    arrays = {"images": np.stack([photo(), photo()]), "labels": np.array([0, 1]), "mask": np.stack([a_map(), a_map()])}
    for data in (tmp_path / "t.csv", tmp_path / "t.parquet", arrays):
        with pytest.raises(
            WhymaskError, match=r"the column mask holds label maps, and label labels of whole.*--task seg"
        ):
            open_source(data)
        assert open_source(data, labels=LabelSettings(task="segmentation")).task.name == "segmentation"
        assert open_source(data, labels=LabelSettings(task="classification")).task.name == "classification"
    with pytest.raises(WhymaskError, match=r"labels of shape \(2, 9, 6\).*as large as the images"):
        open_source({"images": arrays["images"], "labels": np.zeros((2, 9, 6), np.int64)})
    with pytest.raises(WhymaskError, match="its labels are of whole images"):
        open_source({"images": arrays["images"], "labels": [0, 1]}, labels=LabelSettings(task="segmentation"))


# Stores, splits and merging


def test_changed_maps_are_another_store_and_another_fingerprint(tmp_path) -> None:
    folder_of(tmp_path, [a_map() for _ in range(4)], NAMES)
    before = stored(open_source(tmp_path), tmp_path / "store", (8, 6))
    again = stored(open_source(tmp_path), tmp_path / "store", (8, 6))
    stores = {path.name for path in (tmp_path / "store").iterdir()}
    assert again.fingerprint == before.fingerprint and len(stores) == 2
    turned = label_maps(open_source(tmp_path))[0]
    assert turned is not None
    put(tmp_path / "masks" / "0.png", turned[::-1, ::-1])  # as many pixels of each class
    after = stored(open_source(tmp_path), tmp_path / "store", (8, 6))
    assert after.labels.tolist() == before.labels.tolist() and after.fingerprint != before.fingerprint
    assert after.path == before.path and len({path.name for path in (tmp_path / "store").iterdir()}) == 3


def test_the_fingerprint_does_not_depend_on_the_order_of_files(tmp_path) -> None:
    image, one = photo(), a_map()
    maps = [one, one[::-1], one[:, ::-1]]  # of equal images and counts
    prints = set()
    for place, order in enumerate(([0, 1, 2], [2, 0, 1])):
        source = open_source((np.stack([image] * 3), np.stack([maps[row] for row in order])))
        prints.add(stored(source, tmp_path / f"store{place}", (8, 6)).fingerprint)
    assert len(prints) == 1


def test_maps_given_beside_their_images_are_found_for_segmentation(tmp_path) -> None:
    folder_of(tmp_path, [a_map(), a_map()], NAMES)
    how = DataSettings(labels=str(tmp_path / "masks"))
    for data in (tmp_path / "images", tmp_path):
        source = open_asked(data, replace(how, task="segmentation"))
        assert len(source) == 2 and source.labelled.all() and source.classes == NAMES
    with pytest.raises(WhymaskError, match=r"no labels in it; .* a folder of images/ and masks/"):
        open_asked(tmp_path / "images", how)


def test_pictures_that_a_table_names_as_maps_are_never_images(tmp_path) -> None:
    for number in range(3):
        put(tmp_path / "d" / f"{number}.png", photo())
        put(tmp_path / "d" / f"{number}_seen.png", a_map())
    (tmp_path / "t.csv").write_text("path,mask\n" + "".join(f"d/{n}.png,d/{n}_seen.png\n" for n in range(3)))
    joined = open_asked(tmp_path / "d", DataSettings(labels=str(tmp_path / "t.csv")))
    assert [Path(key).name for key in joined.keys] == ["0.png", "1.png", "2.png"] and joined.labelled.all()
    (tmp_path / "d" / "t.csv").write_text("path,mask\n" + "".join(f"{n}.png,{n}_seen.png\n" for n in range(3)))
    for labels in (LabelSettings(), None):
        source = open_source(tmp_path / "d", labels=labels)
        assert [Path(key).name for key in source.keys] == ["0.png", "1.png", "2.png"]
        assert source.labelled.all() == (labels is not None) and not any("not read" in note for note in source.notes)


def test_of_many_maps_it_is_told_how_far_they_are_looked_at(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_DECODING_LINES", -1)
    source = open_source((np.zeros((300, 4, 4, 3), np.uint8), np.tile([0, 1, 2, 3], (300, 4, 1))))
    assert source.labels.tolist() == [[4, 4, 4, 4]] * 300
    said = capsys.readouterr().err
    assert "looking at label maps: 256 of 300 label maps" in said and "300 of 300" in said


def test_labelled_folders_join_images_without_maps(tmp_path) -> None:
    folder_of(tmp_path / "labelled", [a_map(), None, a_map()], NAMES)
    for number in range(3):
        put(tmp_path / "pool" / f"{number}.png", photo())
    source = open_asked(tmp_path / "pool", DataSettings(labels=str(tmp_path / "labelled")))
    assert source.labelled.tolist() == [False] * 3 + [True, False, True]
    found = stored(source, tmp_path / "store", (8, 6))
    own = label_maps(open_source(tmp_path / "labelled"))
    np.testing.assert_array_equal(found.maps_of(np.array([3, 5])), [own[0], own[2]])
    (tmp_path / "pool" / "t.csv").write_text(f"path,mask\n0.png,{tmp_path}/labelled/masks/0.png\n")
    both = merge(open_source(tmp_path / "pool", labels=None), open_source(tmp_path / "pool" / "t.csv"))
    assert both.labelled.tolist() == [False, False, True] and len(both) == 3
    beside = open_source(tmp_path / "pool")  # the table lies beside the images
    assert beside.labelled.tolist() == [True, False, False] and label_maps(beside)[1:] == [None, None]


def test_a_stopped_store_of_maps_goes_on_where_it_was(tmp_path, monkeypatch, capsys) -> None:
    count = 5 * decoding.BLOCK
    data = np.zeros((count, 4, 4, 3), np.uint8), RANDOM.integers(0, 3, (count, 4, 4))
    data[0][:] = np.arange(count, dtype=np.uint8)[:, None, None, None]
    source = open_source(data)
    assert source.maps is not None
    whole, maps = stored(source, tmp_path / "whole", (4, 4)), source.maps
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)  # so that two blocks, and no more, are made ahead
    monkeypatch.setattr(building, "SECONDS", 0)
    rows: list[int] = []

    def read(row: int, stops: bool) -> np.ndarray:
        if stops and row == 3 * decoding.BLOCK:
            raise KeyboardInterrupt
        rows.append(row)
        return maps.read(row)

    with pytest.raises(KeyboardInterrupt):
        stored(replace(source, maps=replace(maps, read=partial(read, stops=True))), tmp_path / "s", (4, 4))
    rows.clear()
    again = stored(replace(source, maps=replace(maps, read=partial(read, stops=False))), tmp_path / "s", (4, 4))
    assert (
        min(rows) >= decoding.BLOCK and max(rows) == count - 1 and "decoding goes on after" in capsys.readouterr().err
    )
    assert again.fingerprint == whole.fingerprint and again.labels.tolist() == whole.labels.tolist()
    np.testing.assert_array_equal(again.maps, whole.maps)


def scenes(root: Path, count: int = 40) -> Path:
    """Smooth pictures of ten videos, v0_0.png, v0_1.png ..., in whose maps class 2 is on two images of two videos."""
    for number in range(count):
        pixels = np.kron(RANDOM.integers(0, 256, (5, 5, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        values = a_map((20, 20), 2)
        values[:3, :3] = 2 if number in (1, 39) else 0
        put(root / "images" / f"v{number * 10 // count}_{number}.png", pixels)
        put(root / "masks" / f"v{number * 10 // count}_{number}.png", values)
    return root


def test_test_images_are_drawn_for_each_class_by_groups_and_without_near_copies(tmp_path) -> None:
    root = scenes(tmp_path / "d")
    how = DataSettings(store=tmp_path / "store", test_share=0.25)
    drawn = prepare(root, how)
    assert len(drawn.test) == 10 and len(drawn.train) == 30
    assert all(drawn.task.counts(drawn.images.labels[rows])[2] == 1 for rows in (drawn.train, drawn.test))
    by_video = prepare(root, replace(how, group_by=r"(v\d+)_"))
    videos = [
        {Path(by_video.images.keys[row]).name.split("_")[0] for row in rows} for rows in (by_video.train, by_video.test)
    ]
    assert not videos[0] & videos[1] and sum(map(len, videos)) == 10
    assert all(by_video.task.counts(by_video.images.labels[rows])[2] == 1 for rows in (by_video.train, by_video.test))
    copied = Path(drawn.images.keys[drawn.test[0]])
    with Image.open(copied) as picture:
        picture.save(tmp_path / "d" / "images" / "copy.jpg", quality=85)
    put(tmp_path / "d" / "masks" / "copy.png", a_map((20, 20), 2))
    for split, rows in (("test", drawn.test), ("train", drawn.train)):
        for key in (Path(drawn.images.keys[row]) for row in rows):
            for kind in ("images", "masks"):
                put(tmp_path / "s" / kind / split / key.name, Image.open(tmp_path / "d" / kind / key.name))
    for kind, name in (("images", "copy.jpg"), ("masks", "copy.png")):
        (tmp_path / "d" / kind / name).rename(tmp_path / "s" / kind / "train" / name)
    given = prepare(tmp_path / "s", replace(how, test_share=None))
    assert [Path(given.images.keys[row]).name for row in given.near.rows] == ["copy.jpg"]
    assert len(given.train) == len(given.pool) == 30 and len(given.test) == 10


@pytest.mark.skipif(not CAMVID.exists(), reason="needs the shared camvid-small")
def test_camvid_has_its_classes_splits_and_videos(tmp_path) -> None:
    assert len(open_source(CAMVID, labels=None)) == 701
    how = DataSettings(ignored=11, size=(24, 32), store=tmp_path, group_by=r"([^/]+)_f?\d+\.jpg$")
    data = prepare(CAMVID, how)
    videos = [{Path(data.images.keys[row]).name.split("_")[0] for row in rows} for rows in (data.pool, data.test)]
    assert videos == [{"0006R0", "0016E5"}, {"0001TP", "Seq05VD"}] and len(data.test) == 233 and len(data.classes) == 11
    assert len(data.images) == 701 and data.images.labelled.all() and data.leaking == 62
