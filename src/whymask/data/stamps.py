"""What changes when the pixels of a source may have changed: the name of its decoded images."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from whymask.data.formats import there
from whymask.data.readers import reader_text
from whymask.data.source import Reader


def stamp_files(paths: Sequence[Path], names: Sequence[str], reader: Reader | None = None) -> str:
    """A digest of names, sizes, times of writing and of change (which nobody can set back), and of what reads them, the
    `reader` or the packages that read more than Pillow does: another one sees other pixels."""
    parts = there() if reader is None else []
    for path, name in zip(paths, names, strict=True):
        try:
            state = path.stat()
        except OSError:
            parts.append(f"{name} missing")
        else:
            parts.append(f"{name} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}")
    return digest_of([*parts, *([reader_text(reader)] if reader is not None else [])])


def digest_of(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()
