"""The stages alone, each from data to a run folder: `pretrain`, `finetune` and `probe`."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from lightning_fabric import Fabric

from whymask.data.prepare import Prepared
from whymask.data.settings import DataSettings
from whymask.data.sources import Reader
from whymask.data.splits import labelled_subset, parse_budget
from whymask.encoders import EncoderSettings, notes, resolve
from whymask.flags import Flat
from whymask.methods import SETTINGS, PerMethod, asked_of, encoder_for, resolve_method
from whymask.progress import say
from whymask.runs import RunFolder, provenance, write_arrays, write_csv
from whymask.stages.augment import AugmentName, augment_of, resolve_augment
from whymask.stages.classify import classification_task, train_classifier
from whymask.stages.pretrain import Pretraining, Recipe, pretrain_encoder, pretraining_task
from whymask.stages.probe import probe_encoder
from whymask.stages.recipes import Finetuning
from whymask.stages.start import POOL, Start, hashes_seen
from whymask.training.device import make_fabric, precision_of
from whymask.training.settings import RuntimeSettings

SCRATCH = "scratch"


@dataclass(frozen=True)
class PretrainSettings(PerMethod):  # type: ignore[misc, valid-type]
    """Pretrain an encoder on unlabelled images."""

    method: Literal[tuple(SETTINGS)] = "mae"  # type: ignore[valid-type]
    """How to pretrain; one of `whymask.methods.METHODS`."""
    origin: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Weights to start from: a run's folder, or a local checkpoint of timm or transformers. Default: new weights."""
    partial: bool = False
    """Start from weights that do not all match; what does not, stays new."""
    seed: int = 0
    """Seed of weights, order, augmentation and masks."""
    augment: AugmentName = "auto"
    """Augmentation. auto: random crops and flips; none for glyphs."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    training: Annotated[Pretraining, Flat] = field(default_factory=Pretraining)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)


@dataclass(frozen=True)
class FinetuneSettings:
    """Train a classifier on labelled images, from a pretrained encoder or from scratch."""

    origin: Annotated[str, tyro.conf.arg(name="from")] = SCRATCH
    """A pretraining run's folder, a local checkpoint of timm or transformers, or scratch."""
    partial: bool = False
    """Start from weights that do not all match; what does not, stays new."""
    budget: str = "all"
    """How many labels to train on: a number a class (10), a share (1%), or all."""
    seed: int = 0
    """Seed of the label subset, order, augmentation and initial weights."""
    augment: AugmentName = "auto"
    """Augmentation. auto: random crops and flips; none for glyphs."""
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    training: Annotated[Finetuning, Flat] = field(default_factory=Finetuning)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)


@dataclass(frozen=True)
class ProbeSettings:
    """Ask what a frozen encoder knows: nearest neighbours, and a linear classifier, on its features."""

    origin: Annotated[str, tyro.conf.arg(name="from")]
    """A pretraining run's folder, or a local checkpoint of timm or transformers."""
    partial: bool = False
    """Take weights that do not all match; what does not, stays new."""
    budget: str = "all"
    """How many labels to use: a number a class (10), a share (1%), or all."""
    seed: int = 0
    """Seed of the label subset."""
    neighbours: int = 20
    """How many nearest neighbours vote."""
    encoder: Annotated[EncoderSettings, Flat] = field(default_factory=EncoderSettings)
    data: Annotated[DataSettings, Flat] = field(default_factory=DataSettings)
    runtime: Annotated[RuntimeSettings, Flat] = field(default_factory=RuntimeSettings)


def pretrain(
    data: Any,
    *,
    out: str | Path = "runs/pretrain",
    settings: PretrainSettings | None = None,
    reader: Reader | None = None,
) -> dict[str, Any]:
    """Pretrain on the images of `data` that are not test images. Leaves a run folder `out`, continued if it is there.

    Returns result.json's content; `load_encoder(out)` gives the encoder.
    """
    settings = settings or PretrainSettings()
    fabric = make_fabric(settings.runtime)
    start = Start.of(settings.origin, settings.encoder, settings.partial)
    with fabric.rank_zero_first():
        prepared = start.prepare(data, settings.data, reader)
    prep = prepared.images.preprocessing
    encoder = resolve(encoder_for(settings.method, start.encoder), prep.size, prep.channels)
    for note in notes(encoder, prep.size):
        say(note)
    augment = resolve_augment(settings.augment, prepared.name)
    training = replace(settings.training, epochs=settings.training.epochs_for(len(prepared.pool)))
    method_config = resolve_method(settings.method, asked_of(settings), encoder, prep.size)
    recipe = Recipe(
        encoder, settings.method, method_config, training, augment_of(augment), settings.origin, settings.partial
    )
    for warning in prepared.warnings():
        say(f"warning: {warning}")
    if recipe.origin is not None:
        pretraining_task(fabric, prepared, recipe, settings.seed)  # what does not fit is told before a folder is made
    run = _open(fabric, Path(out), {"stage": "pretrain", "seed": settings.seed, **recipe.written()}, prepared)
    result = pretrain_encoder(fabric, prepared, recipe, seed=settings.seed, run=run)
    say(f"loss {result['loss']:.4f} after {result['steps']} steps; the encoder: {run.path / 'encoder'}")
    return result


def finetune(
    data: Any,
    *,
    out: str | Path = "runs/finetune",
    settings: FinetuneSettings | None = None,
    reader: Reader | None = None,
) -> dict[str, Any]:
    """Train a classifier on the labelled images of `data` and test it once. Leaves a run folder `out`.

    Returns result.json's content, with its "metrics". Raises WhymaskError when `settings.origin` holds no encoder, or
    one of another architecture than asked for.
    """
    settings = settings or FinetuneSettings()
    fabric = make_fabric(settings.runtime)
    start = Start.of(None if settings.origin == SCRATCH else settings.origin, settings.encoder, settings.partial)
    with fabric.rank_zero_first():
        prepared = start.prepare(data, settings.data, reader)
    prepared.require_labels()
    encoder = start.build(prepared, settings.seed)
    budget = parse_budget(settings.budget)
    rows = labelled_subset(prepared.images.labels, prepared.train, budget, settings.seed, prepared.classes)
    training = settings.training.resolve(len(rows), prepared, encoder.config)
    say(training.text())
    augment = resolve_augment(settings.augment, prepared.name)
    config = {
        "stage": "finetune",
        "from": settings.origin,
        "budget": budget.name,
        "seed": settings.seed,
        "encoder": asdict(encoder.config.asked()),
        "training": asdict(training),
        "augment": augment,
    }
    run = _open(fabric, Path(out), config, prepared)
    if run.result is not None:
        return run.result
    warn_of_seen(settings.origin, prepared)
    task = classification_task(fabric, prepared, rows, encoder, training, augment_of(augment), settings.seed)
    result = train_classifier(
        fabric, prepared, task, prepared.test, training, seed=settings.seed, run=run, label="finetune"
    )
    if fabric.is_global_zero and (seen := hashes_seen(start.origin)) is not None:
        write_arrays(run.path / POOL, {"hashes": seen})
    _say_metrics(result["metrics"])
    return result


def probe(
    data: Any, *, out: str | Path = "runs/probe", settings: ProbeSettings, reader: Reader | None = None
) -> dict[str, Any]:
    """kNN and linear classification on a frozen encoder's features. Leaves a run folder `out`.

    Returns {"knn": metrics, "linear": metrics, ...}.
    """
    fabric = make_fabric(settings.runtime)
    start = Start.of(settings.origin, settings.encoder, settings.partial)
    prepared = start.prepare(data, settings.data, reader)
    prepared.require_labels()
    encoder = start.build(prepared, settings.seed)
    budget = parse_budget(settings.budget)
    rows = labelled_subset(prepared.images.labels, prepared.train, budget, settings.seed, prepared.classes)
    config = {"stage": "probe", "from": settings.origin, "budget": budget.name, "seed": settings.seed}
    run = _open(fabric, Path(out), config | {"neighbours": settings.neighbours}, prepared)
    if run.result is not None:
        return run.result
    warn_of_seen(settings.origin, prepared)
    result = probe_encoder(encoder.to(fabric.device), prepared, rows, settings.neighbours, settings.seed)
    run.finish(result)
    for kind in ("knn", "linear"):
        say(kind)
        _say_metrics(result[kind])
    return result


def warn_of_seen(origin: str, prepared: Prepared) -> None:
    """Say so when pretraining saw, without labels, images that are now test images."""
    hashes = hashes_seen(Path(origin))
    if hashes is not None:
        seen = int(np.isin(prepared.images.hashes[prepared.test], hashes).sum())
        if seen:
            say(f"warning: {seen:,} of {len(prepared.test):,} test images were in the pretraining of {origin}")


def _open(fabric: Fabric, out: Path, config: dict[str, Any], prepared: Prepared) -> RunFolder:
    origin = provenance(fabric.device.type, precision_of(fabric)) | {"data": prepared.describe()}
    with fabric.rank_zero_first():
        run = RunFolder.open(out, config | {"data": prepared.images.fingerprint}, origin)
    if fabric.is_global_zero:
        write_csv(out / "skipped.csv", ["image", "reason"], prepared.images.skipped)
    return run


def _say_metrics(values: dict[str, float]) -> None:
    for name, value in values.items():
        say(f"  {name}: {value:.4f}")
