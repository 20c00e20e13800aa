"""The map in a browser: by pointer and by keyboard, and that 50,000 points cost a few operations each."""

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from browsing import Visit, faults_of
from whymask import MapSettings
from whymask.atlas.colourings import colouring
from whymask.atlas.finds import Finds
from whymask.atlas.neighbours import Neighbours
from whymask.atlas.page import NONE, Atlas, _in_square, page_of
from whymask.atlas.sheets import none_of

MANY = 50_000


def opened(browser: Any, page: Path, **options: Any) -> Visit:
    visit = Visit(browser, page, viewport={"width": 1280, "height": 1000}, **options)
    visit.page.wait_for_selector("#stage[data-drawn]")
    visit.page.add_style_tag(content="html { scroll-behavior: auto !important }")  # where things are is where they stay
    return visit


def seen(visit: Visit, name: str) -> int:
    return int(visit.page.locator("#stage").get_attribute(f"data-{name}"))


def many_points(path: Path) -> Path:
    """A page of MANY points, a spiral, without pictures."""

    class Images(SimpleNamespace):
        def __len__(self) -> int:
            return MANY

    rows, random = np.arange(MANY), np.random.default_rng(0)
    turns, far = rows * 2.4, np.sqrt(rows)
    places = np.stack([far * np.cos(turns), far * np.sin(turns)], axis=1)
    keys = [f"/data/photos/{row % 10}/{row}.jpg" for row in rows.tolist()]
    prepared: Any = SimpleNamespace(
        name="many",
        classes=tuple("0123456789"),
        images=Images(keys=keys, labels=rows % 10, preprocessing=SimpleNamespace(size=(32, 32))),
    )
    near = Neighbours(random.integers(0, MANY, (MANY, 10)), np.zeros((MANY, 10), np.float32))
    by_class = colouring("class", prepared.classes, rows % 10)
    finds = Finds([], [(3, 0.5)], [], None, None, None)
    atlas = Atlas(prepared, rows, Path("run"), {"PCA": places}, near, [by_class], finds, none_of(rows), False)
    path.write_bytes(page_of(atlas, MapSettings(), names=True))
    return path


def test_it_can_be_read_on_a_phone_and_a_desk(made: dict[str, Any], browser: Any) -> None:
    assert faults_of(browser, made["root"] / "map.html") == []


def test_by_pointer_images_are_seen_chosen_and_taken_out_as_csv(made: dict[str, Any], browser: Any) -> None:
    with opened(browser, made["root"] / "map.html") as visit:
        page = visit.page
        assert seen(visit, "drawn") == 29
        page.get_by_role("button", name="stray, of cold.png").first.click()
        assert "stray, of cold.png; class: warm" in page.locator("#told").inner_text()
        assert page.locator("#near li").count() == 10 and page.locator("#near canvas").count() == 10
        page.locator("#near button").first.click()
        assert "stray, of cold.png" not in page.locator("#told").inner_text()

        corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)]
        page.locator("#lasso").click()
        page.locator("#stage").scroll_into_view_if_needed()
        box = page.locator("#over").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        for x, y in corners:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.up()
        assert page.locator("#many").inner_text() == "29"
        with page.expect_download() as waited:
            page.locator("#save").click()
        rows = list(csv.DictReader(io.StringIO(Path(waited.value.path()).read_text())))
        assert {row["path"] for row in rows} == {str(path) for path in made["photos"].rglob("*.*")}
        assert list(rows[0]) == ["number", "path", "class", "split", "cluster"]
        classes = [row["class"] for row in rows]
        assert (classes.count("warm"), classes.count("<b>cold")) == (16, 13)
        page.locator("#drop").click()
        assert page.locator("#selected").is_hidden()

        page.get_by_role("button", name="warm", exact=True).click()
        page.wait_for_selector('#stage[data-drawn="13"]')
        page.locator("#colour").select_option(label="cluster")
        page.wait_for_selector('#stage[data-drawn="29"]')
        assert visit.said == [] and visit.outside == []


def test_by_keyboard_one_comes_to_every_side_and_selects(made: dict[str, Any], browser: Any) -> None:
    with opened(browser, made["root"] / "map.html", color_scheme="dark") as visit:
        page, told = visit.page, set()
        page.locator("#over").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown"):
            page.keyboard.press(key)
            told.add(page.locator("#told").inner_text())
        assert len(told) >= 3 and "No image is chosen." not in told
        page.keyboard.press("s")
        assert page.locator("#many").inner_text() == "1"
        for _ in range(9):
            page.keyboard.press("+")
        page.wait_for_function("document.getElementById('stage').dataset.drawn < 29")
        page.keyboard.press("0")
        page.wait_for_selector('#stage[data-drawn="29"]')
        page.keyboard.press("Escape")
        assert page.locator("#told").inner_text() == "No image is chosen." and page.locator("#selected").is_hidden()
        assert visit.said == []


def test_of_many_points_few_are_looked_at_and_moves_share_a_redraw(tmp_path: Path, browser: Any) -> None:
    """Counted, not timed: what a pointer's move asks, and how often all is drawn anew."""
    page_file = many_points(tmp_path / "many.html")
    assert page_file.stat().st_size < 3_000_000
    with opened(browser, page_file) as visit:
        page, box = visit.page, visit.page.locator("#over").bounding_box()
        assert seen(visit, "drawn") == MANY
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#tip:not([hidden])")
        assert 0 < seen(visit, "looked") < MANY / 100
        drawn = page.evaluate(
            """async () => {
              const [over, points] = ["over", "points"].map((id) => document.getElementById(id));
              const context = points.getContext("2d"), turn = { deltaY: -5, cancelable: true };
              const own = context.putImageData.bind(context);
              let drawn = 0;
              context.putImageData = (...given) => (drawn++, own(...given));
              for (let n = 0; n < 50; n++) over.dispatchEvent(new WheelEvent("wheel", turn));
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              return drawn;
            }"""
        )
        assert drawn == 1
        assert visit.said == []


def test_points_lie_in_a_square_at_one_scale() -> None:
    x, y = _in_square(np.array([[0.0, 0.0], [4.0, 2.0], [2.0, 1.0]]))
    assert x.tolist() == [0, NONE, round(NONE / 2)] and y.tolist()[2] == round(NONE / 2)
    assert y[0] - y[1] == pytest.approx(NONE / 2, abs=1)  # upwards, half as far
    assert _in_square(np.ones((3, 2))).tolist() == [[round(NONE / 2)] * 3] * 2
