"""What is disturbed: the smallest runs that do what large ones do, on glyphs."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from faults.child import DONE, start
from whymask import finetune, pretrain, study
from whymask.disk import read_arrays, read_json
from whymask.encoders import EncoderSettings
from whymask.stages.settings import (
    FinetuneSettings,
    FinetuneTrainingSettings,
    PretrainSettings,
    PretrainTrainingSettings,
)
from whymask.studies.settings import StudySettings
from whymask.training.settings import RuntimeSettings

DATA = "glyphs:unlabelled=64,train=60,test=40"
ENCODER, RUNTIME = EncoderSettings(width=4), RuntimeSettings(device="cpu", threads=1)

Work = Callable[[Path], Any]
"""Runs in, or continues, the folder that it is given."""


def pretraining(out: Path) -> None:
    training = PretrainTrainingSettings(epochs=6, batch_size=16, checkpoint_every=1)
    pretrain(DATA, out=out, settings=PretrainSettings(encoder=ENCODER, training=training, runtime=RUNTIME))


def finetuning(out: Path) -> None:
    training = FinetuneTrainingSettings(epochs=20, batch_size=8, checkpoint_every=2)
    finetune(DATA, out=out, settings=FinetuneSettings(encoder=ENCODER, training=training, runtime=RUNTIME))


def small_study(out: Path) -> None:
    settings = StudySettings(
        seeds=1,
        budgets=("2",),
        worth_budgets=(),
        encoder=ENCODER,
        pretrain=PretrainTrainingSettings(epochs=2, batch_size=16, checkpoint_every=1),
        finetune=FinetuneTrainingSettings(epochs=2, batch_size=8, checkpoint_every=1),
        runtime=RUNTIME,
    )
    study(DATA, out=out, settings=settings, explain=False)


SUBJECTS: dict[str, Work] = {"pretraining": pretraining, "fine-tuning": finetuning, "study": small_study}


@cache
def undisturbed(work: Work) -> tuple[float, dict[str, Any]]:
    """Seconds that the work takes when it is left alone, with a store of its own, and what it comes to."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        began, place = time.monotonic(), Path(folder)
        child = start(partial(in_own_store, work, place), place / "log")
        if child.end() != DONE:
            raise RuntimeError(f"the undisturbed run failed:\n{child.said()}")
        return time.monotonic() - began, outcome(place / "run")


def in_own_store(work: Work, place: Path) -> None:
    """So that decoding is disturbed too."""
    os.environ["WHYMASK_STORE"] = str(place / "store")
    work(place / "run")


def outcome(out: Path) -> dict[str, Any]:
    """What a finished run or study came to, but for times and places: weights and predictions to the bit, numbers."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".safetensors" and "checkpoints" not in path.parts:
            found[name] = path.read_bytes()
        elif path.name == "predictions.npz":
            found[name] = {key: array.tobytes() for key, array in read_arrays(path).items()}
        elif path.name == "metrics.jsonl":
            found[name] = len(path.read_text().splitlines())
        elif path.name in ("result.json", "study.json"):
            found[name] = json.dumps(_lasting(read_json(path))).replace(str(out), "OUT")
    return found


def _lasting(value: Any) -> Any:
    passing = ("seconds", "data_wait", "created", "command", "provenance", "store")
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if key not in passing}
    return [_lasting(inner) for inner in value] if isinstance(value, list) else value


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """What of `expected` was found otherwise; "" where nothing was."""
    return ", ".join(sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)))
