"""What a study would run, and how long it would take on this machine: from timed steps, not from a guess."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from whymask.explanations.settings import BRIEF
from whymask.stages.classify import VALIDATION_SHARE
from whymask.studies.cells import Cell, Runner
from whymask.studies.search import trials_of
from whymask.studies.settings import SCRATCH, SCRATCH_LONG
from whymask.studies.timing import TIMED_STEPS, Times

COUNTING_STEPS = 3
"""Steps that are as dear as what a cell does beside its training: counting operations and writing the network."""
FIGURES_OF_PAGE, FIGURES_OF_WHY = 45, 120
"""Plain figures that are as dear to draw as a study's page, drawn twice, and as its explanation's, whose pictures of
evidence take the most. Found by timing both on studies of glyphs."""
VIEWS_AN_IMAGE, ASKED_AN_IMAGE = 110, 8
"""How often a network is asked about an image whose views are counted, and about every other test image."""
MOST_EPOCHS = 10**6


@dataclass(frozen=True)
class Work:
    """What is done at a stretch: `fixed` seconds, and `growing` ones with as many pretraining epochs as are planned;
    `after` names what must be finished before."""

    part: str
    name: str
    fixed: float
    growing: float = 0.0
    after: str | None = None

    def seconds(self, share: float = 1.0) -> float:
        return self.fixed + share * self.growing


@dataclass(frozen=True)
class Plan:
    """What is still to be run, and how long it takes.

    cells: how many of each kind; `at_once` of them run at once. pretraining_images_per_second: of the first arm that is
    pretrained, None where none is. work: what the cells take on a quiet machine, `before` and `after` what is done one
    by one before and after them. load: how many times as long it takes beside what else computes now. few: that own
    pretraining is not expected to win on so few images, or "".
    """

    cells: dict[str, int]
    images: int
    store_bytes: int
    pretraining_images_per_second: float | None
    classification_images_per_second: float
    work: tuple[Work, ...]
    before: tuple[Work, ...] = ()
    after: tuple[Work, ...] = ()
    at_once: int = 1
    load: float = 1.0
    few: str = ""

    @property
    def seconds(self) -> float:
        return self.seconds_with(1.0)

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of each kind of work, whether it is done at once or not."""
        sums: dict[str, float] = {}
        for work in (*self.before, *self.work, *self.after):
            sums[work.part] = sums.get(work.part, 0.0) + work.seconds()
        return sums

    def seconds_with(self, share: float) -> float:
        """What the study takes on a quiet machine with this share of the planned pretraining epochs."""
        one_by_one = (*self.before, *self.after)
        return lasting(self.work, self.at_once, share) + sum(work.seconds(share) for work in one_by_one)

    def epochs_within(self, seconds: float, epochs: int) -> int:
        """Pretraining epochs, `epochs` being what was planned, with which the study takes `seconds` on a machine that
        stays as busy as it is; 0 or more."""
        return bisect_right(
            range(1, MOST_EPOCHS), seconds, key=lambda count: self.load * self.seconds_with(count / epochs)
        )

    def text(self) -> str:
        cells = ", ".join(f"{count} {arm}" for arm, count in self.cells.items())
        at_once = f" with {self.at_once} cells at once" if self.at_once > 1 else ""
        beside = f", {self.load * self.seconds / 60:,.1f} beside what else runs now" if self.load > 1.1 else ""
        speed = self.pretraining_images_per_second
        pretraining = "" if speed is None else f"{speed:,.0f} in pretraining, "
        lines = [
            f"to run: {cells or 'nothing, all cells are finished'}",
            f"images: {self.images:,}; decoded: {self.store_bytes / 2**20:,.0f} MiB",
            f"speed, images/s: {pretraining}{self.classification_images_per_second:,.0f} in classification",
            f"time: about {self.seconds / 60:,.1f} minutes{at_once} on a quiet machine{beside}, from at least "
            f"{TIMED_STEPS} timed steps of each",
            ("of the work " if at_once else "of these ")
            + ", ".join(f"{name} {part / 60:,.1f}" for name, part in self.parts.items() if part),
        ]
        return "\n".join(filter(None, [self.few, *lines]))

    def to_dict(self) -> dict[str, Any]:
        names = ("cells", "images", "store_bytes", "pretraining_images_per_second", "classification_images_per_second")
        further = ("parts", "at_once", "load", "few", "seconds")
        return {name: getattr(self, name) for name in (*names, *further)}


def lasting(work: Sequence[Work], at_once: int, share: float = 1.0) -> float:
    """Seconds that all of it lasts where so many are done at once, each as soon as there is room and what it comes
    after is finished, the first first."""
    if at_once == 1:
        return sum(each.seconds(share) for each in work)
    waiting, unfinished = list(work), {each.name for each in work}
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        for each in [each for each in waiting if each.after not in unfinished][: at_once - len(running)]:
            waiting.remove(each)
            heappush(running, (now + each.seconds(share), each.name))
        now, name = heappop(running)
        unfinished.discard(name)
    return now


def make_plan(
    runner: Runner,
    cells: list[Cell],
    times: Times,
    explain: bool = False,
    final: Sequence[Cell] = (),
    at_once: int = 1,
) -> Plan:
    """Time some steps of pretraining, of classification and of testing, and add up the cells that are not finished.

    With `explain`, also the networks that an explanation trains: as many as seeds, and one, as from scratch. `final`:
    what is trained afterwards, to be used. `at_once`: how many cells are run at once.
    """
    cells = [cell for cell in cells if not (runner.folder(cell) / "result.json").exists()]
    config, prepared = runner.config, runner.context.prepared
    explains = explain and not (runner.out / "why" / "result.json").exists()
    controls = config.seeds + 1 if explains else 0
    smallest = Cell(SCRATCH, config.budgets[0], config.first_seed)
    searches = config.search and not (runner.out / "search.json").exists()
    before = [work for cell in (trials_of(config) if searches else []) for work in _work(runner, times, cell)]
    after = [work for cell in [*[smallest] * controls, *final] for work in _work(runner, times, cell)]
    pages = times.figure * (FIGURES_OF_PAGE + FIGURES_OF_WHY * explains) if cells or explains else 0.0
    testing = times.classifying(SCRATCH).testing
    after.append(Work("pages", "pages", pages))
    after.append(Work("measures", "measures", _images_asked(runner, len(prepared.test)) * testing if explains else 0.0))
    pretraining = [times.pretraining(arm) for arm in config.pretrainings[:1]]
    classified = times.classifying(SCRATCH)
    work = tuple(work for cell in cells for work in _work(runner, times, cell))
    return Plan(
        cells=dict(Counter("pretraining" if cell.budget is None else cell.shown for cell in cells))
        | ({"controls of the explanation": controls} if controls else {})
        | ({"final network": len(final)} if final else {}),
        images=len(prepared.images.keys),
        store_bytes=prepared.images.nbytes,
        pretraining_images_per_second=next((timed.batch / timed.step for timed in pretraining), None),
        classification_images_per_second=classified.batch / classified.step,
        work=work,
        before=tuple(before),
        after=tuple(after),
        at_once=at_once,
        load=times.load,
        few=prepared.few if config.pretrains else "",
    )


def _work(runner: Runner, times: Times, cell: Cell) -> Iterator[Work]:
    """A cell's; of scratch-long in one piece what is as dear as pretraining."""
    config = runner.config
    if cell.budget is None:
        timed = times.pretraining(cell.arm)
        yield Work("pretraining", cell.name, COUNTING_STEPS * timed.step, _steps(runner, times, cell.arm) * timed.step)
        return
    timed = times.classifying(cell.arm)
    steps, batch = runner.schedule_of(cell)
    trained = (1 + VALIDATION_SHARE) * steps + COUNTING_STEPS
    seconds = trained * timed.step * batch / timed.batch + timed.testing * len(runner.context.prepared.test)
    further, after = 0.0, runner.starts_from(cell)
    if cell.arm == SCRATCH_LONG:
        dear = times.pretraining(config.method)
        operations = _steps(runner, times, config.method) * dear.batch * dear.operations
        further = operations / timed.operations * timed.step / timed.batch
    yield Work("scratch-long" if further else "classifiers", cell.name, seconds, further, after)


def _steps(runner: Runner, times: Times, arm: str) -> int:
    """Of the arm's pretraining."""
    return runner.config.epochs_of(arm) * times.pretraining(arm).an_epoch


def _images_asked(runner: Runner, test: int) -> int:
    """Images that all networks of an explanation are asked about: two arms, read-outs, controls and random weights."""
    networks = 4 * runner.config.seeds + 2
    return networks * (VIEWS_AN_IMAGE * min(BRIEF.view_images, test) + ASKED_AN_IMAGE * min(BRIEF.test_images, test))
