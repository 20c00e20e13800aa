"""Run folders: where results live, and how they survive being killed.

A run folder holds everything that one stage made::

    config.json        everything resolved, and where it came from (versions, device, threads, command)
    metrics.jsonl      one line a step or epoch
    checkpoints/       step-00000120.safetensors + step-00000120.json; the last two are kept
    encoder/           encoder.safetensors + encoder.json
    kept/              after-120/: the network as it was after so many steps; of what an explanation trains again
    tracked/           what TensorBoard, Weights & Biases or MLflow keep of it, where it is tracked
    skipped.csv        every image that could not be used, and why
    boxes.csv          every box that was repaired or left out, and why; of detection, where there are some
    result.json        the stage's numbers; a run with a result is finished and is never run again
    .lock              who writes here now

Files are whole or not there, and checked when they are read: `whymask.disk`.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from whymask.disk import DIGEST, as_json, read_json, read_tensors, unwritable, write_bytes, write_record, write_tensors
from whymask.errors import DamagedError, WhymaskError
from whymask.locks import holding
from whymask.progress import say

SCHEMA = 1
CONFIG_SCHEMA = 2
"""Of config.json: from 2 on it is a typed record of what the run is (`whymask.stages.record`)."""
KEPT_CHECKPOINTS = 2
TRACKED = "tracked"
"""The folder in a run's of what tracks it (`whymask.stages.trackers`)."""
TELLING = frozenset({"nonfinite.json"})
"""What a failed run leaves, for people."""


def provenance(device: str = "cpu", precision: str = "32-true") -> dict[str, Any]:
    """What a number depended on besides its settings: versions, machine, thread count, command, time."""
    packages = (
        "whymask",
        "torch",
        "torchvision",
        "timm",
        "lightning-fabric",
        "numpy",
        "scikit-learn",
        "pillow",
    )
    return {
        "versions": {"python": platform.python_version()} | {package: version_of(package) for package in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "command": command(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def version_of(package: str) -> str | None:
    """None where nothing says: a source tree on the path, or a package that another distribution brought."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def folder_with(name: str, path: Path) -> Path | None:
    """The run folder that a path into it belongs to, known by the file `name` in it; None where there is none."""
    return next((folder for folder in (path, *path.parents[:2]) if (folder / name).exists()), None)


def command() -> str:
    """The command line of this process, as one would type it."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name  # python -m whymask
    return shlex.join([name, *sys.argv[1:]])


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and what else must be known to go on from `step` finished steps."""

    step: int
    tensors: dict[str, torch.Tensor]
    notes: dict[str, Any]


class RunFolder:
    """One stage's folder. Use `RunFolder.open` to begin or continue it.

    Attributes:
        tell: who else is given each line of metrics.jsonl.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.tell: Callable[[dict[str, Any]], None] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        config: dict[str, Any],
        origin: dict[str, Any],
        read: Callable[[dict[str, Any]], dict[str, Any]] = lambda stored: stored["config"],
        mend: bool = False,
    ) -> "RunFolder":
        """Begin a run at `path`, or continue the one there if it has the same `config`.

        `origin` is `provenance()`: recorded when the run begins, not compared. `read` makes of a config.json's content,
        perhaps of an earlier version, what `config` is compared with. With `mend` a damaged config.json is written
        anew: where what else is in the folder tells of itself what it is.
        Raises WhymaskError when the folder holds another run (the difference is listed) or cannot be written.
        """
        run = cls(path)
        config = as_json(config)
        if run._config_path.exists():
            try:
                refuse_other_config(run.path, read(read_json(run._config_path)), config)
                return run
            except DamagedError as error:
                if not mend:
                    raise
                say(f"{error}; it is written anew from the settings that are given")
        elif run.path.is_file():
            raise WhymaskError(f"{run.path} is a file; a new or empty folder was expected. Choose another --out.")
        elif run.path.exists() and run._names() - TELLING:
            raise WhymaskError(
                f"{run.path} is not empty and holds no whymask run; a new or empty folder was expected. "
                "Choose another --out."
            )
        write_record(run._config_path, {"schema": CONFIG_SCHEMA, "config": config, "provenance": origin})
        return run

    def _names(self) -> set[str]:
        """Of all that is in the folder."""
        return {path.name for path in self.path.iterdir() if not path.name.startswith(".")}

    @property
    def _config_path(self) -> Path:
        return self.path / "config.json"

    @contextlib.contextmanager
    def held(self, wait: bool = False) -> Iterator[None]:
        """Within, nobody else writes here; what a killed process left is removed first. `wait` as in `holding`."""
        with holding(self.path, wait):
            for left in leftovers(self.path):
                left.unlink(missing_ok=True)
            yield

    def withdraw(self) -> None:
        """Of a run that failed before its first checkpoint, leave nothing but what tells why: other settings may then
        take its folder."""
        own = {"config.json", "skipped.csv", "boxes.csv", "metrics.jsonl", "gallery.npz"}
        there = self._names()
        if there <= own | TELLING | {TRACKED}:
            shutil.rmtree(self.path / TRACKED, ignore_errors=True)
            for name in own & there:
                (self.path / name).unlink()

    @property
    def provenance(self) -> dict[str, Any]:
        """What `provenance()` said when the run began."""
        return read_json(self._config_path)["provenance"]

    @property
    def result(self) -> dict[str, Any] | None:
        """The numbers of a finished run; None while it is not finished."""
        path = self.path / "result.json"
        return read_json(path) if path.exists() else None

    def finish(self, result: dict[str, Any]) -> None:
        write_record(self.path / "result.json", {"schema": SCHEMA, **result})

    # metrics ---------------------------------------------------------------------------------------------

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise unwritable(path, error) from error
        if self.tell is not None:
            self.tell(line)

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run is about to do again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [line for line in _whole_lines(path) if line["step"] <= step]
            write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    # checkpoints -----------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep this checkpoint and the one before it. The JSON file comes last: it makes the pair valid."""
        weights = self.path / "checkpoints" / f"step-{checkpoint.step:08d}.safetensors"
        write_tensors(weights, checkpoint.tensors, {"step": checkpoint.step, **checkpoint.notes})
        for old in self._checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; a damaged one is passed over, and that is said."""
        for path in self._checkpoints():
            try:
                notes = {key: value for key, value in read_json(path).items() if key != DIGEST}
                return Checkpoint(notes.pop("step"), read_tensors(path.with_suffix(".safetensors")), notes)
            except (DamagedError, KeyError) as error:
                say(f"damaged checkpoint {path.stem} in {self.path} passed over: {error}")
        return None

    def last_step(self) -> int | None:
        """After which step the newest checkpoint was written; None without one."""
        return next((int(path.stem.partition("-")[2]) for path in self._checkpoints()), None)

    def drop_checkpoints(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        """Newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.json"), reverse=True)


def leftovers(folder: Path) -> list[Path]:
    """Files of a run folder that nobody needs: half written ones, and a checkpoint's weights without their record.

    Folders in it that are runs of their own, such as a study's cells, are left out.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if not (here / name / "config.json").exists()]
        found += [here / name for name in names if name.startswith(".") and name.endswith(".tmp")]
        found += [
            here / name
            for name in names
            if name.startswith("step-") and name.endswith(".safetensors") and f"{Path(name).stem}.json" not in names
        ]
    return found


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl that tell a step; none without such a file. One that is half written, or was cut off
    by a kill, is passed over."""
    try:
        return [line for line in _lines(path) if line is not None]
    except OSError:
        return []


def damaged_lines(path: Path) -> int:
    """How many lines of a metrics.jsonl tell no step. The last one may be half, of a process that was killed."""
    return sum(line is None for line in _lines(path))


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Lines that tell a step; that others are dropped is said."""
    lines = _lines(path)
    whole = [line for line in lines if line is not None]
    if len(whole) < len(lines):
        say(f"{len(lines) - len(whole)} damaged lines of {path} are dropped")
    return whole


def _lines(path: Path) -> list[dict[str, Any] | None]:
    """Every line that has an end; None for one that tells no step."""
    found: list[dict[str, Any] | None] = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        told = None
        with contextlib.suppress(ValueError):
            told = json.loads(line)
        found.append(told if isinstance(told, dict) and isinstance(told.get("step"), int) else None)
    return found


def refuse_other_config(path: Path, found: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise WhymaskError listing every setting in which `found` (in the folder) and `given` differ."""
    differences = list(_differences(found, given))
    if differences:
        listed = "\n".join(f"  {name}: {old!r} there, {new!r} now" for name, old, new in differences)
        raise WhymaskError(
            f"{path} holds a run with other settings:\n{listed}\n"
            "Give the same settings to continue it, or another --out."
        )


def _differences(found: Any, given: Any, prefix: str = "") -> Iterable[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(given, dict):
        for name in sorted(found.keys() | given.keys()):
            yield from _differences(found.get(name), given.get(name), f"{prefix}.{name}" if prefix else name)
    elif found != given:
        yield prefix, found, given
