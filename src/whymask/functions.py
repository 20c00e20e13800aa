"""Functions and classes of one's own by their names, MODULE:NAME, which records and commands can hold."""

import importlib
import re
import sys
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
