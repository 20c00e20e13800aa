"""`study`: the whole job, from a folder of images to a verdict and a page."""

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from whymask.data.batches import check_divides
from whymask.data.prepare import prepare
from whymask.data.sources import Reader
from whymask.data.splits import USUAL_SHARE
from whymask.disk import check_folder, write_record
from whymask.encoders.build import why_default
from whymask.errors import BusyError
from whymask.functions import sources
from whymask.methods import SETTINGS
from whymask.methods.settings import with_method
from whymask.progress import Decoding, say
from whymask.runs import RunFolder
from whymask.stages.classify import classifier_training
from whymask.stages.context import Context
from whymask.stages.pretrain import pretraining
from whymask.stages.settings import Track
from whymask.stages.taken import seen_texts
from whymask.studies.advice import advice, advice_text
from whymask.studies.cells import Cell, Runner, all_cells, share_of
from whymask.studies.cluster import check_cluster, joined, with_threads
from whymask.studies.config import resolve_study
from whymask.studies.final import add_final, is_wanted, planned
from whymask.studies.given import check_given, interpolation_of, square_of
from whymask.studies.growth import begun_with, grown, note_growth
from whymask.studies.hours import Deadline, check_hours, fit_hours, seconds_timed
from whymask.studies.own import at_equal_operations, check_as_dear, study_encoder
from whymask.studies.pace import lags
from whymask.studies.page import write_study_page
from whymask.studies.plan import Plan, make_plan
from whymask.studies.resolution import resolution_text, smallest_difference
from whymask.studies.result import StudyResult
from whymask.studies.running import run_cells
from whymask.studies.search import search
from whymask.studies.settings import SCRATCH, StudySettings
from whymask.studies.shown import describe, save_near_copies, save_outcomes, save_samples
from whymask.studies.table import assemble
from whymask.studies.timing import Times
from whymask.studies.tracking import track_study, tracking_of
from whymask.studies.verdict import settled_by
from whymask.studies.why import explain_study, may_be_explained
from whymask.tasks.budgets import auto_budgets_text
from whymask.training.device import make_fabric
from whymask.training.loop import Interrupted

WEIGHTS_OF = "weights of "


def study(
    data: Any,
    *,
    out: str | Path = "runs/study",
    settings: StudySettings | None = None,
    reader: Reader | None = None,
    cells: str | None = None,
    hours: float | None = None,
    plan: bool = False,
    explain: bool = True,
    final: bool | None = None,
    images: bool = True,
    names: bool = True,
    track: Track = None,
    **keywords: Any,
) -> StudyResult:
    """Pretrain, fine-tune, train from scratch over several seeds, and leave study.json and report.html in `out`.

    Args:
        data: what `whymask.data.sources.open_source` takes: a folder, CSV, parquet, data set, arrays, or "glyphs".
        reader: opens a file that Pillow cannot: path -> PIL image or array (H, W) or (H, W, C).
        cells: "i/n", the share of the cells that this process runs; the page is made from what is there. Or, in
            `settings`, ``ray``: the cells run on a Ray cluster, several at once.
        hours: fits the pretraining epochs to this much time on this machine (the rule: `whymask.studies.hours`).
        plan: only say what would run; returns {"plan": ...}.
        explain: whether to say why, in short, once all cells are there: which features the networks captured.
        final: whether to leave a network to use, the best arm trained on all labels, in `out`/final; None where
            pretraining helps.
        images: whether the page, and who tracks, may show images.
        names: whether they may show file and class names.
        track: "tensorboard", "wandb" or "mlflow", or several: each cell is a run of its own there, and the study one,
            with its levels and the page.
        settings: how; or any of them by its name, as ``seeds=3, size=64, pretrain={"epochs": 10}``.

    Returns study.json's content, its tables also as frames. Raises WhymaskError when `out` holds another study (the
    difference is listed) or the data cannot be used, and Interrupted after Ctrl-C; the same call continues.
    """
    starts = keywords.get("starts") or ()
    named = [start for start in ([starts] if isinstance(starts, str) else starts) if start in SETTINGS]
    asked = with_method(settings or StudySettings(), keywords | ({"method": named[0]} if named else {}))
    asked = with_threads(asked)
    check_cluster(asked, cells)
    check_hours(hours)
    tracking = tracking_of(track, images=images, names=names)
    if not plan:
        check_folder(Path(out))
    began = time.monotonic()
    with joined(asked) as cluster:
        asked_here = asked if cluster is None else replace(asked, runtime=cluster.own_runtime)
        context = replace(_prepare(data, asked_here, reader), tracking=tracking)
        runner = _resolve(context, asked, Path(out))
        times = Times(runner, seconds_timed(hours))

        def planned_of(runner: Runner, cells: str | None = None) -> Plan:
            at_once = 1 if cluster is None else cluster.at_once()
            there = share_of(list(all_cells(runner.config)), cells)
            explains = explain and may_be_explained(runner.context.prepared)
            return make_plan(runner, there, times, explains, planned(runner, final), at_once)

        deadline = None
        if hours is not None:
            fitted, after = fit_hours(runner, hours, asked.seeds, planned_of, began)
            check_as_dear(fitted)
            runner = replace(runner, config=fitted)
            deadline = Deadline(began, hours, after) if cluster is None and cells is None else None
        for lag in lags(runner):
            say(f"warning: {lag}")
        everything = list(all_cells(runner.config))
        mine = share_of(everything, cells)
        if plan:
            drawn = planned_of(runner, cells)
            say(drawn.text())
            return StudyResult(plan=drawn.to_dict())

        if runner.config.pretrains and context.prepared.few:
            say(f"warning: {context.prepared.few}")
        folder = context.by_first(lambda: _begin(runner, hours))
        context.by_first(lambda: track_study(tracking, folder, runner.config))
        context.check_shared(runner.out)
        if runner.config.search:
            runner = replace(runner, tuned=search(runner))
        try:
            seeds = run_cells(runner, mine, cluster, deadline)
        except Interrupted:
            with suppress(BusyError), context.holding(folder):
                context.by_first(lambda: _report(runner, everything, folder, images=images, names=names))
            raise
        if seeds < runner.config.seeds:
            runner = replace(runner, config=replace(runner.config, seeds=seeds))
            everything = list(all_cells(runner.config))
    with context.holding(folder, wait=True):  # who comes last has all cells
        table = context.by_first(lambda: _report(runner, everything, folder, images=images, names=names))
        is_done = all(runner.is_done(cell) for cell in everything)
        if is_done and is_wanted(final, table, runner.out):
            table = add_final(runner, table)
            table |= {"advice": advice(table, context.prepared.task, str(runner.out))}  # of which it may be the network
            context.by_first(lambda: write_record(runner.out / "study.json", table))
            context.by_first(lambda: write_study_page(runner.out, images=images, names=names))
        if explain and is_done:
            explain_study(runner, data, images=images, names=names)
            context.by_first(lambda: write_study_page(runner.out, images=images, names=names))
        given = table["verdict"]
        context.by_first(lambda: folder.finish({"verdict": given}))
        context.by_first(lambda: track_study(tracking, folder, runner.config, table))
    for text in [*(road["text"] for road in table.get("roads", [])), *table.get("choosing", {}).get("texts", [])]:
        say(text)
    verdict = "\n".join([f"{given['text']}{settled_by(given)}", *seen_texts(table)])
    say(f"{verdict}\n{advice_text(table['advice'])}\nThe page: {runner.out / 'report.html'}")
    return StudyResult(table)


def _prepare(data: Any, asked: StudySettings, reader: Reader | None) -> Context:
    study_encoder(asked)  # what does not fit is told before an image is opened
    fabric = make_fabric(asked.runtime)
    with fabric.rank_zero_first():
        prepared = prepare(
            data,
            asked.data,
            multiple_of=square_of(asked),
            interpolation=interpolation_of(asked),
            reader=reader,
            needs_labels=True,
            fits=lambda prep, task: check_given(asked, prep),
            say=say,
            progress=Decoding(),
        )
    prepared.require_labels()
    return Context(fabric, prepared, asked.runtime.compile)


def _resolve(context: Context, asked: StudySettings, out: Path) -> Runner:
    """What is to be run, said and checked: what does not fit is told now, and not after hours."""
    prepared = context.prepared
    runner = Runner(context, resolve_study(asked, prepared), out)
    config = at_equal_operations(runner)
    runner = replace(runner, config=config)
    if config.pretrains and prepared.copies:
        say(prepared.copies)
    say(config.text(prepared.task))
    if asked.budgets is None:
        say(auto_budgets_text(prepared.stock))
    if (smallest := smallest_difference(prepared, config.metric)) is not None:
        say(resolution_text(prepared, config.metric, smallest))
    for note in [*why_default(asked.encoder, config.encoder), *config.encoder.notes(context.preprocessing.size)]:
        say(note)
    for budget in config.budgets:
        labels = len(context.labelled_rows(budget, config.first_seed))
        say(f"{budget.name} {prepared.task.budget_counts}, {runner.training_of(SCRATCH, labels).text()}")
    for budget in config.worth_budgets:
        context.labelled_rows(budget, config.first_seed)
    _check_fits(runner)
    check_as_dear(config)
    for doubt in prepared.doubts():
        say(f"warning: {doubt}")
    for start in config.given:
        if seen := start.test_images_seen(prepared):
            say(
                f"warning: {start.asked}: {seen:,} of {len(prepared.test):,} test images were in its "
                "pretraining; pretrain it without them, or take its numbers for too good"
            )
    return runner


def _check_fits(runner: Runner) -> None:
    """Raise WhymaskError, before a folder is made, where a network, a batch or how it is computed does not fit."""
    config, seed = runner.config, runner.config.first_seed
    for arm in config.pretrainings:
        pretraining(runner.context_of(arm), config.pretraining(seed, arm))
    smallest = Cell(SCRATCH, config.budgets[0], seed)
    rows = runner.rows_of(smallest)
    job = runner.job(smallest, rows, runner.context.prepared.test, runner.training_of(SCRATCH, len(rows)))
    classifier_training(runner.context, job)
    for cell in all_cells(config):
        if cell.budget is not None:
            check_divides(runner.schedule_of(cell)[1], runner.context.fabric.world_size, config.finetune.accumulate)


def _begin(runner: Runner, hours: float | None) -> RunFolder:
    """The study's folder. Raises WhymaskError where another study is in it."""
    context, out = runner.context, runner.out
    config = {"settings": runner.config.to_dict(), "fingerprint": context.fingerprint, "hours": hours}
    config |= sources(runner.config.encoder.name, runner.config.augment)
    config |= {f"{WEIGHTS_OF}{start.arm}": start.digest for start in runner.config.given}
    folder = RunFolder.open(out, config, context.provenance(), read=partial(_as_before, config), mend=True)
    note_growth(folder, config)
    save_samples(out, context.prepared)
    save_near_copies(out, context.prepared)
    context.list_unused(out)
    return folder


def _as_before(config: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """`stored`, config.json of a study, with the share to test on and digests of given weights, where it is of before
    these were kept, and with the seeds and budgets that were added since."""
    there = {name: digest for name, digest in config.items() if name.startswith(WEIGHTS_OF)} | stored["config"]
    if "settings" in there:  # chosen labels stand beside the others, and change none of them
        there["settings"] = {name: value for name, value in there["settings"].items() if name != "choose"}
        there["settings"] |= {name: value for name, value in config["settings"].items() if name == "choose"}
    if "test_share" in config["settings"]["data"]:
        there["settings"]["data"] = {"test_share": USUAL_SHARE} | there["settings"]["data"]
    return grown(there, config)


def _report(runner: Runner, cells: list[Cell], folder: RunFolder, *, images: bool, names: bool) -> dict[str, Any]:
    """study.json and the page, from the cells that are finished."""
    table = assemble(runner.out, runner.context.prepared, runner.config, cells, describe(runner, cells))
    table |= {"provenance": folder.provenance}
    if (before := begun_with(folder)) is not None:
        table["setting"] |= {"begun_with": before}
    table |= {"advice": advice(table, runner.context.prepared.task, str(runner.out))}
    save_outcomes(runner, next(cell for cell in cells if cell.budget is not None), table["outcomes"])
    write_record(runner.out / "study.json", table)
    write_study_page(runner.out, images=images, names=names)
    return table
