"""`study`: the whole job, from a folder of images to a verdict and a page."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.prepare import Prepared, prepare
from whymask.data.sources import Reader
from whymask.data.splits import Budget, auto_budgets, labelled_subset, parse_budget
from whymask.encoders import notes, resolve
from whymask.errors import WhymaskError
from whymask.methods import encoder_for, resolve_method, setting_of
from whymask.progress import Decoding, say
from whymask.report import write_study_page
from whymask.runs import RunFolder, command, provenance, write_arrays, write_csv, write_json
from whymask.stages.augment import resolve_augment
from whymask.stages.metrics import describe
from whymask.stages.recipes import Finetuning
from whymask.study.cells import Cell, Runner, all_cells, share_of
from whymask.study.hours import fit_hours
from whymask.study.plan import make_plan
from whymask.study.search import search
from whymask.study.settings import INIT, SCRATCH, StudySettings
from whymask.study.table import assemble, labels_per_class
from whymask.study.why import explain_study
from whymask.training.device import make_fabric, precision_of
from whymask.training.loop import Interrupted

SAMPLES = 40


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
    images: bool = True,
    names: bool = True,
) -> dict[str, Any]:
    """Pretrain, fine-tune, train from scratch over several seeds, and leave study.json and report.html in `out`.

    Args:
        data: what `whymask.data.open_source` takes: a folder, CSV, parquet, data set, arrays, or "glyphs".
        reader: opens a file that Pillow cannot: path -> PIL image or array (H, W) or (H, W, C).
        cells: "i/n", the share of the cells that this process runs; the page is made from what is there.
        hours: fits the pretraining epochs to this much time on this machine.
        plan: only say what would run; returns {"plan": ...}.
        explain: whether to say why, in short, once all cells are there: which features the networks captured.
        images, names: whether the page may show images, and file and class names.

    Returns study.json's content. Raises WhymaskError when `out` holds another study (the difference is listed) or the
    data cannot be used, and Interrupted after Ctrl-C; the same call continues.
    """
    out = Path(out)
    settings = settings or StudySettings()
    fabric = make_fabric(settings.runtime)
    prepared = prepare(
        data, settings.data, multiple_of=settings.encoder.square, reader=reader, say=say, progress=Decoding()
    )
    prepared.require_labels()
    settings = resolve_settings(settings, prepared)
    everything = _cells(settings)
    mine = share_of(everything, cells)
    _check_budgets(prepared, everything)
    runner = Runner(fabric, prepared, settings, out)
    if settings.init is not None:
        runner.encoder_of(INIT, settings.first_seed)  # a checkpoint that does not fit is told now, not after hours
    if hours is not None:
        settings = fit_hours(runner, everything, hours, explain)
        runner.settings = settings
    for warning in prepared.warnings():
        say(f"warning: {warning}")
    if plan:
        drawn = make_plan(runner, mine, explain)
        say(drawn.text())
        return {"plan": drawn.to_dict()}

    origin = provenance(fabric.device.type, precision_of(fabric))
    config = {"settings": settings.compared(), "fingerprint": prepared.images.fingerprint, "hours": hours}
    folder = RunFolder.open(out, config, origin)
    _save_samples(out, prepared)
    write_csv(out / "skipped.csv", ["image", "reason"], prepared.images.skipped)
    if settings.search:
        runner.tuned = search(runner)

    def finish() -> dict[str, Any]:
        setting = _describe(settings, prepared, everything, runner)
        table = assemble(out, prepared, settings, everything, setting) | {"provenance": folder.provenance}
        write_json(out / "study.json", table)
        write_study_page(out, images=images, names=names)
        return table

    try:
        run_cells(runner, mine)
    except Interrupted:
        finish()
        raise
    table = finish()
    if explain and all(runner.is_done(cell) for cell in everything):
        explain_study(runner, data, images=images, names=names)
        write_study_page(out, images=images, names=names)
    folder.finish({"verdict": table["verdict"]})
    say(f"{table['verdict']['text']}\nThe page: {out / 'report.html'}")
    return table


def run_cells(runner: Runner, cells: list[Cell]) -> None:
    """Run what is not finished; say what failed and go on."""
    for position, cell in enumerate(cells, start=1):
        result = runner.run(cell)
        if "error" in result:
            say(f"[{position}/{len(cells)}] {cell.name} failed: {result['error']}")
        else:
            shown = result.get("metrics", {}).get(runner.settings.metric, result.get("loss"))
            say(f"[{position}/{len(cells)}] {cell.name}: {shown:.4f} ({result['seconds']:.0f} s)")


# settings ----------------------------------------------------------------------------------------------------


def resolve_settings(settings: StudySettings, prepared: Prepared) -> StudySettings:
    """Every None and "auto" filled in from the data; printed, saved, and equal for all arms."""
    prep = prepared.images.preprocessing
    encoder = resolve(encoder_for(settings.method, settings.encoder), prep.size, prep.channels)
    budgets = _ascending(settings.budgets, prepared) if settings.budgets else auto_budgets(prepared.train_counts)
    if settings.worth_budgets is None:
        worth = _further_budgets(budgets, prepared)
    else:
        worth = [b for b in _ascending(settings.worth_budgets, prepared) if b not in budgets]
    metric = settings.metric or ("accuracy/single_view" if _has_single_view(prepared) else "balanced_accuracy")
    _check(settings, metric, prepared)
    resolved = replace(
        settings,
        encoder=encoder.asked(),
        budgets=tuple(budget.name for budget in budgets),
        worth_budgets=tuple(budget.name for budget in worth),
        metric=metric,
        augment=resolve_augment(settings.augment, prepared.name),
        pretrain=replace(settings.pretrain, epochs=settings.pretrain.epochs_for(len(prepared.pool))),
    )
    method_config = resolve_method(settings.method, settings.method_settings, encoder, prep.size)
    if setting_of(settings.method) in {field.name for field in fields(resolved)}:  # not so for a method added later
        asked = method_config.asked(type(settings.method_settings))
        resolved = replace(resolved, **{setting_of(settings.method): asked})
    say(_summary(resolved))
    for note in notes(encoder, prep.size):
        say(note)
    for budget in budgets:
        rows = labelled_subset(prepared.images.labels, prepared.train, budget, settings.first_seed, prepared.classes)
        labels = len(rows)
        say(f"{budget.name} labels a class, {settings.finetune.resolve(labels, prepared, encoder).text()}")
    return resolved


def _check(settings: StudySettings, metric: str, prepared: Prepared) -> None:
    """Raise WhymaskError for what would make a study that says nothing, or one that is not fair."""
    describe(metric)
    tag = metric.partition("/")[2]
    tags = sorted(set(prepared.test_tags.tolist()) - {""}) if prepared.test_tags is not None else []
    if tag and tag not in tags:
        raise WhymaskError(
            f"--metric {metric}: no test image of {prepared.name} has the tag {tag!r}; "
            f"the tags are: {', '.join(tags) or 'none'}. Choose another metric."
        )
    if settings.seeds < 1:
        raise WhymaskError(f"--seeds {settings.seeds}: at least 1 is needed, and 3 for a verdict.")
    if settings.finetune.layer_decay != 1:
        raise WhymaskError(
            f"--finetune.layer-decay {settings.finetune.layer_decay:g}: scratch is trained without layer decay. "
            "Give --layer-decay, which is that of the pretrained arms, or --search."
        )


def _has_single_view(prepared: Prepared) -> bool:
    tags = prepared.test_tags
    return tags is not None and "single_view" in tags


def _ascending(names: Sequence[str], prepared: Prepared) -> list[Budget]:
    """Budgets from the smallest, at which the verdict is given, to the largest; each once."""
    largest = max(prepared.train_counts)
    return sorted({parse_budget(name) for name in names}, key=lambda budget: budget.count(largest))


def _further_budgets(budgets: list[Budget], prepared: Prepared) -> list[Budget]:
    """Twice and four times a smallest budget that is a number, where each class has as many."""
    smallest = budgets[0]
    if smallest.kind != "count":
        return []
    largest = min(n for n in prepared.train_counts if n)
    further = [Budget("count", smallest.value * factor) for factor in (2, 4) if smallest.value * factor <= largest]
    return [budget for budget in further if budget not in budgets]


def _summary(settings: StudySettings) -> str:
    encoder = ", ".join(f"{key} {value}" for key, value in asdict(settings.encoder).items() if value is not None)
    further = f"; scratch also at {', '.join(settings.worth_budgets)}" if settings.worth_budgets else ""
    return (
        f"encoder: {encoder}\n"
        f"pretraining: {settings.method}, {settings.pretrain.epochs} epochs, augmentation {settings.augment}\n"
        f"labels a class: {', '.join(settings.budgets or ())}{further}\n"
        f"verdict: {settings.metric} at {(settings.budgets or ('?',))[0]}, {settings.seeds} seeds"
    )


def _cells(settings: StudySettings) -> list[Cell]:
    budgets, worth = ([parse_budget(b) for b in names or ()] for names in (settings.budgets, settings.worth_budgets))
    return list(all_cells(settings, budgets, worth))


def _check_budgets(prepared: Prepared, cells: list[Cell]) -> None:
    """Raise WhymaskError now, and not after hours, where a class is smaller than a budget."""
    for budget in {cell.budget for cell in cells if cell.budget is not None}:
        labelled_subset(prepared.images.labels, prepared.train, budget, 0, prepared.classes)


# what the page needs ------------------------------------------------------------------------------------------


def _describe(settings: StudySettings, prepared: Prepared, cells: list[Cell], runner: Runner) -> dict[str, Any]:
    first = next(cell for cell in cells if cell.budget is not None)
    arms = {cell.arm for cell in cells if cell.budget is not None}
    labels = len(runner.rows_of(first))
    budgets = {cell.budget.name: cell for cell in cells if cell.arm == SCRATCH and cell.budget is not None}
    recipes = {
        name: settings.finetune.resolve(len(runner.rows_of(cell)), prepared, runner.encoder).text()
        for name, cell in budgets.items()
    }
    return {
        **settings.compared(),
        "command": command(),
        "seeds": settings.seed_list,
        "verdict_labels_per_class": labels_per_class(first, prepared),
        "recipes": recipes,
        "normalise_targets": getattr(settings.method_settings, "normalise_targets", None),
        "arms": {
            arm: _shown(runner.finetuning_of(arm), labels, runner) | {"augment": settings.augment}
            for arm in sorted(arms, key=lambda arm: (arm != SCRATCH, arm))
        },
    }


def _shown(training: Finetuning, labels: int, runner: Runner) -> dict[str, Any]:
    """How the arm is trained at the smallest budget; the epochs are others at another one, unless they were given."""
    resolved = training.resolve(labels, runner.prepared, runner.encoder)
    return {k: v for k, v in asdict(replace(resolved, epochs=training.epochs)).items() if v is not None}


def _save_samples(out: Path, prepared: Prepared) -> None:
    """samples.npz: some labelled training images as they are stored, uint8 (n, H, W, C), and their labels."""
    rows = prepared.train[np.linspace(0, len(prepared.train) - 1, min(SAMPLES, len(prepared.train))).astype(int)]
    pixels = prepared.images.images[rows]
    if pixels.dtype != np.uint8:
        pixels = (pixels // 257).astype(np.uint8)
    write_arrays(out / "samples.npz", {"images": pixels, "labels": prepared.images.labels[rows]})
