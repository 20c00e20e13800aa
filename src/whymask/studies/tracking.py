"""A study as those see it who track it: its own run, beside those of its cells."""

from typing import Any

from whymask.errors import WhymaskError
from whymask.runs import RunFolder
from whymask.stages.settings import Track
from whymask.stages.tracking import Tracker, Tracking
from whymask.studies.config import StudyConfig


def tracking_of(track: Track, *, images: bool, names: bool) -> Tracking | None:
    """Raises WhymaskError for what is no tracker's name: a logger is one run, a study has many."""
    tracking = Tracking.of(track, images=images, names=names)
    if tracking is not None and not all(isinstance(one, str) for one in tracking.asked):
        raise WhymaskError(
            "track: a logger was given, which is one run, and each cell of a study is a run of its own; give names, "
            "such as track='tensorboard'"
        )
    return tracking


def track_study(
    tracking: Tracking | None, folder: RunFolder, config: StudyConfig, table: dict[str, Any] | None = None
) -> None:
    """Its settings, when it begins; and at the end, of study.json's `table`, each arm's mean with its interval, at the
    labels a class as steps, the verdict and the page. It is closed in between, as its cells are runs of their own.

    Raises WhymaskError for a tracker that cannot be begun."""
    if tracking is None:
        return
    tracker = Tracker.begun(tracking, folder)
    tracker.settings({"stage": "study", "settings": config.to_dict()})
    if table is not None:
        for row in table["levels"]:
            told = {name: row[name] for name in ("mean", "low", "high") if name in row}
            tracker.line({"step": row["labels_per_class"], row["metric"]: {row["arm"]: told}})
        tracker.settings({"verdict": table["verdict"]["text"]})
        tracker.file(folder.path / "report.html")
    tracker.end("success")
