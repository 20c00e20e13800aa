"""`whymask map`: what its page holds, what it hides, how large it may become."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import whymask
from pages import shares_in_percent, table_of, words_of
from tiny import GLYPHS, bars, runtime
from whymask import MapSettings, WhymaskError
from whymask.atlas import colourings, layouts, sheets
from whymask.atlas.copies import KINDS, copied
from whymask.atlas.page import in_one
from whymask.data.near import near_pairs
from whymask.disk import read_json

PCA = MapSettings(layout="pca", runtime=runtime())


def test_it_tells_the_stray_label_the_copy_and_the_outliers(made: dict[str, Any]) -> None:
    told = made["told"]
    assert told["images"] == told["shown"] == 29 and told["bytes"] == len(made["page"].encode())
    key, _, label, likely, share = told["errors"][0]
    assert Path(key).name == "stray, of cold.png" and (label, likely) == ("warm", "<b>cold") and share > 0.5
    (first, second, likeness) = told["copies"][0]
    assert {Path(first).name, Path(second).name} == {"1.png", "twice.jpg"} and likeness > 0.9
    assert len(told["outliers"]) == 20 and told["outliers"] == sorted(told["outliers"], key=lambda row: -row[1])
    assert told["measures"]["planted"]["changed"] == 1 and told["measures"]["withheld"] is None
    assert told["measures"]["copied"]["images"] == 29 and min(told["measures"]["copied"]["found"]) >= 25


def test_its_page_says_how_often_each_list_is_right_and_escapes_names(made: dict[str, Any]) -> None:
    page, words = made["page"], words_of(made["page"])
    assert "How often this is right" in words and all(kind in words for kind in KINDS)
    assert "<b>cold" not in page and shares_in_percent(page) == [] and "http" not in page.replace("http-equiv", "")
    assert "stray, of cold.png" in table_of(page, "The most doubtful labels")[0][0]


def test_images_and_names_stay_away_where_they_are_to(made: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "hidden.html"
    whymask.map_images(made["root"] / "run", made["photos"], out=out, images=False, names=False, settings=PCA)
    page = out.read_text()
    assert "data:image" not in page and len(page) < len(made["page"])
    held = [page, *map(unpacked, re.findall(r'data-(?:gzip|points)="([^"]+)"', page))]
    for name in ("stray", "cold", "warm", str(made["root"]), "photos"):
        assert not any(name in text for text in held), name
    assert "class 0" in held[1] + held[0] and "image 3" in page


def unpacked(text: str) -> str:
    import base64
    import gzip

    return gzip.decompress(base64.b64decode(text)).decode("latin1")


def test_the_same_call_makes_the_same_page(made: dict[str, Any], tmp_path: Path) -> None:
    whymask.map_images(made["root"] / "run", made["photos"], out=tmp_path / "again.html", settings=PCA)
    assert (tmp_path / "again.html").read_text() == made["page"]


def test_folders_that_are_no_labels_colour_nothing(made: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "m.html"
    told = whymask.map_images(made["root"] / "run", made["photos"], out=out, settings=PCA, labels="none")
    assert told["images"] == made["told"]["images"] and told["errors"] == [] != made["told"]["errors"]


def test_of_a_study_points_are_coloured_by_what_pretraining_repaired(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.html"
    told = whymask.map_images(finished, GLYPHS, out=out, points=200, settings=PCA)
    assert told["images"] == 288 and told["shown"] == 200
    assert "error of mae and scratch" in unpacked(_points(out))
    counts = read_json(finished / "study.json")["outcomes"]["counts"]
    whymask.map_images(finished, GLYPHS, out=out, settings=PCA)
    header = _header(unpacked(_points(out)))
    number = [each["title"] for each in header["colourings"]].index("error of mae and scratch")
    names, of = header["colourings"][number]["names"], _array(unpacked(_points(out)), header, f"of{number}")
    found = {name: int((of == place).sum()) for place, name in enumerate(names)}
    assert found.get("repaired by mae", 0) == counts["repaired"] and found.get("broken by mae", 0) == counts["broken"]
    assert found["not tested"] == 228 and sum(found.values()) == 288


def _points(page: Path) -> str:
    return re.search(r'data-points="([^"]+)"', page.read_text())[1]  # type: ignore[index]


def _header(text: str) -> dict[str, Any]:
    data = text.encode("latin1")
    return json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])


def _array(text: str, header: dict[str, Any], name: str) -> np.ndarray:
    data = text.encode("latin1")
    about, start = header["arrays"][name], 4 + int.from_bytes(data[:4], "little")
    return np.frombuffer(data, f"<u{about['bytes']}", about["length"], start + about["start"])


def test_arrays_behind_a_header_are_read_where_it_says() -> None:
    arrays = {"a": np.arange(5, dtype="<u2"), "b": np.arange(3, dtype="<u1"), "c": np.array([2**32 - 1], "<u4")}
    text = in_one({"name": "ü"}, arrays).decode("latin1")
    header = _header(text)
    assert header["name"] == "ü" and all((_array(text, header, name) == arrays[name]).all() for name in arrays)
    assert all(about["start"] % 4 == 0 for about in header["arrays"].values())


@pytest.mark.parametrize("task", ["multilabel", "regression", "segmentation", "detection"])
def test_of_every_task(task: str, tmp_path: Path) -> None:
    data = bars(task)
    small = {"encoder": {"width": 4}, "runtime": runtime(), "epochs": 1, "size": 16}
    whymask.pretrain(data["images"] if isinstance(data, dict) else data, out=tmp_path / "r", **small)
    told = whymask.map_images(tmp_path / "r", data, out=tmp_path / "m.html", settings=PCA)
    assert told["shown"] == 240 and told["errors"] == [] and told["measures"]["planted"] is None
    assert "Nothing is said of labels" in words_of((tmp_path / "m.html").read_text())


def test_what_cannot_be_mapped_is_told_before_anything_is_decoded(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, photos = made["root"] / "run", made["photos"]
    monkeypatch.setattr(layouts, "find_spec", lambda name: None)
    for given, message in (
        ({"layout": "umap"}, r"umap-learn is not installed; pip install 'whymask\[map\]'"),
        ({"points": 2}, "--points 2: a number from 3 to 50,000"),
        ({"neighbours": 21}, "--neighbours 21"),
        ({"size": 16}, "leave --size"),
        ({"out": tmp_path / "m.csv"}, "a name that ends in .html"),
    ):
        with pytest.raises(WhymaskError, match=message):
            whymask.map_images(run, photos, **{"out": tmp_path / "m.html", **given})
    with pytest.raises(WhymaskError, match="2 images; a map needs at least 3"):
        two = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
        whymask.map_images(run, two, out=tmp_path / "m.html", settings=PCA)
    assert not list(tmp_path.iterdir())


def test_umap_lies_beside_pca_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in, as umap-learn compiles itself for half a minute; what it is told is what counts."""
    from types import ModuleType, SimpleNamespace

    asked: dict[str, Any] = {}

    def umap(**given: Any) -> Any:
        asked.update(given)
        return SimpleNamespace(fit_transform=lambda features: features[:, :2] * 7)

    module: Any = ModuleType("umap")
    module.UMAP = umap
    monkeypatch.setitem(__import__("sys").modules, "umap", module)
    monkeypatch.setattr(layouts, "find_spec", lambda name: object())
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    places = layouts.places_of(features, "auto")
    assert [*places] == ["PCA", "UMAP"] and (places["UMAP"] == features[:, :2] * 7).all()
    assert asked == {"n_neighbors": 11, "metric": "cosine", "random_state": 0, "n_jobs": 1}
    assert [*layouts.places_of(features, "pca")] == ["PCA"]


def test_pca_is_that_of_directions_and_clusters_are_as_many_as_classes() -> None:
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(0, 0.05, (30, 6)) + 3 * np.eye(6)[c] for c in range(3)]).astype(np.float32)
    places = layouts.places_of(features, "pca")["PCA"]
    assert places.shape == (90, 2) and abs(places.mean()) < 1e-4
    clusters = layouts.clusters_of(features, 3)
    assert all(len({*clusters[30 * c : 30 * c + 30]}) == 1 for c in range(3)) and len({*clusters}) == 3
    assert layouts.places_of(features[:, :1], "pca")["PCA"].shape == (90, 2)


def test_thumbnails_take_no_more_than_they_may_and_come_in_the_order_asked_for() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (600, 20, 30, 3), np.uint8)
    rows, order = np.arange(600), random.permutation(600)
    whole = sheets.sheets_of(images, rows, order)
    assert whole.shown == 600 and len(whole.uris) == 3 and whole.side == 64 and whole.across == 16
    part = sheets.sheets_of(images, rows, order, most=whole.nbytes - 1)
    assert 0 < part.nbytes < whole.nbytes and part.shown == 512
    assert set(np.flatnonzero(part.place >= 0)) == set(order[:512]) and part.place[order[300]] == 300
    assert sheets.sheets_of(images.astype(np.uint16) * 257, rows[:9], np.arange(9)).shown == 9


def test_many_groups_share_a_colour_behind_the_largest() -> None:
    of = np.repeat(np.arange(30), np.arange(1, 31))
    made = colourings.colouring("class", [f"c{number}" for number in range(30)], of)
    assert made.names == [*(f"c{number}" for number in range(10, 30)), "others"] and made.colours[-1] == colourings.GREY
    assert len({*made.colours}) == 21 and (made.of == 20).sum() == sum(range(1, 11))


def test_copies_of_pictures_are_found_and_of_those_of_a_kind_not() -> None:
    random = np.random.default_rng(0)
    different = np.kron(random.integers(0, 255, (40, 6, 6, 3)), np.ones((1, 6, 6, 1))).astype(np.uint8)
    found = copied(different, np.arange(40))
    assert found is not None and found.images == 40 and min(found.found) >= 38
    alike = np.repeat(different[:1], 40, axis=0) + random.integers(0, 3, (40, 36, 36, 3), np.uint8)
    assert copied(alike, np.arange(40)).found == (0, 0, 0)  # type: ignore[union-attr]
    assert copied(different.astype(np.uint16), np.arange(40)) is None
    twice = np.concatenate([different, different[5:6]])
    pairs = near_pairs(twice, np.array([0, 3, 5, 40]))
    assert (pairs.of.tolist(), pairs.rows.tolist()) == ([5], [40])


def test_the_command_takes_what_the_function_takes(
    made: dict[str, Any], tmp_path: Path, whymask: Callable[..., int], capsys: Any
) -> None:
    out = tmp_path / "m.html"
    arguments = ("map", made["root"] / "run", made["photos"], "--out", out, "--layout", "pca", "--no-images")
    assert whymask(*arguments, "--device", "cpu", "--threads", "1") == 0
    said = capsys.readouterr().err
    assert "29 points" in said and "most doubtful labels are listed; of 1 that were changed on purpose" in said
    assert whymask("map", tmp_path, made["photos"]) == 2 and "holds no finished encoder" in capsys.readouterr().err
    table = re.search(r'download="label-errors.csv" data-gzip="([^"]+)"', out.read_text())[1]  # type: ignore[index]
    rows = list(csv.DictReader(io.StringIO(unpacked(table))))
    assert rows[0]["image"].endswith("stray, of cold.png")
    assert list(rows[0]) == ["image", "label", "neighbours", "share", "doubt"]
