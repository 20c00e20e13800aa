"""`predict` of a detection network: COCO JSON in pixels of the images, a table, and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny import runtime
from whymask import embed, load_network, predict, probe
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import LabelSettings
from whymask.data.sources import open_source
from whymask.disk import Table
from whymask.errors import WhymaskError
from whymask.stages.beside import Places
from whymask.stages.detect import Detector
from whymask.stages.detected import Detected
from whymask.tasks import Detection


def test_objects_are_written_as_coco_json_in_pixels_of_the_images(detector: Path, tmp_path: Path) -> None:
    """Twice as large an image has the same objects, twice as far away; a damaged one is listed."""
    images = tmp_path / "images"
    images.mkdir()
    original = Image.open(detector / "data/JPEGImages/30.png")
    original.save(images / "a.png")
    original.resize((96, 64), Image.Resampling.NEAREST).save(images / "b.png")
    (images / "c.png").write_bytes(b"no picture")
    table = predict(detector / "run", images, out=tmp_path / "found", overlays=True)
    content = json.loads((tmp_path / "found/detections.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [str(images / name) for name in ("a.png", "b.png")]
    assert [kind["name"] for kind in content["categories"]] == ["green", "red"]
    first, second = ([one for one in content["annotations"] if one["image_id"] == image] for image in (1, 2))
    model, _ = load_network(detector / "run")
    assert isinstance(model, Detector)
    with torch.inference_mode():
        (expected,) = model(model.encoder.transform(original)[None]).numpy()
    expected = expected[expected[:, 5] >= 0]
    assert len(first) == len(expected) > 0
    corners = np.array([one["bbox"] for one in first])
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_allclose(corners, expected[:, :4].clip(0, [48, 32, 48, 32]), atol=0.02)
    np.testing.assert_allclose([one["score"] for one in first], expected[:, 4], atol=1e-6)
    assert [one["category_id"] for one in first] == (expected[:, 5] + 1).tolist()
    np.testing.assert_allclose(
        [one["bbox"] for one in first[:2]], np.array([one["bbox"] for one in second[:2]]) / 2, atol=1.5
    )
    sure = [sum(one["score"] >= 0.3 and one["category_id"] == kind for one in first) for kind in (1, 2)]
    assert table.loc[0, ["objects of green", "objects of red"]].tolist() == sure
    assert (tmp_path / "found/predictions.skipped.csv").read_text().count("c.png") == 1
    assert Image.open(tmp_path / "found/overlays/b.jpg").size == (96, 64)


def test_what_is_found_in_the_grey_beside_an_image_is_not_written(tmp_path: Path) -> None:
    task, prep = Detection(("cat",)), Preprocessing((40, 40), (40, 40), 3, pads=True)
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png")
    source, places = open_source(tmp_path), Places.of(tmp_path.with_name("grey"), tmp_path)
    found = np.array([[2, 3, 12, 30, 0.9, 0], [5, 22, 20, 38, 0.8, 0], [0, 0, 0, 0, 0, -1]])
    with Table.at(places.table, ["path", *task.header]) as table:
        made = Detected(task, source, prep, places, table, overlays=False)
        made.take(0, (40, 80), found)
    assert [one["bbox"] for one in made.objects] == [[4, 6, 20, 34]]
    assert places.table.read_text().splitlines()[1].endswith(",1")


def test_what_is_written_is_read_as_boxes_again(detector: Path, tmp_path: Path) -> None:
    """Answers become labels where they are asked for: whymask's own reader of COCO JSON takes the file."""
    predict(detector / "run", detector / "data/JPEGImages", out=tmp_path / "found")
    source = open_source(tmp_path / "found/detections.json", labels=LabelSettings())
    content = json.loads((tmp_path / "found/detections.json").read_text())
    assert source.boxes is not None and source.task.names == ("green", "red")
    assert len(source.boxes.classes) == len(content["annotations"])


def test_a_probe_tells_of_no_boxes_and_the_encoder_embeds_whole_images(detector: Path, tmp_path: Path) -> None:
    data, run = detector / "data", detector / "run"
    with pytest.raises(WhymaskError, match="not where its box is; for detection train a head"):
        probe(data, out=tmp_path / "probe", origin=str(run), runtime=runtime())
    assert not (tmp_path / "probe").exists()
    frame = embed(run, data, out=tmp_path / "features.parquet", runtime=runtime())
    assert len(frame) == 32 and np.isfinite(np.stack(frame["features"].tolist())).all()
