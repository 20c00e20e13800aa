"""`whymask data` tells what a run would read, draws some of it, and writes nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import whymask
from browsing import faults_of
from pages import table_of, words_of
from tiny import bars
from whymask import DataSettings, WhymaskError, cli
from whymask.data.prepare import prepare

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes in two splits, two sizes, one picture twice, one damaged, one file that is no picture."""
    root = tmp_path_factory.mktemp("photos") / "d"
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee", "<b>cat"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                side = (24, 32) if number else (24, 24)
                pixels = RANDOM.integers(0, 200, (*side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    Image.open(root / "train" / "ant" / "0.png").save(root / "test" / "bee" / "again.png")
    (root / "test" / "ant" / "bad.jpg").write_bytes(b"no picture")
    (root / "notes.txt").write_text("x")
    return root


@pytest.fixture(scope="module")
def told(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("page") / "data.html"
    return whymask.overview(photos, out=out) | {"page": out}


def test_it_tells_counts_sizes_values_and_what_would_be_left_out(told: dict[str, Any]) -> None:
    assert told["images"] == told["looked"] == 17 and told["splits"] == ["test", "train"]
    assert told["classes"][1] == {"name": "ant", "all": 6, "test": 3, "train": 3}
    assert told["suffixes"] == [[".png", 16], [".jpg", 1]]
    assert told["sizes"] == [["24 × 32", 9], ["24 × 24", 7]] and told["kinds"] == [["3 of uint8", 16]]
    assert 0 <= told["values"][0] <= told["values"][1] < 200 and told["size"] == [24, 24]
    ((first, second),) = told["equal"]
    assert {Path(first).name, Path(second).name} == {"0.png", "again.png"}
    ((key, reason),) = told["skipped"]
    assert Path(key).name == "bad.jpg" and reason == "not an image that Pillow can open"
    assert any("1 .txt" in note for note in told["notes"])


def test_its_page_shows_every_class_and_escapes_names(told: dict[str, Any]) -> None:
    page = told["page"].read_text()
    assert [row[0].lstrip("> ") for row in table_of(page, "Classes")] == ["<b>cat", "ant", "bee"]
    assert page.count("data:image/webp") == 16 and "<b>cat" not in page and "bad.jpg" in words_of(page)


def test_folders_may_be_no_labels_and_that_is_named(told: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    assert told["labels"].endswith(", by the names of their folders; where these are no labels, give --labels none")
    without = whymask.overview(photos, out=tmp_path / "a.html", labels="none")
    assert without["labels"] == "none of them labelled" and without["classes"] == [] and without["images"] == 17


def test_its_page_can_be_read_on_a_phone_and_a_desk(told: dict[str, Any], browser: Any) -> None:
    assert faults_of(browser, told["page"]) == []


def test_a_part_of_the_images_may_be_opened_and_tiles_are_told(photos: Path, tmp_path: Path, capsys: Any) -> None:
    told = whymask.overview(photos, out=tmp_path / "a.html", looked=4, tile=12)
    assert told["looked"] == 4 and told["sizes"] == [["12 × 12", 4]]
    assert "of which 4 were opened" in capsys.readouterr().err
    with pytest.raises(WhymaskError, match="--looked -1"):
        whymask.overview(photos, out=tmp_path / "a.html", looked=-1)


def test_one_picture_under_two_labels_and_near_copies_are_told(tmp_path: Path, capsys: Any) -> None:
    for number in range(12):
        pixels = np.kron(RANDOM.integers(0, 256, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        folder = tmp_path / "d" / ("ant" if number % 2 else "bee")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    first = Image.open(tmp_path / "d" / "bee" / "0.png")
    first.save(tmp_path / "d" / "ant" / "same.png")
    first.save(tmp_path / "d" / "ant" / "alike.jpg", quality=60)
    told = whymask.overview(tmp_path / "d", out=tmp_path / "a.html")
    ((one, label, other, label_there),) = told["torn"]
    assert {Path(one).name, Path(other).name} == {"0.png", "same.png"} and {label, label_there} == {"ant", "bee"}
    ((left, right, likeness),) = told["near"]
    assert "alike.jpg" in {Path(left).name, Path(right).name} and likeness > 0.9
    said = capsys.readouterr().err
    assert "two labels, such as" in said and "1 pairs of near copies" in said
    assert "Near copies" in words_of((tmp_path / "a.html").read_text())


def test_labels_beside_the_images_are_read_as_a_run_reads_them(tmp_path: Path) -> None:
    for name in ("ant/1.png", "bee/2.png", "3.png"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "d" / name)
    (tmp_path / "l.csv").write_text("path,label\nd/3.png,cat\nd/ant/1.png,dog\n")
    settings = DataSettings(labels=str(tmp_path / "l.csv"), store=tmp_path / "store")
    told = whymask.overview(tmp_path / "d", out=tmp_path / "a.html", settings=settings)
    said: list[str] = []
    prepare(tmp_path / "d", settings, say=said.append)
    assert told["labels"] in said and told["labels"].startswith("2 of them labelled, 1 unlabelled")


def test_of_label_maps_it_tells_shares_of_pixels_and_shows_them_on_the_images(tmp_path: Path, browser: Any) -> None:
    images = RANDOM.integers(0, 256, (4, 16, 20, 3), dtype=np.uint8)
    maps = np.zeros((4, 16, 20), np.int64)
    maps[:, :4], maps[3] = 1, 255
    maps[0, -1] = 2
    (tmp_path / "names.txt").write_text("sky\nroad\ncar")
    out = tmp_path / "a.html"
    told = whymask.overview((images, maps), out=out, class_names=tmp_path / "names.txt")
    assert told["maps"] == 3 and told["labels"].startswith(
        "3 of them labelled, 1 unlabelled: segmentation of 3 classes"
    )
    shares = {row["name"]: row["pixels"] for row in told["classes"]}
    assert shares == pytest.approx({"sky": 700 / 960, "road": 240 / 960, "car": 20 / 960}, abs=1e-6)
    page = out.read_text()
    assert [cell.rpartition(">")[2] for cell in table_of(page, "Classes")[0]] == ["sky", "3", "72.9 %"]
    assert page.count("data:image/webp") == 4 and page.count("■") == 3 and "with their labels" in words_of(page)
    assert faults_of(browser, out) == []


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_of_every_task(task: str, tmp_path: Path) -> None:
    told = whymask.overview(bars(task), out=tmp_path / "a.html", settings=DataSettings())
    assert told["images"] > 0 and (tmp_path / "a.html").exists()


def test_the_command_writes_its_page_alone(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHYMASK_STORE", str(tmp_path / "store"))
    cli.run(["data", str(photos)])
    assert [path.name for path in tmp_path.iterdir()] == ["data.html"]
