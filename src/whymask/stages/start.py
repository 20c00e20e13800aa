"""Which weights a stage starts from: new ones, those of a run, or a local checkpoint of timm or transformers."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.inherited import check_inherited, inherited_text
from whymask.data.prepare import Prepared, prepare
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.sources import Reader
from whymask.disk import read_arrays
from whymask.encoders import Encoder, EncoderSettings, build_encoder, load_encoder, resolve
from whymask.encoders.checkpoints import is_run, load_checkpoint
from whymask.encoders.described import Described, described, moments_for
from whymask.encoders.weight_files import file_in
from whymask.errors import WhymaskError
from whymask.progress import Decoding, say
from whymask.runs import folder_with
from whymask.stages.record import UNKNOWN, RunRecord, origin_of, read_record
from whymask.stages.settings import SCRATCH, check_origin
from whymask.stages.taken import reader_left_out
from whymask.tasks import Task

POOL = "pool.npz"


@dataclass(frozen=True)
class Start:
    """Attributes:
    origin: run folder or checkpoint; None for new weights.
    encoder: the settings that were asked for, completed by what lies beside the weights.
    run: the encoder of a run folder.
    about: what is known of a checkpoint's images.
    """

    origin: Path | None
    encoder: EncoderSettings
    run: Encoder | None = None
    about: Described = field(default_factory=Described)
    partial: bool = False

    @classmethod
    def of(cls, origin: str | None, asked: EncoderSettings, partial: bool = False) -> "Start":
        """Raises WhymaskError for what is no checkpoint, one that needs the encoder's name, or another architecture."""
        if origin is None:
            return cls(None, asked)
        check_origin(origin)
        path = Path(origin)
        if is_run(path) or (path.is_dir() and not file_in(path).exists()):
            run = load_encoder(path.parent if path.is_file() else path)
            _check_same(origin, run, asked)
            if asked.pool is not None:
                run.use_pool(asked.pool)
            return cls(path, run.config.asked(), run)
        about = described(path)
        encoder = about.merged(asked)
        if encoder.name == "auto":
            raise WhymaskError(
                f"--from {origin}: {about.unknown or 'nothing beside the weights says of which network they are'}; "
                "name it with --encoder, such as --encoder vit_base_patch16_224"
            )
        return cls(path, encoder, None, about, partial)

    def prepare(
        self,
        data: Any,
        config: DataSettings,
        reader: Reader | None,
        answers: Callable[[Task], None] = lambda task: None,
        *,
        like: Path | None = None,
        needs_labels: bool = True,
    ) -> Prepared:
        """The data, as the weights were trained to see them where that is known; split as in the run that they are of,
        or for new ones as in the run `like`, where that saw the same.

        Raises WhymaskError for a size, channels, frames or tiles other than those of a run, whose preprocessing goes
        with it, and what `answers` raises for their task before an image is decoded."""

        def fits(prep: Preprocessing, task: Task) -> None:
            answers(task)
            self._check_loads(prep)

        if self.run is not None:
            seen = self.run.transform
            check_inherited(
                config, seen, f"--from {self.origin} sees", ", or export the run and start from its weights"
            )
            left_out = reader_left_out(run_of(Path(str(self.origin))), reader or config.reader)
            for line in [*inherited_text(seen, self.origin), *left_out]:
                say(line)
        size, channels = self.about.size, self.about.channels
        if config.size is None:
            config = replace(config, size=size)
        if config.channels is None:
            config = replace(config, channels=channels)
        return prepare(
            data,
            config,
            multiple_of=self.encoder.square,
            preprocessing=None if self.run is None else self.run.transform,
            moments=moments_for(self.about.moments, config.channels),
            interpolation=self.about.interpolation,
            like=None if (run := self.origin or like) is None else identity_of(run),
            reader=reader,
            needs_labels=needs_labels,
            fits=fits,
            say=say,
            progress=Decoding(),
        )

    def _check_loads(self, prep: Preprocessing) -> None:
        """Raise WhymaskError where weights from elsewhere do not fit images of this preprocessing."""
        if self.run is None and self.origin is not None:
            self._loaded(prep, 0)

    def _loaded(self, prep: Preprocessing, seed: int) -> Encoder:
        encoder = build_encoder(resolve(self.encoder, prep.size, prep.channels), prep.size, prep.channels, seed)
        if self.origin is not None:
            encoder.origin = load_checkpoint(encoder, self.origin, self.partial)
        return encoder

    def build(self, prepared: Prepared, seed: int) -> Encoder:
        """The encoder with its first weights."""
        if self.run is not None:
            if self.run.origin is not None:
                say(f"weights from {self.origin}, which began as {self.run.origin}")
            return self.run
        prep = prepared.images.preprocessing
        encoder = self._loaded(prep, seed)
        for line in [*encoder.config.notes(prep.size), *([encoder.origin] if encoder.origin else [])]:
            say(line)
        encoder.transform = prep
        return encoder


def run_of(path: Path) -> Path:
    """The run folder that a path into it, such as its encoder's, belongs to; the path itself where there is none."""
    return folder_with("config.json", path) or path


def identity_of(origin: Path) -> str | None:
    """Of the images of the run that `origin`, a path into it, belongs to; None where nothing says."""
    record = _record_of(run_of(origin))
    return None if record is None else record.data


def pretrained_by(origin: Path | None) -> dict[str, Any]:
    """What a `RunRecord` says of weights from `origin`: the arm, and method and settings of their pretraining."""
    if origin is None:
        return {"arm": SCRATCH}
    before = _record_of(run_of(origin))
    if before is None or before.stage != "pretrain":
        return {"arm": UNKNOWN}
    return {"arm": before.arm, "method": before.method, "method_settings": before.method_settings}


def hashes_seen(origin: Path | None) -> np.ndarray | None:
    """Of every image that the run of `origin`, a path into it, was pretrained on; None where nothing says."""
    if origin is None:
        return None
    folder = folder_with(POOL, origin)
    if folder is not None:
        return read_arrays(folder / POOL)["hashes"]
    run = run_of(origin)
    record = _record_of(run)  # a study's fine-tuned cell names the pretraining that it began with
    return None if record is None else hashes_seen(origin_of(run, record))


def test_images_seen(origin: Path, prepared: Prepared) -> int:
    """How many test images are equal to one that the run of `origin` was pretrained on; 0 where nothing says."""
    seen = hashes_seen(origin)
    return 0 if seen is None else int(np.isin(prepared.images.hashes[prepared.test], seen).sum())


def _record_of(folder: Path) -> RunRecord | None:
    """What a run is; None for a checkpoint, or an encoder alone."""
    return read_record(folder) if is_run(folder) and (folder / "config.json").exists() else None


def _check_same(origin: str, run: Encoder, asked: EncoderSettings) -> None:
    """Raises WhymaskError when the settings asked for are others than the run's; how it is pooled may change."""
    found = asdict(run.config.asked())
    wanted = {key: value for key, value in asdict(asked).items() if value not in (None, "auto") and key != "pool"}
    differing = {key: (found[key], value) for key, value in wanted.items() if found[key] != value}
    if differing:
        listed = ", ".join(f"{key} {has} there, {want} asked for" for key, (has, want) in differing.items())
        raise WhymaskError(
            f"--from {origin} holds an encoder of another architecture: {listed}. "
            "Leave these settings out to take the encoder as it is."
        )
