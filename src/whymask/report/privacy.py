"""A study without the names in it, for a page that may leave when the data's names must not.

Only what is known to be harmless is kept. Anything a user, a file or a library wrote as free text (paths, the command's
values, warnings, error messages) may hold a name, so it goes whole; numbers stay.
"""

import re
import shlex
from dataclasses import asdict
from typing import Any

import numpy as np

from whymask.explain.conclusions import Compared, draw, lead
from whymask.explain.numbers import Number
from whymask.methods import METHODS

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
    """ "whymask study photos/ --labels mine/" -> "whymask study … --labels …"; explain alike."""
    try:
        tokens = shlex.split(command)
    except ValueError:
        return HIDDEN
    shown = []
    name = next((token for token in tokens if token in ("study", "explain")), "study")
    for token in tokens[tokens.index(name) + 1 :] if name in tokens else tokens[1:]:
        flag = _FLAG.fullmatch(token.partition("=")[0])
        shown += [flag.group()] if flag and "=" not in token else [f"{flag.group()} …"] if flag else ["…"]
    return " ".join(["whymask", name, *shown])


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


def explanation_without_names(
    told: dict[str, Any], arrays: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """An explanation (the object of explain.json, and its pictures) with no class name, file name or free text.

    Classes become "class 0", "class 1", ...; networks that were named by their folders "first" and "second". Sentences
    are made anew from the numbers.
    """
    setting = told["setting"]
    shown = class_names(setting["classes"])
    names = _arm_names(told["arms"])
    roles = {arm["role"]: names[arm["name"]] for arm in told["arms"]}
    hidden = dict(told)
    hidden["setting"] = _plain({**setting, "classes": []}, {"measures"}) | {"classes": shown, "data": None}
    hidden["setting"] |= {role: roles.get(role, HIDDEN) for role in ("pretrained", "baseline")}
    if "command" in setting:
        hidden["setting"]["command"] = without_values(str(setting["command"]))
    hidden["provenance"] = {key: told["provenance"][key] for key in _SAFE_PROVENANCE & told["provenance"].keys()}
    for kind, texts in (("warning", told["warnings"]), ("note", told["notes"])):
        count = len(texts)
        hidden[f"{kind}s"] = [f"{count} {kind}(s), hidden because they may hold names"] if count else []
    hidden["arms"] = [{**arm, "name": names[arm["name"]], "folders": []} for arm in told["arms"]]
    classes = dict(zip(setting["classes"], shown, strict=True))
    pairs = {f"{a} - {b}": f"{shown_a} - {shown_b}" for a, shown_a in names.items() for b, shown_b in names.items()}
    hidden["numbers"] = [_number(row, pairs | names, classes) for row in told["numbers"]]
    hidden |= _sentences(hidden)
    return hidden, {_array(name, names): array for name, array in arrays.items()}


def _arm_names(arms: list[dict[str, Any]]) -> dict[str, str]:
    """What each of the networks may be called: methods by their names, folders by their place."""
    known = {*METHODS, "scratch", "pretrained"}
    places = {"pretrained": "first", "baseline": "second"}
    names = {
        arm["name"]: arm["name"] if arm["role"] not in places or arm["name"] in known else places[arm["role"]]
        for arm in arms
    }
    first = next((arm["name"] for arm in arms if arm["role"] == "pretrained"), "")
    return names | {arm["name"]: f"{names[first]} encoder" for arm in arms if arm["role"] == "readout"}


def _number(row: dict[str, Any], names: dict[str, str], classes: dict[str, str]) -> dict[str, Any]:
    item = _item(row["item"], classes) if row["measure"] == "features" else row["item"]  # else a layer's number
    return {**row, "arm": names.get(row["arm"], HIDDEN), "item": item}


def _item(item: str | None, classes: dict[str, str]) -> str | None:
    """A class, or "CLASS, feature 1"."""
    if item is None:
        return None
    name, comma, feature = item.rpartition(", feature ")
    return f"{classes[name]}, feature {feature}" if comma and name in classes else classes.get(item, HIDDEN)


def _array(name: str, names: dict[str, str]) -> str:
    """ "images", "labels", or "evidence/ARM" and alike."""
    what, slash, arm = name.partition("/")
    return f"{what}/{names.get(arm, HIDDEN)}" if slash else name


def _sentences(told: dict[str, Any]) -> dict[str, Any]:
    """Lead and conclusions of what `told` says by now."""
    arms = {arm["role"]: arm for arm in told["arms"]}
    if not {"pretrained", "baseline"} <= arms.keys():
        return {"lead": "", "conclusions": []}
    first, second = arms["pretrained"], arms["baseline"]
    compared = Compared(first["name"], second["name"], (first["kind"], second["kind"]))
    numbers = [Number(**row) for row in told["numbers"]]
    return {
        "lead": lead(numbers, compared, told["setting"]["features"]),
        "conclusions": [asdict(conclusion) for conclusion in draw(numbers, compared)],
    }


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
