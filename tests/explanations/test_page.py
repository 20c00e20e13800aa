"""The page of an explanation: what is in it, what is not, and that it works in a real browser."""

import csv
import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.figure import Figure

from browsing import Visit, faults_of
from whymask import Explanation, WhymaskError
from whymask.disk import read_arrays, read_json, write_arrays
from whymask.explanations.drawing import Told, dots, select
from whymask.explanations.measure import Drawing, Expectation, Measure
from whymask.explanations.measures import MEASURES
from whymask.explanations.numbers import Number
from whymask.explanations.page.figures import figures_of, overlay
from whymask.explanations.page.write import COLUMNS, examples, load, table_of, write_why_page
from whymask.studies.page import write_study_page

EVIL = "<script>document.title='hacked';alert(1)</script>"
LIMIT = 9e5


@pytest.fixture(scope="module")
def evil(explained: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explanation with a class named like a script and an arm named by a folder, in each place where they are."""
    folder = tmp_path_factory.mktemp("evil") / "why"
    shutil.copytree(explained.folder, folder)
    text = json.dumps(read_json(folder / "explain.json"))
    told = json.loads(text.replace('"scratch"', '"patient-smith"').replace('- scratch"', '- patient-smith"'))
    arrays = read_arrays(folder / "pictures.npz")
    write_arrays(folder / "pictures.npz", {re.sub("/scratch$", "/patient-smith", key): arrays[key] for key in arrays})
    told["lead"] = told["lead"].replace("scratch", "patient-smith")
    told["setting"]["classes"][1] = EVIL
    for row in told["numbers"]:
        if row["item"] and row["item"].startswith("class 1"):
            row["item"] = row["item"].replace("class 1", EVIL)
    (folder / "explain.json").write_text(json.dumps(told))
    write_why_page(folder)
    return folder


def test_the_page_begins_with_the_sentence_and_shows_every_measure(explained: Explanation) -> None:
    page = (explained.folder / "report.html").read_text()
    assert page.index(explained.lead) < page.index("What can be concluded") < page.index('id="features"')
    for name, measure in MEASURES.items():
        assert f'id="{name}"' in page and escape(measure.title) in page and escape(measure.about) in page
    assert (explained.folder / "report.html").stat().st_size < LIMIT
    for conclusion in explained.conclusions:
        assert escape(conclusion.text) in page


def test_figures_are_written_as_svg_and_png(explained: Explanation) -> None:
    names = {path.name for path in (explained.folder / "figures").iterdir()}
    assert {"why-evidence.svg", "why-hidden-filled-with-the-mean.svg", "why-features-mae.svg"} <= names
    assert {"why-retention.svg", "why-interactions-filled-with-patches-of-other-images.svg"} <= names
    assert {name.replace(".svg", ".png") for name in names if name.endswith(".svg")} <= names
    for path in (explained.folder / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_page_is_the_same_when_it_is_written_again(explained: Explanation, tmp_path: Path) -> None:
    shutil.copytree(explained.folder, tmp_path / "why")
    before = {p.name: p.read_bytes() for p in (tmp_path / "why" / "figures").iterdir()}
    page = (tmp_path / "why" / "report.html").read_bytes()
    write_why_page(tmp_path / "why")
    assert {p.name: p.read_bytes() for p in (tmp_path / "why" / "figures").iterdir()} == before
    assert (tmp_path / "why" / "report.html").read_bytes() == page


def test_tables_hold_every_mean(explained: Explanation) -> None:
    told = explained.to_dict()
    for measure in MEASURES:
        rows = [row for row in told["numbers"] if row["measure"] == measure]
        table = table_of(rows)
        means = [row for row in rows if row["seed"] is None]
        shown = [interval for row in table for interval in row["intervals"].values()]
        assert sorted(map(str, shown)) == sorted(map(str, means))


def test_names_and_images_stay_away_on_demand(evil: Path, tmp_path: Path) -> None:
    shutil.copytree(evil, tmp_path / "why")
    assert "smith" in (tmp_path / "why" / "report.html").read_text()
    page = write_why_page(tmp_path / "why", images=False, names=False).read_text()
    assert "hacked" not in page and "<img" not in page and "/tmp" not in page
    assert not (tmp_path / "why" / "figures" / "why-evidence.png").exists()
    figures = [p.read_text() for p in (tmp_path / "why" / "figures").glob("*.svg")]
    assert figures and not any("hacked" in figure or "smith" in figure for figure in figures)
    assert "class 1, feature 1" in page
    assert "smith" not in page and "second" in page and "scratch-erased" in page


def test_classes_that_are_numbers_are_hidden_and_layers_are_not(explained: Explanation, tmp_path: Path) -> None:
    shutil.copytree(explained.folder, tmp_path / "why")
    path = tmp_path / "why" / "explain.json"
    told = read_json(path)
    told["setting"]["classes"] = [str(number + 1) for number in range(10)]
    for row in told["numbers"]:
        if row["measure"] == "features" and row["item"]:
            row["item"] = re.sub(r"class (\d+)", lambda found: str(int(found[1]) + 1), row["item"])
    path.write_text(json.dumps(told))
    hidden, _ = load(tmp_path / "why", names=False)
    assert {row["item"] for row in hidden["numbers"] if row["measure"] == "retention"} >= {"1", "2", None}
    assert "class 9, feature 2" in {row["item"] for row in hidden["numbers"] if row["measure"] == "features"}
    told["numbers"] = [row for row in told["numbers"] if row["measure"] in ("features", "retention")]
    path.write_text(json.dumps(told))
    write_why_page(tmp_path / "why", images=False, names=False)


def test_without_names_the_sentences_are_those_of_the_numbers(explained: Explanation) -> None:
    told, _ = load(explained.folder)
    hidden, _ = load(explained.folder, names=False)
    assert hidden["lead"] == told["lead"] and hidden["conclusions"] == told["conclusions"]  # methods are no names


def test_a_page_is_made_of_what_is_there(explained: Explanation, tmp_path: Path) -> None:
    told = explained.to_dict()
    told["numbers"] = [row for row in told["numbers"] if row["measure"] == "lottery" and row["seed"] is None]
    told["conclusions"], told["notes"], told["arms"] = [], [], told["arms"][:2]
    (tmp_path / "explain.json").write_text(json.dumps(told))
    page = write_why_page(tmp_path).read_text()
    assert 'id="lottery"' in page and 'id="views"' not in page
    with pytest.raises(WhymaskError, match=r"explain\.json"):
        write_why_page(tmp_path / "nowhere")


def test_a_measure_is_added_in_one_place(
    explained: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expectation = Expectation(("length",), supported="{ours} are longer.", against="{theirs} are longer.", open="?")

    def figure(told: Told, name: str) -> dict[str, Figure]:
        return {"": dots(told, name, select(told, "rulers", "length"), "length")}

    rulers = Measure(
        name="rulers",
        title="Rulers",
        about="How long.",
        take=lambda cast, shown: [],
        expectations=(expectation,),
        figures={"rulers": Drawing("Lengths", figure)},
    )
    monkeypatch.setitem(MEASURES, "rulers", rulers)
    rows = [
        Number("rulers", "length", arm, 1.0, 0.5, 1.5, 5, "seeds", item=item)
        for arm, item in (("mae", None), ("mae - scratch", None), ("mae", EVIL))
    ]
    told = explained.to_dict()
    others = [row for row in told["numbers"] if row["measure"] in ("lottery", "retention")]
    told["numbers"] = others + [asdict(row) for row in rows]
    (tmp_path / "explain.json").write_text(json.dumps(told))
    page = write_why_page(tmp_path, names=False).read_text()
    assert 'id="rulers"' in page and "How long." in page and "Lengths" in page and "hacked" not in page
    assert "Pretrained networks are longer." in page
    assert (tmp_path / "figures" / "why-rulers.svg").exists()


def test_a_notebook_shows_the_explanation_and_its_figures(explained: Explanation) -> None:
    html = replace(explained, lead=f"{explained.lead} {EVIL}")._repr_html_()
    assert explained.lead in html and "<svg" in html and "hacked" in html and "<script" not in html
    assert explained.lead in repr(explained) and len(repr(explained)) < 2000
    figures = explained.figures()
    assert set(figures) >= {"why-retention", "why-evidence"} and all(isinstance(f, Figure) for f in figures.values())


def test_a_study_page_holds_its_explanation_without_names_or_images_on_demand(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "study")
    told = read_json(tmp_path / "study" / "why" / "explain.json")
    page = (tmp_path / "study" / "report.html").read_text()
    assert told["lead"] in page and 'href="why/report.html"' in page
    text = json.dumps(told).replace("class 1", "Smith")
    (tmp_path / "study" / "why" / "explain.json").write_text(text)
    assert page.count('alt="where mae looks"') == page.count('alt="where scratch looks"') == 4
    without_images = write_study_page(tmp_path / "study", images=False).read_text()
    assert "Smith, feature 1" in without_images and 'alt="where' not in without_images
    assert "Smith" not in write_study_page(tmp_path / "study", names=False).read_text()


def test_evidence_is_laid_over_the_image() -> None:
    image = np.full((8, 8, 1), 100, np.uint8)
    evidence = np.zeros((2, 2))
    evidence[0, 1] = 1
    shown = overlay(image, evidence, 16)
    assert shown.shape == (16, 16, 3)
    assert (shown[:8, :8] == 100).all() and (shown[8:] == 100).all()
    assert (shown[:8, 8:] == np.rint(0.25 * 100 + 0.75 * np.array([232, 76, 20]))).all()


def test_examples_say_what_networks_say(explained: Explanation) -> None:
    told, arrays = load(explained.folder)
    shown = examples(told, arrays)
    assert [len(example["networks"]) for example in shown] == [6] * 8
    first = shown[0]["networks"][0]
    assert first["whole"]["right"] == (arrays["whole/mae"][0] == arrays["labels"][0])
    assert set(figures_of(told, {})) == set(figures_of(told, arrays)) - {"why-evidence"}


def test_curves_that_rest_on_few_images_say_so(explained: Explanation) -> None:
    told = explained.to_dict()

    def legend() -> str:
        figure, _ = figures_of(told, {})["why-hidden-filled-with-the-mean"]
        return "|".join(text.get_text() for text in figure.legends[0].get_texts())

    for row in told["numbers"]:
        if row["measure"] == "views" and row["over"] == "images":
            row["count"] = 1 if row["arm"] == "scratch" else 50
    assert "scratch (1 image)" in legend() and "mae|" in legend()


# in a browser ----------------------------------------------------------------------------------------------------


def test_no_requests_no_errors_and_a_class_named_script_does_nothing(browser: Any, evil: Path) -> None:
    with Visit(browser, evil / "report.html") as visit:
        assert visit.said == [] and visit.outside == []
        assert visit.page.title() == "Why · whymask explain"
        visit.page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert visit.page.get_by_text(EVIL, exact=True).first.is_visible()
        assert visit.said == []


def test_a_study_page_with_an_explanation_is_as_quiet(browser: Any, finished: Path) -> None:
    with Visit(browser, finished / "report.html") as visit:
        assert visit.said == [] and visit.outside == []
        visit.page.get_by_role("link", name="whole explanation").click()
        assert visit.page.title() == "Why · whymask explain" and visit.said == []


def test_tables_sort_by_click_and_by_keyboard(browser: Any, evil: Path) -> None:
    with Visit(browser, evil / "report.html") as visit:
        visit.page.locator("#views details summary").last.click()
        heading = visit.page.locator("#views th button", has_text="value")
        rows = "[...document.querySelectorAll('#views .numbers tbody tr')]"
        values = f"{rows}.map((r) => Number(r.cells[5].dataset.sort))"
        heading.click()
        shown = visit.page.evaluate(values)
        assert len(shown) > 10 and shown == sorted(shown)
        heading.focus()
        visit.page.keyboard.press("Enter")
        assert visit.page.evaluate(values) == sorted(shown, reverse=True)


def test_csv_files_equal_explain_json(browser: Any, evil: Path, tmp_path: Path) -> None:
    told = read_json(evil / "explain.json")
    with Visit(browser, evil / "report.html") as visit:
        for measure in MEASURES:
            link = visit.page.locator(f"#{measure} a.csv")
            link.wait_for()  # the page's script unpacks it
            link.focus()
            with visit.page.expect_download() as download:
                visit.page.keyboard.press("Enter")
            assert download.value.suggested_filename == f"{measure}.csv"
            download.value.save_as(tmp_path / f"{measure}.csv")
            with (tmp_path / f"{measure}.csv").open(newline="", encoding="utf-8") as file:
                found = [{key: parsed(key, text) for key, text in row.items()} for row in csv.DictReader(file)]
            expected = [{key: row[key] for key in COLUMNS} for row in told["numbers"] if row["measure"] == measure]
            assert found == expected
        assert visit.said == []


def parsed(key: str, text: str) -> Any:
    if text == "":
        return None
    if key in ("seed", "count"):
        return int(text)
    return float(text) if key in ("at", "value", "low", "high") else text


def test_the_page_can_be_read_on_a_phone_and_on_a_desk_in_light_and_dark(browser: Any, evil: Path) -> None:
    assert faults_of(browser, evil / "report.html") == []


def test_dark_and_printed(browser: Any, evil: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    with Visit(browser, evil / "report.html", color_scheme="light") as light:
        bright = light.page.evaluate(colour)
        light.page.emulate_media(media="print")
        assert not light.page.locator("#views a.csv").is_visible()
        pdf = light.page.pdf()
        assert pdf.startswith(b"%PDF") and light.said == []
        opened = light.page.evaluate(
            "[...document.querySelectorAll('details')].map((d) => d.open == !d.matches('.numbers'))"
        )
        assert all(opened)  # reasons are printed, tables of hundreds of rows only where they were opened
    with Visit(browser, evil / "report.html", color_scheme="dark") as dark:
        assert dark.page.evaluate(colour) != bright


def test_every_control_can_be_reached_by_tab(browser: Any, explained: Explanation) -> None:
    with Visit(browser, explained.folder / "report.html") as visit:
        reached = set()
        for _ in range(120):
            visit.page.keyboard.press("Tab")
            reached.add(visit.page.evaluate("document.activeElement.textContent.trim().slice(0, 30)"))
            if len([name for name in reached if name.startswith("CSV")]) == len(MEASURES):
                break
        assert {"Evidence", "Settings"} <= reached
        assert len([name for name in reached if name.startswith("CSV")]) >= len(MEASURES) - 1
