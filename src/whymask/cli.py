"""The command line. Every flag is a field of the same typed settings that the Python functions take.

What computes is imported where it is used: help, and what is wrong with a command, are there at once.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import tyro
from rich.console import Console

import whymask
from whymask.atlas.settings import MapSettings
from whymask.choosing.settings import Rule, check_count
from whymask.data.settings import NO_LABELS, DataSettings, check_reader, check_there, default_store
from whymask.encoders.settings import is_name, network_and_file
from whymask.errors import WhymaskError
from whymask.explanations.settings import ExplainSettings
from whymask.exports.settings import Target
from whymask.flags import Flat, YesNoAuto, flags_of
from whymask.missing import instead_of
from whymask.mistakes import method_of, understood
from whymask.progress import say
from whymask.report.text import in_bytes
from whymask.stages.settings import (
    A_RUN,
    OVERLAP,
    SCRATCH,
    SURE,
    FinetuneSettings,
    PretrainSettings,
    ProbeSettings,
    TrackerName,
    check_confidence,
    check_origin,
    check_overlap,
    check_teacher,
    check_track,
    check_watch,
)
from whymask.studies.cluster import check_cluster
from whymask.studies.settings import StudySettings, parse_share
from whymask.surroundings import check_place, settle
from whymask.theory.settings import TheorySettings
from whymask.training.settings import RuntimeSettings
from whymask.usage import asks_for_help, show_help

Positional = tyro.conf.Positional
Data = Annotated[
    str,
    Positional,
    tyro.conf.arg(
        metavar="DATA",
        help="Images: a folder (any depth), a CSV of path (or address) and label, parquet, WebDataset shards (a folder "
        "of .tar, or 'train-{000..009}.tar'), these at an address (s3://, gs://, https://), a Hugging Face data set "
        "on disk or by hub id, .npz, or the built-in glyphs (such as glyphs:unlabelled=2000,train=500).",
    ),
]
Images = Annotated[
    tuple[str, ...],
    Positional,
    tyro.conf.arg(metavar="DATA", help="What DATA is elsewhere, image files, or patterns such as 'photos/*.jpg'."),
]
Trackers = Annotated[
    tuple[TrackerName, ...],
    tyro.conf.arg(
        help="Tell TensorBoard, Weights & Biases (wandb) or MLflow of settings, scalars, reconstructions and a study's "
        "page, each as it is set up on this machine. Default: nobody."
    ),
]
Run = Annotated[str, Positional, tyro.conf.arg(metavar="RUN", help="Folder of a finished run, a study or its cell.")]


def study(
    data: Data,
    settings: Annotated[StudySettings, Flat],
    out: Path = Path("runs/study"),
    cells: str | None = None,
    hours: float | None = None,
    plan: bool = False,
    explain: bool = True,
    final: YesNoAuto = None,
    images: bool = True,
    names: bool = True,
    track: Trackers = (),
) -> None:
    """Pretrain, fine-tune, train from scratch, and say how much pretraining helped.

    Args:
        out: Folder of the study. The same command continues it; finished cells are never run again.
        cells: Run only share i/n of the cells, such as 1/4; the page is made from what is there.
        hours: Fit the pretraining epochs to this many hours on this machine, whatever --pretrain.epochs says.
        plan: Only say what would run: cells, images, decode store, and the time, from 20 timed steps.
        explain: Say why, in short, once all cells are there; --no-explain leaves it out. "whymask explain" says more.
        final: Leave a network to use: the best arm, trained on all labels, for predict, embed and export. auto: where
            pretraining helps.
        images: Show images on the page; --no-images for data that must not leave.
        names: Show file and class names on the page; --no-names for data that must not leave.
    """
    check_track(track)
    if cells is not None:
        parse_share(cells)
    check_cluster(settings, cells)
    origin = None if settings.init is None else str(settings.init)
    for weights in settings.given:
        check_origin(weights.origin, f"--starts {weights.kind}=")
    begin("study", data, settings.data.labels, out=None if plan else out, origin=origin)
    whymask.study(
        data,
        out=out,
        settings=settings,
        cells=cells,
        hours=hours,
        plan=plan,
        explain=explain,
        final=final,
        images=images,
        names=names,
        track=track,
    )


def pretrain(
    data: Data,
    settings: Annotated[PretrainSettings, Flat],
    out: Path = Path("runs/pretrain"),
    keep_checkpoints: bool = False,
    keep_teacher: bool = False,
    watch: int | None = None,
    track: Trackers = (),
) -> None:
    """Pretrain an encoder on unlabelled images.

    Args:
        out: Run folder. The same command continues it.
        keep_checkpoints: Keep the last two when it is finished; each is three times the weights.
        keep_teacher: Keep the teacher of data2vec, data2vec2 and ijepa too, as an encoder in the folder's teacher/.
        watch: Steps between two looks at how good the features are, 0 for none: neighbours and a linear model where
            there are labels, effective rank, spread. Default: about 20 looks, for at most 5 % of the time.
    """
    check_track(track)
    check_watch(watch)
    if keep_teacher:
        check_teacher(settings.method, out)
    begin("pretrain", data, settings.data.labels, out=out, origin=settings.origin)
    whymask.pretrain(
        data,
        out=out,
        settings=settings,
        keep_checkpoints=keep_checkpoints,
        keep_teacher=keep_teacher,
        watch=watch,
        track=track,
    )


def finetune(
    data: Data,
    settings: Annotated[FinetuneSettings, Flat],
    out: Path = Path("runs/finetune"),
    track: Trackers = (),
) -> None:
    """Train a classifier on labelled images, from a pretrained encoder or from scratch, and test it.

    Args:
        out: Run folder. The same command continues it.
    """
    origin = None if settings.origin == SCRATCH else settings.origin
    like = () if settings.like is None else (settings.like,)
    check_track(track)
    begin("finetune", data, settings.data.labels, out=out, origin=origin, runs=like)
    whymask.finetune(data, out=out, settings=settings, track=track)


def probe(data: Data, settings: Annotated[ProbeSettings, Flat], out: Path = Path("runs/probe")) -> None:
    """Nearest neighbours and a linear model on a frozen encoder's features.

    Args:
        out: Run folder, with the numbers of both in result.json.
    """
    origin = None if settings.origin == SCRATCH else settings.origin
    like = () if settings.like is None else (settings.like,)
    begin("probe", data, settings.data.labels, out=out, origin=origin, runs=like)
    whymask.probe(data, out=out, settings=settings)


def predict(
    run: Run,
    data: Images,
    runtime: Annotated[RuntimeSettings, Flat],
    out: Path = Path("predictions.csv"),
    cell: str | None = None,
    confidence: float = SURE,
    window_overlap: float = OVERLAP,
    overlays: bool = False,
    reader: str | None = None,
) -> None:
    """Classes and probabilities of images, the numbers that a regression predicts, or label maps, as CSV and pictures.

    Args:
        out: File to write. Of label maps, which lie in a folder of that name beside it, or the folder.
        cell: Which network of a study, a name under its cells/. Default: its final one, else the first seed's at
            the largest budget, of the arm with the best mean there.
        confidence: Mark an image as unsure where the network's test images of such confidence, and more, were right
            less often than this share. Of one class an image.
        window_overlap: Of a segmentation network before images longer than it sees: the share of a window that the next
            one sees too. Their logits are averaged.
        overlays: Of a segmentation network: write pictures of each image under its classes' colours too, and a legend.
        reader: MODULE:FUNCTION that opens a file, for formats that nothing here opens. Default: whymask's own.
    """
    check_confidence(confidence)
    check_overlap(window_overlap)
    begin("predict", data, reader=reader, out=out, runs=[run])
    whymask.predict(
        run,
        data,
        out=out,
        cell=cell,
        confidence=confidence,
        window_overlap=window_overlap,
        overlays=overlays,
        frame=False,
        runtime=runtime,
        reader=reader,
    )


def embed(
    run: Run,
    data: Images,
    runtime: Annotated[RuntimeSettings, Flat],
    out: Path = Path("features.parquet"),
    cell: str | None = None,
    patches: bool = False,
    layer: int | None = None,
    reader: str | None = None,
) -> None:
    """Features of images, as parquet with the columns path and features.

    Args:
        out: File to write.
        patches: Features of each position of the network's map instead, with its row and its column.
        layer: Of a layer or block, counted from 1. Default: the features that the network gives.
        cell: Which network of a study, a name under its cells/. Default: its final one, else the first seed's
            pretrained encoder.
        reader: MODULE:FUNCTION that opens a file, for formats that nothing here opens. Default: whymask's own.
    """
    begin("embed", data, reader=reader, out=out, runs=[run])
    asked: dict[str, Any] = {"patches": patches, "layer": layer, "frame": False}
    whymask.embed(run, data, out=out, cell=cell, runtime=runtime, reader=reader, **asked)


def map_images(
    run: Run,
    data: Data,
    settings: Annotated[MapSettings, Flat],
    out: Path = Path("map.html"),
    cell: str | None = None,
    images: bool = True,
    names: bool = True,
) -> None:
    """Show every image as a point on an offline page, beside near copies, outliers and the most doubtful labels.

    Args:
        out: Page to write.
        cell: Which network of a study, a name under its cells/. Default: that of embed.
        images: Show thumbnails; --no-images for data that must not leave.
        names: Show file and class names; --no-names for data that must not leave.
    """
    begin("map", data, settings.data.labels, reader=settings.data.reader, out=out, runs=[run])
    whymask.map_images(run, data, out=out, cell=cell, images=images, names=names, settings=settings)


def choose(
    run: Run,
    data: Data,
    labels: int,
    runtime: Annotated[RuntimeSettings, Flat],
    rule: Rule = "auto",
    labelled: str | None = None,
    out: Path = Path("to-label.csv"),
    cell: str | None = None,
    seed: int = 0,
    reader: str | None = None,
) -> None:
    """Which images to label next, as a CSV to fill in and a contact sheet.

    Args:
        labels: How many images to choose.
        rule: typical ones of clusters (TypiClust), covering ones (ProbCover), spread ones (k-centre greedy), or
            uncertain and diverse ones (BADGE), which takes a classifier. auto: uncertain of a classifier, else typical.
        labelled: What is labelled already, a folder or CSV such as finetune takes; it counts as chosen and
            is left out. "none": nothing is. Default: the labels that DATA has, unless they are names of folders and
            every image has one.
        out: File to write; the contact sheet lies beside it, as .html.
        cell: Which network of a study, a name under its cells/. Default: the one that embed takes, or, where the rule
            is uncertain, that predict takes.
        seed: Seed of k-means and of BADGE's draws.
        reader: MODULE:FUNCTION that opens a file, for formats that nothing here opens. Default: whymask's own.
    """
    check_count(labels)
    begin("choose", data, labelled, reader=reader, out=out, runs=[run])
    whymask.choose(
        run,
        data,
        labels=labels,
        rule=rule,
        labelled=labelled,
        out=out,
        cell=cell,
        seed=seed,
        runtime=runtime,
        reader=reader,
    )


def explain(
    runs: Annotated[
        tuple[str, ...],
        Positional,
        tyro.conf.arg(
            metavar="RUNS",
            help="Fine-tuning runs of two arms (or cells), a seed each or several, or one study. Or two classifiers "
            "that were not trained here: timm's names with a tag, hf-hub:ORG/MODEL, folders or files with a head, "
            "NETWORK=FILE.",
        ),
    ],
    data: Annotated[
        str,
        tyro.conf.arg(
            help="The labelled images that the runs were trained and tested on, or whose classes the classifiers know."
        ),
    ],
    settings: Annotated[ExplainSettings, Flat],
    out: Path = Path("runs/why"),
    cell: tuple[str, ...] = (),
    images: bool = True,
    names: bool = True,
) -> None:
    """Say why pretraining helped, or did not: which features each network captured.

    Args:
        out: Folder of explain.json and the page. The same command continues it.
        cell: Which networks of the one study, names under its cells/. Default: those of the verdict's budget.
        images: Show images on the page; --no-images for data that must not leave.
        names: Show file and class names on the page; --no-names for data that must not leave.
    """
    begin("explain", data, out=out, runs=[file for run in runs if not is_name(file := network_and_file(run)[1])])
    whymask.explain(runs, data, out=out, cells=cell, settings=settings, images=images, names=names)


def export(
    run: Run,
    to: Annotated[Target, tyro.conf.arg(help="The program that is to open it.")],
    out: Path | None = None,
    cell: str | None = None,
    names: bool = True,
    encoder_alone: bool = False,
) -> None:
    """Write a trained network for timm, transformers, ONNX runtimes, or as safetensors, with a model card.

    Args:
        out: Folder to write. Default: RUN-TO beside the run.
        cell: Which network of a study, a name under its cells/. Default: the one that predict takes.
        names: Class or target names and paths in the card; --no-names leaves them out.
        encoder_alone: Leave the head out, so that timm and transformers take a segmentation network's encoder too.
    """
    begin("export", out=out, runs=[run])
    whymask.export(run, to, out=out, cell=cell, names=names, encoder_alone=encoder_alone)


def watch(run: Annotated[Path, Positional, tyro.conf.arg(metavar="RUN")], port: int = 0) -> None:
    """Show a run or a study while it computes: a page on this machine that renews itself from the folder.

    Args:
        run: Folder of a run, a study or its cell, which may be still to come. Nothing is written there.
        port: Where the page is served. Default: any that is free.
    """
    from whymask.watch.serve import watching

    with watching(run, port) as watcher:
        say(f"watch of {run}, on this machine alone, reading only; Ctrl-C ends the watching, and no run")
        print(watcher.address, flush=True)
        watcher.serve_forever()


def check(
    folders: Annotated[
        tuple[Path, ...],
        Positional,
        tyro.conf.arg(metavar="FOLDER", help="Everything below it is read; several may be given."),
    ],
) -> None:
    """Compare the files of runs, studies and stores with their checksums; exits with 1 where one differs."""
    say(f"check of {', '.join(map(str, folders))}: every file is read, and none is written")
    from whymask.upkeep import check_folder

    found = [check_folder(folder) for folder in folders]
    for each in found:
        say(each.text())
    if any(each.damages for each in found):
        sys.exit(1)


def clean(
    folders: Annotated[tuple[Path, ...], Positional] = (), stores: float | None = None, remove: bool = False
) -> None:
    """List what nobody needs: what killed processes left, checkpoints of finished runs, stores not opened for long.

    Args:
        folders: Of runs and studies, at any depth, such as runs.
        stores: Also decoded images that were not opened for so many days; they are decoded again when they are needed.
            Default: stores are left alone.
        remove: Remove what is listed.
    """
    from whymask import upkeep

    if not folders and stores is None:
        raise WhymaskError("clean was given nothing to look at; give folders of runs, such as runs, or --stores 30")
    found = upkeep.needless_in(folders, default_store(), stores)
    for each in found:
        say(each.text())
    if remove:
        upkeep.remove(found)
    total = in_bytes(sum(each.bytes for each in found))
    done = f"{total} removed" if remove else f"{total} that nobody needs; --remove removes it"
    say(done if found else "nothing to remove")


def theory(settings: Annotated[TheorySettings, Flat], out: Path = Path("runs/theory")) -> None:
    """Run the paper's two-layer model as an experiment: each claim a row of prediction against measurement.

    Args:
        out: Folder of claims.json, arrays.npz and the page. The same command continues; claims and seeds are added.
    """
    begin("theory", out=out)
    from whymask.theory.run import theory as run_theory

    run_theory(out, settings)


def overview(
    data: Data, settings: Annotated[DataSettings, Flat], out: Path = Path("data.html"), looked: int = 2000
) -> None:
    """Say what would be read of images and labels, and draw a contact sheet; nothing is decoded for later.

    Args:
        out: Page to write.
        looked: Images to open, evenly spaced; 0 opens all.
    """
    begin("data", data, settings.labels, out=out)
    from whymask.overviews.run import overview as run_overview

    run_overview(data, out=out, looked=looked, settings=settings)


def list_methods(names: Annotated[tuple[str, ...], Positional] = ()) -> None:
    """Show the methods of pretraining, and which encoders each fits, or what networks and weights allow.

    Args:
        names: Networks, such as resnet18 or "convnext*", or weights as --from takes them (a run, a study, a folder, a
            file): shows of each whether pretraining it is proven, untested, or impossible, and why; and the starts
            that it allows: scratch, pretrain (by which methods), given weights that are fine-tuned (init), pretrained
            further (continue) or only read (frozen).
    """
    from whymask.listing import encoders_table, methods_table, proven

    Console(markup=False, emoji=False).print(encoders_table(names) if names else methods_table())
    if not names:
        say("cnn, vit and two-layer are whymask's own encoders; any network of timm may be given by its name.")
        say(f"Proven: timm's {proven()}. 'whymask list NAME' says what a network's layers allow.")


def begin(
    command: str,
    data: str | tuple[str, ...] | None = None,
    labels: str | None = None,
    *,
    out: Path | None = None,
    origin: str | None = None,
    runs: Iterable[str] = (),
    reader: str | None = None,
) -> None:
    """The first line. Raises WhymaskError for what is plainly not there, before anything slow is imported."""
    if out is not None:
        check_place(out)
    sources = data if isinstance(data, tuple) else () if data is None else (data,)
    for source in (*sources, None if labels == NO_LABELS else labels):
        if source is not None:
            check_there(source)
    if reader is not None:
        check_reader(reader)
    if origin is not None:
        check_origin(origin)
    for run in runs:
        if not Path(run).exists():
            raise WhymaskError(f"{run}: no such folder; {A_RUN}{instead_of(run)}")
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    of = f" of {sources[0]}{more}" if sources else ""
    say(f"{command}{of}{'' if out is None else f', kept in {out}'}")


COMMANDS: dict[str, Callable[..., Any]] = {
    command.__name__: command
    for command in (study, pretrain, finetune, probe, explain, predict, embed, choose, export, theory, watch)
} | {"check": check, "clean": clean, "data": overview, "list": list_methods, "map": map_images}


def run(arguments: Sequence[str]) -> None:
    """What a command line asks for. Raises WhymaskError for what is not understood."""
    if list(arguments) == ["--version"]:
        print(f"whymask {version('whymask')}")
        return
    name = arguments[0] if arguments else ""
    if name in COMMANDS and asks_for_help(arguments):
        show_help(name, COMMANDS[name], arguments, method_of(flags_of(COMMANDS[name]), arguments))
        return
    tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="whymask",
        description="Does mask-reconstruction pretraining help on your images, how much, and what is it worth?",
        args=["--help"] if asks_for_help(arguments[:1]) else understood(COMMANDS, arguments),
    )


def main() -> None:
    """What `whymask` runs: exit code 2 for bad input, 130 after Ctrl-C or SIGTERM, 1 where another one of the processes
    that compute together has ended."""
    signal.signal(signal.SIGTERM, _stop)  # training has its own, which saves a checkpoint first
    try:
        settle(sys.argv[1:])
        run(sys.argv[1:])
    except WhymaskError as error:
        _tell(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt as stopped:  # and training.loop's Interrupted, which says where
        say(str(stopped) or "stopped")
        sys.exit(130)
    except RuntimeError as error:
        from whymask.devices import lost_another

        if not lost_another(error):
            raise
        _tell("error: another of the processes that compute together has ended; the same command continues")
        sys.exit(1)


def _tell(error: str) -> None:
    """Once, of processes that compute together."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        say(error)
        return
    from whymask.ranks import once

    once(lambda: say(error, from_all=True))


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
