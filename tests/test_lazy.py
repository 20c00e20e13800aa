"""What is asked is known without what computes: settings import neither torch nor what imports it."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "torchvision", "lightning_fabric", "scipy", "sklearn", "matplotlib", "datasets", "pyarrow")


@pytest.mark.parametrize(
    "module",
    ["whymask.data.settings", "whymask.encoders.settings", "whymask.methods.settings", "whymask.studies.board"],
)
def test_settings_and_what_a_process_of_its_own_holds_are_free_of_torch(module: str) -> None:
    bare = "import sys, types; m = types.ModuleType('whymask'); m.__path__ = {path!r}; sys.modules['whymask'] = m; "
    import whymask

    found = subprocess.run(
        [sys.executable, "-c", bare.format(path=list(whymask.__path__)) + f"import {module}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {name.partition(".")[0] for name in found.stdout.split()} & set(HEAVY)


def test_a_package_that_has_no_such_name_says_so() -> None:
    with pytest.raises(ImportError, match=r"cannot import name 'nothing' from 'whymask\.encoders'"):
        from whymask.encoders import nothing  # noqa: F401
