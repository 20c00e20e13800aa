"""What is damaged, and what nobody needs any more, in run folders and stores: `whymask check` and `whymask clean`."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from whymask.data.building import PARTIAL, unfinished
from whymask.data.store import last_used
from whymask.disk import check, check_file, read_json
from whymask.errors import BusyError, DamagedError, WhymaskError
from whymask.locks import holding
from whymask.missing import instead_of
from whymask.progress import Decoding
from whymask.report.text import in_bytes
from whymask.runs import damaged_lines, leftovers

CHECKED = (".json", ".npz", ".safetensors")
BROUGHT = {
    "fetched": "fetched from an address, or unpacked",
    "indices": "the index of an archive",
    "glances": "images that every command looks at",
}
"""Folders beside stores."""


@dataclass(frozen=True)
class Checked:
    """Files of a folder: how many are as they were written, how many carry no checksum, and what is damaged."""

    whole: int
    unknown: int
    damages: tuple[str, ...]

    def text(self) -> str:
        said = f"{self.whole:,} files are as they were written; {self.unknown:,} carry no checksum"
        return "\n".join([said, *self.damages, f"{len(self.damages)} damaged" if self.damages else "none is damaged"])


def check_folder(folder: Path) -> Checked:
    """Compare every file below `folder`, of runs, studies, explanations and stores, with its checksum.

    Raises WhymaskError where there is no such folder.
    """
    if not folder.is_dir():
        raise WhymaskError(f"{folder}: no such folder; give that of a run, a study or a store{instead_of(folder)}")
    whole, unknown, damages = 0, 0, []
    files, progress = sorted(path for path in folder.rglob("*") if path.is_file()), Decoding("checking", "files")
    for place, path in enumerate(files):
        progress(place, len(files))
        try:
            if path.suffix in CHECKED:
                known = check(path)
                whole, unknown = whole + known, unknown + (not known)
                if path.name == "index.json":
                    whole += _check_store(path)
            elif path.name == "metrics.jsonl" and (lines := damaged_lines(path)):
                damages.append(f"{path}: {lines} damaged lines, which are passed over")
        except (DamagedError, OSError) as error:
            damages.append(str(error))
    return Checked(whole, unknown, tuple(damages))


def _check_store(index: Path) -> int:
    digests = read_json(index).get("sha256", {})
    for name, digest in digests.items():
        check_file(index.with_name(name), digest)
    return len(digests)


@dataclass(frozen=True)
class Needless:
    """A file or folder that nobody needs, and why."""

    path: Path
    why: str
    bytes: int

    def text(self) -> str:
        return f"{in_bytes(self.bytes):>9}  {self.path}: {self.why}"


def needless_in(folders: Iterable[Path], store: Path | None, days: float | None) -> list[Needless]:
    """What nobody needs: in run folders what killed processes left and the checkpoints of finished runs; with `days`,
    below `store`, stores that were not opened for so long, or begun and not finished, and what was fetched for them:
    they are made again when they are needed. A folder in which a process writes is left alone.

    Raises WhymaskError where a folder is not there.
    """
    found: list[Needless] = []
    for folder in folders:
        if not folder.is_dir():
            raise WhymaskError(
                f"{folder}: no such folder; give folders of runs or studies, such as runs{instead_of(folder)}"
            )
        for run in _runs_below(folder):
            try:
                with holding(run):
                    found += list(_of_run(run))
            except BusyError:
                continue
    if store is not None and days is not None and store.is_dir():
        found += list(_of_stores(store, days))
    return found


def remove(needless: Iterable[Needless]) -> None:
    for each in needless:
        if each.path.is_dir():
            shutil.rmtree(each.path, ignore_errors=True)
        else:
            each.path.unlink(missing_ok=True)


def _runs_below(folder: Path) -> list[Path]:
    return [Path(place) for place, _, names in os.walk(folder) if "config.json" in names]


def _of_run(run: Path) -> Iterator[Needless]:
    checkpoints = run / "checkpoints"
    finished = (run / "result.json").exists() and checkpoints.is_dir()
    for path in leftovers(run):
        if not finished or checkpoints not in path.parents:
            yield Needless(path, "left by a process that was killed", _size(path))
    if finished:
        yield Needless(checkpoints, "checkpoints of a finished run", _size(checkpoints))


def _of_stores(store: Path, days: float) -> Iterator[Needless]:
    for path, age in unfinished(store, days):
        yield Needless(path, f"a store that was begun, and not gone on with for {age:.0f} days", _size(path))
    for path in (store / name for name in BROUGHT):
        for file in path.glob("*") if path.is_dir() else ():
            age = (time.time() - _last_used(file)) / 86400
            if age >= days:
                yield Needless(file, f"{BROUGHT[path.name]}, not used for {age:.0f} days", _size(file))
    for index in store.glob("*/index.json"):
        age = (time.time() - last_used(index.parent)) / 86400
        if age >= days and not index.parent.name.endswith(PARTIAL):
            why = f"stored images of {_name_in(index)}, not opened for {age:.0f} days"
            yield Needless(index.parent, why, _size(index.parent))


def _name_in(index: Path) -> str:
    try:
        return str(read_json(index)["name"])
    except (DamagedError, KeyError):
        return "a data set (its index is damaged)"


def _last_used(path: Path) -> float:
    """Of a file, or of any below a folder, the time of reading or writing, as the disk keeps it."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max((max(state.st_atime, state.st_mtime) for state in map(Path.stat, files)), default=path.stat().st_mtime)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
