"""A disk that is full at a random file: one clear error, and with room again the same command ends in equal bits."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from faults.child import DONE, REFUSED, Child, start
from faults.subjects import DATA, RUNTIME, SUBJECTS, difference, finetuning, outcome, undisturbed
from faults.trial import Trial
from whymask import export, predict


def full_disks(folder: Path, random: np.random.Generator) -> Iterator[Iterator[Trial]]:
    os.environ["WHYMASK_STORE"] = str(folder / "store")
    tuned, child = folder / "tuned", start(partial(finetuning, folder / "tuned"), folder / "tuned.log")
    if child.end() != DONE:
        raise RuntimeError(f"what is to be used was not made:\n{child.said()}")

    def each(number: int) -> Iterator[Trial]:
        for name, work in SUBJECTS.items():
            place, limit = folder / f"{name} {number}", int(10 ** random.uniform(1.5, 5))
            lost = _unclear(start(partial(work, place), folder / f"{name} {number}.log", largest_file=limit))
            if not lost:
                again = start(partial(work, place), folder / f"{name} {number} again.log")
                lost = difference(outcome(place), undisturbed(work)[1]) if again.end() == DONE else again.said()[-300:]
            yield Trial("full disk", f"{name}, no file above {limit} bytes", lost)
        uses: dict[str, Callable[[], object]] = {
            "predict": partial(predict, tuned, DATA, out=folder / "found.csv", runtime=RUNTIME),
            "export": partial(export, tuned, "safetensors", out=folder / f"exported {number}"),
        }
        for name, use in uses.items():
            limit = int(10 ** random.uniform(1, 3.5))
            lost = _unclear(start(use, folder / f"{name} {number}.log", largest_file=limit))
            yield Trial("full disk", f"{name}, no file above {limit} bytes", lost)

    return map(each, count())


def _unclear(child: Child) -> str:
    code = child.end()
    return "" if code in (DONE, REFUSED) else f"ended with {code}: {child.said()[-500:]}"
