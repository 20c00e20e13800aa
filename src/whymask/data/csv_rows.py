"""A CSV as its header and its rows."""

import csv
from pathlib import Path

from whymask.errors import WhymaskError


def read_csv(name: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows that are not empty, without space around values; what stands between them, a comma, a
    semicolon or a tab, is that of the header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            between = next((mark for mark in (",", ";", "\t") if mark in first), ",")
            rows = [[value.strip() for value in row] for row in csv.reader(file, delimiter=between) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WhymaskError(f"{name}: no CSV in UTF-8 ({error}); save it as one, with commas") from error
    return (rows[0], rows[1:]) if rows else ([], [])
