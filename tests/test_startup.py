"""Up in a second: help, and what is wrong with a command, are there before anything slow is imported."""

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import whymask
from whymask.cli import COMMANDS

HEAVY = ("torch", "timm", "torchvision", "lightning_fabric", "scipy", "sklearn", "matplotlib", "datasets", "pyarrow")
MAIN = """
import sys
from whymask import cli
sys.argv = ["whymask", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    code = end.code or 0
print("CODE", code, "MODULES", *sys.modules)
"""
EACH = """
import sys
from whymask import cli

said = []
cli.say = lambda text, from_all=False: said.append(text)
for line in sys.argv[1:]:
    sys.argv = ["whymask", *line.split()]
    try:
        cli.main()
    except SystemExit as end:
        print("CODE", end.code, said[-1])
print("MODULES", *sys.modules)
"""
FIRST_LINE = """
import sys
from whymask import cli

def first(text):
    print("SAID", text, "MODULES", *sys.modules)
    raise SystemExit

cli.say = first
sys.argv = ["whymask", *sys.argv[1:]]
cli.main()
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


def python(code: str, *arguments: str) -> tuple[str, float]:
    """What a fresh interpreter prints, and the processor time that it takes, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def heavy_in(printed: str) -> set[str]:
    modules = printed.rpartition("MODULES ")[2]
    return {name.partition(".")[0] for name in modules.split()} & set(HEAVY)


def printed_lightly(imports: float, code: str, *arguments: str) -> str:
    """What it prints, once it is found to be light. The first time, modules may have to be compiled."""
    printed, seconds = python(code, *arguments)
    assert heavy_in(printed) == set()
    assert seconds <= 0.15 * imports or python(code, *arguments)[1] <= 0.15 * imports
    return printed


@pytest.fixture(scope="module")
def imports() -> float:
    """What importing the libraries takes that a run needs."""
    return min(python("import torch, timm, torchvision")[1] for _ in range(2))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_takes_a_seventh_of_what_importing_torch_and_its_like_takes(command: str, imports: float) -> None:
    printed = printed_lightly(imports, MAIN, *command.split(), "--help")
    assert "usage: whymask" in printed and "CODE 0" in printed


def test_importing_whymask_takes_as_little(imports: float) -> None:
    printed_lightly(imports, "import sys, whymask; print('MODULES', *sys.modules)")


@pytest.mark.parametrize(
    "line",
    [
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
        "export nowhere --to timm",
        "explain nowhere --data glyphs",
        "theory --claims magic",
        "magic",
    ],
)
def test_what_is_wrong_is_told_before_anything_slow_is_imported(line: str) -> None:
    printed, _ = python(MAIN, *line.split())
    assert "CODE 2" in printed
    assert heavy_in(printed) == set()


def test_what_no_image_tells_is_refused_before_anything_slow_is_imported(tmp_path: Path) -> None:
    """In one interpreter, as each of them takes a second to come up."""
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
    printed, _ = python(EACH, *lines)
    assert heavy_in(printed) == set()
    for told, said in zip(printed.splitlines(), lines.values(), strict=False):
        assert told.startswith("CODE 2 error: ") and said in told


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("study glyphs --out runs/a", "study of glyphs, kept in runs/a"),
        ("pretrain glyphs --out runs/b", "pretrain of glyphs, kept in runs/b"),
        ("finetune glyphs --out runs/c", "finetune of glyphs, kept in runs/c"),
        ("theory --quick --out runs/d", "theory, kept in runs/d"),
        ("predict . glyphs --out e.csv", "predict of glyphs, kept in e.csv"),
    ],
)
def test_the_first_line_comes_before_anything_slow_is_imported(line: str, said: str, tmp_path: Path) -> None:
    printed, _ = python(FIRST_LINE, *line.split())
    assert f"SAID {said}" in printed
    assert heavy_in(printed) == set()


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
    printed, _ = python(FABRIC)
    assert not {"torchmetrics", "transformers", "scipy"} & {name.partition(".")[0] for name in printed.split()}


def test_versions_are_compared_by_metadata_as_by_import() -> None:
    from operator import ge, lt

    from lightning_utilities.core.imports import compare_version

    from whymask.fabric import compare_by_metadata

    for package, wanted in (("torch", "2.0"), ("numpy", "99"), ("no_such_package", "1"), ("packaging", "23.0")):
        for compare in (ge, lt):
            for base in (False, True):
                asked = compare_by_metadata(package, compare, wanted, base)
                assert asked is compare_version(package, compare, wanted, base)
