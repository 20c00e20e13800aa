"""Classifiers that were not trained here: public ones by name, folders and files with their heads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from whymask.data.prepare import Prepared
from whymask.encoders import EncoderSettings, config_class
from whymask.encoders.checkpoints import is_run
from whymask.encoders.described import Described, described, described_as, moments_for
from whymask.encoders.fetched import fetched
from whymask.encoders.heads import count_outputs, head_of, outputs_for, outputs_of, reads_normed_mean
from whymask.encoders.settings import is_name, network_and_file
from whymask.encoders.weight_files import file_in
from whymask.errors import WhymaskError
from whymask.explanations.networks import Run
from whymask.progress import say
from whymask.stages.network import Classifier
from whymask.stages.record import GIVEN, RunRecord
from whymask.stages.start import Start
from whymask.stages.taken import is_study
from whymask.tasks import Classification, Task

WHOLE_STRIDE = 32
"""Of a CNN, without dilation."""


@dataclass(frozen=True)
class GivenRun(Run):
    """A classifier of elsewhere. Its seed is 0, and its task is asked of the images: of its outputs those count that
    are called as their classes."""

    start: Start
    outputs: int

    def chosen(self, task: Task) -> list[int]:
        """Which of its outputs the classes are. Raises WhymaskError where no output is called as a class."""
        if not isinstance(task, Classification):
            raise WhymaskError(
                f"the labels make a {task.text()}; to explain {self.arm}, which was not trained here, images of one "
                "class each were expected"
            )
        with _named(self.arm):
            called = outputs_of(self.folder, self.outputs)
        return outputs_for(task.names, called, self.arm)

    def classifier(self, prepared: Prepared) -> Classifier:
        """Raises WhymaskError where its weights do not fit such images, or no output is called as a class."""
        prep, chosen = prepared.images.preprocessing, self.chosen(prepared.task)
        with _named(self.arm):
            encoder = self.start.build(prepared, seed=0)
            if (moments := moments_for(self.start.about.moments, prep.channels)) is not None:
                encoder.transform = replace(prep, mean=moments[0], std=moments[1])
            weight, bias = head_of(self.folder, encoder.dim)
        say(f"{self.arm}: of its {self.outputs:,} outputs the {len(chosen)} that are the images' classes are asked")
        classifier = Classifier(encoder, len(chosen))
        with torch.no_grad():
            classifier.head.weight.copy_(weight[chosen])
            classifier.head.bias.copy_(bias[chosen])
        return classifier


def is_given(name: str) -> bool:
    """Whether it names a classifier of elsewhere, and no run or study."""
    network, file = network_and_file(name)
    if network is not None or is_name(name):
        return True
    return not is_run(Path(file)) and not is_study(Path(file)) and file_in(Path(file)).exists()


def given_run(name: str) -> GivenRun:
    """Raises WhymaskError for weights that are not there, or of which nothing says of what network they are."""
    network, file = network_and_file(name)
    with _named(name):
        path = Path(fetched(file))
        about = described(path) if network is None else described_as(network)
        if about.encoder.name == "auto":
            raise WhymaskError(
                f"{about.unknown or 'nothing beside the weights says of which network they are'}; say it as "
                f"NETWORK={name}, with timm's name of it, such as resnet50={name}"
            )
        return GivenRun(
            folder=path,
            arm=_short(name),
            record=RunRecord(stage="finetune", arm=GIVEN, seed=0, data=""),
            training={},
            origin=None,
            task=None,
            start=Start(path, _as_trained(about, path), None, about),
            outputs=count_outputs(path),
        )


def _short(name: str) -> str:
    """A name as it is, of a path its last part."""
    network, file = network_and_file(name)
    return name if is_name(file) else f"{'' if network is None else f'{network}='}{Path(file).name}"


def _as_trained(about: Described, path: Path) -> EncoderSettings:
    """The network, which pools and strides as its head was trained to read."""
    asked, has = about.encoder, {setting.name for setting in fields(config_class(about.encoder.name))}
    if "output_stride" in has:
        return replace(asked, output_stride=asked.output_stride or WHOLE_STRIDE)
    if "pool" in has and reads_normed_mean(path):
        return replace(asked, pool="normed-mean")
    if "pool" in has and asked.name == "vit":  # transformers'
        return replace(asked, pool=asked.pool or "token")
    return asked


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Within, a WhymaskError about this classifier names it."""
    try:
        yield
    except WhymaskError as error:
        text = str(error)
        raise WhymaskError(text if text.startswith(name) else f"{name}: {text}") from None
