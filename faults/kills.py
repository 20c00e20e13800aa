"""Kills at random moments, within steps, checkpoints, decoding and pages: the run that goes on ends in equal bits."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from faults.child import DONE, start
from faults.subjects import SUBJECTS, Work, difference, in_own_store, outcome, undisturbed
from faults.trial import Trial

MOST_KILLS = 3
"""Of one run, before it may end."""


def kills(folder: Path, random: np.random.Generator) -> Iterator[Iterator[Trial]]:
    def each(number: int) -> Iterator[Trial]:
        for name, work in SUBJECTS.items():
            seconds, expected = undisturbed(work)
            moments = random.uniform(0, seconds, random.integers(1, MOST_KILLS + 1)).round(3).tolist()
            found = _killed(work, folder / f"{name} {number}", moments)
            lost = found if isinstance(found, str) else difference(found, expected)
            yield Trial("kill", f"{name}, killed after {', '.join(map(str, moments))} s", lost)

    return map(each, count())


def _killed(work: Work, place: Path, moments: list[float]) -> dict[str, object] | str:
    """What it comes to after kills; why it came to nothing."""
    for moment in moments:
        child = start(partial(in_own_store, work, place), place.with_suffix(".log"))
        if child.ends_within(moment) is None:
            child.kill()
    child = start(partial(in_own_store, work, place), place.with_suffix(".log"))
    code = child.end()
    if code != DONE:
        return f"ended with {code}: {child.said()[-500:]}"
    left = [path.name for path in place.rglob("*") if path.name.endswith((".tmp", ".partial"))]
    return f"left behind: {left}" if left else outcome(place / "run")
