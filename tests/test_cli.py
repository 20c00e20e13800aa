"""The command line: help that is worth reading, and every documented command as it is written."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import DEVICE, GLYPHS
from whymask import cli
from whymask.encoders import kinds
from whymask.methods import METHODS
from whymask.runs import read_json
from whymask.studies.advice import advice_text

ROOT = Path(__file__).parents[1]
Command = Callable[..., int]

RUNTIME = ("--device", DEVICE, "--threads", "1")
SMALL = {
    "study": "--seeds 1 --budgets 2 --scratch-long none --width 4 --pretrain.epochs 1 --pretrain.batch-size 16 "
    "--finetune.epochs 1",
    "pretrain": "--epochs 1 --batch-size 16 --width 4",
    "finetune": "--epochs 1",
    "explain": "--test-images 4 --interaction-images 4 --regions 4",
    "theory": "--k 3 --d 12 --m 4 --N 60 --batch 20 --test 40 --epochs 2 --pixel-epochs 2 --scale-k 3 --seeds 2",
}
"""What makes each documented command one of a second."""


def help_of(command: str, whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    assert whymask(command, "--help") == 0
    return re.sub(r"[│\s]+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "list"])
def test_help_gives_every_flag_a_reason_and_a_default(
    command: str, whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command, whymask, capsys, monkeypatch)
    flags = re.findall(r" (--[a-z][\w.-]*) (?:--no-|[A-Z{])", text)
    parts = re.split(r" (?=--[a-z][\w.-]* (?:--no-|[A-Z{]))", text)
    assert {"--out", "--to" if command == "export" else "--device"} <= set(flags)
    for part in parts[1:]:
        assert "(default: " in part or "(required)" in part, part
        assert len(part.split()) > 6, part


def test_help_names_units(whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of("study", whymask, capsys, monkeypatch)
    for flag, unit in {"--size": "pixels", "--patch": "pixels", "--hours": "hours", "--budgets": "a class"}.items():
        described = text[text.index(f" {flag} ") :].split("(default", 1)[0]
        assert unit in described, flag


def test_the_commands_are_listed(whymask: Command, capsys: Any) -> None:
    assert whymask("--help") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("study", "pretrain", "finetune", "probe", "predict", "embed"))


def test_list_shows_which_encoders_each_method_fits(
    whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert whymask("list") == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[1:-1] for row in rows if row}
    for name, method in METHODS.items():
        fits = ["yes" if kind in method.encoders else "" for kind in kinds()]
        assert shown[name] == [*fits, method.source]


def test_list_says_of_a_network_whether_it_can_be_an_encoder(
    whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert whymask("list", "resnet18", "convnextv2_at*", "mixnet_s", "ecaresnet50t") == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[2:] for row in rows if row}
    assert [shown[name][0] for name in ("resnet18", "convnextv2_atto", "mixnet_s")] == ["proven", "proven", "untested"]
    assert shown["ecaresnet50t"][0] == "impossible" and "a Conv1d, has no masked form" in shown["ecaresnet50t"][1]
    assert whymask("list", "resnet19") == 2


@pytest.mark.parametrize("arguments", [(), ("studdy",), ("study",), ("study", "glyphs", "--seeds", "many")])
def test_what_is_not_understood_is_exit_code_2(arguments: tuple[str, ...], whymask: Command) -> None:
    assert whymask(*arguments) == 2


def test_a_study_prints_its_verdict_and_the_pages_path_in_one_piece(
    whymask: Command, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "a-rather-long-name-of-a-folder-that-a-person-wants-to-copy-from-the-terminal" / "study"
    assert whymask("study", GLYPHS, "--out", out, *SMALL["study"].split(), *RUNTIME) == 0
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1] == f"The page: {out / 'report.html'}"
    told = read_json(out / "study.json")
    verdict, now = told["verdict"], printed.index("What now:")
    assert printed[now - 2 : now] == [verdict["text"], f"What would settle it: {verdict['settle']}"]
    assert printed[now:-1] == advice_text(told["advice"]).splitlines()
    command = read_json(out / "study.json")["setting"]["command"]
    assert command == shlex.join(["whymask", "study", GLYPHS, "--out", str(out), *SMALL["study"].split(), *RUNTIME])


# the README ----------------------------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.M | re.S)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_the_documented_commands_and_code_run_as_written(
    whymask: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)
    shutil.copy(pictures / "photos" / "1.png", tmp_path / "photo.jpg")
    (tmp_path / "scans").mkdir()
    for i in range(16):
        np.save(tmp_path / "scans" / f"{i}.npy", np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("whymask.stages.settings.PretrainTrainingSettings.epochs_for", lambda self, images: 1)
    monkeypatch.setitem(METHODS, "low-pass", METHODS["mae"])  # so that the README's own is gone afterwards
    torch.set_num_threads(1)

    written = commands()
    assert {words[1] for words in written} == set(cli.COMMANDS)
    for words in written:
        assert words[0] == "whymask"
        small = "" if "--from" in words and "scratch" not in words else SMALL.get(words[1], "")
        small += " --epochs 1 --batch-size 16" if words[1] in ("finetune", "pretrain") and not small else ""
        if "resnet18" in words:
            small = small.replace("--width 4", "--size 16")
        runtime = () if words[1] in ("list", "export") else RUNTIME
        assert whymask(*words[1:], *small.split(), *runtime) == 0, shlex.join(words)
    for path in (
        "runs/mine/report.html",
        "predictions.csv",
        "features.parquet",
        "runs/probe/result.json",
        "runs/why/report.html",
        "runs/mine-why/explain.json",
        "runs/theory/report.html",
        "runs/for-timm/README.md",
        "runs/further/encoder/encoder.json",
    ):
        assert (tmp_path / path).exists(), path

    names: dict[str, Any] = {"__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["features"].shape == (1, names["encoder"].dim)
    assert (tmp_path / "runs/scans/encoder/encoder.json").exists()
