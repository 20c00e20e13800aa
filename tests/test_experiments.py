"""The methods experiment: its cells, its table from cells that are there, and one small cell that runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import bccd, methods, methods_table, recipes, scaling
from experiments.methods_cells import ENCODER_SETTINGS, IMAGES, SCRATCH, VARIANTS, Cell, all_cells
from pages import shares_in_percent
from tiny import GLYPHS
from whymask.encoders import resolve
from whymask.intervals import mean_interval
from whymask.methods import METHODS, resolve_method

CELLS = list(all_cells())


def test_every_method_and_pair_of_whymasks_own_encoders_is_in_the_experiment() -> None:
    own = ENCODER_SETTINGS
    pairs = set()
    for variant, encoder in IMAGES["glyphs"].pairs:
        name, asked = VARIANTS[variant]
        pairs.add((METHODS[name].form(encoder, asked), encoder))
        resolve_method(name, asked, resolve(own[encoder], (32, 32), 1), (32, 32))
    assert pairs == {
        (method.form(encoder, method.Settings()), encoder)  # mae is a method of another file on a CNN
        for method in METHODS.values()
        for encoder in method.encoders
        if encoder in own
    }


def test_a_cells_name_is_its_own_and_finds_it() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    assert all(Cell.of(cell.name) == cell for cell in CELLS)


def fake(cell: Cell, accuracy: float, warning: str | None = None) -> dict[str, Any]:
    metrics = {"accuracy": accuracy / 2, "accuracy/single_view": accuracy}
    names = ("seconds", "operations", "images_seen")
    measured: dict[str, Any] = dict.fromkeys(("finetuned", "linear", "knn"), metrics)
    if cell.variant != SCRATCH:
        measured |= {f"pretraining_{name}": 10.0 for name in names}
        measured |= {"images_per_second": 100.0, "peak_memory_mib": 900.0, "epochs": 3, "warning": warning}
    return measured


def test_the_table_pairs_seeds_and_the_page_tells_better_from_worse(tmp_path: Path) -> None:
    accuracies = {SCRATCH: (0.8, 0.9), "simmim": (0.9, 0.99), "data2vec": (0.7, 0.81), "mae": (0.85, 0.86, 0.87)}
    for variant, values in accuracies.items():
        for seed, value in enumerate(values):
            cell = Cell("glyphs", "cnn", variant, seed)
            warning = "collapsing" if variant == "data2vec" and seed == 1 else None
            (tmp_path / cell.name).mkdir(parents=True)
            (tmp_path / cell.name / "measured.json").write_text(json.dumps(fake(cell, value, warning)))
    methods_table.write_results(tmp_path, tmp_path / "results")
    table = json.loads((tmp_path / "results/table.json").read_text())
    rows = {row["method"]: row for row in table["rows"]}
    assert set(rows) == {"simmim", "data2vec", "mae"} and all(row["seeds"] == 2 for row in rows.values())
    expected = mean_interval(np.array([0.1, 0.09]))
    found = rows["simmim"]
    assert (found["difference"], found["low"], found["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert found["scratch_finetuned"] == pytest.approx(0.85) and found["labels_per_class"] == 10
    assert rows["data2vec"]["warnings"] == 1 and rows["simmim"]["warnings"] == 0
    page = (tmp_path / "results/report.html").read_text()
    assert "1 of 3 beat training from scratch" in page and "data2vec (cnn)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "of 3 without effect, 0.075 would" in page and shares_in_percent(page) == []


def test_a_cell_pretrains_finetunes_and_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(IMAGES["glyphs"], source=GLYPHS, labels_per_class=2, epochs=lambda *_: 1)
    monkeypatch.setitem(IMAGES, "glyphs", small)
    torch.set_num_threads(1)
    cells = [Cell("glyphs", "two-layer", variant, 0) for variant in (SCRATCH, "two-layer")]
    scratch, pretrained = (methods.run_cell(cell, tmp_path) for cell in cells)
    for measured in (scratch, pretrained):
        for kind in ("finetuned", "linear", "knn"):
            assert 0 <= measured[kind]["accuracy/single_view"] <= 1
    assert pretrained["epochs"] == 1 and pretrained["pretraining_images_seen"] == 128
    assert pretrained["images_per_second"] > 0 and pretrained["peak_memory_mib"] > 100
    assert methods.run_cell(cells[1], tmp_path)["finetuned"] == pretrained["finetuned"]


def test_recipes_are_compared_by_pairs_of_one_seed() -> None:
    cells = {cell: 0.5 + 0.1 * (cell.recipe == "many") + 0.01 * cell.seed for cell in recipes.all_cells()}
    rows = recipes.table_of(cells)
    assert len(rows) == 4 and len({cell.name for cell in cells}) == len(cells) == 24
    assert all(row["difference"] == pytest.approx(0.1) and row["seeds"] == 3 for row in rows)
    assert recipes.markdown(rows).count("| +0.100 (0.100 to 0.100), 3 seeds |") == 4
    at_50 = dict.fromkeys(recipes.all_cells(50), 0.5)
    assert not {cell.name for cell in at_50} & {cell.name for cell in cells} and len(recipes.table_of(at_50, 50)) == 4
    cells.pop(recipes.Cell("mae", "many", 8, 0))
    assert [row["seeds"] for row in recipes.table_of(cells)] == [3, 3, 2, 3]


def test_bccds_boxes_become_classes_and_counts(tmp_path: Path) -> None:
    for name, cells in {"a": ("RBC", "RBC", "WBC"), "b": ()}.items():
        boxes = "".join(f"<object><name>{cell}</name></object>" for cell in cells)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / f"Annotations/{name}.xml").write_text(f"<annotation>{boxes}</annotation>")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("b\n")
    bccd.write_tables(tmp_path, tmp_path / "tables")
    types, counts = ((tmp_path / f"tables/{name}.csv").read_text().splitlines() for name in bccd.TABLES)
    assert [line.split(",")[1:] for line in types] == [["label", "split"], ["RBC|WBC", "train"], ["|", "test"]]
    assert [line.split(",")[1:] for line in counts] == [["target", "split"], ["2", "train"], ["0", "test"]]


def test_what_scaling_costs_stands_in_its_document_as_it_is_printed() -> None:
    assert scaling.table() in (Path(scaling.__file__).parents[1] / "docs" / "scaling.md").read_text()
