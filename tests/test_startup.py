"""Up in a second: help, and what is wrong with a command, are there before anything slow is imported."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

import whymask
from whymask.cli import COMMANDS

HEAVY = ("torch", "timm", "torchvision", "lightning_fabric", "scipy", "sklearn", "matplotlib", "datasets", "pyarrow")
MOST_MODULES, MOST_CALLS = 600, 2_000_000
"""Of a command that is up in a second: torch, timm and torchvision are 2,700 modules and 3.6 million calls. Unlike
seconds, these are the same on every machine."""
EACH = """
import io, json, sys
from contextlib import redirect_stdout

calls = [0]

def count(frame, event, argument):
    calls[0] += event in ("call", "c_call")

sys.setprofile(count)
from whymask import cli

def say(text, from_all=False):
    said.append(text)
    if is_left_then:
        raise SystemExit

cli.say, before, importing = say, set(sys.modules), calls[0]
for line, is_left_then in json.loads(sys.stdin.read()):
    said, printed, calls[0] = [], io.StringIO(), importing
    sys.argv = ["whymask", *line.split()]
    try:
        with redirect_stdout(printed):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
    told = {"code": code, "said": said, "printed": printed.getvalue(), "calls": calls[0]}
    print(json.dumps(told | {"imported": sorted(set(sys.modules) - before), "modules": len(sys.modules)}))
    before = set(sys.modules)
"""
FABRIC = """
import sys
from importlib.metadata import PackageNotFoundError, version
from lightning_utilities.core import imports

before = imports.compare_version
from whymask.fabric import Fabric
from lightning_fabric.utilities import imports as known

import lightning_fabric
assert Fabric is lightning_fabric.Fabric and imports.compare_version is before
try:
    assert known._TORCHMETRICS_GREATER_EQUAL_1_0_0 is (int(version("torchmetrics").split(".")[0]) >= 1)
except PackageNotFoundError:
    assert not known._TORCHMETRICS_GREATER_EQUAL_1_0_0
print("MODULES", *sys.modules)
"""


def python(code: str, given: str = "") -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True).stdout


def heavy(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} & set(HEAVY)


Told = dict[str, Any]


def told(lines: Sequence[str], is_left_at_first: bool = False) -> dict[str, Told]:
    """What each command line comes to, in one interpreter, and what it imports anew. `is_left_at_first`: it is left
    when it says something."""
    printed = python(EACH, json.dumps([(line, is_left_at_first) for line in lines]))
    return dict(zip(lines, map(json.loads, printed.splitlines()), strict=True))


@pytest.fixture(scope="module")
def helps() -> dict[str, Told]:
    return told([f"{command} --help" for command in ("", *COMMANDS)])


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_takes_a_fraction_of_what_importing_torch_and_its_like_takes(command: str, helps: dict[str, Told]) -> None:
    found = helps[f"{command} --help"]
    assert "usage: whymask" in found["printed"] and found["code"] == 0
    assert not heavy(found["imported"])
    assert found["modules"] <= MOST_MODULES and found["calls"] <= MOST_CALLS


def test_importing_whymask_takes_as_little() -> None:
    modules = python("import sys, whymask; print(*sys.modules)").split()
    assert not heavy(modules) and len(modules) <= MOST_MODULES


WRONG = (
    "study nowhere",
    "study glyphs:cats=3",
    "study glyphs --labels nowhere",
    "study glyphs --seeds many",
    "study glyphs --seeds 0",
    "study glyphs --budgets ten",
    "study glyphs --worth-budgets 1 0",
    "study glyphs --cells 9/2",
    "study glyphs --finetune.layer-decay 0.5",
    "study glyphs --metod mae",
    "finetune glyphs --budget abc",
    "pretrain glyphs --method magic",
    "pretrain glyphs --batch-size 0",
    "finetune glyphs --from nowhere",
    "probe glyphs --from nowhere",
    "probe glyphs --from somewhere/else",
    "study glyphs --init nowhere",
    "predict nowhere glyphs",
    "embed nowhere glyphs",
    "choose nowhere glyphs --labels 3",
    "choose . glyphs --labels 0",
    "export nowhere --to timm",
    "explain nowhere --data glyphs",
    "theory --claims magic",
    "magic",
)


@pytest.fixture(scope="module")
def refusals() -> dict[str, Told]:
    return told(WRONG)


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_told_before_anything_slow_is_imported(line: str, refusals: dict[str, Told]) -> None:
    assert refusals[line]["code"] == 2 and not heavy(refusals[line]["imported"])


def test_what_no_image_tells_is_refused_before_anything_slow_is_imported(tmp_path: Path) -> None:
    (tmp_path / "empty" / "within" / ".hidden").mkdir(parents=True), (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").touch()
    lines = {
        "pretrain glyphs --keep-teacher": "mae has no teacher; data2vec, data2vec2 and ijepa have",
        f"pretrain glyphs --method ijepa --keep-teacher --out {tmp_path}/run": "its teacher was not kept",
        "study glyphs --size 0x32": "--size 0x32: sides of at least 1 pixel",
        "study glyphs --channels 0": "--channels 0: 1 or more",
        "study glyphs --reader nowhere_at_all:read": "--reader nowhere_at_all:read: No module named",
        f"predict {tmp_path} glyphs --reader nowhere_at_all:read": "--reader nowhere_at_all:read: No module named",
        f"predict {tmp_path} {tmp_path}/empty": "no images in this folder (no files)",
        f"predict {tmp_path} glyphs --confidence 90": "--confidence 90: expected a share",
        f"embed {tmp_path} {tmp_path}/empty": "no images in this folder (no files)",
        f"probe glyphs --from {tmp_path} --neighbours 0": "--neighbours 0: at least 1",
        f"explain {tmp_path} --data glyphs --regions 13": "13 regions were given",
    }
    for line, found in told([*lines]).items():
        assert found["code"] == 2 and found["said"][-1].startswith("error: ") and lines[line] in found["said"][-1]
        assert not heavy(found["imported"])


def test_the_first_line_comes_before_anything_slow_is_imported() -> None:
    lines = {
        "study glyphs --out runs/a": "study of glyphs, kept in runs/a",
        "pretrain glyphs --out runs/b": "pretrain of glyphs, kept in runs/b",
        "finetune glyphs --out runs/c": "finetune of glyphs, kept in runs/c",
        "theory --quick --out runs/d": "theory, kept in runs/d",
        "predict . glyphs --out e.csv": "predict of glyphs, kept in e.csv",
    }
    for line, found in told([*lines], is_left_at_first=True).items():
        assert found["said"] == [lines[line]] and not heavy(found["imported"])


def test_the_public_names_are_there_and_are_what_they_say() -> None:
    """`whymask.study` is the function, also once its room was imported."""
    import whymask.overviews.run
    import whymask.studies.run

    assert all(map(callable, (whymask.study, whymask.overview, whymask.explain, whymask.export)))
    assert set(whymask.__all__) <= set(dir(whymask))
    given: dict[str, object] = {}
    exec("from whymask import *", given)
    for name in whymask.__all__:
        assert given[name] is getattr(whymask, name)
        assert pickle.loads(pickle.dumps(given[name])) == given[name]


def test_fabric_comes_without_packages_that_it_only_asks_for_their_version() -> None:
    """It knows of torchmetrics what it would know. Every file takes it from there."""
    source = Path(whymask.__file__).parent
    importing = [path.name for path in source.rglob("*.py") if "from lightning_fabric" in path.read_text()]
    assert importing == ["fabric.py"]
    modules = python(FABRIC).split()
    assert not {"torchmetrics", "transformers", "scipy"} & {name.partition(".")[0] for name in modules}


def test_versions_are_compared_by_metadata_as_by_import() -> None:
    from operator import ge, lt

    from lightning_utilities.core.imports import compare_version

    from whymask.fabric import compare_by_metadata

    for package, wanted in (("torch", "2.0"), ("numpy", "99"), ("no_such_package", "1"), ("packaging", "23.0")):
        for compare in (ge, lt):
            for base in (False, True):
                asked = compare_by_metadata(package, compare, wanted, base)
                assert asked is compare_version(package, compare, wanted, base)
