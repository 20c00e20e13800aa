"""`whymask choose`: a list to label that the other commands take, from a network's features."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browsing import faults_of
from pages import shares_in_percent
from whymask import WhymaskError, choose
from whymask.choosing.labelling import labelling_keys
from whymask.data.settings import DataSettings
from whymask.data.source import Source
from whymask.data.sources import open_asked, open_source

CELL = "mae-5-0"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def labelled(pictures: Path) -> Path:
    """Eight of the photos with their labels, as a CSV."""
    path = pictures / "some.csv"
    lines = [f"{pictures / 'photos' / f'{i}.png'},{'okapi' if i % 4 == 1 else 'zebra'}" for i in range(1, 17, 2)]
    path.write_text("\n".join(["path,label", *lines, ""]))
    return path


def test_with_its_labels_filled_in_the_list_is_one_of_labels(
    finished: Path, pictures: Path, labelled: Path, tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    out = tmp_path / "next.csv"
    given = ("--labels", 6, "--labelled", labelled, "--out", out, "--threads", 1)
    assert whymask("choose", finished, pictures / "photos", *given) == 0
    said = capsys.readouterr().err
    assert "typical images of clusters (TypiClust, arXiv 2202.02794)" in said
    assert "6 of 15 unlabelled images are chosen, 8 labelled ones count as chosen" in said
    assert [row["image"].endswith("broken.jpg") for row in rows_of(tmp_path / "next.skipped.csv")] == [True]
    rows = rows_of(out)
    assert [row["rank"] for row in rows] == list("123456") and not any(row["label"] for row in rows)
    before = {row["path"] for row in rows_of(labelled)}
    assert not before & {row["path"] for row in rows} and len({row["path"] for row in rows}) == 6
    filled = tmp_path / "filled.csv"
    filled.write_text(out.read_text().replace(",,", ",okapi,"))
    source = open_asked(pictures / "photos", DataSettings(labels=str(filled)))
    assert len(source) == 24 and int(source.labelled.sum()) == 6 and source.classes == ("okapi",)
    assert whymask("choose", finished, pictures / "photos", *given[:4], "--out", filled, "--threads", 1) == 2
    assert "6 labels are filled in there, which would be lost" in capsys.readouterr().err
    again = tmp_path / "again.csv"
    assert whymask("choose", finished, pictures / "photos", *given[:4], "--out", again, "--threads", 1) == 0
    assert again.read_text() == out.read_text()


def test_a_classifier_chooses_by_what_it_is_unsure_of(finished: Path, pictures: Path, tmp_path: Path) -> None:
    found = choose(
        finished, pictures / "photos", labels=4, labelled="none", cell=CELL, out=tmp_path / "a.csv", threads=1
    )
    assert all(why.startswith("confidence 0.") for why in found["why"])
    other = choose(
        finished, pictures / "photos", labels=4, rule="typical", labelled="none", cell=CELL, out=tmp_path / "b.csv"
    )
    assert all(why.startswith("typical of ") for why in other["why"])


def test_images_to_test_on_are_not_chosen_and_pictures_of_arrays_are_written(finished: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (30, 32, 32), dtype=np.uint8)
    arrays = {"x_train": pixels[:20], "x_test": pixels[20:], "y_test": np.arange(10) % 2}
    arrays["y_train"] = np.where(np.arange(20) < 4, np.arange(20) % 2, -1)
    np.savez(tmp_path / "a.npz", **arrays)
    out = tmp_path / "list.csv"
    found = choose(finished, tmp_path / "a.npz", labels=16, rule="spread", out=out)
    pictures = [np.asarray(Image.open(path)) for path in found["path"]]
    assert {picture.tobytes() for picture in pictures} == {array.tobytes() for array in pixels[4:20]}
    kept = {path: Path(path).read_bytes() for path in found["path"]}
    out.rename(tmp_path / "filled.csv")
    np.savez(tmp_path / "b.npz", x_train=255 - pixels)
    assert not {*choose(finished, tmp_path / "b.npz", labels=2, rule="spread", out=out)["path"]} & kept.keys()
    assert {path: Path(path).read_bytes() for path in kept} == kept, "labels stay those of their images"
    assert len(open_source(tmp_path / "filled.csv")) == 16
    filled = (tmp_path / "filled.csv").read_text().splitlines()
    (tmp_path / "filled.csv").write_text("\n".join([filled[0], *(line.replace(",,", ",a,") for line in filled[1:9])]))
    np.savez(tmp_path / "c.npz", x_train=pixels[4:20])
    again = choose(
        finished, tmp_path / "c.npz", labels=8, labelled=str(tmp_path / "filled.csv"), rule="spread", out=out
    )
    assert {*again["path"]} == {*found["path"][8:]}, "what is labelled is not chosen again"


def test_a_picture_that_is_written_to_be_labelled_is_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "turned.png", exif=exif)
    source = Source("turned", ["0"], lambda row: Image.open(tmp_path / "turned.png"), "", np.full(1, -1))
    (path,) = labelling_keys(source, [0], tmp_path / "list.csv")
    assert np.asarray(Image.open(path)).tolist() == [[3, 0], [4, 1], [5, 2]]


def test_folders_that_would_label_everything_are_no_labels(finished: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.csv"
    found = choose(finished, pictures / "labelled", labels=3, out=out, threads=1)
    assert found.equals(choose(finished, pictures / "labelled", labels=3, labelled="none", out=out, threads=1))


def test_copies_of_labelled_images_are_counted_apart(
    finished: Path, pictures: Path, labelled: Path, tmp_path: Path, capsys: Any
) -> None:
    copies = tmp_path / "labelled"
    for row in rows_of(labelled):
        (copies / row["label"]).mkdir(parents=True, exist_ok=True)
        shutil.copy(row["path"], copies / row["label"])
    given: dict[str, Any] = {"labelled": str(copies), "out": tmp_path / "next.csv", "threads": 1}
    choose(finished, pictures / "photos", labels=6, **given)
    assert "6 of 15 unlabelled images are chosen, 8 labelled ones and 8 copies of them count" in capsys.readouterr().err
    assert "Of 31 images, 8 labelled ones and 8 copies of them count as" in (tmp_path / "next.html").read_text()
    with pytest.raises(WhymaskError, match="8 labelled ones and 8 copies of them count as chosen, and 15 can be"):
        choose(finished, pictures / "photos", labels=16, **given)


def test_what_cannot_be_chosen_is_told(finished: Path, pictures: Path, labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WhymaskError, match=r"8 labelled ones count as chosen, and 0 can be chosen; --labelled none says"
    ):
        choose(finished, labelled, labels=1, out=tmp_path / "a.csv")
    with pytest.raises(WhymaskError, match="at least 1"):
        choose(finished, pictures / "labelled", labels=0, out=tmp_path / "a.csv")
    with pytest.raises(WhymaskError, match=r"ends in \.csv"):
        choose(finished, pictures / "labelled", labels=1, out=tmp_path / "a.parquet")
    with pytest.raises(WhymaskError, match="holds no finished classifier"):
        pretrained = {"rule": "uncertain", "cell": "pretrain-mae-0"}
        choose(finished, pictures / "photos", labels=1, labelled="none", out=tmp_path / "a.csv", **pretrained)
    with pytest.raises(WhymaskError, match="--rule magic: one of auto, typical"):
        choose(finished, pictures / "photos", labels=1, rule="magic", out=tmp_path / "a.csv")  # type: ignore[arg-type]
    odd = np.zeros((8, 32, 32, 2), np.uint8)
    with pytest.raises(WhymaskError, match=r"channels|which PNG does not hold"):
        choose(finished, odd, labels=1, out=tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def test_the_contact_sheet_can_be_read_on_a_phone_and_a_desk(
    finished: Path, pictures: Path, tmp_path: Path, browser: Any
) -> None:
    choose(finished, pictures / "photos", labels=23, labelled="none", out=tmp_path / "a.csv")
    page = (tmp_path / "a.html").read_text()
    assert page.count("<img") == 23 and "23 images to label next" in page and shares_in_percent(page) == []
    assert faults_of(browser, tmp_path / "a.html") == []
