"""What a bare machine lacks: `python -m benchmarks` says so, and this, where all is installed, which wheels to carry.

The machine has Python, PyTorch, timm and transformers, and no registry. But for packaging, which transformers needs,
only the standard library is imported here.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
THERE = ("torch", "torchvision", "timm", "transformers")
"""What such a machine has."""

Requires = Callable[[str], list[str] | None]
"""The requirements of an installed package. Raises PackageNotFoundError for another one."""


def needed() -> list[str]:
    """What whymask and its benchmarks on a GPU import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], "transformers"]


def closure(names: Iterable[str], requires: Requires = requires) -> dict[str, bool]:
    """All packages that `names` need, one by way of another, and whether they are installed. What a package needs that
    is not installed, nobody knows."""
    from packaging.requirements import Requirement

    found: dict[str, bool] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        asked = waiting.pop()
        name = normal(asked.name)
        if name in found or (asked.marker is not None and not asked.marker.evaluate({"extra": ""})):
            continue
        try:
            more, found[name] = requires(name) or [], True
        except PackageNotFoundError:
            more, found[name] = [], False
        waiting += map(Requirement, more)
    return found


def normal(name: str) -> str:
    """A package's name as registries write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """The versions of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(";")[0].strip().split("==") for line in lines if "==" in line.split(";")[0]]
    return {normal(name): number for name, number in pairs}


def lacking() -> list[str]:
    """What is needed here and not installed, such as "tyro==0.9.1"."""
    try:
        missing = sorted(name for name, is_there in closure(needed()).items() if not is_there)
    except ImportError:
        missing = ["packaging"]
    versions = locked()
    return [f"{name}=={versions[name]}" if name in versions else name for name in missing]


def told(missing: list[str]) -> str:
    """What is said where something is missing."""
    return (
        f"this machine lacks {' '.join(missing)}, and what these need. Where whymask is installed, `python -m "
        "benchmarks.wheels` says which wheels to carry; here: pip install --no-index --no-deps WHEELS/*"
    )


def main() -> None:
    """Prints the command that fetches what a machine lacks that has `THERE` and what these need."""
    if missing := lacking():
        sys.exit(told(missing))
    carried = sorted(set(closure(needed())) - set(closure(THERE)))
    print("pip download --no-deps --dest WHEELS " + " ".join(f"{name}=={version(name)}" for name in carried))


if __name__ == "__main__":
    main()
