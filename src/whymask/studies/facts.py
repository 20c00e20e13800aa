"""What the rules of advice ask of a study: words, numbers and commands, from study.json alone."""

import math
import shlex
from collections.abc import Iterable
from functools import cached_property
from pathlib import PurePath
from typing import Any

from whymask.data.prepare import FEW_UNLABELLED
from whymask.data.splits import LARGEST_SHARE, USUAL_SHARE
from whymask.errors import WhymaskError
from whymask.report.text import count, known, plural
from whymask.stages.taken import arm_taken, largest_of, leading_of
from whymask.studies.settings import INIT, SCRATCH, SCRATCH_LONG
from whymask.studies.settling import MINIMUM_SEEDS, MOST_SEEDS, seeds_needed
from whymask.studies.statistics import PairedDifference, paired_difference
from whymask.studies.verdict import number_of, state_of
from whymask.tasks import Metric, Task

Row = dict[str, Any]

NOT_EXPORTED = ("cnn", "plain_cnn", "two-layer", "two_layer")
"""Encoders that timm does not know, so that they are written as plain tensors."""
PUBLIC = "resnet18.a1_in1k"
"""Public weights to begin with: of a small network, from ImageNet with labels."""


class Facts:
    """What the rules ask of a study, each as a word or number that a rule's sentence may cite.

    `study`: of study.json, of today's schema; `folder`: where it lies, as the commands are to name it.
    """

    def __init__(self, study: Row, task: Task, folder: str):
        self.study, self.task, self.folder = study, task, shlex.quote(folder)
        self.verdict, self.setting, self.data = study["verdict"], study["setting"], study["data"]
        self.kind = self.verdict.get("kind", "")
        self.method = leading_of(study) or "mae"
        self.above_chance = self.verdict.get("above_chance")

    # the verdict's numbers

    @property
    def is_understood(self) -> bool:
        """Whether it names a metric of today, and the labels that it is of."""
        try:
            self.task.describe(self.verdict["metric"])
        except (KeyError, WhymaskError):
            return False
        return "labels_per_class" in self.verdict

    @property
    def about(self) -> Metric:
        return self.task.describe(self.verdict["metric"])

    def level(self, arm: str, labels: float) -> float:
        """The arm's mean in the verdict's metric; NaN where it was not run."""
        wanted = {"arm": arm, "labels_per_class": labels, "metric": self.verdict.get("metric")}
        return next((row["mean"] for row in self.study["levels"] if wanted.items() <= row.items()), math.nan)

    def pairs(self, arm: str) -> list[Row]:
        """The arm's against scratch and scratch-long, where the verdict is given."""
        wanted = {"arm": arm, "labels_per_class": self.verdict["labels_per_class"], "metric": self.verdict["metric"]}
        rows = [row for row in self.study["pairs"] if wanted.items() <= row.items()]
        return [row for row in rows if row["baseline"] in (SCRATCH, SCRATCH_LONG)]

    def is_better(self, one: float, other: float) -> bool:
        return one > other if self.about.higher_is_better else one < other

    @property
    def given_arms(self) -> list[str]:
        """Those that start from weights of elsewhere."""
        named = [*self.setting.get("arms", {}), *(row["arm"] for row in self.study["pairs"])]
        return [arm for arm in dict.fromkeys(named) if arm == INIT or "=" in arm]

    @cached_property
    def best_given(self) -> str:
        """Of these the one with the best mean, if it is better than all from scratch and its mean is better than the
        verdict's arm's; "" where there is none."""
        labels = self.verdict.get("labels_per_class", math.nan)
        rows = {arm: self.pairs(arm) for arm in self.given_arms if arm != self.method} if self.kind else {}
        better = [
            arm
            for arm, pairs in rows.items()
            if pairs
            and all(state_of(row, self.about) == "better" for row in pairs)
            and self.is_better(self.level(arm, labels), self.level(self.method, labels))
        ]
        best = max if self.about.higher_is_better else min
        return best(better, key=lambda arm: self.level(arm, labels)) if better else ""

    @property
    def open_pairs(self) -> list[Row]:
        margin = self.verdict.get("margin", math.nan)
        return [row for row in self.pairs(self.method) if state_of(row, self.about, margin) == "open"]

    # seeds, images and labels

    @property
    def seeds(self) -> int:
        return len(self.setting.get("seeds") or [])

    @cached_property
    def more_seeds(self) -> int:
        """The seeds that would settle an open verdict; 0 where as many are there or even 50 would not suffice."""
        rows = self.open_pairs if self.kind == "cannot tell" else []
        needed = seeds_needed(rows, self.verdict.get("margin", math.nan)) if rows else 0
        return needed if self.seeds < needed <= MOST_SEEDS else 0

    @property
    def asks_for_images(self) -> bool:
        return "test images" in (self.verdict.get("settle") or "")

    @property
    def test_share(self) -> float:
        """A larger one than the study had; NaN where the test images were given, or a half of all was taken."""
        drawn = self.data.get("test_split") == "drawn"
        share = self.data.get("test_share") or USUAL_SHARE
        return LARGEST_SHARE if drawn and share < LARGEST_SHARE else math.nan

    @property
    def few_unlabelled(self) -> bool:
        return known(self._distinct) and self._distinct < FEW_UNLABELLED

    @property
    def pool(self) -> str:
        different = " different" if self._distinct != self.data.get("pool") else ""
        return f"{count(self._distinct)}{different}"

    @property
    def _distinct(self) -> Any:
        """Images to pretrain on, exact copies counted once; of a study before these were counted, all."""
        return self.data.get("distinct", self.data.get("pool"))

    @property
    def cells(self) -> list[Row]:
        return [cell for cell in self.study["cells"] if cell.get("metrics") and not cell.get("error")]

    @property
    def chosen(self) -> str:
        """The arm to use, or scratch where that is open."""
        if self.best_given or self.kind == "helps":
            return self.best_given or self.method
        return SCRATCH_LONG if self.kind == "not worth its compute" else SCRATCH

    @property
    def cell(self) -> str:
        """ " --cell NAME" of the arm to use, its first seed at its largest budget; "" where that arm's network is taken
        without it."""
        if arm_taken(self.study) == self.chosen:
            return ""
        best = largest_of(self.study, self.chosen)
        return f" --cell {shlex.quote(PurePath(best['folder']).name) if best else 'NAME'}"

    @cached_property
    def budgets(self) -> list[float]:
        return sorted({cell["labels_per_class"] for cell in self.cells if cell["arm"] == self.chosen})

    @cached_property
    def growth(self) -> PairedDifference | None:
        """Of the arm to use, with most labels minus with fewest, over the seeds that have both; above 0 is better."""
        if len(self.budgets) < 2:
            return None
        sign = 1 if self.about.higher_is_better else -1
        few, many = (self.values(self.chosen, labels, sign) for labels in (self.budgets[0], self.budgets[-1]))
        return paired_difference(many, few)

    def values(self, arm: str, labels: float, sign: int) -> dict[int, float]:
        """Seed -> `sign` times the arm's number in the verdict's metric."""
        here, metric = {"arm": arm, "labels_per_class": labels}, self.verdict["metric"]
        cells = [cell for cell in self.cells if here.items() <= cell.items() and metric in cell["metrics"]]
        return {cell["seed"]: sign * cell["metrics"][metric] for cell in cells}

    @property
    def rises(self) -> bool:
        """Whether the arm to use is better with most labels than with fewest, surely by more than the margin."""
        found = self.growth
        if found is None or found.low is None or found.seeds < MINIMUM_SEEDS:
            return False
        return found.low > self.verdict.get("margin", math.nan)

    @property
    def rise(self) -> str:
        """By how much, with its interval and seeds."""
        shown, found = number_of(self.about), self.growth
        if found is None or found.low is None or found.high is None:
            return ""
        return (
            f"{shown(found.difference)} (95 % interval {shown(found.low)} to {shown(found.high)} over "
            f"{plural(found.seeds, 'seed')})"
        )

    @property
    def fewest(self) -> str:
        return count(self.budgets[0])

    @property
    def most(self) -> str:
        return f"{count(self.budgets[-1])} {self.task.bought(self.budgets[-1])}"

    # commands

    @property
    def target(self) -> str:
        return "safetensors" if self.encoder in NOT_EXPORTED else "timm"

    @property
    def encoder(self) -> str:
        return (self.setting.get("encoder") or {}).get("name") or "cnn"

    @property
    def public(self) -> str:
        return PUBLIC

    @property
    def epochs(self) -> int:
        return (self.setting.get("pretrain") or {}).get("epochs") or 0

    @property
    def twice(self) -> int:
        return 2 * self.epochs

    @property
    def again(self) -> str:
        """The study's own command, all of its cells; "" where it was not run from a command line."""
        return _without(self.same, ("--cells",)) if self.same else ""

    @property
    def again_for_longer(self) -> str:
        """The same, without the hours that pretraining was fitted to."""
        return _without(self.again, ("--hours",)) if self.again else ""

    @property
    def for_epochs(self) -> str:
        return plural(self.epochs, "epoch")

    @property
    def beside_seeds(self) -> str:
        """What has to come beside more seeds."""
        return ", and more test images as said above," if self.asks_for_images else ""

    @cached_property
    def same(self) -> str:
        """As it was given."""
        try:
            words = shlex.split(self.setting.get("command") or "")
        except ValueError:
            return ""
        return shlex.join(["whymask", *words[1:]]) if words[1:2] == ["study"] else ""


def _parts(command: str) -> list[list[str]]:
    """The command's words, each flag with its values: [["whymask", "study", "photos/"], ["--seeds", "5"], ...]."""
    parts: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(word)
    return parts


def _without(command: str, flags: Iterable[str]) -> str:
    return _joined(part for part in _parts(command) if _flag(part) not in flags)


def said_once(command: str) -> str:
    """The command, of a flag that is there twice only the last."""
    return _joined({_flag(part): part for part in _parts(command)}.values())


def _flag(part: list[str]) -> str:
    return part[0].partition("=")[0]


def _joined(parts: Iterable[list[str]]) -> str:
    return shlex.join(word for part in parts for word in part)
