"""How long to pretrain, so that a whole study takes as many hours as there are."""

import math
from dataclasses import replace

from whymask.disk import read_json
from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.studies.cells import Cell, Runner
from whymask.studies.config import StudyConfig
from whymask.studies.plan import make_plan

FEWEST_PASSES, FEWEST_EPOCHS = 20_000, 10


def fewest_epochs(images: int) -> int:
    """Pretraining below this says nothing of pretraining: 20,000 image passes, or 10 epochs where that is less."""
    return max(1, min(FEWEST_EPOCHS, math.ceil(FEWEST_PASSES / images)))


def fit_hours(runner: Runner, cells: list[Cell], hours: float, explain: bool, final: list[Cell]) -> StudyConfig:
    """The study with pretraining epochs, and with them scratch-long, that make all `cells` take about `hours`.

    A study that is continued keeps the epochs that it began with. Raises WhymaskError where fewer than `fewest_epochs`
    would be left, with what would fit.
    """
    config, begun = runner.config, runner.out / "config.json"
    if not config.pretrainings:
        raise WhymaskError(
            f"--hours {hours:g} was given; it fits how long to pretrain, and no start is pretrained; leave it out"
        )
    before = read_json(begun)["config"] if begun.exists() else {}
    if "hours" in before:
        epochs = before["settings"]["pretrain"]["epochs"]
    else:
        pool = len(runner.context.prepared.pool)
        plan = runner.context.fabric.broadcast(make_plan(runner, cells, explain, final))  # one clock counts
        epochs, fewest = plan.epochs_within(hours * 3600, config.pretrain.epochs), fewest_epochs(pool)
        if epochs < fewest:
            needed = plan.seconds_with(fewest / config.pretrain.epochs) / 3600
            raise WhymaskError(_too_short(runner, hours, epochs, fewest, needed))
    say(f"{hours:g} hours allow {epochs} pretraining epochs")
    return replace(config, pretrain=replace(config.pretrain, epochs=epochs))


def _too_short(runner: Runner, hours: float, epochs: int, fewest: int, needed: float) -> str:
    """What was given, what is needed, and what would fit: the time of a study grows with its seeds and its pixels."""
    pool, config = len(runner.context.prepared.pool), runner.config
    ways = [f"--hours {math.ceil(needed * 100) / 100:g}"]
    seeds = int(config.seeds * hours / needed)
    if seeds >= 1:
        ways.append(f"--seeds {seeds}{'' if seeds >= 3 else ' (a verdict needs 3)'}")
    unit = config.encoder.square
    side = int(min(runner.context.preprocessing.size) * math.sqrt(hours / needed)) // unit * unit
    if side >= 4 * unit:
        ways.append(f"--size {side}")
    return (
        f"--hours {hours:g} allows {epochs} pretraining epochs of {pool:,} images; at least {fewest} are needed "
        f"({FEWEST_PASSES:,} image passes, or {FEWEST_EPOCHS} epochs where that is less), which take about "
        f"{needed:.2g} hours. Give {' or '.join(ways)}, or leave --hours out."
    )
