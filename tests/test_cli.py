"""The command line: help that is worth reading, and mistakes that are told."""

import os
import re
import shlex
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from test_snippets import SMALL
from tiny import DEVICE, GLYPHS
from whymask import cli, usage
from whymask.disk import read_json
from whymask.encoders import kinds
from whymask.flags import flags_of
from whymask.methods import METHODS
from whymask.mistakes import understood
from whymask.studies.advice import advice_text
from whymask.usage import common

Command = Callable[..., int]

COMMANDS = [name for name in cli.COMMANDS if name != "list"]


def help_of(whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    assert whymask(*arguments) == 0
    return capsys.readouterr().out


def described(text: str) -> dict[str, str]:
    """What a help says of each flag."""
    words = re.sub(r"[│╭╮╰╯─\s]+", " ", re.sub(r"-{4,}", "", text)).partition(" options ")[2]
    parts = re.split(r" (?=--[a-zA-Z][\w.-]* )", words)
    return {part.split()[0]: part for part in parts if part.startswith("--")}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_gives_every_flag_a_reason_and_a_default_in_words(
    command: str, whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [] if command not in ("study", "pretrain") else METHODS
    shown = set()
    for of in (["--help"], ["--help-all"], *(["--method", name, "--help-all"] for name in methods)):
        text = help_of(whymask, capsys, monkeypatch, command, *of)
        assert "None" not in text
        shown |= set(re.findall(r"^\W*(--[a-zA-Z][\w.-]*) ", text, re.MULTILINE))
    named = {spelling: flag for flag in flags_of(cli.COMMANDS[command]) for spelling in flag.spellings}
    assert {named[spelling].name for spelling in shown} == {flag.name for flag in named.values()}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_short_help_is_short_and_says_what_each_flag_is_by_default(
    command: str, whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(whymask, capsys, monkeypatch, command, "--help")
    assert len(text.splitlines()) < 85
    flags = {flag.name: flag for flag in flags_of(cli.COMMANDS[command])}
    for name, part in described(text).items():
        if name in flags and not flags[name].is_switch:
            assert "efault" in part or "(required)" in part or "Without" in part, part
            assert len(part.split()) > 4, part


def test_each_flag_that_the_short_help_words_is_one_of_its_command() -> None:
    for name in ("study", "pretrain", "finetune", "probe", "data", "map", "explain", "theory"):
        assert set(usage._OF[name]) <= {flag.name for flag in flags_of(cli.COMMANDS[name])}
        assert 8 <= len(set(common(name)) & {flag.name for flag in flags_of(cli.COMMANDS[name])}) <= 32


def test_all_options_of_a_study_are_those_of_the_method_that_is_given(
    whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, method in (((), "mae"), (("--method", "spark"), "spark"), (("--method=two-layer",), "two-layer")):
        text = help_of(whymask, capsys, monkeypatch, "study", "--help-all", *arguments)
        assert {name for name in METHODS if f"--{name}." in text} == {method}
        assert "--method NAME --help-all" in text


def test_the_version_is_told(whymask: Command, capsys: Any) -> None:
    assert whymask("--version") == 0
    assert re.fullmatch(r"whymask \d+\.\d+\S*\n", capsys.readouterr().out)


def test_help_names_units(whymask: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = described(help_of(whymask, capsys, monkeypatch, "study", "--help-all"))
    for flag, unit in {"--size": "pixels", "--patch": "pixels", "--hours": "hours", "--budgets": "a class"}.items():
        assert unit in shown[flag], flag


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stuyd", "stuyd: no such command. Did you mean study?"),
        ("xyz", "xyz: no such command. The commands are study, pretrain"),
        ("", "no command was given. The commands are study, pretrain"),
        ("--foo", "--foo was given where a command was expected. The commands are study"),
        ("study", "DATA was not given, as in: whymask study DATA. Images: a folder (any depth), "),
        ("study --seeds 3 --no-explain", "DATA was not given, as in: whymask study DATA. "),
        ("predict runs/a", "DATA was not given, as in: whymask predict RUN DATA. "),
        ("explain runs/a", "--data was not given, as in: whymask explain RUNS --data ... The labelled images that"),
        ("export runs/a", "--to was not given, as in: whymask export RUN --to ... The program that is to open it. "),
        ("check", "FOLDER was not given, as in: whymask check FOLDER. "),
        ("pretrain a-1.tar a-2.tar --epochs 2", "a-2.tar: whymask pretrain takes one DATA; where a shell made several"),
        ("study glyphs --label x", "--label: no such option of whymask study. Did you mean --labels? whymask study -"),
        ("study glyphs --output x", "--output: no such option of whymask study. Did you mean --out? "),
        ("pretrain glyphs --batch 8", "Did you mean --pretrain.batch-size? "),
        ("pretrain glyphs --batch-size 7 --accumulate 2", "--accumulate 2 parts of a batch of 7 images; "),
        ("predict a b -o x", "-o: no such option of whymask predict. Did you mean --out? "),
        ("study glyphs --finetune.epoch 3", "Did you mean --finetune.epochs? "),
        ("study glyphs --lr 1", "Did you mean --pretrain.learning-rate or --finetune.learning-rate?"),
        ("study glyphs --no-explian", "Did you mean --no-explain"),
        ("study glyphs --xyzzy 3", "--xyzzy: no such option of whymask study. whymask study --help shows"),
        ("study glyphs --epochs 3", "study has several of them: --pretrain.epochs, --finetune.epochs. Give one."),
        ("study glyphs --method spark --mae.mask-ration 1", "Did you mean --spark.mask-ratio"),
        ("study glyphs --seeds many", "--seeds many: expected a whole number; change it."),
        ("study glyphs --margin=a", "--margin a: expected a number, such as 0.02; change it."),
        ("study glyphs --seeds", "--seeds has no value: expected a whole number behind it."),
        ("study glyphs --scratch-long most", "--scratch-long most: expected one of smallest, all, none; choose one."),
    ],
)
def test_a_mistake_is_told_in_one_line_with_what_was_meant(line: str, said: str, whymask: Command, capsys: Any) -> None:
    assert whymask(*line.split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_flag_may_be_given_without_its_prefix_where_one_alone_is_meant() -> None:
    def line(text: str) -> str:
        return " ".join(understood(cli.COMMANDS, text.split()))

    assert line("pretrain a --epochs 3 --batch_size=4") == "pretrain a --pretrain.epochs 3 --pretrain.batch-size=4"
    assert line("finetune a --epochs 3") == "finetune a --finetune.epochs 3"
    assert line("study a --method spark --mask-ratio 0.5") == "study a --method spark --spark.mask-ratio 0.5"
    assert line("study a --mask-ratio 0.5") == "study a --mae.mask-ratio 0.5"
    assert line("study a --method spark --no-normalise-targets").endswith(" --spark.no-normalise-targets")
    assert line("theory --N 60 --C_p 2") == "theory --N 60 --C-p 2"
    assert line("study a --hours None") == "study a --hours None"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_flags_that_are_known_beforehand_are_those_that_are_parsed(command: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tyro is about to leave this out; nothing but this test uses it
        parser = tyro.extras.get_parser(cli.COMMANDS[command])
    parsed = {spelling for action in parser._actions for spelling in action.option_strings} - {"-h", "--help"}
    assert {spelling for flag in flags_of(cli.COMMANDS[command]) for spelling in flag.spellings} == parsed


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
    whymask: Command, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    for name in ("resnet18", "cnn"):  # as runs may be called
        (tmp_path / name).mkdir()
    assert whymask("list", "resnet18", "convnextv2_at*", "mixnet_s", "ecaresnet50t", "cnn") == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[2:] for row in rows if row}
    assert [shown[name][0] for name in ("resnet18", "convnextv2_atto", "mixnet_s")] == ["proven", "proven", "untested"]
    assert shown["ecaresnet50t"][0] == "impossible" and "a Conv1d, has no masked form" in shown["ecaresnet50t"][1]
    assert [shown[name][2] for name in ("resnet18", "ecaresnet50t")] == [
        "scratch, init, frozen, pretrain, continue",
        "scratch, init, frozen",
    ]
    assert "spark" in shown["resnet18"][3].split(", ") and shown["ecaresnet50t"][3] == ""
    assert whymask("list", "resnet19") == 2
    capsys.readouterr()
    assert whymask("list", "./resnet18") == 2 and "holds no finished encoder" in capsys.readouterr().err


def test_list_says_of_weights_what_may_start_from_them(
    whymask: Command, finished: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(finished.parent)
    cell = "cells/pretrain-mae-0"
    (tmp_path / "timms").mkdir()
    (tmp_path / "timms" / "config.json").write_text('{"architecture": "ecaresnet50t"}')
    (tmp_path / "timms" / "model.safetensors").touch()
    given = [finished.name, f"{finished.name}/{cell}", f"{finished.name}/{cell}/encoder/encoder.safetensors"]
    assert whymask("list", *given, "cnn", tmp_path / "timms") == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[1:] for row in rows if row}
    kind, status, _, starts, by = shown["cnn"]
    assert (kind, status, starts) == ("cnn", "proven", "scratch, init, frozen, pretrain, continue")
    for name in given:
        assert shown[f"{name}: cnn"] == ["cnn", "proven", "", "init, frozen, continue", by]
    assert shown[f"{tmp_path / 'timms'}: ecaresnet50t"][3:] == ["init, frozen", ""]
    assert whymask("list", "nowhere/run") == 2 and "no such file or folder" in capsys.readouterr().err
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert whymask("list", tmp_path / "weights.safetensors") == 2
    assert "says of which network they are; give the name" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("studdy",), ("study",), ("study", "glyphs", "--seeds", "many")])
def test_what_is_not_understood_is_exit_code_2(arguments: tuple[str, ...], whymask: Command) -> None:
    assert whymask(*arguments) == 2


def test_a_study_prints_its_verdict_and_the_pages_path_in_one_piece(
    whymask: Command, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "a-rather-long-name-of-a-folder-that-a-person-wants-to-copy-from-the-terminal" / "study"
    small = f"{SMALL['study']} --no-explain --device {DEVICE} --threads 1"
    asked = ["study", GLYPHS, "--out", str(out), *small.split()]
    assert whymask(*asked) == 0
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1] == f"The page: {out / 'report.html'}"
    told = read_json(out / "study.json")
    verdict, now = told["verdict"], printed.index("What now:")
    assert printed[now - 2 : now] == [verdict["text"], f"What would settle it: {verdict['settle']}"]
    assert printed[now:-1] == advice_text(told["advice"]).splitlines()
    command = read_json(out / "study.json")["setting"]["command"]
    assert command == shlex.join(["whymask", *asked])


def test_sigterm_is_told_in_a_word_and_what_was_begun_is_tidied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tidied = []

    def decoding(arguments: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            tidied.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "run", decoding)
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 130
    assert tidied
    assert "stopped" in capsys.readouterr().err
