"""Starts that are pretrained in the study from new weights: one arm for each method, all of one encoder and as dear."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from whymask.encoders import EncoderConfig, EncoderSettings
from whymask.encoders.base import Size
from whymask.errors import WhymaskError
from whymask.methods import MethodConfig, asked_of, encoder_for, method_of, resolve_method
from whymask.report.text import plural
from whymask.stages.pretrain import pretraining
from whymask.studies.settings import StudySettings

if TYPE_CHECKING:
    from whymask.studies.cells import Runner
    from whymask.studies.config import StudyConfig


NEARLY = 0.25
"""By which share of the operations of the first method those of another may differ: half an epoch of two."""


@dataclass(frozen=True)
class OwnStart:
    """An arm of the method's name; `dear`: operations of an epoch to those of an epoch of the study's first method."""

    method: str
    config: MethodConfig
    dear: float = 1.0

    def epochs(self, asked: int) -> int:
        """As many as cost what `asked` epochs of the first method cost, to the nearest; at least 1."""
        return max(1, round(asked / self.dear))


def own_starts(asked: StudySettings, encoder: EncoderConfig, size: Size) -> tuple[OwnStart, ...]:
    """Raises WhymaskError for a method that does not fit the study's encoder, or a setting out of its range."""
    return tuple(
        OwnStart(name, resolve_method(name, asked_of(replace(asked, starts=None, method=name)), encoder, size))
        for name in asked.methods
    )


def study_encoder(asked: StudySettings) -> EncoderSettings:
    """The encoder's settings, "auto" replaced by the first that all methods of the study take.

    Raises WhymaskError where a method does not fit the encoder, or no encoder all methods."""
    names = asked.methods or [asked.method]
    if asked.encoder.name == "auto" and len(names) > 1:
        fitting = [kind for kind in method_of(names[0]).encoders if all(kind in method_of(n).encoders for n in names)]
        if not fitting:
            each = "; ".join(f"{name} pretrains {' or '.join(method_of(name).encoders)}" for name in names)
            raise WhymaskError(f"--starts {' '.join(names)}: no kind of encoder fits all of them: {each}")
        return encoder_for(names[0], replace(asked.encoder, name=fitting[0]))
    encoder = encoder_for(names[0], asked.encoder)
    for name in names[1:]:
        encoder_for(name, encoder)
    return encoder


def at_equal_operations(runner: "Runner") -> "StudyConfig":
    """The runner's config, its further methods with epochs that cost the counted operations of the first one's."""
    config = runner.config
    if len(config.own) < 2:
        return config
    training = replace(config.pretrain, epochs=1)
    epochs = [
        pretraining(runner.context, replace(config.pretraining(config.first_seed, start.method), training=training))
        for start in config.own
    ]
    first, *others = (epoch.operations() for epoch in epochs)
    further = [replace(start, dear=dear / first) for start, dear in zip(config.own[1:], others, strict=True)]
    return replace(config, own=(config.own[0], *further))


def check_as_dear(config: "StudyConfig") -> None:
    """Raise WhymaskError where whole epochs cannot make a further method nearly as dear as the first."""
    for start in config.own:
        share = config.epochs_of(start.method) * start.dear / config.pretrain.epochs
        if abs(share - 1) > NEARLY:
            raise WhymaskError(
                f"--starts {' '.join(own.method for own in config.own)}: methods are compared at equal operations, and "
                f"{plural(config.epochs_of(start.method), 'epoch')} of {start.method} cost {share:.2g} times what "
                f"{config.pretrain.epochs} of {config.method} cost; give more --pretrain.epochs or --hours"
            )
