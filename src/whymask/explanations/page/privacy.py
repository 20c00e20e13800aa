"""An explanation without the names in it, for a page that may leave when the data's names must not."""

from dataclasses import asdict
from typing import Any

import numpy as np

from whymask.explanations.compared import Compared
from whymask.explanations.conclusions import draw, lead
from whymask.explanations.measures import MEASURES
from whymask.explanations.numbers import Number
from whymask.methods import METHODS
from whymask.report.privacy import HIDDEN, class_names, harmless, without_texts, without_values


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
    hidden["setting"] = without_texts({**setting, "classes": []}, {"measures"}) | {"classes": shown, "data": None}
    hidden["setting"] |= {role: roles.get(role, HIDDEN) for role in ("pretrained", "baseline")}
    if "command" in setting:
        hidden["setting"]["command"] = without_values(str(setting["command"]))
    hidden["provenance"] = harmless(told["provenance"])
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
    measure = MEASURES.get(row["measure"])
    item = row["item"] and (measure.unnamed(row["item"], classes) if measure else HIDDEN)
    return {**row, "arm": names.get(row["arm"], HIDDEN), "item": item}


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
    drawn = draw(numbers, compared)
    return {
        "lead": lead(numbers, compared, drawn, told["setting"]["features"]),
        "conclusions": [asdict(conclusion) for conclusion in drawn],
    }
