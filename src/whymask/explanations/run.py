"""`explain`: from two runs, or two arms of runs, and labelled images to numbers, conclusions, pictures and a page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.glyph_settings import Glyphs, glyphs_of
from whymask.data.inherited import check_inherited, inherited_text
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.sources import Reader
from whymask.disk import check_folder, write_arrays, write_record
from whymask.encoders import load_encoder
from whymask.errors import WhymaskError
from whymask.explanations.cast import Cast
from whymask.explanations.choice import choose_images
from whymask.explanations.explanation import Explanation
from whymask.explanations.given import GivenRun, given_run, is_given
from whymask.explanations.measuring import explanation_of
from whymask.explanations.networks import Run, open_runs, two_arms
from whymask.explanations.settings import ExplainSettings
from whymask.explanations.unlike import unlike
from whymask.keywords import with_keywords
from whymask.later import recorded
from whymask.progress import Decoding, say
from whymask.runs import RunFolder
from whymask.stages.context import Context
from whymask.stages.taken import reader_left_out
from whymask.tasks import Task
from whymask.training.device import make_fabric


def explain(
    runs: Sequence[str | Path] | str | Path,
    data: Any,
    *,
    out: str | Path = "runs/why",
    cells: Sequence[str] = (),
    settings: ExplainSettings | None = None,
    reader: Reader | None = None,
    images: bool = True,
    names: bool = True,
    **keywords: Any,
) -> Explanation:
    """Which features pretrained networks captured, which those from scratch, and whether that explains a gain.

    Args:
        runs: a study's folder, or fine-tuning runs of two arms (pretrained and scratch), one or more seeds each, which
            may be cells of studies. Or two classifiers that were not trained here, or one beside a run: timm's names
            with a tag, hf-hub:ORG/MODEL, folders and files with a head; NETWORK=FILE where nothing beside the file says
            of which network of timm it is.
        cells: names of cells of the study, in place of those at the verdict's budget.
        data: the labelled images that the runs were trained and tested on; the test images among them are used. Of
            what was not trained here, images in folders that are called as its classes; all are used.
        settings: how; or any of them by its name, as ``measures=["views"], test_images=200``.
        images: whether the page may show images.
        names: whether it may show file and class names.

    Returns the explanation, which a notebook shows; `out` gets explain.json, pictures.npz, figures and report.html.
    Raises WhymaskError when the runs have other classes than the images, sizes that differ, or no classifier.
    """
    settings = with_keywords(settings or ExplainSettings(), keywords)
    if settings.runtime.devices > 1:
        raise WhymaskError(
            f"--devices {settings.runtime.devices} was given; an explanation is made by one process; leave it out"
        )
    check_folder(Path(out))
    given = [str(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    arms = two_arms(_opened(given, cells))
    every = [run for arm in arms for run in arm.values()]
    if len(given) > 1 or cells:  # a study's arms are trained alike, but for what it searched
        _warn_of_unlike([run for run in every if not isinstance(run, GivenRun)])
    fabric = make_fabric(settings.runtime, alone=True)
    prepared = _prepared(every, data, settings.data, reader)
    prepared.require_labels()
    context = Context(fabric, prepared, settings.runtime.compile)
    return explain_arms(context, arms, glyphs_of(data), Path(out), settings, images=images, names=names)


def explain_arms(
    context: Context,
    arms: tuple[dict[int, Run], dict[int, Run]],
    glyphs: Glyphs | None,
    out: Path,
    settings: ExplainSettings,
    *,
    images: bool = True,
    names: bool = True,
) -> Explanation:
    """`explain` for data that are prepared: two arms, a run a seed each."""
    cast = Cast.of(context, arms, settings.label)
    rows = choose_images(cast.prepared, glyphs, settings)
    folder = _open(context, out, cast, settings)
    with folder.held():
        if folder.result is None:
            asked = ", ".join(settings.measures)
            say(f"{len(settings.measures)} measures of two arms on {len(rows):,} images, told one by one: {asked}")
            cast.add_controls(out / "controls", settings.controls)
            explanation = explanation_of(cast, rows, glyphs, settings, folder)
            write_arrays(out / "pictures.npz", explanation.pictures)
            write_record(out / "explain.json", explanation.to_dict())
            folder.finish({"lead": explanation.lead})
        explanation = Explanation.load(out)
        explanation.write_page(images=images, names=names)
    say(f"{explanation.lead}\nThe page: {out / 'report.html'}")
    return explanation


def _opened(given: Sequence[str], cells: Sequence[str]) -> list[Run]:
    """The runs in these folders, and classifiers of elsewhere by these names."""
    if cells:
        return open_runs([Path(each) for each in given], cells)
    return [run for each in given for run in ([given_run(each)] if is_given(each) else open_runs([Path(each)]))]


def _prepared(runs: Sequence[Run], data: Any, asked: DataSettings, reader: Reader | None) -> Prepared:
    """The images as the runs see them: as the first that was trained here, else as the first."""

    def answers(task: Task) -> None:
        for run in runs:
            if isinstance(run, GivenRun):
                run.chosen(task)

    first = next((run for run in runs if not isinstance(run, GivenRun)), runs[0])
    if isinstance(first, GivenRun):
        prepared = first.start.prepare(data, asked, reader, answers)
        if prepared.test_share is None:
            return prepared
        say("nothing was trained on these images: all that have labels are test images")
        return replace(prepared, test=np.union1d(prepared.train, prepared.test))
    seen = load_encoder(first.folder).transform
    check_inherited(asked, seen, "the runs see")
    for line in [*inherited_text(seen, first.folder), *reader_left_out(first.folder, reader or asked.reader)]:
        say(line)
    return prepare(
        data,
        asked,
        preprocessing=seen,
        like=first.fingerprint,
        reader=reader,
        needs_labels=True,
        fits=lambda prep, task: answers(task),
        say=say,
        progress=Decoding(),
    )


def _warn_of_unlike(runs: Sequence[Run]) -> None:
    different = unlike(runs)
    if different:
        say("warning: these runs differ in more than their first weights, and so may what they learnt:")
        for line in different:
            say(f"  {line}")
        say("whymask finetune DATA --like RUN trains one with the settings of another")


def _open(context: Context, out: Path, cast: Cast, settings: ExplainSettings) -> RunFolder:
    told = {key: value for key, value in recorded(settings).items() if key not in ("runtime", "data", "label")}
    if cast.question.about is not None:
        told["label"] = cast.question.about
    folders = {arm: [str(run.folder) for run in runs.values()] for arm, runs in cast.runs.items()}
    config = {"stage": "explain", "runs": folders, "data": context.fingerprint, "settings": told}
    return RunFolder.open(out, config, context.provenance())
