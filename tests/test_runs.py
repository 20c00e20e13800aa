"""Run folders: atomic files, one configuration a folder, metrics and checkpoints that survive a kill."""

import importlib.metadata
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from whymask.disk import check_writable, read_json, write_arrays, write_bytes, write_json
from whymask.errors import WhymaskError
from whymask.runs import Checkpoint, RunFolder, provenance

CONFIG = {"stage": "test", "training": {"epochs": 2, "learning_rate": 0.1}}


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"weight": torch.full((3, 2), float(step))}, {"clock": {"seconds": 0.1 * step}})


def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1})

    def full_disk(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(WhymaskError, match=r"numbers.json cannot be written .*No space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.json"]


def test_a_killed_write_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}


def test_numbers_that_are_not_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_arrays_are_never_pickled(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"x": np.arange(3)})
    assert np.load(tmp_path / "a.npz", allow_pickle=False)["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError):
        write_arrays(tmp_path / "b.npz", {"x": np.array([object()])})


def test_a_run_is_continued_with_the_same_configuration_only(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    RunFolder.open(out, CONFIG, {"created": "now"})
    again = RunFolder.open(out, json.loads(json.dumps(CONFIG)), {"created": "later"})
    assert read_json(again.path / "config.json")["config"] == CONFIG
    assert read_json(out / "config.json")["provenance"] == {"created": "now"}
    other = {"stage": "test", "training": {"epochs": 3, "learning_rate": 0.1}}
    with pytest.raises(WhymaskError, match=r"training\.epochs: 2 there, 3 now") as caught:
        RunFolder.open(out, other, {})
    assert "learning_rate" not in str(caught.value)
    assert read_json(again.path / "config.json")["config"] == CONFIG


def test_a_setting_that_only_one_run_has_is_a_difference(tmp_path: Path) -> None:
    RunFolder.open(tmp_path / "run", CONFIG, {})
    with pytest.raises(WhymaskError, match=r"seed: None there, 0 now"):
        RunFolder.open(tmp_path / "run", CONFIG | {"seed": 0}, {})


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(WhymaskError, match="not empty and holds no whymask run"):
        RunFolder.open(tmp_path, CONFIG, {})
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("below", ["", "run"])
def test_a_folder_that_cannot_be_made_is_an_error_for_people(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WhymaskError, match=r"another --out"):
        RunFolder.open(tmp_path / "file" / below, CONFIG, {})


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "out.csv")
    assert list((tmp_path / "new").iterdir()) == []
    for path in (tmp_path / "file" / "out.csv", tmp_path):
        with pytest.raises(WhymaskError, match=r"another --out"):
            check_writable(path)


def test_a_run_with_a_result_is_finished(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", CONFIG, {})
    assert run.result is None
    run.finish({"loss": 0.5})
    assert RunFolder(run.path).result == {"schema": 1, "loss": 0.5}


def test_metrics_of_steps_done_again_are_dropped_and_so_is_a_half_written_line(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", CONFIG, {})
    for step in (1, 2, 3, 4):
        run.log({"step": step, "loss": 1 / step})
    path = run.path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')
    run.forget_after(3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    run.forget_after(0)
    assert path.read_text() == ""


def test_two_checkpoints_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", CONFIG, {})
    assert run.load_checkpoint() is None
    for step in (9, 10, 110):
        run.save_checkpoint(checkpoint(step))
    names = sorted(file.name for file in (run.path / "checkpoints").iterdir())
    stems = ("step-00000010", "step-00000110")
    assert names == [f"{stem}.{suffix}" for stem in stems for suffix in ("json", "safetensors")]
    loaded = run.load_checkpoint()
    assert loaded is not None and loaded.step == 110
    assert torch.equal(loaded.tensors["weight"], torch.full((3, 2), 110.0))
    assert loaded.notes == {"clock": {"seconds": 11.0}}
    run.drop_checkpoints()
    assert run.load_checkpoint() is None


def truncate(stem: Path) -> None:
    file = stem.with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(stem: Path) -> None:
    file = stem.with_suffix(".safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


DAMAGES = {
    "truncated": truncate,
    "a bit flipped": flip_a_bit,
    "weights gone": lambda stem: stem.with_suffix(".safetensors").unlink(),
    "notes are half a file": lambda stem: stem.with_suffix(".json").write_text('{"step": 2'),
    "notes are empty": lambda stem: stem.with_suffix(".json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.open(tmp_path / "run", CONFIG, {})
    run.save_checkpoint(checkpoint(1))
    run.save_checkpoint(checkpoint(2))
    DAMAGES[damage](run.path / "checkpoints" / "step-00000002")
    loaded = run.load_checkpoint()
    assert loaded is not None and loaded.step == 1
    assert "damaged checkpoint step-00000002" in capsys.readouterr().err
    DAMAGES[damage](run.path / "checkpoints" / "step-00000001")
    assert run.load_checkpoint() is None


def test_weights_without_notes_are_no_checkpoint(tmp_path: Path) -> None:
    """What a process leaves that was killed between the two files."""
    run = RunFolder.open(tmp_path / "run", CONFIG, {})
    run.save_checkpoint(checkpoint(1))
    write_bytes(run.path / "checkpoints" / "step-00000002.safetensors", b"half")
    loaded = run.load_checkpoint()
    assert loaded is not None and loaded.step == 1


def test_provenance_names_what_a_number_depends_on() -> None:
    origin = provenance()
    assert {"versions", "platform", "processor", "device", "precision", "threads", "command", "created"} <= set(origin)
    assert origin["threads"] == torch.get_num_threads()
    assert (
        origin["versions"]["torch"] == torch.__version__.split("+")[0]
        or origin["versions"]["torch"] == torch.__version__
    )
    json.dumps(origin)


def test_a_version_that_nothing_tells_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning instead of lightning-fabric brings the same package; whymask on PYTHONPATH is no distribution."""
    known = importlib.metadata.version

    def version(package: str) -> str:
        if package in ("whymask", "lightning-fabric"):
            raise importlib.metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = provenance()["versions"]
    assert versions["whymask"] is versions["lightning-fabric"] is None and versions["torch"] == known("torch")
