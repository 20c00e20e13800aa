"""Functions and classes of one's own by their names, MODULE:NAME, which records and commands can hold."""

import ast
import hashlib
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from whymask.errors import WhymaskError

NAMED = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def is_named(text: str) -> bool:
    """Whether this is the form of a name, such as "scans:read"."""
    return re.fullmatch(NAMED, text) is not None


def name_of(function: Any) -> str:
    """ "scans:read"; of an object that can be called, its class's."""
    function = function if hasattr(function, "__qualname__") else type(function)
    return f"{function.__module__}:{function.__qualname__}"


def named(text: str, asked: str, expected: str) -> Any:
    """What "module:name" names; the module may lie in the working directory.

    Raises WhymaskError where there is none, beginning with what was `asked`, such as "--reader scans:read".
    """
    module, _, name = text.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        where = "in a module that can be imported, or lies in the working directory, was expected"
        if module == "__main__":
            where = "was expected, and it lay in the program that gave it; put it into a module to use it elsewhere"
        raise WhymaskError(f"{asked}: {error}; {expected} {where}") from error
    finally:
        sys.path.remove("")
    if not callable(found):
        raise WhymaskError(f"{asked}: it is no function or class; {expected} was expected")
    return found


def lasting_name(function: Any, asked: str) -> str:
    """The name of what was given itself in Python. Raises WhymaskError where its name leads to nothing, or to something
    else, so that a run could not be opened by it again."""
    text = name_of(function)
    if not hasattr(function, "__qualname__"):
        raise WhymaskError(
            f"{asked}: an object was given, a {type(function).__name__}; give its class, or a function, which is "
            "called by its name wherever it is needed: each seed has one of its own"
        )
    try:
        found = named(text, asked, "one")
    except WhymaskError:
        found = None
    if found is not function:
        raise WhymaskError(
            f"{asked}={text} was given, which cannot be found by this name again, as a run needs; define it by a name "
            "of a module, not within a function"
        )
    return text


def sources(*names: str | None) -> dict[str, str]:
    """ "source of MODULE:NAME": a digest, of those that are such names and whose source is to be found."""
    own = {name: named(name, name, "it") for name in names if name is not None and is_named(name)}
    return {f"source of {name}": digest for name, thing in own.items() if (digest := _digest(thing))}


@cache
def _digest(thing: Any) -> str | None:
    """Of the source but for comments, as it was when it was first asked for: it may be edited while it computes. What
    it names of its own module is a part: functions, classes and plain values; no objects."""
    parts: dict[str, str] = {}
    try:
        _add_parts(thing, parts)
    except (OSError, TypeError, AttributeError, SyntaxError):  # typed at a prompt, or an object
        return None
    text = "\n".join(parts[part] for part in sorted(parts))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _add_parts(thing: Any, parts: dict[str, str]) -> None:
    """The sources of a function or class, of bases, and of what they name of their own module."""
    if thing.__qualname__ in parts:
        return
    functions = list(_functions_of(thing))
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):  # a class of a notebook
        if not inspect.isclass(thing):
            raise
        source = "\n".join(textwrap.dedent(inspect.getsource(function)) for function in functions)
    parts[thing.__qualname__] = ast.unparse(ast.parse(textwrap.dedent(source)))
    used = {name: function.__globals__[name] for function in functions for name in _globals_of(function)}
    bases = dict(enumerate(thing.__bases__)) if inspect.isclass(thing) else {}
    for name, value in (used | bases).items():
        if inspect.isfunction(value) or inspect.isclass(value):
            if value.__module__ == thing.__module__:
                _add_parts(value, parts)
        elif isinstance(value, bool | int | float | str | tuple) and " at 0x" not in repr(value):
            parts[f"{name} ="] = repr(value)


def _functions_of(thing: Any) -> Iterator[FunctionType]:
    for value in vars(thing).values() if inspect.isclass(thing) else [thing]:
        function = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
        if inspect.isfunction(function) and function.__module__ == thing.__module__:
            yield function


def _globals_of(function: FunctionType) -> set[str]:
    codes, names = [function.__code__], set[str]()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names & function.__globals__.keys()
