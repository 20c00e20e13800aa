"""What a finished segmentation network makes of images of any size, and who else may use it."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import whymask
from tiny import runtime
from whymask import FinetuneSettings, load_network
from whymask.data.preprocessing import Preprocessing
from whymask.data.sources import open_source
from whymask.report.label_maps import palette
from whymask.stages.beside import names_of
from whymask.stages.windows import classes_at, label_maps_of, windows_of

RUNTIME = runtime()
CLASSES = ("ground", "red", "green")
PLAIN = Preprocessing((8, 12), (8, 12), 1, mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def classifier(segmenter: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whole images, started from the segmentation network and hardly moved."""
    out = tmp_path_factory.mktemp("classifier") / "run"
    training = whymask.FinetuneTrainingSettings(epochs=1, learning_rate=1e-12)
    settings = FinetuneSettings(origin=str(segmenter / "run"), training=training, runtime=RUNTIME)
    whymask.finetune(pictures / "labelled", out=out, settings=settings)
    return out


def picture_of(folder: Path, number: int = 0) -> np.ndarray:
    return np.asarray(Image.open(folder / "data" / "images" / "test" / f"{number}.png"))


def wide_of(folder: Path) -> np.ndarray:
    """A picture three times as wide as the network sees."""
    return np.concatenate([picture_of(folder, number) for number in range(3)], axis=1)


def predicted(folder: Path, images: Any, out: Path, **settings: Any) -> list[np.ndarray]:
    frame = whymask.predict(folder / "run", images, out=out, runtime=RUNTIME, **settings)
    return [np.asarray(Image.open(out / name)) for name in frame["label_map"]]


# which class each pixel is of


def test_an_image_of_the_networks_size_gets_the_class_of_the_largest_logit(segmenter: Path, tmp_path: Path) -> None:
    pictures = [picture_of(segmenter, number) for number in range(8)]
    found = predicted(segmenter, pictures, tmp_path / "out")
    model, task = load_network(segmenter / "run")
    with torch.inference_mode():
        logits = model(torch.stack([model.encoder.transform(picture) for picture in pictures]))
    assert task.names == CLASSES and logits.shape == (8, 3, 32, 48)
    np.testing.assert_array_equal(np.stack(found), logits.argmax(1).numpy())
    truth = [np.asarray(Image.open(segmenter / "data" / "masks" / "test" / f"{n}.png")) for n in range(8)]
    right = np.mean([one[:-1] == true[:-1] for one, true in zip(found, truth, strict=True)])
    assert right > 0.85  # that it says something: ground alone is 0.75


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_longer_image_is_seen_by_windows_whose_logits_are_averaged(
    overlap: float, segmenter: Path, tmp_path: Path
) -> None:
    """Beside a loop over the windows, at twice the scale and at an odd size."""
    picture = Image.fromarray(wide_of(segmenter)).resize((299, 71))
    (found,) = predicted(segmenter, [np.asarray(picture)], tmp_path / "out", window_overlap=overlap)
    model, _ = load_network(segmenter / "run")
    scaled = picture.resize((round(299 / (71 / 32)), 32), Image.Resampling.BICUBIC)
    pixels = model.encoder.transform.normalise(np.asarray(scaled)[None])
    starts = {0.0: [0, 48, 87], 0.5: [0, 24, 48, 72, 87]}[overlap]
    total, times = torch.zeros(1, 3, *pixels.shape[2:]), torch.zeros(pixels.shape[3])
    with torch.inference_mode():
        for start in starts:
            total[..., start : start + 48] += model(pixels[..., start : start + 48])
            times[start : start + 48] += 1
    assert pixels.shape[3] == 135 and (times > 0).all()
    expected = F.interpolate(total / times, size=(71, 299), mode="bilinear").argmax(1)[0].numpy()
    assert found.shape == (71, 299) and len(np.unique(found)) == 3
    assert (found == expected).mean() > 0.9999  # but for ties within rounding


def test_what_is_said_of_a_pixel_moves_with_it_by_as_much_as_windows_lie_apart(segmenter: Path, tmp_path: Path) -> None:
    wide = wide_of(segmenter)
    for name, picture in (("a", wide), ("b", wide[:, 24:])):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    whole, moved = predicted(segmenter, tmp_path / "*.png", tmp_path / "out")
    np.testing.assert_array_equal(moved[:, 24:], whole[:, 48:])


def test_windows_overlap_at_least_as_asked_and_cover_all() -> None:
    assert windows_of((8, 12), (8, 12), 0.5) == [(0, 0)]
    assert windows_of((8, 25), (8, 12), 0.5) == [(0, 0), (0, 6), (0, 12), (0, 13)]
    assert windows_of((10, 12), (8, 12), 0.0) == [(0, 0), (2, 0)]


def test_logits_are_brought_to_any_size_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(4, 9, 13, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("whymask.stages.windows.LOGITS", 4 * 4 * 40 * 3)  # bytes of three rows
    for size in ((9, 13), (31, 40), (5, 6), (1, 40)):
        expected = F.interpolate(logits[None], size=size, mode="bilinear").argmax(1)[0].numpy()
        found = classes_at(logits, size)
        assert found.dtype == np.uint8 and (found == expected).mean() > 0.999


@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_image_is_resized_as_the_middle_of_it_is(channels: int) -> None:
    for size, store in (((8, 12), (8, 12)), ((8, 8), (9, 9)), ((8, 12), (10, 14))):
        prep = Preprocessing(size, store, channels)
        for shape in ((30, 17), (16, 24), (8, 50), (5, 5)):
            pixels = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
            whole, stored = prep.fit(pixels, whole=True), prep.fit(pixels)
            top, left = (
                round((a - c) / 2) - round((b - c) / 2) for a, b, c in zip(whole.shape[:2], store, size, strict=True)
            )
            np.testing.assert_array_equal(whole[top : top + store[0], left : left + store[1]], stored)
            assert whole.shape == (*prep.covering(*shape), channels)


def test_nothing_is_held_for_longer_than_the_windows_of_a_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each label map comes before later images are read, and no network call sees more than the limit."""
    monkeypatch.setattr("whymask.stages.windows.MOST", 2)
    read: list[int] = []
    batches: list[int] = []

    def reading(index: int) -> np.ndarray:
        read.append(index)
        return np.full((8, 30), index, np.uint8)

    def network(images: torch.Tensor) -> torch.Tensor:
        batches.append(len(images))
        return torch.cat([-images, images - 0.015], dim=1)  # class 1 from grey level 2 on

    source = replace(open_source(np.zeros((7, 8, 30), np.uint8)), read=reading)
    seen = []
    for row, found in label_maps_of(network, 2, PLAIN, source, 0.5):
        assert len(read) <= row + 2
        assert isinstance(found, np.ndarray) and (found == (row >= 2)).all()
        seen.append(row)
    assert seen == list(range(7)) and max(batches) == 2


def test_an_image_too_long_for_its_width_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whymask.stages.windows.LONGEST", 4 * 2 * 8 * 100)
    source = replace(
        open_source(np.zeros((2, 8, 8), np.uint8)), read=lambda index: np.zeros((8, 100 + index), np.uint8)
    )
    (_, reason), (row, found) = label_maps_of(lambda x: x.repeat(1, 2, 1, 1), 2, PLAIN, source, 0.5)
    assert row == 0 and isinstance(found, np.ndarray)
    assert "8 x 101 pixels" in str(reason) and "at most 800 pixels were expected" in str(reason)


# what is written


def test_a_table_and_pictures_are_written_and_what_cannot_be_read_is_listed(segmenter: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    Image.fromarray(picture_of(segmenter)).save(photos / "a.png")
    Image.fromarray(wide_of(segmenter)).convert("L").save(photos / "a.bmp")
    Image.fromarray(picture_of(segmenter, 1)).resize((37, 90)).save(photos / "deep" / "b.tif")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    frame = whymask.predict(segmenter / "run", photos, out=tmp_path / "p.csv", overlays=True, runtime=RUNTIME)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label_map", *(f"share of {name}" for name in CLASSES)] == list(frame)
    assert [row["label_map"] for row in rows] == [
        f"p/label_maps/{name}.png" for name in ("a.bmp", "a.png", "deep/b.tif")
    ]
    assert (tmp_path / "p" / "label_maps" / "classes.txt").read_text().split() == list(CLASSES)
    for row in rows:
        picture, image = Image.open(tmp_path / row["label_map"]), Image.open(row["path"])
        assert picture.mode == "P" and picture.size == image.size
        assert picture.getpalette()[:9] == palette(3).ravel().tolist()  # type: ignore[index]
        counts = np.bincount(np.asarray(picture).ravel(), minlength=3)
        shares = [float(row[f"share of {name}"]) for name in CLASSES]
        np.testing.assert_allclose(shares, counts / counts.sum(), atol=1e-6)
        shown = Image.open(tmp_path / f"{row['label_map'].replace('label_maps', 'overlays')[:-4]}.jpg")
        mixed = (np.asarray(image.convert("RGB"), float) + palette(3)[np.asarray(picture)]) / 2
        assert np.abs(np.asarray(shown, float) - mixed).mean() < 8  # a JPEG
    assert (tmp_path / "p" / "overlays" / "legend.png").exists()
    assert "broken.jpg" in (tmp_path / "p.skipped.csv").read_text()


def test_label_maps_are_called_as_their_images_are() -> None:
    assert names_of(["/p/a.png", "/p/b/a.jpg", "/p/b.c.jpg"]) == ["a", "b/a", "b.c"]
    assert names_of(["/p/a.png", "/p/a.jpg", "/p/a.jpg.tif"]) == ["a.png", "a.jpg", "a.jpg.tif"]
    assert names_of(["/p/x/a.png"]) == ["a"]
    assert names_of([f"/p/t.parquet#{n}:a/{n}.png" for n in range(11)])[::10] == ["00", "10"]


def test_every_class_has_a_colour_of_its_own() -> None:
    for classes in (2, 10, 11, 20, 21, 255):
        assert len(np.unique(palette(classes), axis=0)) == classes
    np.testing.assert_array_equal(palette(22)[[1, 2, 9]], [[128, 0, 0], [0, 128, 0], [192, 0, 0]])  # Pascal VOC's


def test_the_command_says_where_maps_would_not_belong(
    segmenter: Path, classifier: Path, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    run, images = segmenter / "run", segmenter / "data" / "images" / "test"
    for arguments, message in (
        ([run, images, "--out", images / "found"], "among the images that are read"),
        ([run, images, "--out", tmp_path / "found.png"], "a folder for what is written, or a .csv"),
        ([run, images, "--out", tmp_path / "found", "--window-overlap", "1"], "from 0 to below 1"),
        ([classifier, images, "--overlays"], "says nothing of places; leave it out"),
    ):
        assert whymask("predict", *arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (images / "found").exists() and not [*tmp_path.iterdir()]
    assert whymask("predict", run, images / "0.png", "--out", tmp_path / "found", "--device", "cpu") == 0
    said = capsys.readouterr().err
    assert "mean IoU" in said and "pixels by predicted class: ground: " in said and "unsure" not in said
    assert sorted(path.name for path in tmp_path.joinpath("found").iterdir()) == ["label_maps", "predictions.csv"]


# who else may use it


def test_a_stage_starts_from_a_segmentation_networks_encoder(segmenter: Path, classifier: Path) -> None:
    before, after = (load_network(folder)[0].encoder for folder in (segmenter / "run", classifier))
    assert after.transform == before.transform
    for a, b in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_its_features_are_embedded(segmenter: Path, tmp_path: Path) -> None:
    data = segmenter / "data" / "images" / "test"
    frame = whymask.embed(segmenter / "run", data, out=tmp_path / "f.parquet", runtime=RUNTIME)
    encoder = load_network(segmenter / "run")[0].encoder
    with torch.inference_mode():
        first = encoder.pool(encoder(encoder.transform(Image.open(frame["path"][0]))[None]))[0]
    np.testing.assert_allclose(frame["features"][0], first.numpy(), atol=1e-5)


def test_an_explanation_says_that_it_asks_of_whole_images(
    segmenter: Path, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    run, data, other = segmenter / "run", segmenter / "data", tmp_path / "other"
    shutil.copytree(run, other)
    assert whymask("explain", run, other, "--data", data, "--out", tmp_path / "why") == 2
    assert "of segmentation they tell nothing" in " ".join(capsys.readouterr().err.split())
    assert [*tmp_path.iterdir()] == [other]
    assert whymask("check", run) == 0
