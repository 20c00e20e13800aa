"""Image files that are named one by one, by their folders, or by a pattern such as "photos/*.jpg": unlabelled."""

import os
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from whymask.data.artefacts import refuse_artefacts
from whymask.data.files import file_reader
from whymask.data.labels import read_labels
from whymask.data.opening import image_suffixes
from whymask.data.places import files_under
from whymask.data.settings import LabelSettings, matching
from whymask.data.source import Reader, Source
from whymask.data.stamps import stamp_files
from whymask.errors import WhymaskError


def from_picked(given: Sequence[str], reader: Reader | None, asked: LabelSettings | None) -> Source:
    """The files in the order given, those of a folder or of a pattern sorted; each once.

    Raises WhymaskError, which names it, for an entry without an image.
    """
    name = given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"
    paths = list(dict.fromkeys(path for entry in given for path in _images(entry, reader)))
    refuse_artefacts(name, paths, {path.parent for path in paths})
    task, labels = read_labels(None, len(paths), asked, name)
    keys = [str(path) for path in paths]
    return Source(name, keys, file_reader(paths, reader), stamp_files(paths, keys, reader), labels, task)


def _images(entry: str, reader: Reader | None) -> list[Path]:
    path = Path(entry).expanduser()
    found = list(_files(path))
    if not found:
        what = "no file in this folder" if path.is_dir() else "matches no file" if has_magic(entry) else "no such file"
        raise WhymaskError(
            f"{entry}: {what}; an image file, a folder of them or a pattern such as 'photos/*.jpg' was expected; check "
            "the path"
        )
    suffixes = image_suffixes()
    images = [file for file in found if reader is not None or file.suffix.lower() in suffixes]
    if not images:
        raise WhymaskError(
            f"{entry}: no image ({found[0].name}{' and others' if len(found) > 1 else ''}); files such as .jpg or .png "
            "were expected; give a .csv, .parquet or .npz alone, and a --reader for formats that Pillow cannot open"
        )
    return [Path(os.path.realpath(file.parent), file.name) for file in images]


def _files(path: Path) -> Iterator[Path]:
    """A file itself; a folder's, but for hidden ones; all that match a pattern, and those of folders that do."""
    if path.is_dir():
        yield from (path / file for file in files_under(path))
    elif path.is_file():
        yield path
    else:
        for match in matching(str(path)):
            yield from _files(match)
