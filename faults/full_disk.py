"""A disk that is full at a random file: one clear error, and with room again the same command ends in equal bits."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from faults.child import DONE, REFUSED, Child, start
from faults.subjects import DATA, RUNTIME, SUBJECTS, difference, outcome, undisturbed
from faults.trial import Trial
from whymask import export, predict


def full_disks(folder: Path, random: np.random.Generator) -> Iterator[Trial]:
    os.environ["WHYMASK_STORE"] = str(folder / "store")
    expected = {name: undisturbed(work, folder / f"unbroken {name}") for name, work in SUBJECTS.items()}
    tuned, number = folder / "unbroken fine-tuning", 0
    while True:
        for name, work in SUBJECTS.items():
            number += 1
            place, limit = folder / f"{name} {number}", int(10 ** random.uniform(1.5, 5))
            lost = _unclear(start(partial(work, place), folder / f"{number}.log", largest_file=limit))
            if not lost:
                again = start(partial(work, place), folder / f"{number} again.log")
                lost = difference(outcome(place), expected[name]) if again.end() == DONE else again.said()[-300:]
            yield Trial("full disk", f"{name}, no file above {limit} bytes", lost)
        uses: dict[str, Callable[[], object]] = {
            "predict": partial(predict, tuned, DATA, out=folder / "found.csv", runtime=RUNTIME),
            "export": partial(export, tuned, "safetensors", out=folder / f"exported {number}"),
        }
        for name, use in uses.items():
            limit = int(10 ** random.uniform(1, 3.5))
            lost = _unclear(start(use, folder / f"{name} {number}.log", largest_file=limit))
            yield Trial("full disk", f"{name}, no file above {limit} bytes", lost)


def _unclear(child: Child) -> str:
    code = child.end()
    return "" if code in (DONE, REFUSED) else f"ended with {code}: {child.said()[-500:]}"
