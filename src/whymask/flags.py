"""How settings become flags of the command line, and stay readable in Python."""

from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

Flat = tyro.conf.arg(name="")
"""Marks a field of settings whose own fields are flags without a prefix."""

_WORDS = {"auto": None, "yes": True, "no": False}
YesNoAuto = Annotated[
    bool | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[auto|yes|no]",
        instance_from_str=lambda given: _WORDS[(given or ["yes"])[0]],
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: [next(word for word, meant in _WORDS.items() if meant is value)],
        choices=tuple(_WORDS),
    ),
]
"""A flag that alone means yes, and whose None is auto."""

C = TypeVar("C", bound=type)


def readable(cls: C) -> C:
    """A decorator of a dataclass of settings: its signature, which `help` shows, is without what flags need."""
    init: Any = cls.__init__  # type: ignore[misc]
    init.__annotations__ = get_type_hints(cls) | {"return": None}
    return cls
