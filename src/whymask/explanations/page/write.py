"""The page of an explanation: explain.json and pictures.npz -> report.html and figures/why-*.svg and .png."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from whymask.disk import read_json, write_bytes
from whymask.errors import WhymaskError
from whymask.explanations.drawing import MAIN, Row, Told, styles_of
from whymask.explanations.fill import FILLED
from whymask.explanations.measure import Measure
from whymask.explanations.measures import MEASURES
from whymask.explanations.numbers import SEEDS
from whymask.explanations.page.figures import Arrays, figures_of, names_of, overlay, rgb, shown_arms
from whymask.explanations.page.privacy import explanation_without_names
from whymask.report.figures import inline, to_png, to_svg, write_figures
from whymask.report.page import packed_table, render, render_part
from whymask.report.pictures import arrays_of, data_uri
from whymask.report.text import clean, flatten

COLUMNS = ("measure", "quantity", "arm", "seed", "filling", "at", "item", "value", "low", "high", "count", "over")
_TEMPLATES = Path(__file__).with_name("templates")
SIDE = 96
"""Pixels a side of a picture of evidence."""
BESIDE = 4
"""Test images with evidence on the page of a study."""


def write_why_page(folder: Path, *, images: bool = True, names: bool = True) -> Path:
    """Write ``folder/report.html`` and ``folder/figures/why-*`` from ``folder/explain.json`` and pictures.npz.

    What is missing is left out. With ``images=False`` there is no image in it; with ``names=False`` no file name, class
    name, path, nor any free text that may hold one. Returns the page's path. Raises WhymaskError if there is no
    readable explain.json.
    """
    folder = Path(folder)
    told, arrays = load(folder, images=images, names=names)
    drawn = figures_of(told, arrays)
    figures = {name: (figure, to_svg(name, figure), label) for name, (figure, label) in drawn.items()}
    page = render(
        "why.html.j2",
        _TEMPLATES,
        told=told,
        figures={name: inline(svg, label) for name, (_, svg, label) in figures.items()},
        captions={name: label for name, (_, _, label) in figures.items()},
        examples=examples(told, arrays),
        measures=[section for measure in MEASURES.values() if (section := section_of(told, measure, figures))],
        settings=flatten({key: value for key, value in told["setting"].items() if key not in ("classes", "command")}),
        provenance=flatten({key: value for key, value in told["provenance"].items() if key != "command"}),
        styles=styles_of(told),
        names=names,
    )
    files = {f"{name}.svg": svg.encode() for name, (_, svg, _) in figures.items()}
    files |= {f"{name}.png": to_png(name, figure) for name, (figure, _, _) in figures.items()}
    write_figures(folder / "figures", files, "why-*.svg", "why-*.png")
    write_bytes(folder / "report.html", page)
    return folder / "report.html"


def load(folder: Path, *, images: bool = True, names: bool = True) -> tuple[Told, Arrays]:
    """explain.json, its strings printable, and the arrays of pictures.npz; without what must not be shown."""
    try:
        told: Told = clean(read_json(folder / "explain.json"))
    except OSError as error:
        raise WhymaskError(
            f"{folder / 'explain.json'} cannot be read ({error}); the folder of an explanation was expected; make it "
            "with whymask explain"
        ) from error
    arrays = arrays_of(folder / "pictures.npz") if images else {}
    return (told, arrays) if names else explanation_without_names(told, arrays)


def html_of(told: Told, arrays: Arrays) -> str:
    """An explanation as part of a page or notebook: lead, conclusions, where the two arms look, and the main figures;
    no script, all escaped."""
    told = clean(told)
    drawn = figures_of(told, {})
    main = [arm["name"] for arm in told["arms"] if arm["role"] in MAIN]
    return render_part(
        "why_part.html.j2",
        _TEMPLATES,
        told=told,
        examples=examples(told, arrays, main, BESIDE),
        figures={name: inline(to_svg(name, figure), label) for name, (figure, label) in drawn.items()},
        captions={name: label for name, (_, label) in drawn.items()},
    )


def part_of_study(folder: Path, *, images: bool, names: bool) -> Markup | None:
    """What the page of the study that holds `folder` shows of the explanation there, if one is there."""
    if not (folder / "explain.json").exists():
        return None
    return Markup(html_of(*load(folder, images=images, names=names)))


def examples(
    told: Told, arrays: Arrays, among: Collection[str] | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """The example images, or the first `most`, each with what every arm, or those `among` these, sees in it and says of
    it."""
    classes = told["setting"]["classes"]
    arms = [arm for arm in shown_arms(told, arrays) if among is None or arm in among]
    if not arms:
        return []

    def verdict(what: str, arm: str, row: int) -> dict[str, Any]:
        said = int(arrays[f"{what}/{arm}"][row])
        return {"name": classes[said], "right": said == int(arrays["labels"][row])}

    shown = []
    for row, image in enumerate(arrays["images"][:most]):
        networks = [
            {
                "arm": arm,
                "evidence": data_uri(overlay(image, arrays[f"evidence/{arm}"][row], SIDE), SIDE),
                "hidden": data_uri(rgb(arrays[f"hidden/{arm}"][row]), SIDE),
                "whole": verdict("whole", arm, row),
                "left": verdict("left", arm, row),
            }
            for arm in arms
        ]
        label = classes[int(arrays["labels"][row])]
        shown.append({"label": label, "image": data_uri(rgb(image), SIDE), "networks": networks})
    return shown


def section_of(told: Told, measure: Measure, drawn: Iterable[str]) -> dict[str, Any] | None:
    """One measure's section: which of the `drawn` figures it has, table and CSV file; None where it was not taken."""
    rows = [row for row in told["numbers"] if row["measure"] == measure.name]
    if not rows:
        return None
    table = table_of(rows)
    return {
        "name": measure.name,
        "title": measure.title,
        "about": measure.about,
        "figures": names_of(measure, drawn),
        "beside": beside_of(table, told["setting"]),
        "table": table,
        "numbers": len(rows),
        "csv": packed_table(COLUMNS, rows),
    }


def table_of(rows: list[Row]) -> list[dict[str, Any]]:
    """A row for each mean over seeds: what it is of, its value, and its intervals over seeds and over images."""
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if row["seed"] is not None:
            continue
        key = tuple(row[name] for name in ("quantity", "arm", "filling", "at", "item"))
        entry = table.setdefault(key, {**row, "filling": FILLED.get(row["filling"], ""), "intervals": {}})
        entry["intervals"]["seeds" if row["over"] == "seeds" else "other"] = row
    return list(table.values())


def beside_of(table: list[dict[str, Any]], setting: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each quantity that is one number: that of both arms and their difference, each with its interval, over
    seeds where these are enough, else over images."""
    arms = [setting["pretrained"], setting["baseline"]]
    arms.append(" - ".join(arms))
    beside: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table:
        if row["arm"] in arms and row["at"] is None and row["item"] is None:
            over_seeds, other = row["intervals"].get("seeds"), row["intervals"].get("other")
            told = over_seeds if over_seeds and (other is None or over_seeds["count"] >= SEEDS) else other
            of = {"quantity": row["quantity"], "filling": row["filling"]} | {"cells": dict.fromkeys(arms)}
            beside.setdefault((row["quantity"], row["filling"]), of)["cells"][row["arm"]] = told
    return list(beside.values())
