"""A folder that a table in it describes, as Hugging Face's image folders have it: metadata.csv or metadata.jsonl."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whymask.data.csv_rows import read_csv
from whymask.data.files import from_table
from whymask.data.places import located
from whymask.data.settings import LabelSettings
from whymask.data.source import Reader, Source, split_named
from whymask.errors import WhymaskError

NAMES = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"


def from_metadata(
    name: str, root: Path, files: Sequence[str], reader: Reader | None, asked: LabelSettings
) -> Source | None:
    """The images that the metadata in `root`, or in its split folders, name, with their labels; None where there is no
    such table, or none with a column of labels, or none of the images is there."""
    tables = [Path(file) for file in files if Path(file).name in NAMES and len(Path(file).parts) <= 2]
    rows: list[dict[str, Any]] = []
    nameless = 0
    for table in tables:
        split = split_named(table.parts[0]) if len(table.parts) == 2 else None
        for row in _rows(name, root / table):
            if not row.get(FILE_NAME):
                nameless += 1
                continue
            placed = {"path": str(table.parent / row[FILE_NAME])} | ({"split": split[0]} if split else {})
            rows.append({key: value for key, value in row.items() if key != FILE_NAME} | placed)
    header = list(dict.fromkeys(key for row in rows for key in row))
    if not rows:
        return None
    try:
        source = from_table(name, header, [[row.get(key) for key in header] for row in rows], [root], reader, asked)
    except WhymaskError:
        if any(located([row["path"] for row in rows], [root]).there):
            raise
        return None
    if not source.labelled.any():
        return None
    return replace(
        source, notes=(*source.notes, *[f"{nameless:,} rows without {FILE_NAME} are passed over"] * bool(nameless))
    )


def _rows(name: str, path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        header, rows = read_csv(name, path)
        return [dict(zip(header, row, strict=False)) for row in rows]
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (ValueError, UnicodeDecodeError) as error:
        raise WhymaskError(f"{path}: no JSON a line ({error}); correct it, or move it away") from error
    return [row for row in found if isinstance(row, dict)]
