"""Hiding what a user, a file or a library wrote, for a page that may leave when the data's names must not.

Only what is known to be harmless is kept. Anything written as free text (paths, the command's values, warnings, error
messages) may hold a name, so it goes whole; numbers stay. What of a page is harmless, its own room knows.
"""

import re
import shlex
from typing import Any

HIDDEN = "(hidden)"
_SAFE_PROVENANCE = {"device", "precision", "created", "python", "platform", "processor"}
_COMMANDS = ("study", "explain", "predict", "export")
_FLAG = re.compile(r"--?[a-z][a-z0-9_.-]*")
_ERROR = re.compile(r"[A-Za-z_.]*(?:Error|Exception|Interrupt|Exit)\b")


def class_names(classes: list[Any]) -> list[str]:
    return [f"class {index}" for index in range(len(classes))]


def without_values(command: str) -> str:
    """ "whymask study photos/ --labels mine/" -> "whymask study … --labels …"; the other commands alike."""
    try:
        tokens = shlex.split(command)
    except ValueError:
        return HIDDEN
    shown = []
    name = next((token for token in tokens if token in _COMMANDS), "study")
    for token in tokens[tokens.index(name) + 1 :] if name in tokens else tokens[1:]:
        flag = _FLAG.fullmatch(token.partition("=")[0])
        shown += [flag.group()] if flag and "=" not in token else [f"{flag.group()} …"] if flag else ["…"]
    return " ".join(["whymask", name, *shown])


def harmless(provenance: dict[str, Any]) -> dict[str, Any]:
    """What of a run's provenance tells nothing of whose it is."""
    return {key: value for key, value in provenance.items() if key in _SAFE_PROVENANCE}


def without_texts(tree: Any, safe: set[str], key: str = "") -> Any:
    """`tree` with its strings hidden, except under the keys in `safe` ("key", or "parent.key")."""
    if isinstance(tree, dict):
        return {name: without_texts(value, safe, f"{key.rpartition('.')[2]}.{name}") for name, value in tree.items()}
    if isinstance(tree, list):
        return [without_texts(value, safe, key) for value in tree]
    shown = key in safe or key.rpartition(".")[2] in safe
    return HIDDEN if isinstance(tree, str) and not shown else tree


def without_message(record: dict[str, Any]) -> dict[str, Any]:
    """The record with at most the type of its error."""
    if not record.get("error"):
        return record
    kind = _ERROR.match(str(record["error"]))
    return record | {"error": f"{kind.group() if kind else 'error'} (message hidden)"}
