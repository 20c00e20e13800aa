"""A progress line with the time spent waiting for data, images/s, and the time left."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_DECODING_LINES = 5.0


class Steps:
    """Shows how a loop of `total` steps goes: a live bar on a terminal, else a line a minute (for log files)."""

    def __init__(self, label: str, total: int, quiet: bool = False):
        self.label, self.total, self.quiet = label, total, quiet
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, note="")

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, note: str) -> None:
        self._bar.update(self._task, completed=done, note=note)
        now = time.monotonic()
        if not self.quiet and not console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            console.print(f"{self.label}: step {done}/{self.total}, {note}")


def say(text: str) -> None:
    """A line for the person who watches, on stderr (stdout is for results)."""
    console.print(text, markup=False, soft_wrap=True)


class Decoding:
    """Tells how far the decoding of images has come, now and then."""

    def __init__(self) -> None:
        self._last_line = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last_line > SECONDS_BETWEEN_DECODING_LINES:
            self._last_line = now
            say(f"decoding: {done:,} of {total:,} images")
