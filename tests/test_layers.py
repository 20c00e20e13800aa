"""An import goes only downward: no room of the house knows one above it, not even from within a function."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import whymask

FROM_THE_GROUND_UP = (
    "errors", "missing", "lazy", "later", "functions", "keywords", "progress", "randomness", "ranks", "flags", "usage",
    "mistakes", "intervals", "activations", "linear", "devices", "energy", "fabric", "surroundings", "disk", "locks",
    "runs", "version", "report", "theory", "masks", "tasks", "data", "encoders", "methods", "training", "stages",
    "choosing", "explanations", "exports", "studies", "watch", "atlas", "overviews", "upkeep",
    "listing", "__init__", "cli", "__main__",
)  # fmt: skip
"""Every room: a module or package of whymask, and `__init__`, what `import whymask` gives. A room imports only rooms
that stand before it; so no two import each other, and the theory lab knows no images."""
SOURCE = Path(whymask.__file__).parent


def test_every_room_imports_only_rooms_below_it() -> None:
    upward = [
        f"{path.relative_to(SOURCE)}:{line} imports {room}"
        for path in SOURCE.rglob("*.py")
        for room, line in rooms_imported(path)
        if FROM_THE_GROUND_UP.index(room) > FROM_THE_GROUND_UP.index(room_of(path.relative_to(SOURCE).parts))
    ]
    assert not upward


def rooms_imported(path: Path) -> Iterator[tuple[str, int]]:
    """Each room that a file imports from, wherever in the file, and the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively, from where this test does not follow"
            names = [f"{node.module}.{name}" for name in names]
        for package, *parts in (name.split(".") for name in names):
            if package == "whymask":
                yield room_of(parts), node.lineno


def room_of(parts: tuple[str, ...] | list[str]) -> str:
    """Of a path or a dotted name below whymask; what is no room is a name that `whymask` itself gives."""
    room = Path(parts[0]).stem if parts else "__init__"
    return room if any((SOURCE / name).exists() for name in (room, f"{room}.py")) else "__init__"


def test_no_test_forks_the_process_that_tests_run_in() -> None:
    """What other tests left in it, such as autograd's threads, would decide whether the child can train."""
    own = Path(__file__).parent
    forks = re.compile(r"""["']fork["']|os\.fork\(\)""")
    found = {str(path.relative_to(own)) for path in own.rglob("*.py") if forks.search(path.read_text())}
    assert found == {"elsewhere.py"}  # a program of its own
