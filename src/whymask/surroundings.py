"""What a command needs of a machine beside a place for its --out: a working directory, and room for temporary files."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from whymask.errors import WhymaskError

_state = {"is_lost": False}


def settle(arguments: Sequence[str]) -> None:
    """Make do where the working directory was removed, without which MKL ends the process, or where the system has no
    place for temporary files, which some packages ask for when they are imported: they then lie beside the --out that
    is among the command line's `arguments`, or in the store."""
    try:
        os.getcwd()  # noqa: PTH109 pathlib is no lighter
    except FileNotFoundError:
        _state["is_lost"] = True
        os.chdir(os.sep)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(next(filter(_can_be_written, _candidates(arguments)), os.sep))


def check_place(out: Path) -> None:
    """Raises WhymaskError where `out` is relative to a working directory that was removed."""
    if _state["is_lost"] and not out.is_absolute():
        raise WhymaskError(
            f"--out {out} is relative to the working directory, which was removed; give an absolute path, or change to "
            "a folder that is there"
        )


def _candidates(arguments: Sequence[str]) -> list[Path]:
    """Of each the nearest folder that is there."""
    told = [argument.partition("=")[2] for argument in arguments if argument.startswith("--out=")]
    told += [following for flag, following in pairwise(arguments) if flag == "--out"]
    told += [os.environ[name] for name in ("WHYMASK_STORE", "XDG_CACHE_HOME") if name in os.environ]
    paths = [Path(place) for place in told]
    return [next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir()) for path in paths]


def _can_be_written(folder: Path) -> bool:
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"whymask")
        return True
    return False
