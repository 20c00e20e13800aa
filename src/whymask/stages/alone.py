"""The stages alone, each from data to a run folder: `pretrain`, `finetune` and `probe`."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.prepare import Prepared
from whymask.data.sources import Reader
from whymask.disk import check_folder, read_arrays, write_arrays
from whymask.encoders import resolve
from whymask.encoders.build import why_default
from whymask.errors import WhymaskError
from whymask.functions import sources
from whymask.keywords import with_keywords
from whymask.methods import asked_of, encoder_for, resolve_method
from whymask.methods.settings import with_method
from whymask.progress import say
from whymask.report.text import plural
from whymask.stages.augment import resolve_augment
from whymask.stages.classify import ClassifierJob, classifier_training, train_classifier
from whymask.stages.context import Context
from whymask.stages.like import settings_like, warn_of_other_data
from whymask.stages.pretrain import PretrainJob, pretrain_encoder, pretraining
from whymask.stages.probe import probe_predictions, probe_result
from whymask.stages.recipes import resolve_finetuning, resolve_pretraining
from whymask.stages.record import RunRecord
from whymask.stages.settings import (
    SCRATCH,
    FinetuneSettings,
    FinetuneTrainingSettings,
    PretrainSettings,
    PretrainTrainingSettings,
    ProbeSettings,
    Track,
    check_teacher,
    check_watch,
)
from whymask.stages.short import lag_text, may_lag
from whymask.stages.sizing import with_batch_size
from whymask.stages.start import POOL, Start, hashes_seen, pretrained_by, test_images_seen
from whymask.stages.taken import weights_of
from whymask.stages.tracking import Tracking
from whymask.tasks.budgets import parse_budget
from whymask.tasks.scores import scores_of
from whymask.training.device import make_fabric
from whymask.training.loop import Training


def pretrain(
    data: Any,
    *,
    out: str | Path = "runs/pretrain",
    settings: PretrainSettings | None = None,
    reader: Reader | None = None,
    keep_checkpoints: bool = False,
    keep_teacher: bool = False,
    watch: int | None = None,
    track: Track = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Pretrain on the images of `data` that are not test images. Leaves a run folder `out`, continued if it is there;
    the last two checkpoints, each three times the weights, and the method's teacher, where it has one, stay in it only
    where they are to be kept. Every `watch` steps it is told how good the features are, 0: never; by default about 20
    times, for at most 5 % of the time. `track`: "tensorboard", "wandb" or "mlflow", a logger of Lightning's or Fabric's
    interface, or several, which are told settings, scalars and reconstructions.

    Settings are given as `settings` or by their names, such as ``epochs=3, size=64``; a name that several groups have,
    as a part: ``training={"epochs": 3}``. Returns result.json's content; `load_encoder(out)` gives the encoder.
    """
    settings = with_method(settings or PretrainSettings(), keywords)
    check_watch(watch)
    if keep_teacher:
        check_teacher(settings.method, Path(out))
    check_folder(Path(out))
    tracking = Tracking.of(track)
    fabric = make_fabric(settings.runtime)
    origin = weights_of(settings.origin, settings.cell)
    start = Start.of(origin, settings.encoder, settings.partial)
    fitting = encoder_for(settings.method, start.encoder)
    with fabric.rank_zero_first():
        prepared = start.prepare(data, settings.data, reader, needs_labels=False)
    context = Context(fabric, prepared, settings.runtime.compile, tracking)
    prep = prepared.images.preprocessing
    encoder = resolve(fitting, prep.size, prep.channels)
    for note in [*why_default(start.encoder, encoder), *encoder.notes(prep.size)]:
        say(note)

    def job_of(training: PretrainTrainingSettings) -> PretrainJob:
        return PretrainJob(
            config=encoder,
            method=settings.method,
            method_config=resolve_method(settings.method, asked_of(settings), encoder, prep.size),
            training=resolve_pretraining(training, len(prepared.pool)),
            augment=resolve_augment(settings.augment, prepared.name),
            seed=settings.seed,
            origin=origin,
            partial=settings.partial,
        )

    job = job_of(
        with_batch_size(settings.training, context, Path(out), lambda asked: pretraining(context, job_of(asked)))
    )
    if prepared.copies:
        say(prepared.copies)
    for warning in prepared.warnings():
        say(f"warning: {warning}")
    if not (Path(out) / "result.json").exists():
        training = pretraining(context, job)  # what does not fit is told before a folder is made
        say(f"pretraining by {job.method}: {_long(training)}")
        if may_lag(job.method, encoder.kind) and (lag := lag_text(job.method, encoder.kind, training.operations())):
            say(f"warning: {lag}")
    result = pretrain_encoder(
        context,
        job,
        Path(out),
        "pretrain",
        alone=True,
        keep_checkpoints=keep_checkpoints,
        keep_teacher=keep_teacher,
        watch=watch,
    )
    say(f"loss {result['loss']:.4f} after {result['steps']} steps; the encoder: {Path(out) / 'encoder'}")
    return result


def finetune(
    data: Any,
    *,
    out: str | Path = "runs/finetune",
    settings: FinetuneSettings | None = None,
    reader: Reader | None = None,
    track: Track = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Train a classifier on the labelled images of `data` and test it once. Leaves a run folder `out`.
    `track` as in `pretrain`.

    Settings are given as `settings` or by their names, such as ``origin="runs/pretrain", budget=10``. Returns
    result.json's content, with its "metrics". Raises WhymaskError when `settings.origin` holds no encoder, or
    one of another architecture than asked for.
    """
    settings = settings_like(with_keywords(settings or FinetuneSettings(), keywords))
    check_folder(Path(out))
    tracking = Tracking.of(track)
    fabric = make_fabric(settings.runtime)
    origin = weights_of(None if settings.origin == SCRATCH else settings.origin, settings.cell)
    start = Start.of(origin, settings.encoder, settings.partial)
    with fabric.rank_zero_first():
        prepared = start.prepare(data, settings.data, reader)
    prepared.require_labels()
    context, out = Context(fabric, prepared, settings.runtime.compile, tracking), Path(out)
    warn_of_other_data(settings.like, context.fingerprint)
    encoder = start.build(prepared, settings.seed)
    budget = parse_budget(settings.budget)
    rows = context.labelled_rows(budget, settings.seed)

    def job_of(asked: FinetuneTrainingSettings) -> ClassifierJob:
        return ClassifierJob(
            **pretrained_by(start.origin),
            seed=settings.seed,
            budget=budget.name,
            rows=rows,
            test=prepared.test,
            config=encoder.config,
            build=lambda: copy.deepcopy(encoder),
            training=resolve_finetuning(asked, len(rows), prepared, encoder.config),
            augment=resolve_augment(settings.augment, prepared.name),
            origin=origin,
            partial=settings.partial,
            beside=lambda encoder: {"chance": prepared.chance},
        )

    job = job_of(
        with_batch_size(settings.training, context, out, lambda asked: classifier_training(context, job_of(asked)))
    )
    say(job.training.text())
    finished = (out / "result.json").exists()
    if not finished:
        for doubt in prepared.doubts():
            say(f"warning: {doubt}")
        warn_of_seen(origin, prepared)
        training = classifier_training(context, job)  # what does not fit is told before a folder is made
        say(f"fine-tuning on {len(rows):,} labelled images: {_long(training)}")
    result = train_classifier(context, job, out, "finetune", alone=True)
    seen = hashes_seen(start.origin)
    if seen is not None and fabric.is_global_zero and not (out / POOL).exists():
        write_arrays(out / POOL, {"hashes": seen})
    if not finished and fabric.is_global_zero:
        _say_scores(prepared, read_arrays(out / "predictions.npz")[prepared.task.kept_as])
    return result


def probe(
    data: Any,
    *,
    out: str | Path = "runs/probe",
    settings: ProbeSettings | None = None,
    reader: Reader | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """kNN and a linear model on a frozen encoder's features. Leaves a run folder `out`.

    Settings are given as `settings` or by their names, such as ``origin="runs/pretrain", budget=10``; of the origin
    "scratch" weights are random, to compare with. Returns {"knn": metrics, "linear": metrics, ...}. Raises WhymaskError
    where nothing says which encoder.
    """
    if settings is None and "origin" not in keywords:
        raise WhymaskError("probe was given no encoder; give origin=, a run's folder, a local checkpoint or scratch")
    settings = settings_like(with_keywords(settings or ProbeSettings(origin=""), keywords))
    check_folder(Path(out))
    fabric = make_fabric(settings.runtime)
    origin = weights_of(None if settings.origin == SCRATCH else settings.origin, settings.cell)
    start = Start.of(origin, settings.encoder, settings.partial)
    with fabric.rank_zero_first():
        prepared = start.prepare(
            data, settings.data, reader, like=None if settings.like is None else Path(settings.like)
        )
    prepared.require_labels()
    if prepared.task.no_probe:
        raise WhymaskError(prepared.task.no_probe)
    context = Context(fabric, prepared)
    encoder = start.build(prepared, settings.seed)
    budget = parse_budget(settings.budget)
    rows = context.labelled_rows(budget, settings.seed)
    record = RunRecord(
        stage="probe",
        **pretrained_by(start.origin),
        seed=settings.seed,
        data=context.fingerprint,
        encoder=asdict(encoder.config.asked()) if origin is None else None,  # which else the weights' file says
        budget=budget.name,
        origin=origin,
        partial=settings.partial,
        about={"neighbours": settings.neighbours} | sources(encoder.config.name),
    )
    with context.open(Path(out), record, alone=True) as run:
        result = context.by_first(lambda: run.result)
        if result is not None:
            return result
        warn_of_seen(origin, prepared)
        warn_of_other_data(settings.like, context.fingerprint)
        say(
            f"probing features of {len(rows):,} labelled images to learn from, and of {len(prepared.test):,} to test on"
        )
        predictions = probe_predictions(encoder.to(fabric.device), prepared, rows, settings.neighbours)
        result = probe_result(prepared, rows, predictions, encoder.dim, settings.seed)
        context.by_first(lambda: run.finish(result))
    for kind, of_kind in predictions.items():
        say(kind)
        _say_scores(prepared, of_kind)
    return result


def _long(training: Training) -> str:
    """How long a training is, as far as that is known before its first step."""
    steps, batch = training.steps, training.batches.batch_size
    return f"{plural(steps, 'step')} of {plural(batch, 'image')}; the time left is told after the first ones"


def warn_of_seen(origin: str | None, prepared: Prepared) -> None:
    """Say so when pretraining saw, without labels, images that are now test images."""
    if origin is not None and (seen := test_images_seen(Path(origin), prepared)):
        say(f"warning: {seen:,} of {len(prepared.test):,} test images were in the pretraining of {origin}")


def _say_scores(prepared: Prepared, predictions: np.ndarray) -> None:
    """A line a metric of the task's predictions (n, k) of the test images."""
    labels, test = prepared.images.labels, prepared.test
    groups = None if prepared.groups is None else prepared.groups[test]
    scores = scores_of(
        prepared.task, predictions, labels[test], tags=prepared.test_tags, groups=groups, chance=prepared.chance
    )
    for score in scores:
        say(f"  {score.text()}")
