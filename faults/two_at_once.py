"""The same command twice at once: both end well, or one says who is at work, and what is left is as from one."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from faults.child import DONE, REFUSED, start
from faults.subjects import SUBJECTS, difference, outcome, undisturbed
from faults.trial import Trial


def two_at_once(folder: Path, random: np.random.Generator) -> Iterator[Iterator[Trial]]:
    os.environ["WHYMASK_STORE"] = str(folder / "store")

    def each(number: int) -> Iterator[Trial]:
        for name, work in SUBJECTS.items():
            place, apart = folder / f"{name} {number}", float(random.uniform(0, 0.5))
            first = start(partial(work, place), folder / f"{name} {number} first.log")
            first_code = first.ends_within(apart)
            second = start(partial(work, place), folder / f"{name} {number} second.log")
            second_code = second.end()
            first_code = first.end() if first_code is None else first_code
            lost = _disagreement(first_code, second_code, first.said() + second.said())
            lost = lost or difference(outcome(place), undisturbed(work)[1])
            yield Trial("two at once", f"{name}, {apart:.2f} s apart", lost)

    return map(each, count())


def _disagreement(first: int | None, second: int | None, said: str) -> str:
    if DONE not in (first, second) or not {first, second} <= {DONE, REFUSED}:
        return f"ended with {first} and {second}: {said[-500:]}"
    return "" if REFUSED not in (first, second) or "is written by" in said else f"another error: {said[-300:]}"
