"""The methods experiment: its cells, its table from cells that are there, and one small cell that runs."""

import io
import json
import subprocess
import sys
import time
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import whymask
from experiments import (
    bccd,
    choose,
    conflict,
    defaults,
    defaults_table,
    defaults_trials,
    dense,
    label_errors,
    methods,
    methods_table,
    photos,
    ratios,
    recipes,
    scaling,
)
from experiments.methods_cells import ENCODER_SETTINGS, IMAGES, SCRATCH, VARIANTS, Cell, all_cells
from pages import shares_in_percent
from tiny import GLYPHS
from whymask import cli
from whymask.data.composite_settings import parse_composites
from whymask.disk import read_json
from whymask.encoders import resolve
from whymask.encoders.build import WHY_DEFAULT
from whymask.intervals import mean_interval
from whymask.methods import METHODS, resolve_method
from whymask.studies.settings import StudySettings

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


def test_drawn_ratios_are_compared_with_fixed_ones_by_pairs_of_one_seed() -> None:
    level = {SCRATCH: 0.3, "0.5": 0.5, "0.75": 0.6, "0.9": 0.55, ratios.DRAWN: 0.65}
    cells = list(ratios.all_cells())
    measured = {cell: fake(Cell(cell.data, "vit", "mae", 0), level[cell.variant] + 0.01 * cell.seed) for cell in cells}
    assert len({cell.name for cell in cells}) == len(cells) == 30
    of_glyphs = {row["variant"]: row for row in ratios.table_of(measured)["rows"] if row["data"] == "glyphs"}
    assert {name: row["finetuned"] for name, row in of_glyphs.items()} == pytest.approx(
        {name: value + 0.01 for name, value in level.items()}
    )
    assert of_glyphs["0.9"]["drawn_linear"] == pytest.approx({"difference": 0.1, "low": 0.1, "high": 0.1, "seeds": 3})
    assert "drawn_linear" not in of_glyphs[ratios.DRAWN]
    del measured[ratios.Cell("glyphs", ratios.DRAWN, 1)]
    table = ratios.table_of(measured)
    assert [row["drawn_finetuned"]["seeds"] for row in table["rows"] if row["variant"] == "0.5"] == [2, 3]
    assert "| glyphs | 0.5 | 0.510 | 0.510 | 0.510 | +0.150 (0.150 to 0.150), 2 seeds |" in ratios.markdown(table)


def test_a_cell_of_ratios_asks_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(ratios, "train", lambda cell, images, encoder, method, epochs, folder: asked.append(method))
    for variant in (SCRATCH, "0.9", ratios.DRAWN):
        ratios.run_cell(ratios.Cell("glyphs", variant, 0), tmp_path)
    assert asked[0] is None and [(name, given.mask_ratio) for name, given in asked[1:]] == [
        ("mae", 0.9),
        ("mae", (0.6, 0.9)),
    ]


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


@pytest.mark.parametrize("size", [28, 32, 64, 96])
def test_every_encoder_and_method_that_may_become_a_default_fits_the_images(size: int) -> None:
    for encoder in defaults_trials.ENCODERS:
        resolved = resolve(defaults_trials.ENCODERS[encoder], (size, size), 3)
        for name in (method for method, tried in defaults_trials.METHODS.items() if encoder in tried):
            if name != SCRATCH:
                resolve_method(name, METHODS[name].Settings(), resolved, (size, size))


def test_trials_have_names_of_their_own_and_a_table_of_means() -> None:
    trials = list(defaults_trials.all_trials())
    assert len({trial.name for trial in trials}) == len(trials)
    assert all(defaults_trials.Trial.of(trial.name) == trial for trial in trials[::100])
    rows = [
        vars(defaults_trials.Trial("clothing-small", "cnn", method, 1e13, seed)) | {"balanced_accuracy": accuracy}
        for method, accuracies in {SCRATCH: (0.2, 0.3), "mae": (0.5,)}.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    left_out = vars(defaults_trials.Trial("clothing-small", "vit-s", "mae", 1e13, 0)) | {"left_out": "dear"}
    assert [defaults.row_name(row) for row in rows[:1]] == ["1e13/clothing-small/cnn/scratch/0"]
    table = defaults_table.table_of([*rows, left_out], 1e13).splitlines()
    assert table[2:] == [
        "| encoder | method | clothing-small |",
        "| --- | --- | ---: |",
        "| cnn | mae | 0.500 (1) |",
        "| cnn | scratch | 0.250 (2) |",
    ]
    elsewhere = [row | {"data": "cifar10-jpeg", "balanced_accuracy": row["balanced_accuracy"] + 0.1} for row in rows]
    elsewhere[-1]["balanced_accuracy"] = 0.28  # 0.3 of scratch there
    ahead = defaults_table.ahead_of([*rows, *elsewhere, left_out], 1e13).splitlines()
    assert ahead[4:] == ["| cnn | mae | 2 | +0.140 | -1.893 to +2.173 | 1 of 2 |"]


def test_the_reason_of_the_default_is_the_published_tables() -> None:
    trials = read_json(Path(__file__).parents[1] / "docs" / "results" / "defaults" / "trials.json")["trials"]
    ahead = defaults_table.ahead_of(trials, 1e13)
    for row in ("resnet18 | scratch", "vit-96x4 | mae", "cnn | mae"):
        by, interval = next(line for line in ahead.splitlines() if row in line).split(" | ")[3:5]
        assert f"{by} ({interval})" in WHY_DEFAULT, row


def test_a_trial_costs_what_it_may_and_is_left_out_where_fine_tuning_costs_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = defaults_trials.DataSet("small", 2, 60)
    monkeypatch.setitem(defaults_trials.DATA, "small", small)
    monkeypatch.setitem(defaults_trials.ENCODERS, "cnn", replace(ENCODER_SETTINGS["cnn"], width=4))
    monkeypatch.setenv("WHYMASK_STORE", str(tmp_path / "store"))
    folder = tmp_path / "small"
    folder.mkdir()
    for part, count in {"train": 80, "test": 20}.items():
        images = [{"bytes": png(i), "path": f"{part}{i}"} for i in range(count)]
        labels = pyarrow.array([f"class {i % 2}" for i in range(count)])
        parquet.write_table(pyarrow.table({"image": images, "label": labels}), folder / f"{part}.parquet")
    torch.set_num_threads(1)

    def measured(method: str, operations: float) -> dict[str, Any]:
        trial = defaults_trials.Trial("small", "cnn", method, operations, 0)
        return defaults.run_trial(trial, tmp_path, tmp_path / "out", "cpu")

    scratch, mae = measured(SCRATCH, 1e9), measured("mae", 1e9)
    assert 0 <= scratch["balanced_accuracy"] <= 1 and 0 <= mae["balanced_accuracy"] <= 1
    assert mae["pretraining_operations"] == pytest.approx(1e9, rel=0.3)
    assert "left_out" in measured(SCRATCH, 1e5) and "left_out" in measured(SCRATCH, 1e14)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def test_photos_asks_for_what_whymask_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(cli, "begin", lambda *given, **more: None)
    monkeypatch.setattr(cli, "check_origin", lambda *given: None)
    for command in ("study", "pretrain"):
        monkeypatch.setattr(whymask, command, lambda data, settings, **more: asked.append((data, settings)))
    for scale in typing.get_args(photos.Scale):
        steps = [*photos.roads(tmp_path, tmp_path, scale, 3), *photos.composites(tmp_path, tmp_path, scale, 5)]
        assert len({step.name for step in steps}) == len(steps) == 16
        for step in steps:
            cli.run([*step.arguments, "--out", str(tmp_path / step.name)])
    studies = [settings for _, settings in asked if isinstance(settings, StudySettings)]
    assert sum(bool(settings.starts) for settings in studies) == 8
    assert [parse_composites(data) for data, _ in asked if data.startswith("composites:")]


def test_dense_asks_for_what_whymask_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(cli, "begin", lambda *given, **more: None)
    monkeypatch.setattr(cli, "check_origin", lambda *given: None)
    for command in ("study", "pretrain"):
        monkeypatch.setattr(whymask, command, lambda data, settings, **more: asked.append(settings))
    for step in dense.steps(tmp_path, tmp_path, 3):
        cli.run([*step.arguments, "--out", str(tmp_path / step.name)])
    studies = [settings for settings in asked if isinstance(settings, StudySettings)]
    assert len(studies) == 8 and [settings.data.ignored for settings in studies] == [11, 255] * 4
    steps = photos.asked_for(list(dense.steps(tmp_path, tmp_path, 3)), "bccd/vit", tmp_path)
    assert [step.name for step in steps] == ["public/vit-mae", "bccd/vit-mae"]


def test_choose_asks_for_what_whymask_understands_and_tells_it_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(cli, "begin", lambda *given, **more: None)
    monkeypatch.setattr(whymask, "study", lambda data, settings, **more: asked.append(settings))
    for name in choose.SETS:
        cli.run(choose.command_of(name, tmp_path, tmp_path / name, 5)[3:])
    assert [settings.choose for settings in asked] == [choose.RULES] * 3
    assert all(settings.seeds == 5 and settings.scratch_long == "none" for settings in asked)
    row = {"arm": "mae+typical", "baseline": "mae", "labels_per_class": 5.0, "mean": 0.4, "baseline_mean": 0.35}
    row |= {"difference": 0.05, "low": 0.01, "high": 0.09, "low_images": 0.02, "high_images": 0.08, "state": "better"}
    worth = {"worth": 8.4, "kind": "exact", "low": 5.0, "low_kind": "at most", "high": 12.0, "high_kind": "exact"}
    row["balanced"] = {"difference": -0.01, "low": -0.02, "high": 0.0}
    rows = [row | {"classes": 9.2, "worth": worth}, row | {"baseline": "mae+blind", "classes": 9.2, "worth": None}]
    lines = choose.table_of({"clothing-small": {"choosing": rows, "classes": 10}}).splitlines()
    assert lines[2] == (
        "| clothing-small | mae+typical, 5 | mae | 0.400 | 0.350 | +0.050 (+0.010 to +0.090; +0.020 to +0.080) | "
        "better | about 8.4 (at most 5 to 12) | 9.2 of 10 | −0.010 (−0.020 to +0.000) |"
    )
    assert len({line.count("|") for line in lines}) == 1
    cells = [
        {"arm": arm, "labels_per_class": 5.0, "seed": seed, "metrics": {"balanced_accuracy": base + seed / 100}}
        for arm, base in (("mae+typical", 0.4), ("mae", 0.3))
        for seed in (0, 1, 2)
    ]
    assert choose.balanced({"cells": cells}, row)["difference"] == pytest.approx(0.1)


def test_a_command_that_is_not_done_in_time_is_stopped_and_one_that_fails_is_an_error(tmp_path: Path) -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert not photos.finished_by(time.monotonic() + 0.5, sleeping, tmp_path / "log")
    assert photos.finished_by(None, [sys.executable, "-c", "print(1)"], tmp_path / "log")
    with pytest.raises(subprocess.CalledProcessError):
        photos.finished_by(None, [sys.executable, "-c", "import sys; sys.exit(2)"], tmp_path / "log")


def test_rules_of_label_errors_are_compared_with_that_of_the_map_by_seed() -> None:
    scores = {"precision": 0.5, "first": 0.75}
    average = {label_errors.CONFIDENCE: 0.6, "neighbours": 0.4, "both": 0.61, "cleanlab": 0.3}
    measured: dict[Any, Any] = {}
    for cell in label_errors.all_cells():
        found = {rule: scores | {"average": value + 0.01 * cell.seed} for rule, value in average.items()}
        of_seed = {name: found | {"accuracy": 0.5, "told": 0.4} for name in label_errors.FEATURES}
        measured[cell] = {"images": 100, "changed": 5} | of_seed
    table = label_errors.table_of(measured)
    assert len(table["rows"]) == 16 and all(row["seeds"] == 3 for row in table["rows"])
    (own,) = (row for row in table["rows"][:4] if row["rule"] == label_errors.CONFIDENCE)
    assert own["average"] == pytest.approx(0.61) and own["told"] == pytest.approx(0.4) and "confidence_minus" not in own
    text = label_errors.markdown(table)
    assert "| clothing-small | pretrained | 30 neighbours | 0.500 | 0.750 | 0.410 | +0.200 (0.200 to 0.200) |" in text
    for each in measured.values():
        del each["pretrained"]["cleanlab"]  # not installed
    assert len(label_errors.table_of(measured)["rows"]) == 14


def test_a_cell_of_label_errors_trains_on_changed_labels_and_looks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_errors, "SOURCES", {"glyphs": GLYPHS})
    monkeypatch.setattr(label_errors, "SIZE", None)
    monkeypatch.setattr(label_errors, "PASSES", 100)
    torch.set_num_threads(1)
    cell = label_errors.Cell("glyphs", 0)
    measured = label_errors.run_cell(cell, tmp_path)
    assert (measured["images"], measured["changed"]) == (100, 5)
    for name in label_errors.FEATURES:
        assert 0 <= measured[name][label_errors.CONFIDENCE]["precision"] <= 1
        assert set(label_errors.RULES) - {"cleanlab"} <= set(measured[name])
    assert label_errors.run_cell(cell, tmp_path) == measured  # what is trained is not trained again
    perfect = label_errors.scores_of(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, False, True, False]))
    assert perfect == {"precision": 1.0, "first": 1.0, "average": 1.0}


def test_who_goes_by_one_part_answers_with_its_class() -> None:
    """Networks that read the brightness of one half of images whose halves are as bright as their classes."""
    labels = np.arange(12) % 3
    images = torch.from_numpy(labels)[:, None, None, None].float().expand(12, 3, 8, 4) + 1

    class Reads(torch.nn.Module):
        def __init__(self, half: slice) -> None:
            super().__init__()
            self.half = half

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -(images[:, 0, self.half, 0].mean(dim=1, keepdim=True) - 1 - torch.arange(3)).abs()

    shown, darkest = conflict.seen(images, labels), 1 / 3
    first, second = (conflict.shares(Reads(half), shown) for half in (slice(4), slice(4, 8)))
    assert list(first.values()) == pytest.approx([1, darkest, 1, 0])
    assert list(second.values()) == pytest.approx([darkest, 1, 0, 1])
    with pytest.raises(ValueError, match="neighbours of one class"):
        conflict.seen(images, np.zeros(12, int))
