"""How long to pretrain, so that a whole study takes as many hours as there are.

The rule: what has one length, which is every seed's classifiers, the search, the explanation and the page, is done in
full; what is left of the hours is pretraining, as many epochs for each seed, and scratch-long, which is as dear. Where
the seeds were not given and 5 would leave too little to pretraining, it is done with fewer, at least 3. Time is that of
this machine as busy as it is when the study begins. Where it becomes busier, whole seeds that would end late are not
begun, but for the first 3: the clock decides it, and no result.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from whymask.disk import read_json
from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.report.text import plural
from whymask.studies.cells import Cell, Runner
from whymask.studies.config import StudyConfig
from whymask.studies.plan import Plan
from whymask.studies.settling import MINIMUM_SEEDS

FEWEST_PASSES, FEWEST_EPOCHS = 20_000, 10
SLACK = 0.2
"""Share of the hours by which a study may be late."""
TIMED_SHARE, LONGEST_TIMED = 0.01, 20.0
"""Each network is timed for this share of the hours, at most so many seconds: other work comes and goes."""


def check_hours(hours: float | None) -> None:
    """Raises WhymaskError for what is no time that a study could take."""
    if hours is not None and not (isinstance(hours, int | float) and 0 < hours < math.inf):
        raise WhymaskError(f"--hours {hours}: expected a number of hours above 0, such as 2 or 0.5")


def fewest_epochs(images: int) -> int:
    """Pretraining below this says nothing of pretraining: 20,000 image passes, or 10 epochs where that is less."""
    return max(1, min(FEWEST_EPOCHS, math.ceil(FEWEST_PASSES / images)))


def seconds_timed(hours: float | None) -> float:
    """For how long each network is timed."""
    return 0.0 if hours is None else min(LONGEST_TIMED, TIMED_SHARE * hours * 3600)


def fit_hours(
    runner: Runner, hours: float, seeds: int | None, planned: Callable[[Runner], Plan], began: float
) -> tuple[StudyConfig, float]:
    """The study with pretraining epochs, and with them scratch-long, that make what is `planned` take about `hours`
    from `began` on, by the monotonic clock; and how many seconds it takes when its cells are done. `seeds`: how many
    were given, None where as many as fit are run.

    A study that is continued keeps the epochs and seeds that it began with. Raises WhymaskError where fewer than
    `fewest_epochs` would be left, with what would fit.
    """
    config, begun = runner.config, runner.out / "config.json"
    if not config.pretrainings:
        raise WhymaskError(
            f"--hours {hours:g} was given; it fits how long to pretrain, and no start is pretrained; leave it out"
        )
    before = read_json(begun)["config"] if begun.exists() else {}
    if "hours" in before:
        settings = before["settings"]
        fitted = _with(config, settings["pretrain"]["epochs"], settings["seeds"] if seeds is None else config.seeds)
        say(f"{plural(hours, 'hour')}: as begun, {plural(fitted.seeds, 'seed')}, pretraining {fitted.epochs_text()}")
        return fitted, 0.0
    fewest = fewest_epochs(len(runner.context.prepared.pool))
    for count in range(config.seeds, min(config.seeds, config.seeds if seeds else MINIMUM_SEEDS) - 1, -1):
        fitted = _with(config, config.pretrain.epochs, count)
        plan, spent = runner.context.fabric.broadcast(  # one clock counts
            (planned(replace(runner, config=fitted)), time.monotonic() - began)
        )
        epochs = plan.epochs_within(hours * 3600 - spent, config.pretrain.epochs)
        if epochs >= fewest:
            fitted = _with(config, epochs, count)
            say(_rule(hours, fitted, plan, epochs / config.pretrain.epochs))
            return fitted, plan.load * sum(work.seconds() for work in plan.after)
    needed = (plan.load * plan.seconds_with(fewest / config.pretrain.epochs) + spent) / 3600
    raise WhymaskError(_too_short(replace(runner, config=fitted), hours, epochs, fewest, needed))


def _with(config: StudyConfig, epochs: int, seeds: int) -> StudyConfig:
    return replace(config, seeds=seeds, pretrain=replace(config.pretrain, epochs=epochs))


def _rule(hours: float, config: StudyConfig, plan: Plan, share: float) -> str:
    """How the hours are divided, in a line."""
    all_of_it, fixed = (plan.load * plan.seconds_with(part) / 60 for part in (share, 0.0))
    busy = f"; the machine is busy, which makes it {plan.load:.1f} times as long" if plan.load > 1.1 else ""
    long = ", and as much for scratch-long" if any(work.part == "scratch-long" for work in plan.work) else ""
    return (
        f"{plural(hours, 'hour')}: {fixed:,.1f} minutes for what has one length (classifiers of "
        f"{plural(config.seeds, 'seed')}, pages), the other {all_of_it - fixed:,.1f} for "
        f"pretraining, alike for each seed{long}: {config.epochs_text()}{busy}"
    )


def _too_short(runner: Runner, hours: float, epochs: int, fewest: int, needed: float) -> str:
    """What was given, what is needed, and what would fit: the time of a study grows with its seeds and its pixels."""
    pool, config = len(runner.context.prepared.pool), runner.config
    ways = [f"--hours {math.ceil(needed * 100) / 100:g}"]
    seeds = int(config.seeds * hours / needed)
    if seeds >= 1:
        ways.append(f"--seeds {seeds}{'' if seeds >= MINIMUM_SEEDS else ' (a verdict needs 3)'}")
    unit = config.encoder.square
    side = int(min(runner.context.preprocessing.size) * math.sqrt(hours / needed)) // unit * unit
    if side >= 4 * unit:
        ways.append(f"--size {side}")
    return (
        f"--hours {hours:g} allows {epochs} pretraining epochs of {pool:,} images with "
        f"{plural(config.seeds, 'seed')}; at least {fewest} are needed ({FEWEST_PASSES:,} image passes, or "
        f"{FEWEST_EPOCHS} epochs where that is less), which "
        f"take about {needed:.2g} hours. Give {' or '.join(ways)}, or leave --hours out."
    )


@dataclass(frozen=True)
class Deadline:
    """When a study of so many hours, which began at `began` by the monotonic clock, is to be over; `after`: seconds
    that it takes when its cells are done."""

    began: float
    hours: float
    after: float = 0.0

    def is_late_for(self, cell: Cell, cells: Sequence[Cell]) -> bool:
        """Whether to leave out `cell`, which is next of `cells` and of a seed behind the first 3, and what comes after
        it: it is the first of its seed, and at the pace of those before this one would end late."""
        seeds = list(dict.fromkeys(each.seed for each in cells))
        place = seeds.index(cell.seed)
        if place < MINIMUM_SEEDS or cell != next(each for each in cells if each.seed == cell.seed):
            return False
        spent = time.monotonic() - self.began
        return spent + spent / place + self.after > (1 + SLACK) * self.hours * 3600
