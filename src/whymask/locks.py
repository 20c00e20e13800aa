"""One writer a folder. A lock ends with the process that holds it, however that ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from whymask.disk import unwritable
from whymask.errors import BusyError
from whymask.progress import say

LOCK, HOLDER = ".lock", ".holder"


@contextmanager
def holding(folder: Path, wait: bool = False) -> Iterator[None]:
    """Within, no other process on any machine that sees the same disk holds `folder`.

    Raises BusyError where one does, with its process and host, unless this is to `wait` until it has ended, and
    WhymaskError where nothing can be written there.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise BusyError(
                f"{folder} is written by {_holder(folder)}; wait until it has ended, or choose another --out"
            ) from None
        say(f"waiting for {_holder(folder)}, which writes {folder}")
        lock.acquire()
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        with suppress(OSError):
            (folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink()
        lock.release()


def _holder(folder: Path) -> str:
    with suppress(OSError):
        if text := (folder / HOLDER).read_text():
            return text
    return "another process"
