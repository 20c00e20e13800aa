"""What a run is: written into its folder, read back as the same, and read from folders of the first versions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny import GLYPHS, tiny_settings
from whymask import FinetuneSettings, PretrainSettings, ProbeSettings, finetune, pretrain, probe, study
from whymask.disk import as_json, read_json, write_json
from whymask.encoders import EncoderSettings
from whymask.errors import WhymaskError
from whymask.stages.earlier import known_of_earlier_versions
from whymask.stages.record import RunRecord, origin_of, read_record, with_same_origin
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.stages.start import pretrained_by

SETTINGS: dict[str, Any] = {
    "method": "mae",
    "mae": {"mask_ratio": 0.5},
    "encoder": {"name": "cnn", "width": 4},
    "augment": "none",
    "pretrain": {"epochs": 1},
    "init": "weights.safetensors",
    "init_partial": True,
}

LATER = {
    "data": ("task", "label_columns", "label_separator"),
    "finetune": ("class_weights", "sampler", "bins"),
}
"""Settings that the first versions did not have."""


@given(
    st.builds(
        RunRecord,
        stage=st.sampled_from(["pretrain", "finetune", "probe"]),
        arm=st.text(),
        seed=st.integers(),
        data=st.text(),
        budget=st.none() | st.text(),
        origin=st.none() | st.text(),
        augment=st.none() | st.sampled_from(["none", "crop", "crop-flip"]),
        method_settings=st.none() | st.dictionaries(st.text(), st.integers()),
    )
)
def test_a_record_is_read_back_as_it_was_written(record: RunRecord) -> None:
    assert RunRecord(**as_json(record.to_dict())) == record


def test_a_studys_cells_say_what_they_are(finished: Path) -> None:
    pretrained = read_record(finished / "cells/pretrain-mae-1")
    assert (pretrained.stage, pretrained.arm, pretrained.seed, pretrained.budget) == ("pretrain", "mae", 1, None)
    tuned = read_record(finished / "cells/mae-2-1")
    assert (tuned.stage, tuned.arm, tuned.seed, tuned.budget, tuned.mask_ratio) == ("finetune", "mae", 1, "2", 0.5)
    origin = origin_of(finished / "cells/mae-2-1", tuned)
    assert origin is not None and origin.resolve() == (finished / "cells/pretrain-mae-1").resolve()
    scratch = read_record(finished / "cells/scratch-long-2-0")
    assert (scratch.arm, scratch.origin, scratch.method) == ("scratch-long", None, None)
    assert scratch.training is not None and scratch.training["epochs"] == 2


def test_a_moved_study_still_knows_where_its_weights_came_from(finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished, tmp_path / "moved")
    origin = origin_of(moved / "cells/mae-2-0", read_record(moved / "cells/mae-2-0"))
    assert origin is not None and origin.resolve() == moved / "cells/pretrain-mae-0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scratch-10-0", {"arm": "scratch", "budget": "10", "seed": 0}),
        ("scratch-long-1percent-3", {"arm": "scratch-long", "budget": "1%", "seed": 3}),
        ("mae-all-2", {"arm": "mae", "budget": "all", "seed": 2, "origin": "../pretrain-mae-2", "method": "mae"}),
        ("init-5-1", {"arm": "init", "budget": "5", "seed": 1, "origin": "weights.safetensors", "partial": True}),
        ("search-scratch-4--1-lr0.003-decay0.75", {"arm": "scratch", "budget": "4", "seed": -1}),
    ],
)
def test_a_cell_of_the_first_versions_is_told_by_its_name(name: str, expected: dict[str, Any]) -> None:
    told = known_of_earlier_versions({"cell": name, "settings": SETTINGS, "data": "f"})
    assert expected.items() <= told.items()
    record = RunRecord(**told)
    assert (record.stage, record.data, record.encoder) == ("finetune", "f", SETTINGS["encoder"])


def test_a_pretraining_of_the_first_versions_is_told_by_its_name_or_its_keys() -> None:
    cell = RunRecord(**known_of_earlier_versions({"cell": "pretrain-mae-4", "settings": SETTINGS, "data": "f"}))
    assert (cell.stage, cell.arm, cell.seed, cell.training) == ("pretrain", "mae", 4, {"epochs": 1})
    stage = {"stage": "pretrain", "seed": 4, "method": "mae", "method_config": {"mask_ratio": [0.25, 0.75]}}
    stage |= {"encoder": {}, "training": {}, "augment": {"min_scale": 0.4, "flip": False}, "origin": None, "data": "f"}
    alone = RunRecord(**known_of_earlier_versions(stage))
    assert (alone.arm, alone.seed, alone.augment, alone.mask_ratio) == ("mae", 4, "crop", 0.5)


def as_first_versions_wrote_it(study_folder: Path) -> None:
    """Every config.json in the folder in its first form, which knew fewer settings."""
    began = read_json(study_folder / "config.json")
    settings = began["config"]["settings"]
    for part, later in LATER.items():
        settings[part] = {name: value for name, value in settings[part].items() if name not in later}
    for path in (study_folder / "cells").glob("*/config.json"):
        told = read_json(path)
        config = {"cell": path.parent.name, "settings": settings, "data": told["config"]["data"]}
        write_json(path, told | {"schema": 1, "config": config})
    write_json(study_folder / "config.json", began | {"schema": 1})


@pytest.mark.usefixtures("undrawn")
def test_a_study_that_the_first_versions_began_is_continued(finished: Path, tmp_path: Path) -> None:
    old = shutil.copytree(finished, tmp_path / "old")
    as_first_versions_wrote_it(old)
    shutil.rmtree(old / "cells/mae-2-1")
    (old / "cells/scratch-2-0/result.json").unlink()
    before = (old / "cells/pretrain-mae-1/result.json").stat().st_mtime_ns
    table = study(GLYPHS, out=old, settings=tiny_settings(), explain=False)
    assert all(cell["error"] is None for cell in table["cells"])
    assert (old / "cells/pretrain-mae-1/result.json").stat().st_mtime_ns == before
    for cell in ("mae-2-1", "scratch-2-0"):
        assert (old / "cells" / cell / "head.safetensors").read_bytes() == (
            finished / "cells" / cell / "head.safetensors"
        ).read_bytes()


def test_stages_that_the_first_versions_began_are_continued(tmp_path: Path) -> None:
    """Pretraining, and fine-tuning and probe of its encoder, each with the keys that they had."""
    runtime = tiny_settings().runtime
    encoder = EncoderSettings("cnn", width=4)
    schedule = PretrainTrainingSettings(epochs=1, batch_size=32)
    begin = PretrainSettings(encoder=encoder, training=schedule, runtime=runtime)
    tune = FinetuneTrainingSettings(epochs=1, batch_size=8)
    further = FinetuneSettings(origin=str(tmp_path / "mae"), budget="2", training=tune, runtime=runtime)
    ask = ProbeSettings(origin=str(tmp_path / "mae"), budget="2", neighbours=3, runtime=runtime)

    def run() -> list[dict[str, Any]]:
        return [
            pretrain(GLYPHS, out=tmp_path / "mae", settings=begin),
            finetune(GLYPHS, out=tmp_path / "tuned", settings=further),
            probe(GLYPHS, out=tmp_path / "probed", settings=ask),
        ]

    first = [without_schema(result) for result in run()]
    told = {name: read_json(tmp_path / name / "config.json")["config"] for name in ("mae", "tuned", "probed")}
    common = ("stage", "seed", "data")
    old = {name: {key: config[key] for key in common} for name, config in told.items()}
    old["mae"] |= {key: told["mae"][key] for key in ("encoder", "method", "training")}
    old["mae"] |= {"method_config": told["mae"]["method_settings"], "augment": None}  # and no "origin" at first
    old["tuned"] |= {key: told["tuned"][key] for key in ("budget", "encoder", "training", "augment")}
    old["tuned"] |= {"from": str(tmp_path / "mae")}
    old["probed"] |= {"budget": "2", "neighbours": 3, "from": str(tmp_path / "mae")}
    for name, config in old.items():
        path = tmp_path / name / "config.json"
        write_json(path, read_json(path) | {"schema": 1, "config": config})
    assert [without_schema(result) for result in run()] == first
    assert read_record(tmp_path / "tuned").arm == "pretrained" and pretrained_by(tmp_path / "mae")["arm"] == "mae"


def without_schema(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in as_json(result).items() if key != "schema"}


def test_a_config_of_something_else_is_no_run_and_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(WhymaskError, match="not of a run of pretrain, finetune or probe"):
        read_record(tmp_path)
    settings = replace(tiny_settings(), seeds=1)
    with pytest.raises(WhymaskError):
        pretrain(GLYPHS, out=tmp_path, settings=PretrainSettings(runtime=settings.runtime))
    assert (tmp_path / "config.json").read_text() == '{"model_type": "vit"}'


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_cell_of_another_study_is_refused(finished: Path, tmp_path: Path) -> None:
    old = shutil.copytree(finished, tmp_path / "old")
    as_first_versions_wrote_it(old)
    (old / "cells/scratch-2-0/result.json").unlink()
    path = old / "cells/scratch-2-0/config.json"
    told = json.loads(path.read_text())
    told["config"]["settings"]["encoder"]["width"] = 8
    write_json(path, told)
    table = study(GLYPHS, out=old, settings=tiny_settings(), explain=False)
    broken = next(cell for cell in table["cells"] if cell["folder"] == "cells/scratch-2-0")
    assert "encoder.width: 8 there, 4 now" in broken["error"]


def test_another_kind_of_run_is_neither_read_nor_continued(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match="not of a run of pretrain, finetune or probe"):
        read_record(finished)
    with pytest.raises(WhymaskError, match=r"no config\.json"):
        read_record(tmp_path)
    with pytest.raises(WhymaskError, match="holds a run with other settings"):
        run = shutil.copytree(finished / "cells/scratch-2-0", tmp_path / "run")
        study(GLYPHS, out=run, settings=replace(tiny_settings(), seeds=1))
    assert read_record(run).arm == "scratch"


def test_an_origin_is_the_same_path_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for written in ("r/1", "./r/1/", "r/2/../1", str(tmp_path / "r/1")):
        assert with_same_origin({"origin": "r/1", "seed": 0}, {"origin": written}) == {"origin": written, "seed": 0}
    assert with_same_origin({"origin": "r/1"}, {"origin": "r/2"}) == {"origin": "r/1"}
    assert with_same_origin({"origin": None}, {"origin": "r/2"}) == {"origin": None}
