"""What the folders of images say: splits, classes, or nothing; from their paths alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from whymask.data.source import split_named

FEW_STRAY, STRAY_SHARE = 3, 0.1
"""Images beside folders of classes or splits, and their share of all, up to which the folders are still those."""


@dataclass(frozen=True)
class Layout:
    """Of each image the class that its folder names and the split that it lies in, "" for none, and what is to be said
    of that; no splits where no folders are."""

    classes: list[str]
    splits: list[str] | None
    notes: tuple[str, ...]


def layout_of(files: Sequence[str]) -> Layout:
    """Of relative paths: perhaps split folders, then perhaps class folders, then any depth."""
    parts, around = _without_wrapping([Path(file).parts for file in files])
    splits = _split_folders(parts)
    bases = [splits.get(part[0], "") if splits else "" for part in parts]
    inner = _without_twins(bases, [part[1:] if base else part for base, part in zip(bases, parts, strict=True)])
    unclear = None if splits else _half_splits(parts) or _alike(parts)
    classes, notes = ([""] * len(parts), [unclear]) if unclear else _class_folders(bases, inner)
    if splits and (outside := [part[0] for part in parts if len(part) == 1]):
        notes.insert(0, f"{_some(outside, len(parts))} lie beside the splits: they are unlabelled")
    if around:
        what = _what(splits, classes)
        notes.insert(0, f"all images lie in the folder {'/'.join(around)}, which is taken for no class{what}")
    if below := _shared_below(classes, inner):
        notes.append(
            f"the folders {listed({*classes} - {''})} are taken for the classes; some of them hold the same "
            f"subfolders, {listed(below)}: if these are the classes, list the images in a CSV of path and label"
        )
    return Layout(classes, bases if splits else None, tuple(notes))


def _shared_below(classes: Sequence[str], inner: Sequence[Sequence[str]]) -> list[str]:
    """The names of subfolders that lie in several class folders, where there are several such names."""
    holders: dict[str, set[str]] = {}
    for name, part in zip(classes, inner, strict=True):
        if name and len(part) > 2:
            holders.setdefault(part[1], set()).add(name)
    shared = [below for below, above in holders.items() if len(above) > 1]
    return shared if len(shared) > 1 else []


def _what(splits: dict[str, str] | None, classes: Sequence[str]) -> str:
    """What the folders within one around everything are."""
    if splits:
        return f"; the splits are those within it: {listed(splits)}"
    return f"; the classes are those within it: {listed({*classes} - {''})}" if any(classes) else ""


def _without_wrapping(parts: list[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The parts of paths without the folders that all of them lie in, and those folders: one folder is no class."""
    around: tuple[str, ...] = ()
    while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        around += (parts[0][0],)
        parts = [part[1:] for part in parts]
    return parts, around


def _without_twins(bases: list[str], inner: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the one folder, such as seg_train/seg_train, that all classes of a split lie in."""
    for base in dict.fromkeys(bases):
        of_base = [part for other, part in zip(bases, inner, strict=True) if base and other == base]
        is_deep = bool(of_base) and all(len(part) > 2 for part in of_base)
        if is_deep and len({part[0] for part in of_base}) == 1 < len({part[1] for part in of_base}):
            inner = [part[1:] if other == base else part for other, part in zip(bases, inner, strict=True)]
    return inner


def _split_folders(parts: Sequence[Sequence[str]]) -> dict[str, str] | None:
    """Top folder -> split, where every image but a few stray ones lies in a folder that is named after one, and these
    names differ in nothing else, such as seg_train and seg_test; else None."""
    tops = {part[0] for part in parts if len(part) > 1}
    outside = sum(len(part) == 1 for part in parts)
    named = _split_names(tops)
    if not named or len(named) < len(tops) or (outside and (len(named) < 2 or not _are_few(outside, len(parts)))):
        return None
    return named


def _split_names(folders: Iterable[str]) -> dict[str, str]:
    """Folder -> split, of those that are named after one; empty where these names differ in something else."""
    found = {folder: split_named(folder) for folder in folders}
    named = {folder: split for folder, split in found.items() if split is not None}
    same_rest = len({rest for _, rest in named.values()}) == 1
    return {folder: split for folder, (split, _) in named.items()} if same_rest else {}


def _half_splits(parts: Sequence[Sequence[str]]) -> str | None:
    """What to say where some top folders are a train and a test set by their names, and others beside them are not."""
    tops = {part[0] for part in parts if len(part) > 1}
    named = _split_names(tops)
    if len({*named.values()}) < 2 or len(named) == len(tops):
        return None
    others = tops - named.keys()
    return (
        f"the folders {listed(named)} are named after splits, {listed(others)} beside them not, so that nothing is "
        f"taken for a class. If they are splits, move {listed(others)} elsewhere; if all are classes, list the images "
        "in a CSV with the columns path and label"
    )


def _alike(parts: Sequence[Sequence[str]]) -> str | None:
    """What to say where the top folders all hold the same subfolders: these may be the classes, or those."""
    inner: dict[str, set[str]] = {}
    for part in parts:
        inner.setdefault(part[0] if len(part) > 2 else "", set()).add(part[1] if len(part) > 2 else "")
    first = next(iter(inner.values()))
    if len(inner) < 2 or len(first) < 2 or "" in inner or any(found != first for found in inner.values()):
        return None
    if all(map(split_named, first)):
        return (
            f"the folders {listed(inner)} each hold the splits {listed(first)}, so that nothing is taken for a split "
            f"or a class, and the images of all are read; give one of them, such as {min(inner)}, to read it alone"
        )
    return (
        f"the folders {listed(inner)} all hold the subfolders {listed(first)}, so that nothing is taken for a class. "
        f"If {listed(first)} are the classes, name the outer folders train and test, or give one of them; if "
        f"{listed(inner)} are, list the images in a CSV with the columns path and label"
    )


def _are_few(stray: int, images: int) -> bool:
    return stray <= FEW_STRAY and stray <= STRAY_SHARE * images


def _some(stray: Sequence[str], images: int) -> str:
    """ "2 of 90 images (a.png, b.png)"."""
    return f"{len(stray)} of {images} images ({', '.join(stray[:3])}{', ...' * (len(stray) > 3)})"


def _class_folders(bases: list[str], inner: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """The class that each image's folder names, "" for none, and what is to be said of that.

    In a base (a split, or all) the subfolders are classes where every image lies in one, or all but a few stray ones.
    """
    names = [part[0] if len(part) > 1 else "" for part in inner]
    notes: list[str] = []
    for base in dict.fromkeys(bases):
        rows = [row for row, other in enumerate(bases) if other == base]
        stray = [row for row in rows if not names[row]]
        if not stray or len(stray) == len(rows):
            continue
        shown = ", ".join(inner[row][-1] for row in stray[:3]) + ", ..." * (len(stray) > 3)
        where = f"the subfolders of {base}" if base else "the subfolders"
        beside = f"{len(stray)} of {len(rows)} images lie beside {where} ({shown})"
        folders = len({names[row] for row in rows} - {""})
        if _are_few(len(stray), len(rows)) and folders > 1:
            notes.append(f"{beside}: they are unlabelled, the {folders} subfolders are classes")
            continue
        notes.append(f"{beside}, so that the subfolders are not taken for classes")
        for row in rows:
            names[row] = ""
    return names, notes


def listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + ", ..." * (len(shown) > 5)
