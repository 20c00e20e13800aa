"""Settings by keyword, as in ``pretrain("photos", epochs=3, size=64)``: fields of nested settings by their names."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from typeguard import TypeCheckError, check_type

from whymask.errors import WhymaskError
from whymask.functions import lasting_name

S = TypeVar("S")


def with_keywords(settings: S, given: Mapping[str, Any], aside: Collection[str] = ()) -> S:
    """`settings`, a dataclass of dataclasses, with what is `given` by field name, at any depth; of equal names the
    outermost is meant. A group of settings is given as a dict, or as its class.

    `aside`: groups whose fields are not found by their own names, such as those of other methods.
    Raises WhymaskError for a name that is none, or that stands in two groups, and for a value of another type.
    """
    known = _places(settings, aside)
    tree: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise _unknown(settings, name, known)
        path, *others = known[name]
        if others:
            forms = " or ".join(f"{group}={{{name!r}: {value!r}}}" for group, *_ in (path, *others))
            raise WhymaskError(f"{name}={value!r}: it is a setting of several groups; give {forms}")
        inner, now = tree, settings
        for group in path[:-1]:
            inner, now = inner.setdefault(group, {}), getattr(now, group)
            if not isinstance(inner, dict):
                raise _twice(group, name)
        last = path[-1]
        value = _as_part(getattr(now, last), last, value)
        if last in inner and not isinstance(value, Mapping):
            raise _twice(last, next(iter(inner[last])))
        inner[last] = {**inner.get(last, {}), **value} if isinstance(value, Mapping) else value
    return _with(settings, tree)


def _twice(group: str, name: str) -> WhymaskError:
    return WhymaskError(f"{group}= was given as a whole, and {name}=, which is a part of it; give {name} in {group}")


def _as_part(now: Any, name: str, value: Any) -> Any:
    """Of a group of settings that is named by one of them, encoder="vit" or encoder=MyNetwork, that one."""
    if not is_dataclass(now) or not hasattr(now, "name"):
        return value
    if isinstance(value, str):
        return {"name": value}
    return {"name": lasting_name(value, name)} if callable(value) else value


def _places(settings: Any, aside: Collection[str] = ()) -> dict[str, list[tuple[str, ...]]]:
    """Where each name stands: the path through the groups, several where groups have it alike."""
    own: dict[str, list[tuple[str, ...]]] = {field.name: [(field.name,)] for field in fields(settings)}
    inner: dict[str, list[tuple[str, ...]]] = {}
    for group in own:
        if is_dataclass(getattr(settings, group)) and group not in aside:
            for name, paths in _places(getattr(settings, group)).items():
                inner.setdefault(name, []).extend((group, *path) for path in paths)
    return inner | own


def _with(settings: Any, tree: Mapping[str, Any]) -> Any:
    """`settings` with the values of `tree`, in which a dict stands for some of a group's."""
    hints = get_type_hints(type(settings))
    changes = {}
    for name, value in tree.items():
        if name not in hints:
            raise _unknown(settings, name, hints)
        now = getattr(settings, name)
        value = _as_part(now, name, value)
        is_part = is_dataclass(now) and isinstance(value, Mapping)
        changes[name] = _with(now, value) if is_part else _fitted(name, value, hints[name])
    return replace(settings, **changes)


def _fitted(name: str, given: Any, hint: Any) -> Any:
    """The value as its type: a tuple of a list, a path of a text or the other way, and "10" of that many labels."""
    kinds, value = (hint, *get_args(hint)), given
    if isinstance(value, list):
        value = tuple(value)
    if tuple[str, ...] in kinds and isinstance(value, tuple | str | int):
        value = tuple(str(item) for item in (value if isinstance(value, tuple) else (value,)))
    elif isinstance(value, int) and not isinstance(value, bool) and str in kinds and int not in kinds:
        value = str(value)
    elif isinstance(value, str) and Path in kinds:
        value = Path(value)
    elif isinstance(value, Path) and Path not in kinds:
        value = str(value)
    if name == "augment" and callable(value):
        return lasting_name(value, name)
    if name == "method" and isinstance(value, str):  # of a program's own it may be, which no type knows
        return value
    try:
        return check_type(value, hint)
    except TypeCheckError:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise WhymaskError(f"{name}={given!r} was given; {expected} was expected; change it") from None


def _unknown(settings: Any, name: str, known: Collection[str]) -> WhymaskError:
    kind, near = type(settings).__name__, get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"help(whymask.{kind}) lists them"
    return WhymaskError(f"{name}: {kind} has no such setting; {hint}")
