"""A study of which nothing is left open: what is asked of it, fitted to the images once, and equal for all arms."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from whymask.choosing.settings import BLIND
from whymask.data.prepare import Prepared
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderConfig, resolve
from whymask.errors import WhymaskError
from whymask.later import recorded
from whymask.methods import MethodConfig, asked_of, resolve_method, setting_of, settings_for
from whymask.report.text import plural
from whymask.stages.augment import resolve_augment
from whymask.stages.pretrain import PretrainJob
from whymask.stages.recipes import resolve_pretraining
from whymask.stages.settings import AugmentName, FinetuneTrainingSettings
from whymask.studies.given import GivenStart, given_starts
from whymask.studies.own import OwnStart, own_starts, study_encoder
from whymask.studies.settings import MARGIN, SCRATCH, SCRATCH_LONG, SEEDS, ScratchLong, StudySettings
from whymask.tasks import Task
from whymask.tasks.budgets import Budget, auto_budgets, parse_budget
from whymask.training.optimisation import TrainingConfig

OF_VIEWS = ("accuracy/single_view", "accuracy/worst_view")
"""The verdict's metric by default of images whose views are known."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """`StudySettings` resolved, which says what each is. `own` are the starts that are pretrained from new weights,
    `given` those from elsewhere; `method` is the first of `own`, and how given weights are pretrained further. How
    classifiers are trained (`finetune`) is resolved further for each number of labels; `layer_decay` is of the
    pretrained arms, None for what is usual of the encoder."""

    seeds: int
    first_seed: int
    budgets: tuple[Budget, ...]
    worth_budgets: tuple[Budget, ...]
    scratch_long: ScratchLong
    metric: str
    margin: float
    method: str
    method_config: MethodConfig
    init: Path | None
    init_partial: bool
    starts: tuple[str, ...] | None
    given: tuple[GivenStart, ...]
    own: tuple[OwnStart, ...]
    augment: AugmentName
    layer_decay: float | None
    choose: tuple[str, ...]
    search: bool
    data: DataSettings
    encoder: EncoderConfig
    pretrain: TrainingConfig
    finetune: FinetuneTrainingSettings

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def pretrained_arms(self) -> list[str]:
        return [*(start.method for start in self.own), *(start.arm for start in self.given)]

    @property
    def leading(self) -> str:
        """The arm that the verdict is about."""
        return self.pretrained_arms[0]

    @property
    def pretrainings(self) -> list[str]:
        """The arms that are pretrained in the study: from new weights, or further."""
        return [start.method for start in self.own] + [start.arm for start in self.given if start.kind == "continue"]

    @property
    def pretrains(self) -> bool:
        """Whether an arm is pretrained from new weights."""
        return bool(self.own)

    def method_of(self, arm: str | None) -> tuple[str, MethodConfig]:
        """By which method the arm is pretrained, by default the study's."""
        own = next((start for start in self.own if start.method == arm), None)
        if own is not None:
            return own.method, own.config
        start = None if arm is None else self.start_of(arm)
        return self.method, self.method_config if start is None or start.method is None else start.method

    def epochs_of(self, arm: str | None) -> int:
        """How many the arm is pretrained for: those of the study, or of a further method as many as cost the same."""
        own = next((start for start in self.own if start.method == arm), None)
        return self.pretrain.epochs if own is None else own.epochs(self.pretrain.epochs)

    def start_of(self, arm: str) -> GivenStart | None:
        """What the arm starts from; None for weights of the study's own."""
        return next((start for start in self.given if start.arm == arm), None)

    def encoder_of(self, arm: str) -> EncoderConfig:
        start = self.start_of(arm)
        return self.encoder if start is None else start.encoder

    def finetuning_of(self, arm: str) -> FinetuneTrainingSettings:
        """The arm's defaults, fit for it: what is already learnt in the lower layers should change slowly."""
        if arm in (SCRATCH, SCRATCH_LONG):
            return self.finetune
        start = self.start_of(arm)
        if start is not None and start.kind == "frozen":
            return replace(self.finetune, train="head")
        usual = self.encoder_of(arm).layer_decay
        return replace(self.finetune, layer_decay=usual if self.layer_decay is None else self.layer_decay)

    def pretraining(self, seed: int, arm: str | None = None) -> PretrainJob:
        """How the encoder of an arm, by default the method's, is pretrained."""
        start = None if arm is None else self.start_of(arm)
        method, method_config = self.method_of(arm)
        return PretrainJob(
            config=self.encoder if start is None else start.encoder,
            method=method,
            method_config=method_config,
            training=replace(self.pretrain, epochs=self.epochs_of(arm)),
            augment=self.augment,
            seed=seed,
            origin=None if start is None else start.origin,
            partial=start is not None and start.partial,
        )

    def to_dict(self) -> dict[str, Any]:
        """What must be equal for a study to be continued: all but where it computes and keeps its decoded images."""
        left_out = {"method_config", "given", "own"} | ({"starts"} if self.starts is None else set())
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        content |= {name: recorded(content[name]) for name in ("data", "pretrain", "finetune")}
        content["encoder"] = asdict(self.encoder.asked())
        content |= {name: [budget.name for budget in content[name]] for name in ("budgets", "worth_budgets")}
        methods = {self.method: self.method_config} | {start.method: start.config for start in self.own}
        content |= {setting_of(name): asdict(settings_for(name, config)) for name, config in methods.items()}
        del content["data"]["store"]
        if self.margin == MARGIN:  # a setting that came later
            del content["margin"]
        content["choose"] = list(self.choose)
        if not self.choose:
            del content["choose"]
        return content

    @property
    def method_epochs(self) -> dict[str, int]:
        """Of each method that pretrains from new weights."""
        return {start.method: self.epochs_of(start.method) for start in self.own}

    def epochs_text(self) -> str:
        """ "mae, 50 epochs", of several methods "mae 50, spark 12 epochs, as dear in counted operations"."""
        if len(self.own) < 2:
            return f"{self.method}, {plural(self.pretrain.epochs, 'epoch')}"
        each = ", ".join(f"{method} {epochs}" for method, epochs in self.method_epochs.items())
        return f"{each} epochs, as dear in counted operations"

    def text(self, task: Task) -> str:
        encoder = ", ".join(f"{key} {value}" for key, value in asdict(self.encoder).items() if value is not None)
        budgets, worth = (", ".join(b.name for b in group) for group in (self.budgets, self.worth_budgets))
        further = f"; scratch also at {worth}" if worth else ""
        starts = "".join(f"{start.arm}: {start.encoder.timm_name}\n" for start in self.given if self.starts)
        return (
            f"encoder: {encoder}\n{starts}"
            f"pretraining: {self.epochs_text()}, augmentation {self.augment}\n"
            f"{task.budget_counts}: {budgets}{further}\n"
            f"verdict: {task.describe(self.metric).title} at {self.budgets[0].name}, {plural(self.seeds, 'seed')}"
        )


def resolve_study(asked: StudySettings, prepared: Prepared) -> StudyConfig:
    """Every None and "auto" filled in from the data.

    Raises WhymaskError for what does not fit the data, would say nothing, or would not be fair."""
    prep = prepared.images.preprocessing
    encoder = resolve(study_encoder(asked), prep.size, prep.channels)
    budgets = _ascending(asked.budgets, prepared) if asked.budgets else auto_budgets(prepared.stock)
    if asked.worth_budgets is None:
        worth = _further_budgets(budgets, prepared)
    else:
        worth = [budget for budget in _ascending(asked.worth_budgets, prepared) if budget not in budgets]
    metric = asked.metric or next((m for m in OF_VIEWS if m in prepared.chance), prepared.task.default_metric)
    _check(asked, metric, prepared)
    given = given_starts(asked, encoder, prep)
    return StudyConfig(
        seeds=SEEDS if asked.seeds is None else asked.seeds,
        first_seed=asked.first_seed,
        budgets=tuple(budgets),
        worth_budgets=tuple(worth),
        scratch_long=asked.scratch_long if asked.methods else "none",
        metric=metric,
        margin=asked.margin,
        method=asked.method,
        method_config=resolve_method(asked.method, asked_of(asked), encoder, prep.size),
        init=asked.init,
        init_partial=asked.init_partial,
        starts=asked.starts,
        given=given,
        own=own_starts(asked, encoder, prep.size),
        augment=resolve_augment(asked.augment, prepared.name),
        layer_decay=asked.layer_decay,
        choose=(*asked.choose, *([BLIND] if asked.choose and len(prepared.stock) > 1 else [])),
        search=asked.search,
        data=replace(asked.data, test_share=prepared.test_share),
        encoder=encoder,
        pretrain=resolve_pretraining(asked.pretrain, len(prepared.pool)),
        finetune=replace(asked.finetune, learning_rate=asked.finetune.peak),
    )


def _check(asked: StudySettings, metric: str, prepared: Prepared) -> None:
    prepared.task.describe(metric)
    part = metric.partition("/")[2]
    parts = sorted(name.partition("/")[2] for name in prepared.chance if "/" in name)
    if part and part not in parts:
        kind = prepared.task.metric_parts
        raise WhymaskError(
            f"--metric {metric}: no test image of {prepared.name} has the {kind} {part!r}; "
            f"the {kind}s are: {', '.join(parts) or 'none'}. Choose another metric."
        )
    if metric not in prepared.chance:
        raise WhymaskError(
            f"--metric {metric}: the {len(prepared.test)} test images of {prepared.name} do not define it; "
            f"they define {', '.join(prepared.chance)}. Choose another metric, or give more test images."
        )


def _ascending(names: Sequence[str], prepared: Prepared) -> list[Budget]:
    """Budgets from the smallest, at which the verdict is given, to the largest; each once."""
    largest = max(prepared.stock)
    return sorted({parse_budget(name) for name in names}, key=lambda budget: budget.count(largest))


def _further_budgets(budgets: list[Budget], prepared: Prepared) -> list[Budget]:
    """Twice and four times a smallest budget that is a number, where there are as many (in each class), that buy others
    than `budgets`."""
    smallest = budgets[0]
    if smallest.kind != "count":
        return []
    stock = [n for n in prepared.stock if n]
    bought = {sum(budget.count(n) for n in stock) for budget in budgets}
    further = [Budget("count", smallest.value * factor) for factor in (2, 4) if smallest.value * factor <= min(stock)]
    return [budget for budget in further if sum(budget.count(n) for n in stock) not in bought]
