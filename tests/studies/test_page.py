"""The study's page: what it says, what it must not say, and that it never reaches out."""

import base64
import csv
import gzip
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import faults_of
from pages import shares_in_percent, undrawn
from tiny import CLASSES, tiny_settings
from whymask import study as run_study
from whymask.data.settings import DataSettings
from whymask.errors import WhymaskError
from whymask.report import text
from whymask.report.figures import arm_styles
from whymask.report.privacy import without_values
from whymask.stages.settings import PretrainTrainingSettings
from whymask.studies.outcomes import KINDS
from whymask.studies.page import write_study_page
from whymask.studies.page.results import metric_name, worth_sentence
from whymask.studies.page.write import load_study

NASTY = ["<script>alert(1)</script>", "a $x^2$ & \"b\" 'c'", "猫 \u202e\ud800\x07", "wing{{7*7}}"]
SECRET_PATH = "/home/ann/patients/Smith_John"
METRICS = ("accuracy/single_view", "accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss")
ARMS = {"scratch": 0.857, "scratch-long": 0.886, "mae": 0.964, "init": 0.9}


def level(arm: str, labels: int) -> float:
    return 1 - (1 - ARMS[arm]) * (10 / labels) ** 0.7


def cells_of(seeds: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    cells = []
    for arm in ARMS:
        for labels in (10, 20, 30, 50, 80) if arm == "scratch" else (10, 50):
            for seed in range(seeds):
                metrics = {
                    m: float(level(arm, labels) - 0.02 * i + random.normal(0, 0.01)) for i, m in enumerate(METRICS)
                }
                failed = (arm, seed) == ("init", 1)
                cells.append(
                    {"arm": arm, "labels_per_class": labels, "budget": str(labels), "seed": seed, "images_seen": 4000.0}
                    | {"metrics": {} if failed else metrics, "operations": 1.2e13, "seconds": 72.0}
                    | {"folder": f"cells/{arm}-{labels}-{seed}"}
                    | {"error": f"FileNotFoundError: {SECRET_PATH}/x.png" if failed else None}
                )
    return cells


def fake_study(classes: list[str], seeds: int = 5) -> dict[str, Any]:
    k, cells = len(classes), cells_of(seeds)
    levels, pairs, per_class, confusion = [], [], [], []
    for arm, labels in sorted({(cell["arm"], cell["labels_per_class"]) for cell in cells}):
        here = {"arm": arm, "labels_per_class": labels}
        for i, metric in enumerate(METRICS):
            mean = level(arm, labels) - 0.02 * i
            levels.append(
                here | {"metric": metric, "mean": mean, "low": mean - 0.02, "high": mean + 0.02, "seeds": seeds}
            )
            for baseline in ("scratch", "scratch-long") if arm in ("mae", "init") else ():
                difference = level(arm, labels) - level(baseline, labels)
                interval = {
                    "low": difference - 0.04,
                    "high": difference + 0.04,
                    "seeds": seeds,
                    "dropped": int(arm == "init"),
                }
                images = {"low_images": None if labels == 50 else difference - 0.02, "high_images": difference + 0.02}
                pairs.append(
                    here | {"baseline": baseline, "metric": metric, "difference": difference} | interval | images
                )
        if labels in (10, 50):
            spread = np.linspace(-0.1, 0.03, k)
            per_class += [
                here | {"class": c, "recall": r, "low": r - 0.03, "high": min(1.0, r + 0.03)}
                for c, r in zip(classes, (level(arm, labels) + spread).tolist(), strict=True)
            ]
            counts = np.eye(k) * 100 * level(arm, labels) + 100 * (1 - level(arm, labels)) / k
            confusion.append(here | {"counts": counts.tolist()})
    return {
        "schema": 2,
        "setting": {
            "command": f"whymask study {SECRET_PATH} --labels={SECRET_PATH}/labels --group-by 'Smith_(\\d+)' --seeds 5",
            "method": "mae", "metric": METRICS[0], "seeds": list(range(seeds)), "budgets": ["10", "50"],
            "normalise_targets": True, "data": {"name": SECRET_PATH}, "encoder": {"name": "plain_cnn", "depth": 4},
            "arms": {arm: {"epochs": 40, "lr": 1e-3, "layer_decay": 1.0, "from": SECRET_PATH} for arm in ARMS},
        },
        "provenance": {"versions": {"torch": "2.15.0"}, "device": "cpu", "threads": 2, "folder": SECRET_PATH},
        "data": {
            "name": SECRET_PATH, "fingerprint": "ab12" * 8, "images": 13_000, "pool": 10_000,
            "labelled": 1000,
            "test": 2000, "classes": classes, "train_counts": [100] * k, "test_counts": [200] * k,
            "size": [32, 32], "channels": 1,
            "mean": [0.5], "std": [0.25], "skipped": 41, "duplicates": 3, "transductive": True,
            "skipped_examples": [],
            "groups": 17, "group_by": "Smith_(\\d+)", "test_split": "drawn",
            "warnings": [f"only few images in {classes[0]}"],
            "store": {"path": SECRET_PATH + "/store", "bytes": 13_312_000},
        },
        "pretraining": [
            {"method": "mae", "seed": s, "folder": f"cells/pretrain-mae-{s}", "operations": 6e13, "images_seen": 40_000}
            | {"seconds": 3723.0, "joules": 5.4e5, "loss": 0.2, "data_wait": 0.01, "error": None}
            for s in range(seeds)
        ],
        "cells": cells, "levels": levels, "pairs": pairs, "per_class": per_class, "confusion": confusion,
        "label_worth": [
            {"arm": "mae", "labels_per_class": 10, "worth": 61.4, "low": 48.0, "high": 80.0, "kind": "exact"}
            | {"said": True, "seeds": seeds, "low_kind": "exact", "high_kind": "at least"}
        ],
        "verdict": {
            "text": "Pretraining helps: at 10 labels a class mae reaches 0.964 single-view accuracy against 0.857 from "
            "scratch (+0.107, 95 % interval 0.067 to 0.147 over 5 seeds; 0.087 to 0.127 over test images) and 0.886 "
            "from scratch trained with the same compute (+0.078, 95 % interval 0.038 to 0.118 over 5 seeds).",
            "kind": "helps", "metric": METRICS[0], "labels_per_class": 10,
        },
        "calibration": [
            {"arm": arm, "labels_per_class": 10, "error": 0.08, "low": 0.06, "high": 0.101, "seeds": seeds}
            | {"images": 2000, "bins": [{"confidence": c, "accuracy": 0.9 * c, "count": 9} for c in (0.45, 0.95)]}
            for arm in ARMS
        ],
        "outcomes": {
            "seeds": seeds, "images": 2000, "counts": {"repaired": 310, "broken": 95, "hardest": 47},
            "shown": {
                kind: [
                    {"image": i, "key": f"{SECRET_PATH}/{i}.png", "true": i % k, "baseline": (i + 1) % k}
                    | {"baseline_right": 1, "arm": i % k, "arm_right": 4}
                    for i in range(6)
                ]
                for kind in KINDS
            },
        },
    }  # fmt: skip


def with_near_copies(study: dict[str, Any], pairs: int = 3) -> dict[str, Any]:
    """`study`, of whose training images 41 were near copies of test images."""
    shown = [
        {"image": f"{SECRET_PATH}/copy {i}.png", "test": f"{SECRET_PATH}/{i}.png", "likeness": 0.9 + i / 100}
        for i in range(pairs)
    ]
    near = {"near_duplicates": 41, "near_untold": 7, "near_pairs": shown, "near_kept": False}
    return study | {"data": study["data"] | near}


def write_study(folder: Path, study: dict[str, Any], side: int = 32, photos: np.ndarray | None = None) -> Path:
    random = np.random.default_rng(0)
    (folder / "study.json").write_text(json.dumps(study))
    k = len(study["data"]["classes"])
    images = photos if photos is not None else random.integers(0, 256, (6 * k, side, side, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", images=images, labels=np.arange(len(images)) % k)
    np.savez(folder / "outcomes.npz", **{kind: np.resize(images, (6, *images.shape[1:])) for kind in KINDS})
    pairs = len(study["data"].get("near_pairs", []))
    np.savez(folder / "near.npz", image=images[:pairs], test=images[pairs : 2 * pairs])
    rows = "".join(f'"{SECRET_PATH}/{i}.png","cannot identify {SECRET_PATH}"\n' for i in range(41))
    (folder / "skipped.csv").write_text("image,reason\n" + rows)
    for record in [*study["pretraining"], *study["cells"]]:
        cell = folder / record["folder"]
        cell.mkdir(parents=True)
        steps = np.arange(1, 2401 if record.get("arm") == "scratch-long" else 401)
        losses = 2 * np.exp(-steps / 90) + 0.1 + random.normal(0, 0.04, len(steps))
        lines = [json.dumps({"step": int(s), "loss": float(x), "lr": 1e-3}) for s, x in zip(steps, losses, strict=True)]
        told = {"accuracy": 0.4, "accuracy/single_view": 0.3, "images": 60}
        if "method" in record:
            told = {"knn": 0.5, "first_knn": 0.2, "effective_rank": 9.0, "first_effective_rank": 4.0, "images": 120}
        lines += [json.dumps({"step": step, "validation": told}) for step in (200, 400)]
        (cell / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 401, "lo')
        if "method" in record:
            masked = images[:8] * (random.random((min(8, len(images)), side, side, 1)) < 0.5).astype(np.uint8)
            np.savez(cell / "gallery.npz", original=images[:8], masked=masked, reconstructed=255 - images[:8])
    return folder


class Page(HTMLParser):
    """The parts of a page that could act: its tags, and every URL-like attribute."""

    def __init__(self, page: Path):
        super().__init__()
        self.source = page.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [
            v or "" for n, v in attrs if n in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        ]
        self.ids += [v or "" for n, v in attrs if n == "id"]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("nasty"), with_near_copies(fake_study(NASTY)))


@pytest.fixture(scope="module")
def page(nasty: Path) -> Page:
    return Page(write_study_page(nasty))


def test_the_top_gives_the_answer(page: Page) -> None:
    verdict = fake_study(NASTY)["verdict"]["text"]
    assert verdict in page.text
    assert page.text.index(verdict) < page.text.index("How good each arm is")
    assert (
        "10 labels a class with mae are worth about 61 from scratch (median; from 48 to at least 80 over 5 seeds)"
        in page.text
    )
    assert "5 mae encoders pretrained" in page.text
    head = page.source.split('id="verdict"')[1].split("<details")[0]
    assert head.count("Pretraining helps") == 1, "what the badge and the tiles say is not said again, but unfolded"


def test_every_section_is_there(page: Page) -> None:
    assert {
        "verdict",
        "outcomes",
        "curves",
        "pairs",
        "classes",
        "calibration",
        "gallery",
        "training",
        "data",
        "settings",
    } <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "an id twice: figures would borrow one another's markers"
    assert re.search(r"scratch 0\.080 0\.060 to 0\.101 5 ", page.text)
    sections = re.findall(r'<section class="card" id="(\w+)"', page.source)
    assert [f'<a href="#{name}">' in page.source for name in sections] == [name != "verdict" for name in sections]
    assert "another pretraining seed, label subset and initialisation" in page.text
    assert "another test set of this size would, with these networks" in page.text
    assert "the statistics of the true patch were used" in page.text
    assert "1 h 2 min" in page.text and "12 T" in page.text and "13,000" in page.text and "+0.107" in page.text
    assert "41 images could not be used" in page.text and page.text.count("cannot identify") == 20
    assert "Transductive" in page.text and "FileNotFoundError" in page.text
    assert "significant" not in page.text


def test_validation_is_drawn_beside_the_loss_in_the_verdicts_metric(page: Page, nasty: Path) -> None:
    assert "Along the way: single-view accuracy while the networks train, at 10 labels a class" in page.text
    drawn = (nasty / "figures" / "validation-10.svg").read_text()
    assert "optimiser steps" in drawn


def test_whether_pretraining_works_is_drawn_beside_its_first_weights(page: Page, nasty: Path) -> None:
    assert "Is pretraining working?" in page.text and "of nearest neighbours while networks are pretrained" in page.text
    for name in ("knn", "effective_rank"):
        assert "before the first step" in (nasty / "figures" / f"watched-{name}.svg").read_text()


def test_the_photos_come_first(page: Page) -> None:
    first = page.source.index("data:image")
    assert page.source.index('id="verdict"') < page.source.index('id="outcomes"') < first < page.source.index("<svg")
    assert "mae is right in more seeds than scratch on 310, and right in fewer on 95" in page.text
    assert "on 47 both are wrong in every seed. With 10 labels a class, 5 seeds" in page.text
    shown = page.source[page.source.index('id="outcomes"') : page.source.index('id="curves"')]
    assert shown.count("<img") == 18 and shown.count(f'title="{SECRET_PATH}') == 18
    assert "Repaired 6 of 310" in page.text and "scratch : a $x^2$ & \"b\" 'c' (1) mae : " in page.text
    assert "Most confused" in page.text


def csv_files(page: Page) -> dict[str, list[dict[str, str]]]:
    links = re.findall(r'download="(\w+)\.csv" data-gzip="([^"]*)"', page.source)
    files = {name: gzip.decompress(base64.b64decode(packed)).decode() for name, packed in links}
    return {name: list(csv.DictReader(io.StringIO(text))) for name, text in files.items()}


def test_the_numbers_are_csv_files_of_the_page(page: Page, nasty: Path, tmp_path: Path) -> None:
    study, files = fake_study(NASTY), csv_files(page)
    assert [float(row["mean"]) for row in files["levels"]] == [row["mean"] for row in study["levels"]]
    assert [row["low_images"] for row in files["pairs"]] == [
        "" if row["low_images"] is None else str(row["low_images"]) for row in study["pairs"]
    ]
    done = [cell for cell in study["cells"] if not cell["error"]]
    runs = [row for row in files["runs"] if not row["arm"].startswith("pretraining")]
    assert [float(row["accuracy"]) for row in runs] == [cell["metrics"]["accuracy"] for cell in done]
    assert len(files["runs"]) == len(done) + 5 and files["runs"][0]["accuracy"] == ""
    seconds = sum(float(row["seconds"]) for row in files["runs"])
    assert f"In all {len(files['runs'])} finished runs: {text.duration(seconds)}," in page.text
    assert "150 Wh" in page.text and "operations, 750 Wh of the GPU" in page.text
    assert {row["joules"] for row in files["runs"]} == {"540000.0", ""}
    with undrawn():
        hidden = write_study_page(Path(shutil.copytree(nasty, tmp_path / "nasty")), names=False)
    assert not re.search("Smith|alert", str(csv_files(Page(hidden))))


def test_only_the_verdicts_pairs_are_marked(page: Page) -> None:
    rows = re.findall(r"<tr[^>]*verdict-row.*?</tr>", page.source, re.DOTALL)
    assert len(rows) == 2
    assert all(">mae<" in row and ">10<" in row for row in rows)
    assert page.source.count('class="tag">verdict') == 2
    before = page.source[: page.source.index('verdict-row"')]
    assert re.findall("<h3>(.*?)</h3>", before)[-1] == "Single-view accuracy"


def test_the_page_makes_no_request(page: Page) -> None:
    assert page.urls and all(
        url.startswith(("#", "data:image/png;base64,", "data:image/webp;base64,")) for url in page.urls
    )
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert "default-src 'none'" in page.source
    assert not {"link", "iframe", "object", "embed", "form"} & set(page.tags)


def test_names_are_data(page: Page, nasty: Path) -> None:
    assert page.tags.count("script") == 1 and NASTY[0] not in page.source
    assert NASTY[0] in page.text and NASTY[1] in page.text and "{{7*7}}" in page.text
    assert "\u202e" not in page.source and "猫" in page.text
    recall = (nasty / "figures" / "recall-10.svg").read_text()
    assert "&lt;script&gt;" in recall and "$x^2$" in recall, "escaped, and not typeset as mathematics"


def test_near_copies_are_counted_and_shown_to_look_at(page: Page) -> None:
    assert "near copies of test images, left out 41" in page.text
    assert "Near copies of test images: 3 pairs to look at" in page.text and "The 3 least alike of 41." in page.text
    assert f"{SECRET_PATH}/copy 2.png {SECRET_PATH}/2.png 0.920" in page.text
    table = page.source.split('aria-label="Near copies of test images"')[1].split("</table>")[0]
    assert table.count("<img") == 6 and "7 images are as like a test image" in page.text


@pytest.mark.usefixtures("undrawn")
def test_copies_and_near_copies_that_were_kept_are_said_to_be_in_training(tmp_path: Path) -> None:
    study = with_near_copies(fake_study(["a", "b", "c"]))
    study["data"] |= {"near_kept": True, "distinct": 9_990}
    page = Page(write_study_page(write_study(tmp_path, study)))
    assert "near copies of test images, kept in training 41" in page.text and "image in training" in page.text
    assert "images in pretraining 10,000 different ones of these, by their pixels 9,990" in page.text


def test_the_page_can_be_read_on_a_phone_and_on_a_desk_in_light_and_dark(browser: Any, page: Page, nasty: Path) -> None:
    assert page.text and faults_of(browser, nasty / "report.html") == []


def test_the_page_is_deterministic(page: Page, nasty: Path) -> None:
    assert page.source == write_study_page(nasty).read_text(encoding="utf-8")


def test_no_images(nasty: Path) -> None:
    page = Page(write_study_page(nasty, images=False))
    assert "img" not in page.tags and "data:image" not in page.source and "image" not in page.tags
    assert not any("<image" in path.read_text() for path in (nasty / "figures").glob("*.svg"))
    assert fake_study(NASTY)["verdict"]["text"] in page.text


def test_no_names(nasty: Path) -> None:
    write_study_page(nasty)
    page = Page(write_study_page(nasty, names=False))
    shown = [page.source, *(path.read_text() for path in (nasty / "figures").glob("*.svg"))]
    for secret in ("Smith", "patients", "ann", "alert(1)", "x^2", "7*7", "猫", "cannot identify", ".png"):
        assert not any(re.search(rf"(?<![a-zA-Z]){re.escape(secret)}(?![a-z])", part) for part in shown), secret
    assert "class 0" in page.text and "class 3" in page.text
    assert "whymask study … --labels … --group-by … --seeds …" in page.text
    assert "FileNotFoundError (message hidden)" in page.text and "plain_cnn" in page.text and "2.15.0" in page.text


def test_labels_from_a_second_folder_and_a_page_without_names_or_images(pictures: Path, tmp_path: Path) -> None:
    data = DataSettings(labels=str(pictures / "labelled"))
    pretrain = PretrainTrainingSettings(epochs=1, batch_size=16)
    small: dict[str, Any] = {"seeds": 1, "budgets": ("2",), "worth_budgets": (), "scratch_long": "none"}
    settings = tiny_settings(**small, data=data, pretrain=pretrain)
    out = tmp_path / "study"
    table = run_study(str(pictures / "photos"), out=out, settings=settings, explain=False)
    about = table["data"]
    assert about["classes"] == list(CLASSES)
    assert (about["images"], about["labelled"], about["test"], about["skipped"]) == (43, 20, 10, 1)
    assert about["pool"] == about["distinct"] == 33 and "not expected to win" in about["warnings"][0]
    assert "broken.jpg" in (out / "skipped.csv").read_text()
    assert table["verdict"]["metric"] == "balanced_accuracy"
    page = (out / "report.html").read_text()
    assert "different ones of these" not in page
    assert "okapi" in page and "broken.jpg" in page and "data:image/" in page
    run_study(str(pictures / "photos"), out=out, settings=settings, explain=False, images=False, names=False)
    page = (out / "report.html").read_text()
    for secret in (*CLASSES, "broken.jpg", "photos", "labelled/", "data:image/"):
        assert secret not in page, secret


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("whymask study photos/ --labels=x --seeds 5", "whymask study … --labels … --seeds …"),
        ("/opt/Smith/bin/whymask study '/a b/' -o x", "whymask study … -o …"),
        ("python -m whymask study 'broken", "(hidden)"),
    ],
)
def test_command_without_values(command: str, shown: str) -> None:
    assert without_values(command) == shown


@pytest.mark.parametrize(
    "content", [{"schema": 1}, {"schema": 1, "verdict": {"text": "Too few seeds.", "kind": "too few seeds"}}]
)
def test_a_page_from_almost_nothing(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "study.json").write_text(json.dumps(content))
    page = Page(write_study_page(tmp_path))
    assert content.get("verdict", {}).get("text", "no verdict yet") in page.text


def test_a_page_from_half_a_study(tmp_path: Path) -> None:
    study = fake_study(["a", "b", "c"], seeds=1)
    study["cells"] = [cell for cell in study["cells"] if cell["arm"] in ("scratch", "mae")]
    for section in ("levels", "pairs"):
        rows = [row for row in study[section] if row["arm"] in ("scratch", "mae") and row["metric"] == "accuracy"]
        study[section] = [row | {"low": None, "high": None, "low_images": None, "high_images": None} for row in rows]
    study["per_class"] = [row | {"recall": None, "low": None, "high": None} for row in study["per_class"]]
    study["confusion"] = study["label_worth"] = []
    study["verdict"] = {
        "text": "Too few seeds to say.",
        "kind": "cannot tell",
        "settle": "3 or more seeds that all arms finish.",
        "metric": "accuracy",
        "labels_per_class": 10,
    }
    (tmp_path / "study.json").write_text(json.dumps(study))
    (tmp_path / "samples.npz").write_bytes(b"damaged")
    for names in (True, False):
        page = Page(write_study_page(tmp_path, names=names))
        assert "Too few seeds to say. What would settle it: 3 or more seeds" in page.text
        assert "gallery" not in page.ids and "img" not in page.tags


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("scratch", "long", "kind"),
    [
        ((-0.026, 0.023), (-0.038, -0.018), "not worth its compute"),
        ((-0.184, 0.1), (-0.1, 0.1), "cannot tell"),
        ((-0.01, 0.01), (-0.02, 0.01), "no difference that matters"),
    ],
)
def test_a_study_of_the_first_schema_is_judged_by_the_rules_of_today(
    tmp_path: Path, scratch: tuple[float, float], long: tuple[float, float], kind: str
) -> None:
    study = fake_study(["a", "b", "c"]) | {"schema": 1}
    study["verdict"] |= {"kind": "no difference", "text": "No difference within 0.184."}
    for row in study["pairs"]:
        bounds = scratch if row["baseline"] == "scratch" else long
        row |= {"low": bounds[0], "high": bounds[1], "low_images": None, "high_images": None}
    (tmp_path / "study.json").write_text(json.dumps(study))
    read = load_study(tmp_path)
    assert read["verdict"]["kind"] == kind and "No difference within" not in read["verdict"]["text"]
    assert not any(row["said"] for row in read["label_worth"])
    page = Page(write_study_page(tmp_path))
    assert read["verdict"]["text"] in page.text and "are worth" not in page.text


def test_no_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match=r"study\.json cannot be read"):
        write_study_page(tmp_path)


def test_the_page_stays_small(tmp_path: Path) -> None:
    classes = [f"class of things {i}" for i in range(10)]
    photos = np.random.default_rng(0).integers(0, 256, (200, 96, 96, 3), dtype=np.uint8)
    page = write_study_page(write_study(tmp_path, fake_study(classes), side=96, photos=photos))
    assert page.stat().st_size < 3e6


def test_many_classes_show_the_most_confused_pairs(tmp_path: Path) -> None:
    study = fake_study([f"kind {i}" for i in range(100)], seeds=1)
    counts = study["confusion"][0]["counts"]
    counts[7][93] = 50.0
    (tmp_path / "study.json").write_text(json.dumps(study))
    path = write_study_page(tmp_path)
    page = Page(path)
    assert "The most confused pairs" in page.text and "kind 7 kind 93 50 " in page.text
    assert shares_in_percent(page.source) == []
    assert "the 30 of 100 classes with the lowest" in page.text
    assert path.stat().st_size < 1e6


def test_intervals_of_earlier_studies_end_where_a_share_does(tmp_path: Path) -> None:
    study = fake_study(["a", "b"])
    study["levels"][0] |= {"mean": 0.96, "low": 0.89, "high": 1.03}
    study["per_class"][0] |= {"recall": 0.3, "low": -1.0, "high": 1.6}
    log_loss = next(row for row in study["levels"] if row["metric"] == "log_loss")
    log_loss |= {"mean": 1.2, "low": 1.0, "high": 1.4}
    (tmp_path / "study.json").write_text(json.dumps(study))
    read = load_study(tmp_path)
    assert 0 < read["levels"][0]["low"] < 0.89 and 0.96 < read["levels"][0]["high"] < 1
    assert 0 <= read["per_class"][0]["low"] < 0.3 < read["per_class"][0]["high"] <= 1
    assert log_loss in read["levels"]
    same = [row for row in study["levels"] if row["low"] >= 0 and row["high"] <= 1]
    assert same and all(row in read["levels"] for row in same)
    (tmp_path / "study.json").write_text(json.dumps(read))
    assert load_study(tmp_path) == read


def test_one_colour_an_arm() -> None:
    few, many = arm_styles(["scratch", "mae"]), arm_styles(["scratch", "scratch-long", "mae", "init", "other"])
    assert few["mae"] == many["mae"] and few["scratch"] == many["scratch"]
    assert len({style.colour for style in many.values()}) == len({style.marker for style in many.values()}) == 5


def test_worth_in_words() -> None:
    row = {
        "arm": "mae",
        "labels_per_class": 10,
        "worth": 80.0,
        "low": 80.0,
        "high": 80.0,
        "kind": "at least",
        "low_kind": "at least",
        "seeds": 5,
    }
    assert worth_sentence(row) == (
        "10 labels a class with mae are worth at least 80 from scratch: "
        "in no seed did scratch catch up at any number of labels tried."
    )
    some = worth_sentence(row | {"low": 40.0, "low_kind": "exact"})
    assert "(median; from 40 to 80 over 5 seeds)." in str(some)
    assert "at most 2.5 from scratch" in str(
        worth_sentence(row | {"kind": "at most", "low_kind": "at most", "worth": 2.5, "low": 2.5, "high": 2.5})
    )
    assert worth_sentence(row | {"worth": None}) is None


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (text.number, 0.96371, "0.964"), (text.number, -1234.5, "−1,234.500"), (text.number, None, "–"),
        (text.number, float("nan"), "–"), (text.signed, 0.1064, "+0.106"), (text.signed, -0.04, "−0.040"),
        (text.count, 50_000, "50,000"), (text.count, 12.5, "12.5"), (text.count, True, "–"),
        (text.words, 1.2e13, "12 T"), (text.words, 999_900, "1 M"), (text.words, 850, "850"),
        (text.duration, 3.21, "3.2 s"), (text.duration, 59.7, "1 min 0 s"), (text.duration, 72, "1 min 12 s"),
        (text.duration, 3723, "1 h 2 min"), (text.duration, 7199.9, "2 h 0 min"), (text.size, 13_312_000, "13.3 MB"),
        (text.size, 12, "12 B"), (metric_name, "accuracy/single_view", "single-view accuracy"),
        (metric_name, "odd_one", "odd one"), (text.count, np.int64(7), "7"),
        (text.clean, ["a\x00b", {"k": "\u202e"}], ["a\\x00b", {"k": "\\u202e"}]),
    ],
)  # fmt: skip
def test_numbers_as_read(function: Any, value: Any, shown: Any) -> None:
    assert function(value) == shown
