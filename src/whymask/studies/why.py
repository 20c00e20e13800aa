"""Why: the short explanation that a study's page holds, in the folder why/ of the study."""

import shutil
from pathlib import Path
from typing import Any

from whymask.data.glyph_settings import glyphs_of
from whymask.data.prepare import Prepared
from whymask.disk import check, read_json
from whymask.errors import DamagedError, WhymaskError
from whymask.explanations.networks import open_runs, two_arms
from whymask.explanations.run import explain_arms
from whymask.explanations.settings import BRIEF
from whymask.progress import say
from whymask.studies.cells import Runner
from whymask.training.loop import Interrupted

FOLDER = "why"


def explain_study(runner: Runner, data: Any, *, images: bool, names: bool) -> None:
    """Explain the finished networks of the verdict's budget. What goes wrong is said, and costs a study no more."""
    folder = runner.out / FOLDER
    if runner.context.fabric.world_size > 1:
        say(f"no explanation: it is made by one process; make it with whymask explain {runner.out} --data ...")
        return
    try:
        arms = two_arms(open_runs([runner.out]))
        _drop_stale(folder, [run.folder for arm in arms for run in arm.values()])
        explain_arms(runner.context, arms, glyphs_of(data), folder, BRIEF, images=images, names=names)
    except Interrupted:
        raise
    except WhymaskError as error:  # of numbers to predict, for one
        say(f"no explanation: {error}")
    except Exception as error:
        say(f"no explanation: {type(error).__name__}: {error}")


def may_be_explained(prepared: Prepared) -> bool:
    """Whether there is a question that an explanation could ask about the images."""
    try:
        prepared.task.question(prepared.images.labels, prepared.test, None)
    except WhymaskError:  # which explaining them would raise
        return False
    return True


def _drop_stale(folder: Path, runs: list[Path]) -> None:
    """Remove an explanation of other networks than these, such as before a failed cell was repeated."""
    if (folder / "config.json").exists():
        try:
            explained = read_json(folder / "config.json")["config"]["runs"]
            for name in ("result.json", "explain.json", "pictures.npz"):
                check(folder / name)
        except DamagedError as error:
            say(f"{error}; the explanation is made again")
            explained = {}
        if [run for arm in explained.values() for run in arm] != [str(run) for run in runs]:
            shutil.rmtree(folder)
