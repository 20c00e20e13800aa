"""A study without the names in it, for a page that may leave when the data's names must not.

Only what is known to be harmless is kept. Anything a user, a file or a library wrote as free text (paths, the command's
values, warnings, error messages) may hold a name, so it goes whole; numbers stay.
"""

import re
import shlex
from typing import Any

HIDDEN = "(hidden)"
_SAFE_SETTINGS = {"method", "metric", "budgets", "precision", "device", "encoder.name"}
_SAFE_PROVENANCE = {"device", "precision", "created", "python", "platform", "processor"}
_SAFE_DATA = {"fingerprint", "test_split"}
_DATA_KEYS = {"images", "pool", "labelled", "test", "train_counts", "test_counts", "size", "channels", "mean", "std"}
_DATA_KEYS |= {"skipped", "duplicates", "transductive", "groups", "group_by", "store"} | _SAFE_DATA
_FLAG = re.compile(r"--?[a-z][a-z0-9_.-]*")
_ERROR = re.compile(r"[A-Za-z_.]*(?:Error|Exception|Interrupt|Exit)\b")


def class_names(classes: list[Any]) -> list[str]:
    return [f"class {index}" for index in range(len(classes))]


def without_values(command: str) -> str:
    """ "whymask study photos/ --labels mine/" -> "whymask study … --labels …"."""
    try:
        tokens = shlex.split(command)
    except ValueError:
        return HIDDEN
    shown = []
    for token in tokens[tokens.index("study") + 1 :] if "study" in tokens else tokens[1:]:
        flag = _FLAG.fullmatch(token.partition("=")[0])
        shown += [flag.group()] if flag and "=" not in token else [f"{flag.group()} …"] if flag else ["…"]
    return " ".join(["whymask", "study", *shown])


def _plain(tree: Any, safe: set[str], key: str = "") -> Any:
    """`tree` with its strings hidden, except under the keys in `safe` ("key", or "parent.key")."""
    if isinstance(tree, dict):
        return {name: _plain(value, safe, f"{key.rpartition('.')[2]}.{name}") for name, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value, safe, key) for value in tree]
    shown = key in safe or key.rpartition(".")[2] in safe
    return HIDDEN if isinstance(tree, str) and not shown else tree


def _error(record: dict[str, Any]) -> dict[str, Any]:
    """The record with at most the type of its error."""
    if not record.get("error"):
        return record
    kind = _ERROR.match(str(record["error"]))
    return record | {"error": f"{kind.group() if kind else 'error'} (message hidden)"}


def _data(data: dict[str, Any]) -> dict[str, Any]:
    hidden = _plain({key: value for key, value in data.items() if key in _DATA_KEYS}, _SAFE_DATA)
    hidden |= {"classes": class_names(data.get("classes") or []), "skipped_examples": [], "name": HIDDEN}
    warnings = len(data.get("warnings") or [])
    hidden["warnings"] = [f"{warnings} warning(s) of the run, hidden because they may hold names"] if warnings else []
    return hidden


def without_names(study: dict[str, Any]) -> dict[str, Any]:
    """`study` (the object of study.json) with no file name, no class name, no path and no free text of the data.

    Classes become "class 0", "class 1", ... in the data's order.
    """
    classes = study["data"].get("classes") or []
    setting, provenance = study["setting"], study["provenance"]
    hidden = dict(study)
    hidden["setting"] = _plain(setting, _SAFE_SETTINGS)
    if "command" in setting:
        hidden["setting"]["command"] = without_values(str(setting["command"]))
    versions = provenance.get("versions")
    hidden["provenance"] = {key: provenance[key] for key in _SAFE_PROVENANCE & provenance.keys()}
    hidden["provenance"] |= {"threads": provenance.get("threads")} | ({"versions": versions} if versions else {})
    hidden["data"] = _data(study["data"])
    hidden["pretraining"] = [_error(record) for record in study["pretraining"]]
    hidden["cells"] = [_error(record) for record in study["cells"]]
    position = {name: index for index, name in reversed(list(enumerate(classes)))}
    hidden["per_class"] = [
        row | {"class": row["class"] if isinstance(row["class"], int) else position.get(row["class"], -1)}
        for row in study["per_class"]
    ]
    return hidden
