"""Which classes are taken for which: of study.json's confusion."""

from typing import Any

import numpy as np

from whymask.stages.taken import leading_of
from whymask.studies.page.results import BASELINES, arms_of, lead_of

Row = dict[str, Any]
MATRIX_CLASSES = 15
CONFUSED_PAIRS = 12
LEAD_PAIRS = 5


def confusions(study: Row, labels: Any) -> list[Row]:
    """Per arm at `labels`: {"arm", "matrix": [[(count, share of the true class)]]}; for many classes {"arm", "pairs"},
    each pair (true class, predicted class, count, share).
    """
    classes = list(study["data"].get("classes") or [])
    shown = []
    arms = arms_of(study)
    for row in sorted(study["confusion"], key=lambda row: arms.index(row["arm"])):
        counts = np.asarray(row["counts"], dtype=float)
        if row["labels_per_class"] != labels or counts.shape != (len(classes), len(classes)) or not len(classes):
            continue
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
        if len(classes) <= MATRIX_CLASSES:
            matrix = [list(zip(*rows, strict=True)) for rows in zip(counts.tolist(), shares.tolist(), strict=True)]
            shown.append({"arm": row["arm"], "matrix": matrix})
        else:
            wrong = np.where(np.eye(len(classes), dtype=bool), 0, counts)
            places = [divmod(int(flat), len(classes)) for flat in np.argsort(-wrong, axis=None)[:CONFUSED_PAIRS]]
            pairs = [(classes[t], classes[p], counts[t, p], shares[t, p]) for t, p in places if counts[t, p] > 0]
            shown.append({"arm": row["arm"], "pairs": pairs})
    return shown


def most_confused(study: Row) -> list[Row]:
    """The pairs of classes that scratch and the pretrained network confuse most, where the verdict is given: {"true",
    "predicted", "of": test images of the true class, "baseline", "arm": how many, means over seeds}."""
    labels, classes = lead_of(study)[1], list(study["data"].get("classes") or [])
    counts = {
        row["arm"]: np.asarray(row["counts"], dtype=float)
        for row in study["confusion"]
        if row["labels_per_class"] == labels
    }
    sides = [counts.get(name) for name in (BASELINES[0], leading_of(study))]
    baseline, arm = (side if side is not None and side.shape == (len(classes),) * 2 else None for side in sides)
    if baseline is None or arm is None:
        return []
    wrong = np.where(np.eye(len(classes), dtype=bool), 0, baseline + arm)
    places = [divmod(int(flat), len(classes)) for flat in np.argsort(-wrong, axis=None, kind="stable")[:LEAD_PAIRS]]
    return [
        {"true": classes[t], "predicted": classes[p], "of": round(float(baseline[t].sum()))}
        | {"baseline": float(baseline[t, p]), "arm": float(arm[t, p])}
        for t, p in places
        if wrong[t, p] > 0
    ]
