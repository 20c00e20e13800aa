"""`explain`: from two runs, or two arms of runs, and labelled images to numbers, conclusions, pictures and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whymask.data.glyph_settings import Glyphs, glyphs_of
from whymask.data.inherited import check_inherited, inherited_text
from whymask.data.prepare import prepare
from whymask.data.sources import Reader
from whymask.disk import check_folder, write_arrays, write_record
from whymask.errors import WhymaskError
from whymask.explanations.cast import Cast
from whymask.explanations.choice import choose_images
from whymask.explanations.explanation import Explanation
from whymask.explanations.measuring import explanation_of
from whymask.explanations.networks import Run, load_network, open_runs, two_arms
from whymask.explanations.settings import ExplainSettings
from whymask.explanations.unlike import unlike
from whymask.keywords import with_keywords
from whymask.later import recorded
from whymask.progress import Decoding, say
from whymask.runs import RunFolder
from whymask.stages.context import Context
from whymask.stages.speaking import reader_left_out
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
            may be cells of studies.
        cells: names of cells of the study, in place of those at the verdict's budget.
        data: the labelled images that the runs were trained and tested on; the test images among them are used.
        images, names: whether the page may show images, and file and class names.
        settings, keywords: the settings, or any by their names: ``measures=["views"], test_images=200``.

    Returns the explanation, which a notebook shows; `out` gets explain.json, pictures.npz, figures and report.html.
    Raises WhymaskError when the runs have other classes than the images, sizes that differ, or no classifier.
    """
    settings = with_keywords(settings or ExplainSettings(), keywords)
    if settings.runtime.devices > 1:
        raise WhymaskError(
            f"--devices {settings.runtime.devices} was given; an explanation is made by one process; leave it out"
        )
    check_folder(Path(out))
    given = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    arms = two_arms(open_runs(given, cells))
    if len(given) > 1 or cells:  # a study's arms are trained alike, but for what it searched
        _warn_of_unlike([run for arm in arms for run in arm.values()])
    first = load_network("pretrained", next(iter(arms[0].values())))
    seen = first.encoder.transform
    check_inherited(settings.data, seen, "the runs see")
    left_out = reader_left_out(next(iter(arms[0].values())).folder, reader or settings.data.reader)
    for line in [*inherited_text(seen, given[0]), *left_out]:
        say(line)
    fabric = make_fabric(settings.runtime, alone=True)
    prepared = prepare(
        data,
        settings.data,
        preprocessing=seen,
        like=next(iter(arms[0].values())).fingerprint,
        reader=reader,
        say=say,
        progress=Decoding(),
    )
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
            cast.add_controls(out / "controls", settings.controls)
            explanation = explanation_of(cast, rows, glyphs, settings, folder)
            write_arrays(out / "pictures.npz", explanation.pictures)
            write_record(out / "explain.json", explanation.to_dict())
            folder.finish({"lead": explanation.lead})
        explanation = Explanation.load(out)
        explanation.write_page(images=images, names=names)
    say(f"{explanation.lead}\nThe page: {out / 'report.html'}")
    return explanation


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
