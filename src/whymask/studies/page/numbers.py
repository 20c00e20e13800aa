"""A study's numbers as CSV files that its page holds."""

from typing import Any

from whymask.report.page import packed_table

Row = dict[str, Any]
_PLACE = ("arm", "labels_per_class", "metric")
_PAIR = ("difference", "low", "high", "low_images", "high_images", "seeds", "dropped")
_RUN = ("arm", "labels_per_class", "seed")
COSTS = ("images_seen", "operations", "seconds", "joules")


def tables(study: Row) -> dict[str, Row]:
    """{"levels", "pairs", "runs"}: {"rows": how many, "csv": as `packed`}; a run's metrics are columns of its row."""
    runs = [record | {"arm": f"pretraining {record['method']}"} for record in study["pretraining"]] + study["cells"]
    metrics = list(dict.fromkeys(metric for cell in study["cells"] for metric in cell.get("metrics") or {}))
    done = [record | (record.get("metrics") or {}) for record in runs if not record.get("error")]
    return {
        "levels": _table((*_PLACE, "mean", "low", "high", "seeds"), study["levels"]),
        "pairs": _table(("arm", "baseline", *_PLACE[1:], *_PAIR), study["pairs"]),
        "runs": _table((*_RUN, *metrics, *COSTS), done),
    }


def _table(columns: tuple[str, ...], rows: list[Row]) -> Row:
    return {"rows": len(rows), "csv": packed_table(columns, rows)}
