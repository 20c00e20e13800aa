"""Kills at random moments, within steps, checkpoints, decoding and pages: the run that goes on ends in equal bits."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faults.child import DONE, start
from faults.subjects import SUBJECTS, Work, difference, outcome
from faults.trial import Trial

MOST_KILLS = 3
"""Of one run, before it may end."""


def kills(folder: Path, random: np.random.Generator) -> Iterator[Trial]:
    unbroken = {name: _undisturbed(work, folder / f"unbroken {name}") for name, work in SUBJECTS.items()}
    number = 0
    while True:
        for name, work in SUBJECTS.items():
            seconds, expected = unbroken[name]
            number += 1
            place = folder / f"{name} {number}"
            moments = random.uniform(0, seconds, random.integers(1, MOST_KILLS + 1)).round(3).tolist()
            found = _killed(work, place, moments)
            lost = found if isinstance(found, str) else difference(found, expected)
            yield Trial("kill", f"{name}, killed after {', '.join(map(str, moments))} s", lost)


def _undisturbed(work: Work, place: Path) -> tuple[float, dict[str, object]]:
    """Seconds that it takes, and what it comes to."""
    began = time.monotonic()
    child = start(lambda: _in(work, place), place.with_suffix(".log"))
    if child.end() != DONE:
        raise RuntimeError(f"the undisturbed run failed:\n{child.said()}")
    return time.monotonic() - began, outcome(place / "run")


def _killed(work: Work, place: Path, moments: list[float]) -> dict[str, object] | str:
    """What it comes to after kills; why it came to nothing."""
    for moment in moments:
        child = start(lambda: _in(work, place), place.with_suffix(".log"))
        if child.ends_within(moment) is None:
            child.kill()
    child = start(lambda: _in(work, place), place.with_suffix(".log"))
    code = child.end()
    if code != DONE:
        return f"ended with {code}: {child.said()[-500:]}"
    left = [path.name for path in place.rglob("*") if path.name.endswith((".tmp", ".partial"))]
    return f"left behind: {left}" if left else outcome(place / "run")


def _in(work: Work, place: Path) -> None:
    """With a store of its own, so that decoding is killed too."""
    os.environ["WHYMASK_STORE"] = str(place / "store")
    work(place / "run")
