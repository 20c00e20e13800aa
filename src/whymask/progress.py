"""What is told while something long goes on: how far it is, what came of it, and the time left."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

console = Console(stderr=True, highlight=False)
if console.is_jupyter:  # where rich makes an output of each line, and what stands on stderr looks like an error
    console = Console(highlight=False, force_jupyter=False)

SECONDS_TO_FIRST_LINE = 5.0
"""After which it is told how long something takes, about."""
SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_NETWORKS = 10.0
SECONDS_BETWEEN_DECODING_LINES = 30.0


@dataclass(frozen=True)
class Listener:
    """Who is told in place of the person who watches: `line` what is said, `shown` how far a loop is."""

    line: Callable[[str], None]
    shown: Callable[[str], None]


_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within, nothing is printed, and the listener is told."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()


def time_left(seconds: float) -> str:
    """ "about 5 min left": seconds below two minutes, minutes below two hours, then hours."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"about {seconds / length:.0f} {unit} left"
    return f"about {max(1, math.ceil(seconds))} s left"


class Steps:
    """Shows how a loop of `total` steps goes: a live bar on a terminal, else a line now and then (for log files), of
    the same words: "[1/24] pretraining mae, seed 0: step 120 of 400, loss 0.53; about 3 min left"."""

    def __init__(
        self, label: str, total: int, quiet: bool = False, unit: str = "step", between: float = SECONDS_BETWEEN_LINES
    ):
        """`unit` is what is counted; `between` lines are so many seconds, fewer before the first."""
        self.label, self.total, self.quiet, self.unit, self.between = label, total, quiet, unit, between
        self._next_line = time.monotonic() + min(SECONDS_TO_FIRST_LINE, between)
        self._began: tuple[float, int] | None = None
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal or bool(_listeners),
        )
        self._task = self._bar.add_task(label, total=total)

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        self.show(done, self._text(done, note, time.monotonic()))

    def show(self, done: int, text: str) -> None:
        """As `update`, in words of one's own."""
        now = time.monotonic()
        if _listeners:
            _listeners[-1].shown(text)
            return
        self._bar.update(self._task, completed=done, description=text)
        if not self.quiet and not console.is_terminal and now > self._next_line:
            self._next_line = now + self.between
            say(text)

    def _text(self, done: int, note: str, now: float) -> str:
        """What is said after `done` steps. A loop that goes on from an earlier one is timed from where it went on."""
        text = f"{self.label}: {self.unit} {done:,} of {self.total:,}{note and f', {note}'}"
        if self._began is None:
            self._began = now, done
            return text
        began, first = self._began
        left = (now - began) / max(1, done - first) * (self.total - done)
        return f"{text}; {time_left(left)}" if done < self.total else text


def say(text: str, from_all: bool = False) -> None:
    """A line for the person who watches, on stderr (stdout is for results), in a notebook on stdout. Of processes that
    compute together the first one speaks, and with `from_all` each: of an error that perhaps it alone has. What is said
    is printed as it is: a folder may be called :smile: or [red]."""
    if _listeners:
        _listeners[-1].line(text)
    elif from_all or is_first():
        console.print(text, markup=False, emoji=False, soft_wrap=True)


def is_first() -> bool:
    """Whether this is the first, or only, one of the processes that compute together, as their launchers tell them."""
    of_slurm = os.environ.get("SLURM_PROCID", "0") if "SLURM_STEP_ID" in os.environ else "0"
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", of_slurm)) == "0"


class Decoding:
    """Tells how far the decoding of images has come, or another thing that is long, now and then, and how long it still
    takes."""

    def __init__(self, doing: str = "decoding", unit: str = "images") -> None:
        self.doing, self.unit = doing, unit
        self._began: tuple[float, int] | None = None
        self._next_line = time.monotonic() + min(SECONDS_TO_FIRST_LINE, SECONDS_BETWEEN_DECODING_LINES)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        began, first = self._began = self._began or (now, done)
        if now > self._next_line:
            self._next_line = now + SECONDS_BETWEEN_DECODING_LINES
            left = (now - began) / max(1, done - first) * (total - done)
            told = f"; {time_left(left)}" if first < done < total else ""
            say(f"{self.doing}: {done:,} of {total:,} {self.unit}{told}")
