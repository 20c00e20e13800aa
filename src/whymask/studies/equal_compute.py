"""Whether scratch-long got what pretraining and fine-tuning cost, as it must."""

from typing import Any

from whymask.studies.settings import SCRATCH, SCRATCH_LONG


def unequal_compute(study: dict[str, Any], by_hours: bool) -> str | None:
    """What a page must say of a study.json whose scratch-long got another compute than pretraining and fine-tuning.

    Studies by --hours of the first versions are such: scratch-long was trained for the epochs before they were fitted.
    """
    rows = [row for row in study["pretraining"] if row["method"] == study["setting"].get("method", row["method"])]
    spent = {row["seed"]: row["operations"] for row in rows if row.get("operations")}
    cells = {(row["arm"], row.get("budget"), row["seed"]): row for row in study["cells"] if row.get("operations")}
    ratios = []
    for (arm, budget, seed), row in cells.items():
        scratch = cells.get((SCRATCH, budget, seed))
        if arm == SCRATCH_LONG and scratch is not None and seed in spent and row.get("steps"):
            fair = spent[seed] + scratch["operations"]
            if abs(row["operations"] - fair) > row["operations"] / row["steps"]:
                ratios.append(row["operations"] / fair)
    if not ratios:
        return None
    made = "this study was fitted to --hours by" if by_hours else "it was counted otherwise by"
    return (
        f"Scratch-long was given {sum(ratios) / len(ratios):.2g} times the compute of pretraining and fine-tuning, and "
        f"not the same: {made} an earlier version. What is said of equal compute does not hold here; begin the study "
        "anew in another --out."
    )
