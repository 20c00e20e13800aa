"""WebDataset shards as a source: tar files whose members of one name, up to its first dot, are one sample."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.archives import TEXTS, Index, Shard, shard_at, shard_of
from whymask.data.braces import parted
from whymask.data.formats import there
from whymask.data.glances import with_glances
from whymask.data.labels import find_labels, label_notes, read_labels
from whymask.data.layout import layout_of
from whymask.data.opening import open_bytes
from whymask.data.remote import Fetched, Remote, of_all
from whymask.data.settings import LabelSettings
from whymask.data.source import Source, split_column, split_in
from whymask.data.stamps import digest_of, stamp_files
from whymask.errors import WhymaskError
from whymask.progress import Decoding
from whymask.tasks import RawLabels


def from_tar(name: str, root: Path, files: Sequence[str], asked: LabelSettings | None, cache: Path) -> Source:
    """Archives under `root`."""
    shards = [shard_of(root / file, stamp_files([root / file], [file])) for file in files]
    return _from_shards(name, shards, files, asked, cache)


def from_tar_at(name: str, remote: Sequence[Remote], asked: LabelSettings | None, cache: Path) -> Source:
    """Archives behind addresses, each fetched once into `cache`, the store's folder, and indexed there."""
    return _from_shards(name, list(map(shard_at, remote)), parted([file.address for file in remote])[1], asked, cache)


def _from_shards(
    name: str, shards: Sequence[Shard], paths: Sequence[str], asked: LabelSettings | None, cache: Path
) -> Source:
    """The samples of all shards in order; words of their `paths` may name splits."""
    fetched, progress = Fetched(cache / "fetched"), Decoding("reading shards", "files")
    indices = of_all(shards, lambda shard: shard.index(fetched, cache), lambda done: progress(done, len(shards)))
    members = [member for index in indices for member in index.names]
    if not members:
        raise WhymaskError(
            f"{name}: no sample with an image in {len(shards):,} tar files; members such as 0001.jpg and 0001.cls were "
            "expected; check what is in them"
        )
    starts = np.cumsum([0, *(len(index.names) for index in indices)])

    def read_bytes(row: int) -> bytes:
        at = int(np.searchsorted(starts, row, side="right")) - 1
        index, inner = indices[at], row - int(starts[at])
        return shards[at].read(fetched, int(index.offsets[inner]), int(index.sizes[inner]))

    columns = _columns(indices)
    used, raw, notes = _labels_in(name, columns, asked)
    words = [split_in(path) for path in paths]
    splits = [word for word, index in zip(words, indices, strict=True) for _ in index.names]
    by_folders = False
    if raw is None and asked is not None and any("/" in member for member in members):
        layout = layout_of(members)
        notes, by_folders = list(layout.notes), any(layout.classes)
        raw = RawLabels(layout.classes) if by_folders else None
        splits = layout.splits if layout.splits is not None and not any(words) else splits
    task, labels = read_labels(raw, len(members), asked, name)
    given, of_splits = split_column(splits, task.labelled(labels))
    source = Source(
        name=name,
        keys=[f"{shard.name}#{member}" for shard, index in zip(shards, indices, strict=True) for member in index.names],
        read=lambda row: open_bytes(read_bytes(row)),
        stamp=digest_of([*there(), *(f"{path} {shard.stamp}" for path, shard in zip(paths, shards, strict=True))]),
        labels=labels,
        task=task,
        splits=given,
        by_folders=by_folders,
        columns={title: _texts(values) for title, values in columns.items() if title not in used},
        notes=(*_said_of(shards, indices), *notes, *of_splits),
        spent=lambda: fetched.drop(shard.kept_as for shard in shards),
    )
    is_here = all(shard.path is not None for shard in shards)
    return source if is_here else with_glances(source, cache, read_bytes)


def _columns(indices: Sequence[Index]) -> dict[str, list[Any]]:
    """The fields of the samples' JSON, and their other texts, where some sample has one."""
    texts = {kind: [text.strip() for index in indices for text in index.texts[kind]] for kind in TEXTS}
    records = [_record(text) for text in texts.pop("json")]
    fields = dict.fromkeys(field for record in records for field in record)
    columns = {field: [record.get(field) for record in records] for field in fields}
    return columns | {kind: values for kind, values in texts.items() if any(values)}


def _record(text: str) -> dict[str, Any]:
    """The fields of a JSON object that are no objects; of a number or a text that field alone."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {} if isinstance(value, list) else {"json": value}
    return {str(field): each for field, each in value.items() if not isinstance(each, dict)}


def _labels_in(
    name: str, columns: dict[str, list[Any]], asked: LabelSettings | None
) -> tuple[list[str], RawLabels | None, list[str]]:
    """The columns of labels, what they hold, and what is to be said: .cls, else a field of .json that is called so,
    else .txt, where at most half of the texts differ, as captions do not."""
    if asked is None:
        return [], None, []
    texts = [text for text in columns.get("txt", []) if text]
    are_captions = len({*texts}) > len(texts) / 2
    if "cls" in columns and not asked.label_columns:
        by_class = {"label": columns["cls"]}
        used, raw = find_labels(name, by_class, by_class.__getitem__, asked)
        return ["cls"] * (raw is not None), raw, []
    default = "txt" if texts and not are_captions else None
    used, raw = find_labels(name, columns, columns.__getitem__, asked, default)
    if raw is None and texts:
        told = "the .txt are taken for captions, as most differ: --label-columns txt takes them for labels"
        return used, raw, [told]
    return used, raw, label_notes(columns, used, raw) if columns else []


def _said_of(shards: Sequence[Shard], indices: Sequence[Index]) -> list[str]:
    """What of the shards is not read, or not plain."""
    imageless, several = (sum(getattr(index, what) for index in indices) for what in ("imageless", "several"))
    cut = [f"{shard.name}: {index.end}" for shard, index in zip(shards, indices, strict=True) if index.end]
    more = f" and {len(cut) - 3} more" * (len(cut) > 3)
    return [
        f"{sum(len(index.names) for index in indices):,} samples of {len(shards):,} tar files",
        *[f"{imageless:,} samples have no image that is opened here"] * bool(imageless),
        *[f"{several:,} samples have several images, of which the one with the shortest name's end is seen"]
        * bool(several),
        *[f"warning: what stands before their end is read, but copy them again: {'; '.join(cut[:3])}{more}"]
        * bool(cut),
    ]


def _texts(values: Sequence[Any]) -> np.ndarray:
    return np.array(["" if value is None else str(value) for value in values])
