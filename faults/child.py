"""Work in a process of its own, which may be killed, limited or watched. It is forked: libraries are imported once."""

import os
import resource
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from whymask.errors import WhymaskError

for library in ("matplotlib.backends.backend_svg", "sklearn.isotonic", "sklearn.metrics"):
    import_module(library)  # which work imports where it uses it: each child would
DONE, CRASHED, REFUSED = 0, 1, 2
"""How a child ended: as it should, by what no user is meant to read, by an error that says what to do."""
PATIENCE = 300.0
"""Seconds after which a child that goes on is taken to hang: much, as other work may take its processor."""


@dataclass
class Child:
    """A process that does one piece of work; what it says stands in `log`."""

    pid: int
    log: Path
    writer: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """Without notice."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def ends_within(self, seconds: float) -> int | None:
        """How it ended; None where it still goes on then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def end(self) -> int | None:
        """How it ended; None where it had to be killed because it hung."""
        code = self.ends_within(PATIENCE)
        if code is None:
            self.kill()
        return code

    def said(self) -> str:
        self.writer.wait()
        return self.log.read_text(errors="replace")


def start(work: Callable[[], object], log: Path, largest_file: int | None = None) -> Child:
    """A child that does `work`; no file that it writes may pass `largest_file` bytes, as on a disk that is full."""
    with log.open("wb") as file:  # written by another process, which has room
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    assert writer.stdin is not None
    pid = os.fork()
    if pid:
        writer.stdin.close()
        return Child(pid, log, writer)
    code = CRASHED
    try:
        os.dup2(writer.stdin.fileno(), 1)
        os.dup2(writer.stdin.fileno(), 2)
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        work()
        code = DONE
    except WhymaskError as error:
        os.write(2, f"error: {error}\n".encode(errors="replace"))
        code = REFUSED
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)
