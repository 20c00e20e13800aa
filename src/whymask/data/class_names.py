"""What the classes of label maps are called, and in which colours they are drawn: a file beside the images, or one that
was asked for."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whymask.data.csv_rows import read_csv
from whymask.data.settings import LabelSettings
from whymask.errors import WhymaskError
from whymask.tasks.label_map_counts import IGNORED

NAME_FILES = (
    *("classes.txt", "codes.txt", "labels.txt", "class_names.txt", "label_colors.txt"),
    *("class_dict.csv", "class_names.csv", "classes.csv"),
)
"""Beside the images, the first of them that is there."""
NAME_COLUMNS = ("name", "class", "class_name", "label", "category")
COLOUR_COLUMNS = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass(frozen=True)
class ClassTable:
    """The classes 0, 1, ...: their names, the file that has them, and perhaps their colours, uint8 (k, 3)."""

    names: tuple[str, ...]
    file: str
    colours: np.ndarray | None = None

    @property
    def is_grey(self) -> bool:
        """Whether all colours are greys: maps of grey levels then show colours, too, and not class numbers."""
        return self.colours is not None and bool((self.colours == self.colours[:, :1]).all())


def classes_beside(folder: Path | None, asked: LabelSettings) -> ClassTable | None:
    """The classes of the file that was asked for, or that lies in the folder; None where none does."""
    beside = [folder / name for name in NAME_FILES if (folder / name).is_file()] if folder is not None else []
    path = asked.class_names or next(iter(beside), None)
    return None if path is None else read_classes(Path(path).expanduser())


def read_classes(path: Path) -> ClassTable:
    """A text of a class a line, perhaps behind its colour ("64 128 64 Animal"), or a CSV of name and perhaps r, g, b.

    Raises WhymaskError where it holds something else, or a name or a colour twice."""
    is_table = path.suffix.lower() in (".csv", ".tsv")
    try:
        rows = _of_csv(path) if is_table else _of_text(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise WhymaskError(f"--class-names {path}: a text file with a class a line was expected ({error})") from error
    names = tuple(name for name, _ in rows)
    if not names or len({*names}) < len(names) or len(names) > IGNORED:
        raise WhymaskError(
            f"{path}: {len(names)} class names, {len({*names})} of them different; up to {IGNORED} different names, "
            "one a line, were expected; correct them"
        )
    colours = [colour for _, colour in rows if colour is not None]
    if not colours:
        return ClassTable(names, str(path))
    if len({*colours}) < len(names) or not all(0 <= value < 256 for colour in colours for value in colour):
        raise WhymaskError(
            f"{path}: {len(names)} classes and {len({*colours})} different colours; a colour of its own for each "
            "class, three numbers from 0 to 255, was expected; correct them"
        )
    return ClassTable(names, str(path), np.array(colours, np.uint8))


_Row = tuple[str, tuple[int, int, int] | None]


def _of_text(text: str) -> list[_Row]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)\s+(.+)", line) for line in lines]
    if lines and all(found):
        return [(each[4], (int(each[1]), int(each[2]), int(each[3]))) for each in found if each]
    return [(line, None) for line in lines]


def _of_csv(path: Path) -> list[_Row]:
    header, rows = read_csv(str(path), path)
    lower = [title.lower() for title in header]
    name = next((lower.index(title) for title in NAME_COLUMNS if title in lower), None)
    colour = next(([*map(lower.index, titles)] for titles in COLOUR_COLUMNS if {*titles} <= {*lower}), None)
    if name is None or any(len(row) != len(header) for row in rows):
        raise WhymaskError(
            f"{path}: a table with the columns {', '.join(header) or '(empty)'}; name, and for maps in colours r, g "
            "and b, were expected, one row a class; rename them"
        )
    try:
        if colour is None:
            return [(row[name], None) for row in rows]
        red, green, blue = colour
        return [(row[name], (int(row[red]), int(row[green]), int(row[blue]))) for row in rows]
    except ValueError as error:
        raise WhymaskError(
            f"{path}: a colour that is no number ({error}); 0 to 255 were expected; correct it"
        ) from None
