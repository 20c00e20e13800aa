"""Run folders: where results live, and how they survive being killed.

A run folder holds everything that one stage made::

    config.json        everything resolved, and where it came from (versions, device, threads, command)
    metrics.jsonl      one line a step or epoch
    checkpoints/       step-00000120.safetensors + step-00000120.json; the last two are kept
    encoder/           encoder.safetensors + encoder.json
    skipped.csv        every image that could not be used, and why
    result.json        the stage's numbers; a run with a result is finished and is never run again

Every file is written under a temporary name, synced, and renamed: a reader sees the old file or the new one.
"""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from whymask.errors import WhymaskError

SCHEMA = 1
CONFIG_SCHEMA = 2
"""Of config.json: from 2 on it is a typed record of what the run is (`whymask.stages.record`)."""
KEPT_CHECKPOINTS = 2


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old content or the new, never a half.

    Raises WhymaskError when it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise WhymaskError(
            f"{path} cannot be written ({error}); a folder with room, in which files may be made, was expected. "
            "Choose another --out."
        ) from error


def check_writable(path: Path) -> None:
    """Raise WhymaskError now, and not after the work, where the file `path` cannot be written."""
    if path.is_dir():
        raise WhymaskError(f"{path} is a folder; a file to write was expected. Choose another --out.")
    probe = path.with_name(f".{path.name}.probe")
    write_bytes(probe, b"")
    probe.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically. NaN and infinities are refused: they are not JSON."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False, default=str) + "\n").encode())


def as_json(value: Any) -> Any:
    """`value` as it would be read back."""
    return json.loads(json.dumps(value, default=str))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table atomically."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed .npz, atomically."""
    data = io.BytesIO()
    np.savez_compressed(data, allow_pickle=False, **dict(arrays))
    write_bytes(path, data.getvalue())


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
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


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
    """One stage's folder. Use `RunFolder.open` to begin or continue it."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @classmethod
    def open(
        cls,
        path: Path,
        config: dict[str, Any],
        origin: dict[str, Any],
        read: Callable[[dict[str, Any]], dict[str, Any]] = lambda stored: stored["config"],
    ) -> "RunFolder":
        """Begin a run at `path`, or continue the one there if it has the same `config`.

        `origin` is `provenance()`: recorded when the run begins, not compared. `read` makes of a config.json's content,
        perhaps of an earlier version, what `config` is compared with.
        Raises WhymaskError when the folder holds another run (the difference is listed) or cannot be written.
        """
        run = cls(path)
        config = as_json(config)
        if run._config_path.exists():
            refuse_other_config(run.path, read(read_json(run._config_path)), config)
            return run
        if run.path.is_file():
            raise WhymaskError(f"{run.path} is a file; a new or empty folder was expected. Choose another --out.")
        if run.path.exists() and any(p for p in run.path.iterdir() if not p.name.startswith(".")):
            raise WhymaskError(
                f"{run.path} is not empty and holds no whymask run; a new or empty folder was expected. "
                "Choose another --out."
            )
        write_json(run._config_path, {"schema": CONFIG_SCHEMA, "config": config, "provenance": origin})
        return run

    @property
    def _config_path(self) -> Path:
        return self.path / "config.json"

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
        write_json(self.path / "result.json", {"schema": SCHEMA, **result})

    # metrics ---------------------------------------------------------------------------------------------

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run is about to do again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            write_bytes(path, "".join(line + "\n" for line in kept).encode())

    # checkpoints -----------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep this checkpoint and the one before it. The JSON file comes last: it makes the pair valid."""
        data = tensors_to_bytes(checkpoint.tensors)
        stem = self.path / "checkpoints" / f"step-{checkpoint.step:08d}"
        write_bytes(stem.with_suffix(".safetensors"), data)
        digest = hashlib.sha256(data).hexdigest()
        write_json(stem.with_suffix(".json"), {"step": checkpoint.step, "sha256": digest, **checkpoint.notes})
        for old in self._checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; a damaged one is passed over, and that is said."""
        for path in self._checkpoints():
            try:
                notes = read_json(path)
                data = path.with_suffix(".safetensors").read_bytes()
                if hashlib.sha256(data).hexdigest() != notes.pop("sha256"):
                    raise ValueError("its checksum does not fit")
                return Checkpoint(notes.pop("step"), tensors_from_bytes(data), notes)
            except (OSError, ValueError, KeyError) as error:
                print(f"damaged checkpoint {path.stem} in {self.path} passed over: {error}", file=sys.stderr)
        return None

    def drop_checkpoints(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        """Newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.json"), reverse=True)


def _whole_lines(path: Path) -> list[str]:
    """Lines that were written to their end; a killed process may leave half a line."""
    return [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]


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
