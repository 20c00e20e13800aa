"""Starts from weights of elsewhere, public ones or those of another run, each an arm of its own architecture."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from whymask.data.prepare import Moments, Prepared
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import Encoder, EncoderConfig, EncoderSettings, build_encoder, resolve
from whymask.encoders.checkpoints import digest_of, is_run, load_checkpoint
from whymask.encoders.described import described, moments_for
from whymask.encoders.fetched import fetched
from whymask.errors import WhymaskError
from whymask.methods import MethodConfig, asked_of, encoder_for, resolve_method
from whymask.progress import say
from whymask.stages.context import Context
from whymask.stages.start import Start, test_images_seen
from whymask.stages.taken import weights_of
from whymask.studies.own import study_encoder
from whymask.studies.settings import INIT, StudySettings, Weights

Kind = Literal["init", "continue", "frozen"]


@dataclass(frozen=True)
class GivenStart:
    """An arm that starts from given weights.

    kind: init fine-tunes them; continue pretrains them further by the study's method first; frozen trains a linear head
    on their features. origin: the path of a run or checkpoint, `partial` where some of its weights may be missing.
    encoder: theirs, fitted to the study's images. moments: the mean and deviation of the channels that they were
    trained with; None for the study's own. method: of one that is continued, fitted to its encoder.
    """

    arm: str
    kind: Kind
    origin: str
    partial: bool
    encoder: EncoderConfig
    moments: Moments | None = None
    method: MethodConfig | None = None

    def build(self, prep: Preprocessing, seed: int) -> Encoder:
        """The encoder with the weights, for images of this preprocessing; what they lack, drawn from `seed`."""
        encoder = build_encoder(self.encoder, prep.size, prep.channels, seed)
        with _naming(self.asked, self.origin):
            encoder.origin = load_checkpoint(encoder, Path(self.origin), self.partial)
        return encoder

    @property
    def asked(self) -> str:
        return f"--init {self.origin}" if self.arm == INIT else Weights(self.kind, self.origin).asked

    @property
    def digest(self) -> str:
        """Of the weights, which stay as they are while the study lasts."""
        return digest_of(Path(self.origin))

    def test_images_seen(self, prepared: Prepared) -> int:
        """How many of the study's test images the weights are known to be pretrained on."""
        return test_images_seen(Path(self.origin), prepared)

    def seen_by(self, context: Context) -> Context:
        """The same images, standardised as the weights were trained to see them."""
        return context if self.moments is None else context.standardised(*self.moments)


def given_starts(asked: StudySettings, encoder: EncoderConfig, prep: Preprocessing) -> tuple[GivenStart, ...]:
    """The starts from given weights that a study with this `encoder` compares, on images of this preprocessing.

    Raises WhymaskError, which names the start, for weights that are not there, or do not fit."""
    starts = [_given(weights, asked, prep) for weights in asked.given]
    if asked.init is not None:
        starts.append(GivenStart(INIT, "init", fetched(str(asked.init)), asked.init_partial, encoder))
    return tuple(starts)


def check_given(asked: StudySettings, prep: Preprocessing) -> None:
    """Raise WhymaskError where a study's given weights do not fit images of this preprocessing; else say what they
    are."""
    encoder = resolve(study_encoder(asked), prep.size, prep.channels)
    for start in given_starts(asked, encoder, prep):
        say(f"{start.arm}: {start.build(prep, asked.first_seed).origin}")


def interpolation_of(asked: StudySettings) -> str | None:
    """How the study's images are resized, for all arms: as its given weights were trained to see them, where all tell
    the same; None for as usual, which is said where it is not what they were trained with."""
    starts = [_start(weights, asked) for weights in asked.given]
    named = [s.about.interpolation if s.run is None else s.run.transform.interpolation for s in starts]
    told = {name for name in named if name is not None}
    if len(told) > 1:
        say(f"starts were trained on images resized {' and '.join(sorted(told))}; here all see them bicubic")
    return told.pop() if len(told) == 1 else None


def square_of(asked: StudySettings) -> int:
    """Pixels that the sides of the study's images must be multiples of, so that every start's patches fit."""
    return math.lcm(asked.encoder.square, *(_start(weights, asked).encoder.square for weights in asked.given))


def _start(weights: Weights, asked: StudySettings) -> Start:
    """Where they lie, and the encoder that lies beside them; else the study's."""
    with _naming(weights.asked, weights.origin):
        origin = str(weights_of(weights.origin, None))
        knows = is_run(Path(origin)) or described(Path(origin)).encoder.name != "auto"
        return Start.of(origin, EncoderSettings() if knows else asked.encoder, asked.init_partial)


def _given(weights: Weights, asked: StudySettings, prep: Preprocessing) -> GivenStart:
    start = _start(weights, asked)
    with _naming(weights.asked, str(start.origin)):
        fits = encoder_for(asked.method, start.encoder) if weights.kind == "continue" else start.encoder
        config = resolve(fits, prep.size, prep.channels)
        method = None
        if weights.kind == "continue":
            method = resolve_method(asked.method, asked_of(asked), config, prep.size)
        moments = start.about.moments if start.run is None else (start.run.transform.mean, start.run.transform.std)
        own, kind = moments_for(moments, prep.channels), cast(Kind, weights.kind)
        return GivenStart(weights.arm, kind, str(start.origin), asked.init_partial, config, own, method)


@contextmanager
def _naming(asked: str, origin: str) -> Iterator[None]:
    """Within, a WhymaskError about these weights names the start, and them but once."""
    try:
        yield
    except WhymaskError as error:
        text = str(error).removeprefix("--from ")
        about = text.removeprefix(origin) if asked.endswith(origin) else text
        raise WhymaskError(f"{asked}{about}" if about[:1] in (":", " ") else f"{asked}: {text}") from None
