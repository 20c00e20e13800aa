"""Things that are functions of a step, made by a thread while the step before runs."""

import threading
from collections.abc import Callable
from queue import Empty, Queue
from types import TracebackType
from typing import Generic, TypeVar

Made = TypeVar("Made")

DEPTH = 2
"""How many are made ahead, unless told otherwise."""


class Ahead(Generic[Made]):
    """Within ``with Ahead(make, steps) as ahead:`` a thread makes `make(step)` of each of `steps`, in their order; at
    most `depth` of them wait to be taken. Behind it there is no such thread any more.

    What `make` raises is raised where its step is taken, once, and nothing is made behind it. Signals are the main
    thread's, as ever.
    """

    def __init__(self, make: Callable[[int], Made], steps: range, depth: int = DEPTH) -> None:
        self._make, self._steps = make, steps
        self._made: Queue[tuple[Made | None, BaseException | None]] = Queue(depth)
        self._ends = threading.Event()
        self._taken = 0
        self._thread = threading.Thread(target=self._run, name="whymask-ahead", daemon=True)

    @property
    def next(self) -> int | None:
        """The step that can be taken now; None behind the last one."""
        return self._steps[self._taken] if self._taken < len(self._steps) else None

    def take(self) -> Made:
        """What was made of the next step; waits for it."""
        made, error = self._made.get()
        if error is not None:
            self._taken = len(self._steps)
            raise error
        self._taken += 1
        return made  # type: ignore[return-value]

    def __enter__(self) -> "Ahead[Made]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        try:
            while True:  # room for what is just being made, so that the thread does not wait for it
                self._made.get_nowait()
        except Empty:
            self._thread.join()

    def _run(self) -> None:
        for step in self._steps:
            if self._ends.is_set():
                return
            try:
                self._made.put((self._make(step), None))
            except BaseException as error:  # whatever it is, it is the caller's
                self._made.put((None, error))
                return
