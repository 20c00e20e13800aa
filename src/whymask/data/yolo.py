"""YOLO's texts: an object a line, its class number, and the centre and the sides of its box as shares of the image's
width and height; and what lies beside them, the names of the classes and which images are of which split."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from whymask.data.annotations import Annotation, Marked, Size
from whymask.data.class_names import NAME_FILES, ClassTable, read_classes
from whymask.data.opening import regular
from whymask.data.places import files_under
from whymask.data.source import SPLIT_OF
from whymask.errors import WhymaskError

SUFFIX = ".txt"
OTHER_NAMES = ("obj.names", "coco.names")
"""Beside the images, further files of class names."""
PARTS = ("train", "val", "test")
"""What names a split in a data.yaml."""
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_LINE = re.compile(rf"\d+(\.0+)?(\s+{_NUMBER}){{4,}}")


def is_yolo(path: Path) -> bool:
    """Whether all lines of a text are of objects; also of an empty one, and of one that cannot be read."""
    try:
        lines = regular(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError, WhymaskError):
        return True
    return all(_LINE.fullmatch(line.strip()) for line in lines if line.strip())


def read_yolo(path: Path, size: Size) -> Annotation:
    """Of an image of that height and width. Raises WhymaskError for what is no box along the image's sides."""
    height, width = size
    objects: list[Marked] = []
    for line in regular(path).read_text(encoding="utf-8-sig").splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) != 5:
            raise WhymaskError(f"a line of {len(words)} numbers, {_what(len(words))}; {EXPECTED}")
        try:
            number, (x, y, across, down) = float(words[0]), map(float, words[1:])
        except ValueError:
            raise WhymaskError(f"a line {line[:80]!r}; {EXPECTED}") from None
        corners = (x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height
        objects.append(Marked(int(number), corners))
    return Annotation(tuple(objects))


EXPECTED = "a class number, and the centre, width and height of a box as shares of the image, were expected"
HINT = "YOLO's numbers are the centre, width and height as shares of the image"


def _what(count: int) -> str:
    """What lines of so many numbers are."""
    if count == 6:
        return "as a network's answers with their confidence have"
    return "as polygons and boxes that are turned have" if count > 6 else "which are too few"


def beside_yolo(root: Path, files: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What the data.yaml among a folder's files says, and its name; nothing where there is none."""
    for file in sorted(
        (file for file in files if file.endswith((".yaml", ".yml"))), key=lambda file: len(Path(file).parts)
    ):
        try:
            content = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):  # of which nothing is known to be YOLO's
            continue
        if isinstance(content, dict) and isinstance(content.get("names"), list | dict):
            return content, file
    return {}, ""


def yolo_classes(root: Path, files: Sequence[str], content: dict[str, Any], file: str) -> ClassTable | None:
    """The classes that a data.yaml names, or a text beside the images; None where their names are not known."""
    names = content.get("names")
    if isinstance(names, dict):
        numbers = sorted(map(int, names))
        names = [names[number] if number in names else names[str(number)] for number in numbers]
        if numbers != [*range(len(numbers))]:
            raise WhymaskError(
                f"{root / file}: names of the classes {numbers[:9]}; 0, 1, 2 ... were expected; number them so"
            )
    if names:
        return ClassTable(tuple(map(str, names)), str(root / file))
    texts = [each for each in files if PurePosixPath(each).name in (*NAME_FILES, *OTHER_NAMES)]
    return read_classes(root / min(texts, key=len)) if texts else None


def yolo_splits(root: Path, content: dict[str, Any], images: Sequence[str]) -> list[str] | None:
    """The split of each image by the folders or the lists that a data.yaml names; None where it names no two."""
    found, there = dict[str, str](), {*images}
    for part in PARTS:
        for place in _listed(content.get(part)):
            for file in _images_of(root, str(content.get("path") or ""), place):
                parts = PurePosixPath(file).parts
                ends = ("/".join(parts[start:]) for start in range(len(parts)))
                found[next((end for end in ends if end in there), file)] = SPLIT_OF[part]
    splits = [found.get(file, "") for file in images]
    return splits if len({*splits} - {""}) > 1 else None


def _listed(place: Any) -> list[str]:
    return [str(each) for each in place] if isinstance(place, list) else [str(place)] if place else []


def _images_of(root: Path, around: str, place: str) -> list[str]:
    """The files, relative to `root`, in a folder or a list that is written as a path, perhaps of another machine."""
    written = PurePosixPath(place.replace("\\", "/"))
    inner = PurePosixPath(*[part for part in written.parts if part not in ("..", ".", "/")])
    for path in (root / around / place, root / place, root / inner):
        if path.is_dir() and path.resolve().is_relative_to(root.resolve()):
            base = path.resolve().relative_to(root.resolve())
            return [str(base / file) for file in files_under(path)]
        if path.is_file() and path.suffix == SUFFIX:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            return [line.strip() for line in lines if line.strip()]
    return []
