"""What a study would run, and how long it would take on this machine: from timed steps, not from a guess."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from whymask.data.batches import in_order
from whymask.explanations.settings import BRIEF
from whymask.report.figures import make, to_svg
from whymask.stages.classify import EVALUATION_BATCH, VALIDATION_SHARE, classifier_training
from whymask.stages.pretrain import pretraining
from whymask.stages.recipes import resolve_finetuning
from whymask.studies.cells import Cell, Runner
from whymask.studies.pace import classifying_operations, pretraining_operations
from whymask.studies.settings import SCRATCH, SCRATCH_LONG
from whymask.training.loop import Training
from whymask.training.optimisation import TrainingConfig, make_optimiser

TIMED_STEPS = 20
WARM_UP_STEPS = 3
COUNTING_STEPS = 3
"""Steps that are as dear as what a cell does beside its training: counting operations and writing the network."""
FIGURES_OF_PAGE, FIGURES_OF_WHY = 45, 120
"""Plain figures that are as dear to draw as a study's page, drawn twice, and as its explanation's, whose pictures of
evidence take the most. Found by timing both on studies of glyphs."""
VIEWS_AN_IMAGE, ASKED_AN_IMAGE = 110, 8
"""How often a network is asked about an image whose views are counted, and about every other test image."""


@dataclass(frozen=True)
class Plan:
    """Cells still to be run, and seconds that they would take; `parts` are what the seconds are made of. `few`: that
    own pretraining is not expected to win on so few images, or ""."""

    cells: dict[str, int]
    images: int
    store_bytes: int
    pretraining_images_per_second: float
    classification_images_per_second: float
    pretraining_seconds: float
    other_seconds: float
    parts: dict[str, float]
    few: str = ""

    @property
    def seconds(self) -> float:
        return self.pretraining_seconds + self.other_seconds

    def epochs_within(self, seconds: float, epochs: int) -> int:
        """Pretraining epochs, `epochs` being what was planned, with which the study takes about `seconds`; 0 or more.

        What depends on the epochs is the pretraining itself and scratch-long, which is as dear."""
        return max(0, int((seconds - self.other_seconds) / self.pretraining_seconds * epochs))

    def seconds_with(self, share: float) -> float:
        """What the study takes with this share of the planned epochs."""
        return self.other_seconds + share * self.pretraining_seconds

    def text(self) -> str:
        cells = ", ".join(f"{count} {arm}" for arm, count in self.cells.items())
        return (
            f"{self.few}{chr(10) * bool(self.few)}"
            f"to run: {cells or 'nothing, all cells are finished'}\n"
            f"images: {self.images:,}; decoded: {self.store_bytes / 2**20:,.0f} MiB\n"
            f"speed: {self.pretraining_images_per_second:,.0f} images/s in pretraining, "
            f"{self.classification_images_per_second:,.0f} in classification\n"
            f"time: about {self.seconds / 60:,.1f} minutes on a quiet machine, from {TIMED_STEPS} timed steps of each\n"
            + "of these "
            + ", ".join(f"{name} {part / 60:,.1f}" for name, part in self.parts.items() if part)
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"seconds": self.seconds}


def make_plan(runner: Runner, cells: list[Cell], explain: bool = False, final: Sequence[Cell] = ()) -> Plan:
    """Time some steps of pretraining, of classification and of testing, and add up the cells that are not finished.

    With `explain`, also the networks that an explanation trains: as many as seeds, and one, as from scratch. `final`:
    what is trained afterwards, to be used.
    """
    cells = [cell for cell in cells if not (runner.folder(cell) / "result.json").exists()]
    context, config = runner.context, runner.config
    pretrained = pretraining(context, config.pretraining(seed=0))
    pretraining_step = time_steps(pretrained)
    smallest = Cell(SCRATCH, config.budgets[0], config.first_seed)
    rows = runner.rows_of(smallest)
    usual = resolve_finetuning(config.finetune, len(rows), context.prepared, config.encoder)
    classified = classifier_training(context, runner.job(smallest, rows, context.prepared.test, usual))
    classification_step = time_steps(classified)
    test = len(context.prepared.test)
    testing = time_testing(classified, runner) * test
    dear, other = 0.0, 0.0
    costs = {start.arm: _times_as_dear(runner, start.arm) for start in config.given}
    explains = explain and not (runner.out / "why" / "result.json").exists()
    controls = config.seeds + 1 if explains else 0
    for cell in [*cells, *[smallest] * controls, *final]:
        if cell.budget is None:
            dear += (pretrained.steps + COUNTING_STEPS) * pretraining_step * costs.get(cell.arm, (1.0, 1.0))[0]
            continue
        steps, batch = runner.schedule_of(cell)
        trained = (1 + VALIDATION_SHARE) * steps + COUNTING_STEPS
        seconds = trained * classification_step * batch / classified.batches.batch_size + testing
        other += seconds * costs.get(cell.arm, (1.0, 1.0))[1]
    long, longer = 0.0, sum(cell.arm == SCRATCH_LONG for cell in cells)
    if longer:
        per_second = classified.operations_per_image() * classified.batches.batch_size / classification_step
        long = longer * pretrained.operations() / per_second
    figure = time_figure() if cells or explains else 0.0
    parts = {
        "pretraining": dear,
        "scratch-long": long,
        "classifiers": other,
        "measures": _images_asked(runner, test) * testing / test if explains else 0.0,
        "pages": figure * (FIGURES_OF_PAGE + FIGURES_OF_WHY * explains),
    }
    return Plan(
        cells=dict(Counter("pretraining" if cell.budget is None else cell.arm for cell in cells))
        | ({"controls of the explanation": controls} if controls else {})
        | ({"final network": len(final)} if final else {}),
        images=len(context.prepared.images.keys),
        store_bytes=context.prepared.images.nbytes,
        pretraining_images_per_second=pretrained.batches.batch_size / pretraining_step,
        classification_images_per_second=classified.batches.batch_size / classification_step,
        pretraining_seconds=dear + long,
        other_seconds=sum(parts.values()) - dear - long,
        parts=parts,
        few=context.prepared.few if config.pretrains else "",
    )


def _times_as_dear(runner: Runner, arm: str) -> tuple[float, float]:
    """How many times as many operations as the study's own network the arm's has, in pretraining and in classifying."""
    config = runner.config
    own = classifying_operations(runner, SCRATCH)
    pretrained = 1.0
    if arm in config.pretrainings:
        pretrained = pretraining_operations(runner, arm) / pretraining_operations(runner, config.method)
    return pretrained, classifying_operations(runner, arm) / own


def _images_asked(runner: Runner, test: int) -> int:
    """Images that all networks of an explanation are asked about: two arms, read-outs, controls and random weights."""
    networks = 4 * runner.config.seeds + 2
    return networks * (VIEWS_AN_IMAGE * min(BRIEF.view_images, test) + ASKED_AN_IMAGE * min(BRIEF.test_images, test))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> float:
    """Seconds that what was done takes on a quiet machine: of the clock, or of the processors where these are fewer.
    Other work lengthens the one, several threads the other; who waits for a GPU's number spins, and so uses both."""
    return min(now - then for now, then in zip(_now(), began, strict=True))


def time_figure() -> float:
    """Seconds of a plain figure of two panels, after one that warms up."""

    def paint(figure: Figure) -> None:
        for axes in figure.subplots(1, 2):
            for line in range(4):
                axes.plot(range(8), [line + place for place in range(8)], label=str(line))
            axes.legend()

    for _ in range(2):
        began = _now()
        to_svg("plan", make("plan", 4.2, paint, width=8.6))
    return _since(began)


def time_steps(training: Training) -> float:
    """Median seconds of a training step: data, forward, backward and optimiser. Its model is changed."""
    optimiser = make_optimiser(training.model, TrainingConfig(epochs=1))
    seconds = []
    training.model.train()
    for step in range(WARM_UP_STEPS + TIMED_STEPS):
        began = _now()
        loss = training.loss_of(training.model, training.batches(step), step)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        seconds.append(_since(began))
    return sorted(seconds[WARM_UP_STEPS:])[TIMED_STEPS // 2]


@torch.inference_mode()
def time_testing(training: Training, runner: Runner) -> float:
    """Seconds that testing takes an image."""
    rows = runner.context.prepared.test[:EVALUATION_BATCH]
    training.model.eval()
    began = _now()
    for batch in in_order(runner.context.prepared.images, rows, EVALUATION_BATCH, training.batches.device):
        training.model(batch.images).cpu()
    return _since(began) / len(rows)
