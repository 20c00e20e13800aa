"""study.json of the first schema, whose undecided cases were all "no difference", judged by the rules of today."""

from typing import Any

from whymask.errors import WhymaskError
from whymask.studies.settings import MARGIN
from whymask.studies.verdict import margin_of, verdict
from whymask.studies.worth import may_be_said
from whymask.tasks import Task

Row = dict[str, Any]


def judged_anew(study: Row, task: Task) -> Row:
    """A study of schema 1 with the verdict that its numbers have today, and with what may be said of label worth.

    `study` has every section, some perhaps empty. Whether a network is above chance was not tested then. Without a
    verdict, or with one on a metric that is known no more, it stays as it is.
    """
    given = study["verdict"]
    if study.get("schema", 1) >= 2 or not {"kind", "metric", "labels_per_class"} <= given.keys():
        return study
    metric, method = given["metric"], study["setting"].get("method")
    try:
        about = task.describe(metric)
    except WhymaskError:
        return study
    anew = verdict(
        study["pairs"],
        metric,
        given["labels_per_class"],
        task=task,
        arm=method or next((row["arm"] for row in study["pairs"]), "pretraining"),
        levels=study["levels"],
        margin=margin_of(about, MARGIN, study["chance"].get(metric)),
        test_images=study["data"].get("test") if study["data"].get("groups") is None else None,
        equal_compute=study["setting"].get("scratch_long") != "none",
    )
    worths = [
        row | {"said": may_be_said(row, study["levels"], study["pairs"], dict(anew), method, task)}
        for row in study["label_worth"]
    ]
    return study | {"verdict": dict(anew), "label_worth": worths}
