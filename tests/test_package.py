"""The package as others get it: sdist and wheel, checked, installed in a fresh environment and used elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KNOWN_TO_GIT = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows or would add, so that no stray file helps; of an unpacked sdist, of all of it."""
    copy = tmp_path_factory.mktemp("package") / "copy"
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        return Path(shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", "__pycache__", "dist", "runs")))
    for name in filter(None, run(*KNOWN_TO_GIT, cwd=ROOT).split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(copied: Path) -> Path:
    """A folder with the sdist, and the wheel that was built from it and from nothing else."""
    folder = copied.parent / "dist"
    build = ("build", "--quiet", "--no-build-isolation", "--python", sys.executable)
    run(sys.executable, "-m", "uv", *build, "--out-dir", folder, cwd=copied)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        return message_from_bytes(file.read(f"whymask-{PROJECT['version']}.dist-info/METADATA"))


def test_the_sdist_holds_what_git_holds_and_nothing_else(built: Path, copied: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as file:
        names = {str(Path(*Path(member.name).parts[1:])) for member in file if member.isfile()}
    source = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert names == source | {"PKG-INFO"}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "requirements.lock", "tests/conftest.py"} <= names


def test_the_wheel_holds_all_that_git_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    source = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/whymask").rglob("*")
        if path.suffix in (".py", ".j2", ".js", ".css", ".typed")
    }
    assert source <= names and "whymask/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith("whymask")]


def test_an_index_would_take_both(built: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", *built.glob("whymask*"), cwd=built)
    assert said.count("PASSED") == 2


def test_the_index_shows_the_readme_without_links_that_lead_nowhere(metadata: Message) -> None:
    """Code stays as it is; pictures of this repository are left out, and links into it become text."""
    shown, readme = str(metadata.get_payload()), (ROOT / "README.md").read_text()
    code = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    assert metadata["Description-Content-Type"] == "text/markdown" and code.findall(shown) == code.findall(readme)
    assert not re.findall(r"\]\((?!https?:)[^)]*\)|(?:src|srcset|href)=\"(?!https?:)", code.sub("", shown))
    assert len(shown) > 0.8 * len(readme)


def test_every_python_that_is_promised_is_allowed(metadata: Message) -> None:
    pythons = re.findall(r"Python :: 3\.(\d+)$", "\n".join(metadata.get_all("Classifier", [])), re.MULTILINE)
    assert pythons == ["11", "12", "13", "14"] and metadata["Requires-Python"] == f">=3.{pythons[0]}"


def test_every_dependency_says_its_oldest_version(metadata: Message) -> None:
    assert not [needed for needed in metadata.get_all("Requires-Dist", []) if ">=" not in needed]


def test_the_newest_heading_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} \((unreleased|\d{{4}}-\d\d-\d\d)\)", headings[0])
    assert not [heading for heading in headings[1:] if "unreleased" in heading]


def test_the_wheel_works_in_a_fresh_environment_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are lent from this environment by a .pth file; whymask itself must come from the wheel."""
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "env", cwd=tmp_path)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(*uv, "pip", "install", "--quiet", "--no-deps", "--python", scripts / "python", wheel, cwd=tmp_path)
    site = next((tmp_path / "env").rglob("site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a .pth file's own lines are not followed

    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"WHYMASK_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    small = "--seeds 1 --budgets 2 --scratch-long none --width 4 --pretrain.epochs 1 --finetune.epochs 1 --device cpu"
    small += " --no-explain"
    study = ("study", "glyphs:unlabelled=64,train=50,test=40", *small.split(), "--out", "study")
    script = """if True:
        import runpy, sys, whymask
        print(whymask.__file__)
        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name="__main__")"""
    command: tuple[str | Path, ...] = (scripts / "python", "-c", script, scripts / "whymask", *study)
    where = run(*command, cwd=tmp_path, env=env).splitlines()[0]
    assert Path(where).is_relative_to(site)
    assert "<html" in (tmp_path / "study" / "report.html").read_text()
    assert (tmp_path / "study" / "study.json").exists()
