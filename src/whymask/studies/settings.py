"""What a study is told: its settings, their defaults, and the arms they make."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from whymask.choosing.settings import Unseen
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings
from whymask.errors import WhymaskError
from whymask.flags import Flat, readable
from whymask.methods import SETTINGS, PerMethod
from whymask.stages.settings import (
    SCRATCH,
    AugmentName,
    FinetuneTrainingSettings,
    PretrainTrainingSettings,
    check_augment,
)
from whymask.tasks.budgets import parse_budget
from whymask.training.settings import RuntimeSettings

SCRATCH_LONG, INIT = "scratch-long", "init"
ScratchLong = Literal["smallest", "all", "none"]
SEEDS, MARGIN = 5, 0.02
GIVEN = ("init", "continue", "frozen")
"""What is done with weights from elsewhere."""

__all__ = ["INIT", "SCRATCH", "SCRATCH_LONG", "ClusterSettings", "ScratchLong", "StudySettings"]


@readable
@dataclass(frozen=True)
class ClusterSettings:
    """Where a study's cells run, several at once, by Ray. Changes when they are done, not what they give."""

    ray: str | None = None
    """Run cells at once by Ray: auto starts it on this machine; HOST:PORT is a cluster that runs, of which this machine
    is one. Default: one after another, without Ray."""
    gpus_per_cell: float | None = None
    """With --ray: the share of a GPU that each cell has, such as 0.25 for four at once on each GPU; 0 for none.
    Default: a whole one where the cluster has GPUs and --device allows it."""
    cpus_per_cell: int | None = None
    """With --ray: the CPUs that each cell has, and its threads unless --threads says others. Default: as many as it has
    threads, so that it gives the bits of a cell without Ray; beside a GPU 1."""

    def __post_init__(self) -> None:
        """Raises WhymaskError for shares that no machine can give, or that nothing asks for."""
        if self.ray is None and (self.gpus_per_cell, self.cpus_per_cell) != (None, None):
            raise WhymaskError(
                "--gpus-per-cell and --cpus-per-cell are of cells on Ray; add --ray auto, or leave out both"
            )
        if self.gpus_per_cell is not None and not 0 <= self.gpus_per_cell <= 1:
            raise WhymaskError(
                f"--gpus-per-cell {self.gpus_per_cell:g}: a cell computes on one GPU or a share of it; expected a "
                "number from 0 to 1, such as 0.25."
            )
        if self.cpus_per_cell is not None and self.cpus_per_cell < 1:
            raise WhymaskError(f"--cpus-per-cell {self.cpus_per_cell}: at least 1 was expected.")


class Weights(NamedTuple):
    """Weights from elsewhere that an arm starts from: one of `GIVEN`, and where they lie."""

    kind: str
    origin: str

    @property
    def asked(self) -> str:
        return f"--starts {self.kind}={self.origin}"

    @property
    def arm(self) -> str:
        """ "init=resnet18.a1_in1k", "frozen=encoder": a name without folders."""
        name = re.split(r"[/\\:]", self.origin.rstrip("/\\"))[-1].removesuffix(".safetensors")
        return f"{self.kind}=" + re.sub(r"[^\w.+-]", "-", name)


@readable
@dataclass(frozen=True)
class StudySettings(PerMethod):
    """Does pretraining help on these images, how much, and what is it worth in labels?"""

    seeds: int | None = None
    """Independent repetitions. Each has its own pretraining, label subset, order and initial weights. Default: 5; with
    --hours fewer, at least 3, where 5 would leave too little time to pretrain."""
    first_seed: int = 0
    """Seeds are first_seed, first_seed + 1, ..."""
    budgets: tuple[str, ...] | None = None
    """Labels to fine-tune on: a number a class (10; of all images, where an image has not one class), a share (1%) or
    all. Default: about a fifth of the median class, at least 5, and all (20% and all where the smallest class has not
    as many); the first lines say why."""
    worth_budgets: tuple[str, ...] | None = None
    """Further budgets at which only scratch is trained, to tell what pretraining is worth in labels. Default: twice
    and four times the smallest budget, where there are as many labels."""
    scratch_long: ScratchLong = "smallest"
    """At which budgets scratch is also trained as long as pretraining and fine-tuning together cost, counted in
    operations. It is as dear as the pretraining, so by default it is done at the verdict's budget alone."""
    metric: str | None = None
    """The verdict's metric, fixed before the run. Classification: balanced_accuracy (default; accuracy/single_view for
    glyphs), accuracy, macro_f1, auroc, log_loss or accuracy/TAG. Multilabel: mean_average_precision (default),
    macro_auroc, macro_f1 or micro_f1. Regression: mean_absolute_error (default; with /TARGET of one of several), rmse,
    r2 or spearman. Its budget is the smallest."""
    margin: float = MARGIN
    """The smallest difference that matters, a share of the metric's range, fixed before the run: "no difference that
    matters" is only said where the whole interval lies within it. The range of a metric without two bounds is what lies
    between the best value and that of who looks at no image."""
    method: Literal[tuple(SETTINGS)] = "mae"  # type: ignore[valid-type]
    """How to pretrain; one of `whymask.methods.METHODS`."""
    init: Path | None = None
    """A further arm that starts from this local checkpoint (an encoder of whymask, timm or transformers; safetensors,
    of the same architecture as --encoder), since a public checkpoint is the rival that one has."""
    init_partial: bool = False
    """Let that checkpoint match in part; what does not match stays new."""
    starts: tuple[str, ...] | None = None
    """What to compare with training from scratch, any number: names of methods (own pretraining, each as dear in
    counted operations as the first), and weights from elsewhere: init=NAME fine-tunes them, continue=NAME pretrains
    them further by the first method, frozen=NAME trains a linear classifier on their features. NAME: what --from takes;
    of whatever architecture. The first is the verdict's arm. Default: the method's own pretraining."""
    augment: AugmentName = "auto"
    """Augmentation, the same in every arm and in pretraining: auto, none, crop, crop-flip, or MODULE:FUNCTION of your
    own. auto: random crops and flips; none for glyphs."""
    layer_decay: float | None = None
    """Layer-wise learning-rate decay of the pretrained arms; default 0.75 for a ViT or Swin, 1 for a CNN. Scratch
    has 1."""
    choose: tuple[Unseen, ...] = ()
    """Beside drawn labels, as many chosen ones at the verdict's budget, for scratch and own pretraining alike: typical,
    covering or spread (see whymask choose), by features of the seed's own pretraining, which saw no label; and as many
    at random whatever their class, since drawn labels are even over classes, which nobody knows beforehand."""
    search: bool = False
    """First try 3 learning rates x layer decay {1, 0.75} for every arm alike, on a seed outside the study and a
    held-out fifth of its labels, and use each arm's best."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    pretrain: PretrainTrainingSettings = field(default_factory=PretrainTrainingSettings)
    finetune: FinetuneTrainingSettings = field(default_factory=FinetuneTrainingSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)
    cluster: Annotated[ClusterSettings, Flat] = field(default_factory=ClusterSettings)

    def __post_init__(self) -> None:
        """Raises WhymaskError for what would make a study that says nothing, or one that is not fair."""
        check_augment(self.augment)
        for budget in (*(self.budgets or ()), *(self.worth_budgets or ())):
            parse_budget(budget)
        self._take_starts()
        if len({*self.choose}) < len(self.choose):
            raise WhymaskError(f"--choose {' '.join(self.choose)}: each rule once was expected")
        if self.choose and not self.methods:
            raise WhymaskError(
                "--choose takes features of own pretraining, which no label has shaped, and --starts names no method; "
                "add one, such as mae, or leave --choose out"
            )
        if self.seeds is not None and self.seeds < 1:
            raise WhymaskError(f"--seeds {self.seeds}: at least 1 is needed, and 3 for a verdict.")
        if not 0 < self.margin < 1:
            raise WhymaskError(f"--margin {self.margin:g}: expected a share of the metric's range, such as {MARGIN}.")
        for stage, training in {"pretrain": self.pretrain, "finetune": self.finetune}.items():
            if training.batch_size == "auto":
                raise WhymaskError(
                    f"--{stage}.batch-size auto: a study's networks are compared at one batch, wherever its cells run; "
                    f"'whymask {stage} ... --batch-size auto' says what fits: give that number"
                )
        if self.finetune.layer_decay != 1:
            raise WhymaskError(
                f"--finetune.layer-decay {self.finetune.layer_decay:g}: scratch is trained without layer decay. "
                "Give --layer-decay, which is that of the pretrained arms, or --search."
            )
        self._check_cluster()

    def _check_cluster(self) -> None:
        cluster, runtime = self.cluster, self.runtime
        if cluster.ray is None:
            return
        if runtime.devices > 1:
            raise WhymaskError(
                f"--ray with --devices {runtime.devices}: on Ray each cell is one process, and several cells run at "
                "once. Leave one of them out."
            )
        share = cluster.gpus_per_cell
        if share is not None and runtime.device != "auto" and (runtime.device == "cuda") != (share > 0):
            raise WhymaskError(
                f"--gpus-per-cell {share:g} with --device {runtime.device}: one says a GPU, the other none. Leave one "
                "of them out."
            )

    @property
    def given(self) -> list[Weights]:
        """The weights from elsewhere that --starts names."""
        return [Weights(*start.split("=", 1)) for start in self.starts or () if "=" in start]

    @property
    def methods(self) -> list[str]:
        """Each an arm of the study that is pretrained by it, from new weights."""
        return [self.method] if self.starts is None else [start for start in self.starts if start in SETTINGS]

    def _take_starts(self) -> None:
        """The first method that --starts names is the study's. Raises WhymaskError for a start that is none."""
        methods = [start for start in self.starts or () if start in SETTINGS]
        for start in self.starts or ():
            kind, _, name = start.partition("=")
            if start not in (SCRATCH, *methods) and (kind not in GIVEN or not name):
                raise WhymaskError(
                    f"--starts {start}: expected {SCRATCH}, a method ({', '.join(SETTINGS)}), or weights from "
                    f"elsewhere as {', '.join(f'{known}=NAME' for known in GIVEN)}"
                )
        if self.starts is not None and set(self.starts) <= {SCRATCH} and self.init is None:
            raise WhymaskError("--starts scratch: nothing to compare with it; name a method, or init=NAME")
        arms = [SCRATCH, SCRATCH_LONG, INIT, *methods, *(weights.arm for weights in self.given)]
        if twice := {arm for arm in arms if arms.count(arm) > 1}:
            raise WhymaskError(
                f"--starts names {', '.join(sorted(twice))} twice; each start once, by files of two names"
            )
        if methods:
            object.__setattr__(self, "method", methods[0])


def parse_share(share: str) -> tuple[int, int]:
    """(i, n) of "i/n", a share of a study's cells counted from 1. Raises WhymaskError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", share)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise WhymaskError(f"--cells {share}: expected i/n with 1 <= i <= n, such as 1/4.")
    return int(match[1]), int(match[2])
