"""Every command that takes a network takes the same: a run, a study, a study's cell by its folder or by its name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import whymask
from tiny import GLYPHS, runtime
from whymask import WhymaskError
from whymask.disk import read_json
from whymask.explanations import run as explaining
from whymask.stages.settings import A_RUN
from whymask.stages.start import POOL, hashes_seen
from whymask.stages.taken import study_of

COMMANDS = ("finetune", "probe", "pretrain", "explain", "predict", "embed", "export")
TAKES_CLASSIFIERS = ("explain", "predict")
Use = Callable[..., str]


@pytest.fixture
def use(
    finished: Path,
    tmp_path: Path,
    whymask: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> Use:
    """`use(command, folder, *flags)` runs a command on the network in `folder`, cheaply; returns what it said or, of a
    refusal, the error. An explanation stops where its networks are known."""
    monkeypatch.setattr(explaining, "explain_arms", lambda *arguments, **flags: None)
    cheap = ("--epochs", 1, "--device", "cpu", "--threads", 1)

    def run(command: str, folder: Path, *flags: Any) -> str:
        out = ("--out", tmp_path / f"{command}-out")
        arguments: dict[str, tuple[Any, ...]] = {
            "finetune": (GLYPHS, "--from", folder, *flags, "--budget", 2, *cheap),
            "probe": (GLYPHS, "--from", folder, *flags, "--budget", 2, *cheap[2:]),
            "pretrain": (GLYPHS, "--from", folder, *flags, *cheap),
            "explain": (folder, *flags, "--data", GLYPHS),
            "predict": (folder, GLYPHS, *flags),
            "embed": (folder, GLYPHS, *flags),
            "export": (folder, *flags, "--to", "safetensors"),
        }
        capsys.readouterr()
        code = whymask(command, *arguments[command], *out)
        said = " ".join(capsys.readouterr().err.split())
        assert code in (0, 2) and (code == 2) == ("error: " in said)
        if code == 2:
            assert not out[1].exists()
        return said

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_a_study_and_a_cell_by_folder_or_name_are_taken(
    command: str, use: Use, finished: Path, tmp_path: Path
) -> None:
    cell = "mae-2-0" if command in TAKES_CLASSIFIERS else "pretrain-mae-0"
    alone = shutil.copytree(finished / "cells" / cell, tmp_path / "alone" / "run")
    further = (finished / "cells" / "scratch-2-0",) if command == "explain" else ()
    by_name = ("--cell", cell, *(path.name for path in further))
    for given in ((alone, *further), (finished,), (finished / "cells" / cell, *further), (finished, *by_name)):
        assert "error" not in use(command, *given), given
        clear(tmp_path / f"{command}-out")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_holds_no_network_is_refused_in_the_same_words(
    command: str, use: Use, finished: Path, pictures: Path, tmp_path: Path
) -> None:
    failed = shutil.copytree(finished / "cells" / "scratch-2-0", tmp_path / "failed")
    (failed / "result.json").unlink()
    (failed / "error.json").write_text(json.dumps({"error": "OSError: no room"}))
    (tmp_path / "begun" / "cells").mkdir(parents=True)
    alone = finished / "cells" / "scratch-2-0"
    assert A_RUN in use(command, tmp_path / "nowhere")
    assert f"{pictures} holds no finished" in (said := use(command, pictures)) and A_RUN in said
    assert "failed: OSError: no room" in (said := use(command, failed)) and A_RUN in said
    assert "is a study without a finished cell yet" in use(command, tmp_path / "begun")
    assert "no cell 'mae-9-9'; its cells are: mae-2-0, mae-2-1," in use(command, finished, "--cell", "mae-9-9")
    assert "is no study, which alone has cells" in (said := use(command, alone, "--cell", "mae-2-0")) and A_RUN in said


@pytest.mark.parametrize("command", TAKES_CLASSIFIERS)
def test_an_encoder_alone_is_no_classifier_and_how_it_becomes_one_is_said(
    command: str, use: Use, finished: Path
) -> None:
    said = use(command, finished / "cells" / "pretrain-mae-0")
    assert "holds no finished classifier, but an encoder" in said and "whymask finetune DATA --from" in said


def test_cells_are_of_one_study(use: Use, finished: Path) -> None:
    assert "was given with 2 folders" in use("explain", finished, finished, "--cell", "mae-2-0")
    assert "--cell mae-2-0: it names a network of the study that --from gives" in said_of_new_weights("mae-2-0")


def said_of_new_weights(cell: str) -> str:
    with pytest.raises(WhymaskError) as error:
        whymask.finetune(GLYPHS, settings=whymask.FinetuneSettings(cell=cell, runtime=runtime()))
    return str(error.value)


def test_a_cell_is_worth_what_its_study_says_by_folder_as_by_name(use: Use, finished: Path, tmp_path: Path) -> None:
    def worth(*given: Any) -> str:
        said = use("predict", *given).partition("on its own test images:")[2]
        clear(tmp_path / "predict-out")
        return said

    by_name = worth(finished, "--cell", "mae-2-0")
    assert (
        by_name == worth(finished / "cells" / "mae-2-0") and "single-view accuracy" in by_name and "chance" in by_name
    )


def test_which_study_a_folder_belongs_to(finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished, tmp_path / "mine")
    shutil.copytree(moved / "cells" / "mae-2-0", moved / "tuned-by-hand")
    for name, study in (("cells/mae-2-0", moved), ("final", moved), ("tuned-by-hand", None), ("why", None)):
        assert study_of(moved / name) == study
    assert study_of(Path("/")) is None and study_of(Path("/runs")) is None


def test_an_export_of_a_cell_tells_of_its_study_and_lies_beside_it(finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished, tmp_path / "mine")
    folder = whymask.export(moved / "cells" / "mae-2-0", "safetensors")
    assert folder == tmp_path / "mine-mae-2-0-safetensors"
    assert read_json(moved / "study.json")["verdict"]["text"] in (folder / "README.md").read_text()


def test_a_fine_tuned_cell_remembers_what_its_pretraining_saw(finished: Path) -> None:
    seen = np.load(finished / "cells" / "pretrain-mae-1" / POOL)["hashes"]
    found = hashes_seen(finished / "cells" / "mae-2-1")
    assert found is not None and np.array_equal(found, seen)
    assert hashes_seen(finished / "cells" / "scratch-2-1") is None


def clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
