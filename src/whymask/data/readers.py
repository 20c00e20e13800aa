"""Readers of files: `reader_named` finds one by its name, `of_reader` keeps the name for messages and records, and
`reader_text` tells one from another, as two that see other pixels must not share decoded images."""

import hashlib
import inspect
import pickle
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any
from uuid import uuid4

from whymask.data.settings import check_reader
from whymask.data.source import Reader, Source
from whymask.functions import name_of, named


def reader_named(name: str) -> Reader:
    """The function that "module:function" names; the module may lie in the working directory.

    Raises WhymaskError where there is none.
    """
    check_reader(name)
    reader: Reader = named(name, f"--reader {name}", "a function that takes a path")
    return reader


def of_reader(source: Source, reader: Reader | str | None) -> Source:
    """`source`, whose files `reader` opens, with its name; as it is where there is none."""
    return source if reader is None else replace(source, reader=_name_of(reader))


def _name_of(reader: Reader | str) -> str:
    if isinstance(reader, str):
        return reader
    return name_of(reader.func if isinstance(reader, partial) else reader)


def why_unread(source: Source, tried: int, reasons: list[str]) -> str:
    """Why none of so many images of `source` could be used, each for its reason: whose fault it is, how often, and the
    first reason."""
    if source.reader is not None:
        return (
            f"{source.name}: the reader {source.reader} gave no image of any of {tried:,} files; first {reasons[0]}. "
            "One that takes a path and returns a PIL image or an array (H, W) or (H, W, C) was expected."
        )
    listed = "; ".join([*source.notes, *reasons[:3]])
    return (
        f"{source.name}: none of {tried:,} images that were tried could be read ({listed}); images that Pillow opens "
        "were expected; give a --reader for other formats"
    )


def reader_text(reader: Any) -> str:
    """A reader's source, and the values that it was made with or takes from its module. One that nothing tells, such as
    one that holds an object without a text of its own, is another each time, and so is what it decodes."""
    return _of_code(reader, ())


def _of_code(thing: Any, seen: tuple[int, ...]) -> str:
    """`seen` are the ids of what this is a part of, as functions may hold each other."""
    if id(thing) in seen:
        return "again"
    seen = (*seen, id(thing))
    if isinstance(thing, partial):
        held: Any = [thing.func, thing.args, thing.keywords]
        source = "partial"
    elif inspect.isfunction(thing):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        held, source = [thing.__defaults__, thing.__kwdefaults__, cells, _used(thing)], _source_of(thing)
    elif inspect.ismethod(thing):
        held, source = [thing.__func__, thing.__self__.__getstate__()], _source_of(type(thing.__self__))
    elif inspect.isclass(thing) or inspect.isbuiltin(thing):
        held, source = [], f"{_source_of(thing)} {thing.__module__} {thing.__qualname__}"
    else:
        held, source = thing.__getstate__(), _source_of(type(thing))
    return f"{source} {_of_value(held, seen)}"


def _of_value(value: Any, seen: tuple[int, ...]) -> str:
    """The whole of a value: the text of a long array leaves out its middle."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} {[_of_value(each, seen) for each in value]}"
    if type(value) is dict:
        return f"dict {[(repr(key), _of_value(each, seen)) for key, each in value.items()]}"
    if isinstance(value, partial) or inspect.isfunction(value) or inspect.ismethod(value):
        return _of_code(value, seen)
    text = repr(value)
    if " at 0x" in text:
        return str(uuid4())
    try:
        return f"{text} {hashlib.blake2b(pickle.dumps(value, protocol=5), digest_size=16).hexdigest()}"
    except Exception:  # whatever an object raises that cannot be written down
        return str(uuid4())


def _used(function: Any) -> dict[str, Any]:
    """What a function takes from its own module, by name: values and functions; of other modules' things the name."""
    found = inspect.getclosurevars(function).globals

    def told(value: Any) -> Any:
        if isinstance(value, ModuleType):
            return value.__name__
        home = getattr(value, "__module__", None)
        is_foreign = isinstance(home, str) and home != function.__module__ and hasattr(value, "__qualname__")
        return f"{home}.{value.__qualname__}" if is_foreign or inspect.isclass(value) else value

    return {name: told(value) for name, value in sorted(found.items())}


def _source_of(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None)
        return f"{thing.__module__} {thing.__qualname__} {code and (code.co_code, code.co_consts)!r}"
