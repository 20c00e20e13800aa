"""What a study is told: its settings, their defaults, and the arms they make."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings, config_class
from whymask.flags import Flat
from whymask.methods import SETTINGS, PerMethod, asked_of, setting_of
from whymask.stages.augment import AugmentName
from whymask.stages.pretrain import Pretraining
from whymask.stages.recipes import Finetuning
from whymask.training.settings import RuntimeSettings

SCRATCH, SCRATCH_LONG, INIT = "scratch", "scratch-long", "init"


@dataclass(frozen=True)
class StudySettings(PerMethod):  # type: ignore[misc, valid-type]
    """Does pretraining help on these images, how much, and what is it worth in labels?"""

    seeds: int = 5
    """Independent repetitions. Each has its own pretraining, label subset, order and initial weights."""
    first_seed: int = 0
    """Seeds are first_seed, first_seed + 1, ..."""
    budgets: tuple[str, ...] | None = None
    """Labels to fine-tune on: a number a class (10), a share (1%) or all. Default: two, from the smallest class."""
    worth_budgets: tuple[str, ...] | None = None
    """Further budgets at which only scratch is trained, to tell what pretraining is worth in labels. Default: twice
    and four times the smallest budget, where the classes are large enough."""
    scratch_long: Literal["smallest", "all", "none"] = "smallest"
    """At which budgets scratch is also trained as long as pretraining and fine-tuning together cost, counted in
    operations. It is as dear as the pretraining, so by default it is done at the verdict's budget alone."""
    metric: str | None = None
    """The verdict's metric, fixed before the run: balanced_accuracy (default; accuracy/single_view for glyphs),
    accuracy, macro_f1, auroc, log_loss or accuracy/TAG. Its budget is the smallest."""
    method: Literal[tuple(SETTINGS)] = "mae"  # type: ignore[valid-type]
    """How to pretrain; one of `whymask.methods.METHODS`."""
    init: Path | None = None
    """A further arm that starts from this local checkpoint (an encoder of whymask, timm or transformers; safetensors,
    of the same architecture as --encoder), since a public checkpoint is the rival that one has."""
    init_partial: bool = False
    """Let that checkpoint match in part; what does not match stays new."""
    augment: AugmentName = "auto"
    """Augmentation, the same in every arm and in pretraining. auto: random crops and flips; none for glyphs."""
    layer_decay: float | None = None
    """Layer-wise learning-rate decay of the pretrained arms; default 0.75 for a ViT or Swin, 1 for a CNN. Scratch
    has 1."""
    search: bool = False
    """First try 3 learning rates x layer decay {1, 0.75} for every arm alike, on a seed outside the study and a
    held-out fifth of its labels, and use each arm's best."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    pretrain: Pretraining = field(default_factory=Pretraining)
    finetune: Finetuning = field(default_factory=Finetuning)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def method_settings(self) -> Any:
        return asked_of(self)

    def pretrained_arms(self) -> list[str]:
        return [self.method] + ([INIT] if self.init is not None else [])

    def finetuning_of(self, arm: str) -> Finetuning:
        """The arm's defaults, fit for it: what is already learnt in the lower layers should change slowly."""
        if arm in (SCRATCH, SCRATCH_LONG):
            return self.finetune
        default = config_class(self.encoder.name).layer_decay
        return replace(self.finetune, layer_decay=default if self.layer_decay is None else self.layer_decay)

    def compared(self) -> dict[str, Any]:
        """What must be equal for a study to be continued: all but where it computes and keeps its decoded images."""
        others = {setting_of(name) for name in SETTINGS}
        settings = {name: value for name, value in asdict(self).items() if name not in others}
        settings[setting_of(self.method)] = asdict(self.method_settings)
        del settings["runtime"]
        del settings["data"]["store"]
        return settings
