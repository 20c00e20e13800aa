"""Two tasks beyond one class an image, on real microscope images: which cell types one shows, and how many red cells.

The images are those of BCCD (github.com/Shenggan/BCCD_Dataset, MIT), 364 blood smears with a box around each cell. This
makes two tables of them, with BCCD's own test images, and runs `whymask study` on both at its defaults:
`python -m experiments.bccd` from the repository's root; --help says more.
"""

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tyro

TABLES = {"cell-types": "label", "red-cells": "target"}


def write_tables(data: Path, out: Path) -> None:
    """`out`/cell-types.csv (path, label such as "RBC|WBC", split) and `out`/red-cells.csv (path, target, split)."""
    tests = set((data / "ImageSets/Main/test.txt").read_text().split())
    rows: dict[str, list[list[Any]]] = {name: [] for name in TABLES}
    for annotation in sorted((data / "Annotations").glob("*.xml")):
        cells = [cell.text or "" for cell in ElementTree.parse(annotation).iterfind("object/name")]
        image = (data / "JPEGImages" / f"{annotation.stem}.jpg").resolve()
        split = "test" if annotation.stem in tests else "train"
        rows["cell-types"].append([image, "|".join(sorted(set(cells))) or "|", split])
        rows["red-cells"].append([image, cells.count("RBC"), split])
    out.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        with (out / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", TABLES[name], "split"], *lines])


def main(
    data: Path = Path("../shared/data/bccd-voc"),
    out: Path = Path("runs/bccd-voc"),
    results: Path = Path("docs/results/bccd-voc"),
    seeds: int = 3,
    table: str | None = None,
) -> None:
    """Run what is not finished, and copy each study.json to `results`; the pages stay beside the runs.

    Args:
        data: BCCD as it comes: Annotations, ImageSets and JPEGImages.
        out: where the tables and the runs are kept; the same command continues.
        results: where the results are written.
        seeds: of each study.
        table: cell-types or red-cells alone.
    """
    write_tables(data, out / "tables")
    for name in TABLES if table is None else [table]:
        study = [sys.executable, "-m", "whymask.cli", "study", str(out / "tables" / f"{name}.csv")]
        subprocess.run([*study, "--seeds", str(seeds), "--no-images", "--out", str(out / name)], check=True)
        (results / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(out / name / "study.json", results / name / "study.json")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
