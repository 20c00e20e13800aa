"""A study without the names in it, for a page that may leave when the data's names must not."""

from typing import Any

from whymask.report.privacy import (
    HIDDEN,
    class_names,
    harmless,
    without_message,
    without_texts,
    without_values,
)

_SAFE_SETTINGS = {"method", "metric", "budgets", "precision", "device", "encoder.name"}
_SAFE_DATA = {"fingerprint", "test_split"}
_DATA_KEYS = {"images", "pool", "labelled", "test", "train_counts", "test_counts", "size", "channels", "mean", "std"}
_DATA_KEYS |= {"skipped", "duplicates", "transductive", "groups", "group_by", "store"} | _SAFE_DATA


def without_names(study: dict[str, Any]) -> dict[str, Any]:
    """`study` (the object of study.json) with no file name, no class name, no path and no free text of the data.

    Classes become "class 0", "class 1", ... in the data's order.
    """
    classes = study["data"].get("classes") or []
    setting, provenance = study["setting"], study["provenance"]
    hidden = dict(study)
    hidden["setting"] = without_texts(setting, _SAFE_SETTINGS)
    if "command" in setting:
        hidden["setting"]["command"] = without_values(str(setting["command"]))
    versions = provenance.get("versions")
    hidden["provenance"] = harmless(provenance)
    hidden["provenance"] |= {"threads": provenance.get("threads")} | ({"versions": versions} if versions else {})
    hidden["data"] = _data(study["data"])
    hidden["pretraining"] = [without_message(record) for record in study["pretraining"]]
    hidden["cells"] = [without_message(record) for record in study["cells"]]
    position = {name: index for index, name in reversed(list(enumerate(classes)))}
    hidden["per_class"] = [
        row | {"class": row["class"] if isinstance(row["class"], int) else position.get(row["class"], -1)}
        for row in study["per_class"]
    ]
    return hidden


def _data(data: dict[str, Any]) -> dict[str, Any]:
    hidden = without_texts({key: value for key, value in data.items() if key in _DATA_KEYS}, _SAFE_DATA)
    hidden |= {"classes": class_names(data.get("classes") or []), "skipped_examples": [], "name": HIDDEN}
    warnings = len(data.get("warnings") or [])
    hidden["warnings"] = [f"{warnings} warning(s) of the run, hidden because they may hold names"] if warnings else []
    return hidden
