"""What lies behind an address that fsspec knows: shards, parquet files, images, or a list of addresses of images."""

import posixpath
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from whymask.data.braces import ARCHIVES, PARQUET, braced, parted, refuse_holes
from whymask.data.files import from_csv
from whymask.data.labels import read_labels
from whymask.data.layout import layout_of
from whymask.data.opening import image_suffixes
from whymask.data.pictures import Pictures
from whymask.data.protocols import is_address
from whymask.data.remote import Remote, files_at, retried, system_of
from whymask.data.settings import LabelSettings
from whymask.data.shards import from_tar_at
from whymask.data.source import Source, split_column
from whymask.data.tables import from_parquet_at
from whymask.disk import write_bytes
from whymask.errors import WhymaskError
from whymask.tasks import RawLabels

LISTS = (".csv", ".tsv", ".txt")


def from_address(name: str, asked: LabelSettings | None, cache: Path) -> Source:
    """Shards, parquet files, a list, or images: a file, a folder, a pattern or braces behind an address."""
    files = files_at(name)
    if len(braced(name)) == 1 and len(files) > 1:
        refuse_holes(name, [file.address for file in files if file.address.endswith((*ARCHIVES, PARQUET))])
    parquet, tar = (
        [file for file in files if urlsplit(file.address).path.endswith(ends)] for ends in ((PARQUET,), ARCHIVES)
    )
    if parquet:
        return from_parquet_at(name, parquet, asked, cache)
    if tar:
        return from_tar_at(name, tar, asked, cache)
    if len(files) == 1 and urlsplit(name).path.endswith(LISTS):
        return _from_list_at(name, files[0], asked, cache)
    images = [file.address for file in files if _suffix(file.address) in image_suffixes()]
    if not images:
        raise WhymaskError(
            f"{name}: {len(files):,} files, such as {files[0].address}, and none that is read from there; .tar, "
            ".parquet, images, or a .csv or .txt of addresses were expected; check the address"
        )
    return from_addresses(name, images, asked, cache)


def from_addresses(name: str, addresses: Sequence[str], asked: LabelSettings | None, cache: Path) -> Source:
    """Images behind addresses, whose folders say classes and splits as those of files do."""
    pictures = Pictures(name, addresses, cache)
    layout = layout_of(parted(addresses)[1]) if asked is not None else None
    raw = RawLabels(layout.classes) if layout is not None and any(layout.classes) else None
    task, labels = read_labels(raw, len(addresses), asked, name)
    splits, of_splits = split_column((layout and layout.splits) or [""] * len(addresses), task.labelled(labels))
    return Source(
        name=name,
        keys=list(addresses),
        read=pictures.read,
        stamp=pictures.stamp,
        labels=labels,
        task=task,
        splits=splits,
        by_folders=raw is not None,
        notes=(*pictures.notes, *(layout.notes if layout else ()), *of_splits),
    )


def from_list(name: str, path: Path, asked: LabelSettings | None, cache: Path) -> Source:
    """A text file with an address a line: unlabelled images."""
    return _of_lines(name, path.read_text(encoding="utf-8-sig", errors="replace"), cache)


def _of_lines(name: str, text: str, cache: Path) -> Source:
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"))
    wrong = [line for line in lines if not is_address(line)]
    if len(wrong) == len(lines):
        raise WhymaskError(
            f"{name}: a text that is no image source; an address a line, such as https://host/1.jpg, was expected; "
            "give a folder, or a CSV of paths, for files that are here"
        )
    if wrong:
        raise WhymaskError(
            f"{name}: {len(wrong):,} of its {len(lines):,} lines are no addresses, such as {wrong[0]}; one a line, "
            "such as https://host/1.jpg, was expected; correct or delete these"
        )
    return from_addresses(name, lines, None, cache)


def _from_list_at(name: str, remote: Remote, asked: LabelSettings | None, cache: Path) -> Source:
    """A list that is itself behind an address, to which its paths may be relative."""
    system, path = system_of(remote.address)
    text = retried(remote.address, lambda: system.cat_file(path)).decode("utf-8-sig", errors="replace")
    if _suffix(name) == ".txt":
        return _of_lines(name, text, cache)
    kept = cache / "fetched" / f"{remote.name}{_suffix(name)}"
    write_bytes(kept, text.encode())
    return from_csv(name, kept, None, asked, cache=cache, around=remote.address.rpartition("/")[0])


def _suffix(address: str) -> str:
    return posixpath.splitext(urlsplit(address).path)[1].lower()
