"""How settings become flags of the command line."""

from typing import Annotated

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
