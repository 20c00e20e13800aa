"""How long the steps of a study take on this machine: timed, each network once."""

import time
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from whymask.data.batches import in_order
from whymask.report.figures import make, to_svg
from whymask.stages.classify import EVALUATION_BATCH
from whymask.stages.pretrain import pretraining
from whymask.studies.cells import Runner
from whymask.studies.pace import classifier_of
from whymask.training.loop import Training
from whymask.training.optimisation import TrainingConfig, make_optimiser

TIMED_STEPS = 20
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Timed:
    """Of a network: seconds of a training step and of testing an image, steps of an epoch and images of each, and
    operations of an image that it learns from."""

    step: float
    an_epoch: int
    batch: int
    operations: float
    testing: float = 0.0


class Times:
    """What steps take on a quiet machine, and how much longer beside what else computes now (`load`).

    `at_least`: seconds to time each network, as other work comes and goes; else 20 steps."""

    def __init__(self, runner: Runner, at_least: float = 0.0) -> None:
        self.runner, self.at_least = runner, at_least
        self._timed: dict[Hashable, Timed] = {}
        self._figure: float | None = None
        self._clock = self._quiet = 0.0

    @property
    def load(self) -> float:
        """Seconds by the clock to those on a quiet machine; 1 where too little was timed to tell."""
        return self._clock / self._quiet if self._quiet and self.at_least else 1.0

    def pretraining(self, arm: str) -> Timed:
        runner, config = self.runner, self.runner.config
        key = ("pretraining", config.encoder_of(arm), config.method_of(arm))
        if key not in self._timed:
            training = pretraining(runner.context_of(arm), config.pretraining(config.first_seed, arm))
            step = self.time_steps(training)
            batches, operations = training.batches, training.operations_per_image()
            self._timed[key] = Timed(step, batches.steps_per_epoch, batches.batch_size, operations)
        return self._timed[key]

    def classifying(self, arm: str) -> Timed:
        config = self.runner.config
        key = ("classifying", config.encoder_of(arm), config.finetuning_of(arm).train)
        if key not in self._timed:
            training = classifier_of(self.runner, arm)
            step, operations = self.time_steps(training), training.operations_per_image()
            testing, batches = self.time_testing(training), training.batches
            self._timed[key] = Timed(step, batches.steps_per_epoch, batches.batch_size, operations, testing)
        return self._timed[key]

    @property
    def figure(self) -> float:
        """Seconds of a plain figure of two panels, after one that warms up."""
        if self._figure is None:
            for _ in range(2):
                began = _now()
                to_svg("plan", make("plan", 4.2, _paint, width=8.6))
            self._figure = self._since(began)
        return self._figure

    def time_steps(self, training: Training) -> float:
        """Median seconds of a training step: data, forward, backward and optimiser. Its model is changed."""
        optimiser = make_optimiser(training.model, TrainingConfig(epochs=1))
        seconds: list[float] = []
        training.model.train()
        until = time.monotonic() + self.at_least
        while len(seconds) < WARM_UP_STEPS + TIMED_STEPS or time.monotonic() < until:
            step = len(seconds)
            began = _now()
            loss = training.loss_of(training.model, training.batches(step), step)["loss"]
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            loss.item()
            seconds.append(self._since(began, counts=step >= WARM_UP_STEPS))
        return sorted(seconds[WARM_UP_STEPS:])[(len(seconds) - WARM_UP_STEPS) // 2]

    @torch.inference_mode()
    def time_testing(self, training: Training) -> float:
        """Seconds that testing takes an image."""
        prepared = self.runner.context.prepared
        rows = prepared.test[:EVALUATION_BATCH]
        training.model.eval()
        began = _now()
        for batch in in_order(prepared.images, rows, EVALUATION_BATCH, training.batches.device):
            training.model(batch.images).cpu()
        return self._since(began) / len(rows)

    def _since(self, began: tuple[float, float], counts: bool = True) -> float:
        """Seconds that what was done takes on a quiet machine: of the clock, or of the processors where these are
        fewer. Other work lengthens the one, several threads the other; who waits for a GPU's number spins, and so uses
        both."""
        clock, processors = (now - then for now, then in zip(_now(), began, strict=True))
        quiet = min(clock, processors)
        if counts:
            self._clock += clock
            self._quiet += quiet
        return quiet


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _paint(figure: Figure) -> None:
    for axes in figure.subplots(1, 2):
        for line in range(4):
            axes.plot(range(8), [line + place for place in range(8)], label=str(line))
        axes.legend()
