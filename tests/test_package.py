"""The package as others get it: a wheel, built, installed in a fresh environment and used outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows or would add, so that no stray file helps."""
    work = tmp_path_factory.mktemp("wheel")
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    else:
        listed = [str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*")]
        listed += ["pyproject.toml", "README.md", "LICENSE"]
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (work / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, work / "copy" / name)
    run(sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", work / "dist", cwd=work / "copy")
    return next((work / "dist").glob("*.whl"))


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
