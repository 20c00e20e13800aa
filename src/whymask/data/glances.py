"""The images that every command looks at before it opens the store, kept: those of a source that is not on this disk,
or of which each costs many others, are asked for once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from whymask.data import derive, lost, store
from whymask.data.opening import open_bytes
from whymask.data.source import RawImage, Source
from whymask.disk import write_bytes

FOLDER = "glances"


def with_glances(source: Source, cache: Path, read_bytes: Callable[[int], bytes]) -> Source:
    """`source`, whose rows are encoded as `read_bytes` gives them, with those of its samples kept in `cache`."""
    rows = {row for most in (lost.SAMPLE, derive.SAMPLE, store.SAMPLE) for row in source.sample(most)}
    folder = cache / FOLDER / source.stamp

    def read(row: int) -> RawImage:
        if row not in rows:
            return source.read(row)
        kept = folder / str(row)
        if not kept.exists():
            write_bytes(kept, read_bytes(row))
        return open_bytes(kept.read_bytes())

    return replace(source, read=read)
