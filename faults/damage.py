"""Damaged files of every kind: what is read is what was written, or an error names the file; a study mends itself."""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from faults.child import DONE, REFUSED, start
from faults.subjects import DATA, RUNTIME, difference, finetuning, outcome, pretraining, small_study
from faults.trial import Trial
from whymask import embed, predict
from whymask.upkeep import CHECKED


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    place = int(random.integers(len(data)))
    return data[:place] + bytes([data[place] ^ 1 << int(random.integers(8))]) + data[place + 1 :]


def cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(len(data)))]


def zeroed(data: bytes, random: np.random.Generator) -> bytes:
    """A block of zeros, as a disk leaves that lost power."""
    place = int(random.integers(len(data)))
    return data[:place] + bytes(min(512, len(data) - place)) + data[place + 512 :]


DAMAGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (flipped, cut, zeroed)


def damages(folder: Path, random: np.random.Generator) -> Iterator[Iterator[Trial]]:
    made = folder / "made"
    child = start(lambda: _make(made), folder / "made.log")
    if child.end() != DONE:
        raise RuntimeError(f"what is to be damaged was not made:\n{child.said()}")
    expected = outcome(made / "study")
    uses = {"pretrained": _embedded, "tuned": _predicted, "study": _studied}
    shown = {name: _used(use, made, folder / f"{name}.log")[1] for name, use in uses.items() if name != "study"}

    def each(before: int) -> Iterator[Trial]:
        for number, (name, use) in enumerate(uses.items(), start=len(uses) * before + 1):
            place = Path(shutil.copytree(made, folder / str(number)))
            where = place / ("store" if number % 4 == 0 else name)
            files = sorted(path for path in where.rglob("*") if path.suffix in (*CHECKED, ".npy"))
            path = files[int(random.integers(len(files)))]
            damage = DAMAGES[int(random.integers(len(DAMAGES)))]
            path.write_bytes(damage(path.read_bytes(), random))
            for mark in place.glob("store/*/checked-*"):
                mark.unlink()  # as on a machine that sees the store first
            code, said = _used(use, place, place.with_suffix(".log"))
            if code == REFUSED:
                lost = "" if path.name in said else f"the error does not name it: {said[-300:]}"
            elif code != DONE:
                lost = f"ended with {code}: {said[-500:]}"
            else:
                lost = difference(outcome(place / name), expected) if name == "study" else _other(said, shown[name])
            yield Trial("damage", f"{damage.__name__} {path.relative_to(place)}, {name} used", lost)
            shutil.rmtree(place)

    return map(each, count())


def _make(made: Path) -> None:
    os.environ["WHYMASK_STORE"] = str(made / "store")
    pretraining(made / "pretrained")
    finetuning(made / "tuned")
    small_study(made / "study")


def _used(use: Callable[[Path], str], place: Path, log: Path) -> tuple[int | None, str]:
    """How using what lies in `place` ended, and what it gave or said."""
    given = place / "given.txt"
    os.environ["WHYMASK_STORE"] = str(place / "store")
    child = start(lambda: given.write_text(use(place)), log)
    code = child.end()
    return code, given.read_text() if code == DONE else child.said()


def _embedded(place: Path) -> str:
    frame = embed(place / "pretrained", DATA, out=place / "features.parquet", runtime=RUNTIME)
    return frame.to_json()


def _predicted(place: Path) -> str:
    return predict(place / "tuned", DATA, out=place / "predictions.csv", runtime=RUNTIME).to_json()


def _studied(place: Path) -> str:
    small_study(place / "study")
    return ""


def _other(given: str, expected: str) -> str:
    return "" if given == expected else "other numbers, without a word"
