"""What is damaged is found and named with its cure; what nobody needs is listed first, and removed when asked."""

import shutil
from pathlib import Path

import pytest

from tiny import GLYPHS
from whymask import cli
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.errors import WhymaskError
from whymask.locks import holding
from whymask.upkeep import check_folder, needless_in, remove


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With the glyphs in it; into the one that all tests share others write meanwhile."""
    prepare(GLYPHS, DataSettings(store=tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_a_study_is_whole_and_a_flipped_bit_in_any_file_of_it_is_found(study: Path) -> None:
    found = check_folder(study)
    assert found.whole > 20 and found.unknown == 0 and not found.damages
    for name in (
        "study.json",
        "config.json",
        "cells/scratch-2-0/predictions.npz",
        "cells/scratch-2-0/head.safetensors",
    ):
        path = study / name
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        damages = check_folder(study).damages
        assert damages and all(name.rpartition(".")[0] in damage and "delete" in damage for damage in damages)
        path.write_bytes(whole)


def test_the_command_names_what_is_damaged_and_exits_with_one(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["check", str(study)])
    assert "none is damaged" in capsys.readouterr().err
    with (study / "cells/scratch-2-0/metrics.jsonl").open("a") as file:
        file.write("gibberish\n")
    with pytest.raises(SystemExit) as stopped:
        cli.run(["check", str(study)])
    assert stopped.value.code == 1
    assert "metrics.jsonl: 1 damaged lines" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(WhymaskError, match="no such folder"):
        check_folder(study / "nowhere")


def test_stores_are_checked_too(store: Path) -> None:
    assert check_folder(store).whole >= 3 and not check_folder(store).damages


def test_what_nobody_needs_is_listed_and_then_removed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = study / "cells" / "pretrain-mae-0"
    (cell / "checkpoints").mkdir(exist_ok=True)
    (cell / "checkpoints" / "step-00000001.json").write_text("{}")
    (cell / ".result.json.77.tmp").write_text("half")
    running = study / "cells" / "scratch-2-0"
    (running / ".head.json.78.tmp").write_text("half")
    before = sorted(path for path in study.rglob("*") if path.is_file())
    with holding(running):
        cli.run(["clean", str(study)])
    told = capsys.readouterr().err
    assert "checkpoints of a finished run" in told and "left by a process that was killed" in told
    assert ".head.json.78.tmp" not in told
    assert sorted(path for path in study.rglob("*") if path.is_file()) == before
    cli.run(["clean", str(study), "--remove"])
    gone = set(before) - set(study.rglob("*"))
    assert {path.name for path in gone} == {"step-00000001.json", ".result.json.77.tmp", ".head.json.78.tmp"}
    assert not check_folder(study).damages


def test_stores_go_by_the_days_since_they_were_opened(store: Path) -> None:
    assert not needless_in([], store, days=1)
    listed = needless_in([], store, days=0)
    assert listed and all("stored images of" in each.text() for each in listed)
    assert list(store.glob("*/index.json"))
    remove(listed)
    assert not list(store.glob("*/index.json"))


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(WhymaskError, match="give folders of runs"):
        cli.run(["clean"])
