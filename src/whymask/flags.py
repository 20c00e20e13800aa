"""How settings become flags of the command line, and what a command's flags are.

tyro makes and parses the flags. What is here knows them beforehand: for help that is short, and for what was mistyped.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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


def words_of(hint: Any) -> tuple[str, ...]:
    """What a value of this type may be, where it is one of several words, or none."""
    parts = (hint, *get_args(hint))
    return tuple(str(word) for part in parts if get_origin(part) is Literal for word in get_args(part))


@dataclass(frozen=True)
class Flag:
    """A flag of a command: its name, such as "--pretrain.epochs", the type of its value, what it is by default, and
    what is said of it where it stands."""

    name: str
    hint: Any
    default: Any = None
    about: str = ""

    @property
    def group(self) -> str:
        """The prefix: "pretrain", or "" where there is none."""
        return self.name.removeprefix("--").rpartition(".")[0]

    @property
    def last(self) -> str:
        """The name without its prefix: "epochs"."""
        return self.name.removeprefix("--").rpartition(".")[2]

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.hint is bool

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that name it: a switch has a twin, "--no-explain"."""
        before = f"{self.group}." if self.group else ""
        return (self.name, f"--{before}no-{self.last}") if self.is_switch else (self.name,)

    @property
    def may_stand_alone(self) -> bool:
        """Whether it needs no value: a switch, or a `YesNoAuto`."""
        return self.is_switch or self.hint == bool | None

    @property
    def takes_several(self) -> bool:
        """Whether it takes any number of values."""
        parts = (self.hint, *get_args(self.hint))
        return any(get_origin(part) is tuple and get_args(part)[-1] is ... for part in parts)

    @property
    def words(self) -> tuple[str, ...]:
        """What its value may be, where it is one of several words."""
        return words_of(self.hint)

    @property
    def number(self) -> type[int] | type[float] | None:
        """int or float, where its value is one number, or a word."""
        parts = get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)
        kinds = {part for part in parts if get_origin(part) is not Literal} - {NoneType}
        return kinds.pop() if kinds in ({int}, {float}) else None


Change = Callable[[Flag], Any]
"""What a flag is marked with: `tyro.conf.Suppress`, a `tyro.conf.arg`, or None."""


def flags_of(command: Callable[..., Any]) -> list[Flag]:
    """All flags of a command, a function whose arguments are flags or settings, in their order."""
    found: list[Flag] = []
    _marked(command, "", found.append, False)
    return found


def needed(command: Callable[..., Any]) -> list[tuple[str, str]]:
    """What must stand behind a command: ("DATA", what is said of it), in the order in which it is read."""
    hints, defaults = get_type_hints(command, include_extras=True), _defaults(command)
    found = []
    for name, hint in hints.items():
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        if tyro.conf.Positional in marks and defaults.get(name) is inspect.Parameter.empty:
            metavar = next((mark.metavar for mark in marks if getattr(mark, "metavar", None)), name.upper())
            found.append((metavar, _about(marks)))
    return found


def takes_many(command: Callable[..., Any]) -> bool:
    """Whether as much as one likes may stand behind a command."""
    hints = [hint for hint in get_type_hints(command, include_extras=True).values() if get_origin(hint) is Annotated]
    positional = [get_args(hint)[0] for hint in hints if tyro.conf.Positional in get_args(hint)[1:]]
    return any(get_origin(kind) is tuple for kind in positional)


def _about(marks: Sequence[Any]) -> str:
    return next((mark.help for mark in marks if getattr(mark, "help", None)), "")


def narrowed(command: Any, change: Change, described: bool = True) -> Callable[..., Any]:
    """The command, each of its flags marked with what `change` gives: to show its help, in which it may be hidden.
    Groups of flags keep what is said of them where they are to be `described`."""
    shown = FunctionType(command.__code__, command.__globals__, command.__name__, command.__defaults__)
    shown.__doc__, shown.__kwdefaults__ = command.__doc__, command.__kwdefaults__
    shown.__annotations__ = _marked(command, "", change, described)
    return shown


def _marked(holder: Any, prefix: str, change: Change, described: bool) -> dict[str, Any]:
    """The hints of a function or dataclass, with the marks."""
    hints, defaults = get_type_hints(holder, include_extras=True), _defaults(holder)
    hints.pop("return", None)
    marked = {}
    for name, hint in hints.items():
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        named = [own for mark in marks if (own := getattr(mark, "name", None)) is not None]
        own = named[0] if named else name.replace("_", "-")
        if tyro.conf.Positional in marks:
            marked[name] = hint
        elif is_dataclass(kind):
            narrow = _narrowed_settings(kind, f"{prefix}{own}." if own else prefix, change, described)
            marked[name] = Annotated[(narrow, *marks)] if marks else narrow
        else:
            mark = change(Flag(f"--{prefix}{own}", kind, defaults.get(name), _about(marks)))
            marked[name] = hint if mark is None else Annotated[(kind, *marks, mark)]
    return marked


def _narrowed_settings(kind: Any, prefix: str, change: Change, described: bool) -> Any:
    hints, named = _marked(kind, prefix, change, described), {f.name: f for f in fields(kind)}
    content = [(name, hint, _field(hint, named[name])) for name, hint in hints.items()]
    doc = {"__doc__": kind.__doc__ if described else ""}
    return make_dataclass(kind.__name__, content, bases=(kind,), namespace=doc, frozen=True, kw_only=True)


def _field(hint: Any, like: Field[Any]) -> Any:
    """As `like`, but what is itself settings is made of the narrowed ones."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if isinstance(kind, type) and is_dataclass(kind):
        return field(default_factory=kind)
    if like.default_factory is not MISSING:
        return field(default_factory=like.default_factory)
    return field(default=like.default)


def _defaults(holder: Any) -> Mapping[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(holder).parameters.items()}
