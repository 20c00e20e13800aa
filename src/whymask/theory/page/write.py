"""The page of a theory run: claims.json and arrays.npz -> report.html and figures/*.svg."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from whymask.disk import read_json, write_bytes
from whymask.errors import WhymaskError
from whymask.report.figures import inline, write_figures
from whymask.report.page import render
from whymask.report.pictures import arrays_of
from whymask.report.text import clean, count, flatten, known, plural, setting_value
from whymask.theory.claims import CLAIMS, CONTROLS
from whymask.theory.claims.claim import CLOCK_NAMES, Picture, Section, Told
from whymask.theory.claims.downstream import region_table
from whymask.theory.claims.earlier import with_states
from whymask.theory.claims.record import at_least, tally

Row = dict[str, Any]
TITLES = {claim.id: claim.title for claim in (*CLAIMS.values(), *CONTROLS)}
REGIME = {
    "k": "classes", "L": "features a class", "m": "kernels a class", "d": "numbers a patch", "P": "patches",
    "C_p": "patches a feature", "s": "other features an image", "mu": "of images single-view", "N": "training images",
    "q": "degree of the smoothed ReLU", "rho": "where it turns linear", "theta": "of patches kept by a mask",
    "tau": "teacher's scale", "scale": "deviation of first kernels", "sigma": "noise of patches",
    "gamma": "feature noise",
}  # fmt: skip
"""The settings that stand above the table, with what they are."""
_COLUMNS = ("what", "measured", "low", "high", "threshold", "count", "seeds", "worst_seed", "worst", "state")
_TEMPLATES = Path(__file__).with_name("templates")


def write_theory_page(folder: Path) -> Path:
    """Write ``folder/report.html`` and ``folder/figures/*.svg`` from ``folder/claims.json`` and ``folder/arrays.npz``.

    Whatever is missing (claims not run, intervals, arrays) is left out of the page. Returns the page's path. Raises
    `WhymaskError` if there is no readable claims.json.
    """
    folder = Path(folder)
    run = load_run(folder)
    sections = sections_of(run, arrays_of(folder / "arrays.npz"))
    pictures = [picture for _, drawn in sections for picture in drawn]
    page = render(
        "theory.html.j2",
        _TEMPLATES,
        run=run,
        summary=summary(run),
        regime=regime(run["setting"]),
        groups=[("claims", run["claims"]), ("controls", run["controls"])],
        region=region_table(rows_of(run, "downstream")),
        sections=sections,
        figures={picture.name: inline(picture.svg, picture.caption) for picture in pictures},
        settings=flatten(run["setting"]),
        provenance=flatten({key: value for key, value in run["provenance"].items() if key != "command"}),
    )
    write_figures(folder / "figures", {f"{p.name}.svg": p.svg.encode() for p in pictures}, "theory-*.svg")
    write_bytes(folder / "report.html", page)
    return folder / "report.html"


def load_run(folder: Path) -> Row:
    """claims.json, its strings printable, with an empty section for each one that is missing."""
    path = folder / "claims.json"
    try:
        run = clean(read_json(path))
    except OSError as error:
        raise WhymaskError(
            f"{path} cannot be read ({error}); expected the folder of a theory run; run it first"
        ) from error
    if not isinstance(run, dict):
        raise WhymaskError(f"{path} holds no object; expected the claims.json of a theory run; run it again")
    for section in ("setting", "provenance"):
        run[section] = run.get(section) or {}
    for section in ("claims", "controls", "seeds", "idealisations"):
        run[section] = run.get(section) or []
    for section in ("claims", "controls"):
        claims = [with_states(claim, section == "controls") for claim in run[section] if isinstance(claim, dict)]
        run[section] = [_described(claim, f"{section}-{place}") for place, claim in enumerate(claims)]
    return run


def sections_of(run: Row, arrays: dict[str, np.ndarray]) -> list[tuple[Section, list[Picture]]]:
    """Every claim's section that has pictures, with them. `run` is claims.json with rows that are dicts."""
    drawn = [
        (claim.section, claim.section.draw(Told(rows_of(run, claim.id), run["setting"], arrays)))
        for claim in CLAIMS.values()
        if claim.section
    ]
    return [(section, pictures) for section, pictures in drawn if pictures]


def rows_of(run: Row, id: str) -> list[Row]:
    """The rows of a claim, on all clocks."""
    return [row for claim in run["claims"] if claim["id"] == id for row in claim["rows"]]


def _described(claim: Row, anchor: str) -> Row:
    """A claim with its name, the tag of its clock, its main row's words, and its rows as tables."""
    rows = [row for row in claim.get("rows") or [] if isinstance(row, dict)]
    others, region = [row for row in rows if not row.get("region")], [row for row in rows if row.get("region")]
    return claim | {
        "id": str(claim.get("id")),
        "rows": rows,
        "name": TITLES.get(str(claim.get("id")), str(claim.get("id"))),
        "tag": CLOCK_NAMES.get(str(claim.get("clock")), claim.get("clock")),
        "anchor": anchor,
        "what": rows[0].get("what") if rows else None,
        "because": _because(claim),
        "tables": [row_table(part) for part in (others, region) if part],  # the region's have keys of their own
    }


def _because(claim: Row) -> str | None:
    """Why a claim is in the state that it is in, where its threshold and interval do not show it."""
    state: Any = claim.get("state")
    low: Any = claim.get("low")
    high: Any = claim.get("high")
    threshold: Any = claim.get("threshold")
    if state == "not measured":
        return "nothing to compare"
    if not (known(low) and known(high) and known(threshold)):
        return "too few seeds for an interval" if state == "undecided" else None
    if state == "undecided" and low <= threshold <= high:
        return "the interval holds the threshold"
    own = at_least(claim, threshold)["state"]
    if state in ("fails", "undecided") and own == "holds":
        return f"another of its rows {'fails' if state == 'fails' else 'is undecided'}"
    return None


def row_table(rows: list[Row]) -> Row:
    """{"keys", "columns", "rows"}: the keys that only these rows have, and which of the usual ones occur."""
    found = dict.fromkeys(key for row in rows for key in row)
    keys = [key for key in found if key not in (*_COLUMNS, "region")]
    cells = [row | {"cells": [(row.get(key), _cell(row.get(key))) for key in keys]} for row in rows]
    return {"keys": keys, "columns": [key for key in _COLUMNS if key in found], "rows": cells}


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    return count(value) if known(value) else setting_value(value)


def summary(run: Row) -> Row:
    """What the top of the page says: {"title", "badge", "mark", "text", "claims", "controls", "broken"}.

    "claims": one row a claim, {"name", "results"}, a result for each clock.
    """
    states = [claim["state"] for claim in run["claims"] if claim["state"] is not None]
    title, ids = tally(states), dict.fromkeys(claim["id"] for claim in run["claims"])
    rows = [{"name": TITLES.get(id, id), "results": [c for c in run["claims"] if c["id"] == id]} for id in ids]
    badge, mark = ("good", "✓") if states else ("", "…")
    if set(states) - {"holds"}:
        badge, mark = ("bad", "✗") if set(states) == {"fails"} else ("warn", "≠" if "fails" in states else "?")
    return {
        "title": title[0].upper() + title[1:],
        "badge": badge,
        "mark": mark,
        "text": f"{_where(run)}; {_tested(run)}{title}.",
        "reading": _reading(run["claims"]),
        "claims": rows,
        "controls": len(run["controls"]),
        "broken": [control for control in run["controls"] if control["state"] == "fails"],
    }


READINGS = {
    ("coverage", "own"): "Features captured where every kernel stops on its own, which no algorithm of the paper does",
    ("coverage", "common"): "Features captured by gradient descent with one stop for all",
    ("coverage", "normalised"): "Features captured by plain descent on normalised targets, which is not the paper's",
    ("downstream", "own"): "What pretraining adds downstream, on images that show one feature of their class",
    ("augmentation", None): "What is left of that beside networks trained on labels with patches hidden",
    ("norms", None): "What is left of it beside random kernels of equal norms",
    ("frozen", None): "Settings of a search in which random kernels fail and pretraining does not",
    ("masks", "normalised"): "What hiding itself adds to the features captured, on normalised targets",
    ("masks", "own"): "The same where every kernel stops on its own",
}
"""The numbers that answer the question of the page, by claim and clock, in words without the paper's."""


def _reading(claims: list[Row]) -> list[Row]:
    """{"text", "claim"}: the numbers of `READINGS` that there are."""
    found = {(claim["id"], claim.get("clock")): claim for claim in claims}
    return [
        {"text": text, "claim": found[key]}
        for key, text in READINGS.items()
        if key in found and known(found[key].get("measured"))
    ]


def _tested(run: Row) -> str:
    """ "9 claims, 5 of them on several clocks: "; nothing where none was judged."""
    judged = Counter(claim["id"] for claim in run["claims"] if claim["state"] is not None)
    if not judged:
        return ""
    several = sum(tests > 1 for tests in judged.values())
    clocks = f", {several} of them on several clocks" if several else ""
    return f"{plural(len(judged), 'claim')}{clocks}: "


def _where(run: Row) -> str:
    """ "k = 10, 20 seeds"."""
    seeds = len(run["seeds"]) or max((c["seeds"] for c in run["claims"] if known(c.get("seeds"))), default=0)
    k = {key: value for key, value, _ in regime(run["setting"])}.get("k")
    return ", ".join([*([f"k = {k}"] if k else []), plural(seeds, "seed")])


def regime(setting: Row) -> list[tuple[str, str, str]]:
    """(symbol, value, what it is) of the settings that stand above the table."""
    values: dict[str, Any] = {}
    for tree in (setting, setting.get("data")):
        if isinstance(tree, dict):
            values |= {key: value for key, value in tree.items() if key not in values}
    return [
        (key, f"{value:.3g}" if isinstance(value, float) else setting_value(value), about)
        for key, about in REGIME.items()
        if (value := values.get(key)) is not None
    ]
