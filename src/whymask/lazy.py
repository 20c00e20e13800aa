"""Packages whose names are imported when they are first used (PEP 562), so that importing a package costs nothing."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, for the `names` that it takes from each of its modules, such
    as {"base": ["Encoder"]}. What type checkers see stands in the package under `if TYPE_CHECKING`."""
    home = {name: module for module, own in names.items() for name in own}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return get, lambda: sorted(home), sorted(home)
